//! Writes valid inputs for every target: `cargo run --example seeds -- FOLDER` makes `FOLDER/<target>/<name>`.

use galen_ckks::codec::CiphertextSet;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::set::SetWriter;
use galen_core::study::Draft;
use galen_core::{Code, Digest, Refusal};
use galen_fuzz::ckks::WORLDS;
use galen_fuzz::federation::{FEDERATION, signing_key};
use galen_inference::ServingKey;
use galen_models::agenda::ReleasedModel;
use galen_models::{Layer, Model, ModelFile, ModelSpec, Range, Shape};
use galen_net::frame::{HEADER_BYTES, Header};
use galen_net::protocol::*;
use galen_net::{Message, Request, Response};
use galen_sums::audit::{AuditEvent, AuditHead, AuditLine, Chain, json_lines};
use galen_sums::{
    Abandoned, AnswerHeader, Challenge, Confirmation, Fingerprint, FingerprintStatement, Incarnation,
    KeyCheck, OneRoundKey, SealedStatement, SealedTexts, Stale, statement,
};
use std::fs;
use std::path::PathBuf;

#[path = "seeds/data.rs"]
mod data;

struct Folder(PathBuf);

impl Folder {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) {
        let dir = self.0.join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    }

    /// For targets whose first byte selects a reader.
    fn put_for(&self, target: &str, name: &str, which: u8, bytes: &[u8]) {
        self.put(target, name, &[&[which], bytes].concat());
    }

    /// The same with two selecting bytes.
    fn put_deep(&self, target: &str, name: &str, which: [u8; 2], bytes: &[u8]) {
        self.put(target, name, &[&which[..], bytes].concat());
    }
}

fn main() {
    let to = Folder(std::env::args().nth(1).expect("name a folder").into());
    ckks(&to);
    core(&to);
    sums(&to);
    net(&to);
    models(&to);
    data::sets(&to);
    stored(&to);
    query(&to);
    exact(&to);
}

fn exact(to: &Folder) {
    let service = &*galen_fuzz::exact::SERVICE;
    let rows = service.interface.quantised().encode(&[[0.5], [0.0]]).unwrap();
    let query = service.querier.encrypt(&rows).unwrap().to_bytes();
    let key = service.querier.serving_key();
    let answer = service
        .program
        .answer(&key.clone().expand(), &query, &|_, _| true)
        .unwrap();
    let trees = br#"[{"nodeid":0,"split":"age","split_condition":50.5,"yes":1,"no":2,"children":[{"nodeid":1,"leaf":-0.5},{"nodeid":2,"leaf":0.75}]}]"#;
    // A whole key has 39 MB, which no corpus should hold; its head leads to the first check that needs more.
    let key = key.to_bytes();
    for (which, name, bytes) in [
        (0, "interface", service.interface.to_bytes().unwrap().as_slice()),
        (1, "trees", trees),
        (2, "key", &key[..256]),
        (3, "query", &query),
        (4, "answer", &answer),
    ] {
        to.put_for("exact", name, which, bytes);
    }
}

fn query(to: &Folder) {
    let service = &*galen_fuzz::query::SERVICE;
    let batch = service.querier.encrypt_batch(&[[0.5], [-0.25]]).unwrap();
    let batch = batch.to_bytes().unwrap();
    let answer = service
        .program
        .answer(&service.key, &batch, &mut |_, _| {})
        .unwrap();
    let interface = service.program.interface().to_bytes().unwrap();
    let (packed_key, packed_interface) = galen_fuzz::query::packed();
    for (which, name, bytes) in [
        (0, "packed-key", &packed_key),
        (3, "packed-interface", &packed_interface),
        (0, "key", &service.key),
        (1, "batch", &batch),
        (2, "answer", &answer),
        (3, "interface", &interface),
    ] {
        to.put_for("query", name, which, bytes);
    }
}

fn ckks(to: &Folder) {
    for (i, world) in WORLDS.iter().enumerate() {
        let at = |name: &str| format!("{name}-{i}");
        let (context, ev) = (
            &world.context,
            Evaluator::new(&world.context).with_min_precision(-1000.0),
        );
        let plain = context.encode(&[0.5, -0.25, 1.0], 1.0).unwrap();
        let seeded = world.secret.encrypt_with_seed(&plain, &[1; 32]).unwrap();
        let public = world.public.encrypt_with_seed(&plain, &[2; 32]).unwrap();
        let square = ev.square(&public).unwrap();
        let low = ev.drop_level(&seeded, 0).unwrap();
        for (name, ct) in [
            ("seeded", &seeded),
            ("public", &public),
            ("square", &square),
            ("low", &low),
        ] {
            to.put("ckks_ciphertext", &at(name), &ct.to_bytes().unwrap());
        }
        let mut stream = SetWriter::new(Vec::new(), context, *seeded.key_digest(), 3).unwrap();
        for ct in [&seeded, &square, &low] {
            stream.push(ct).unwrap();
        }
        to.put("ckks_set", &at("stream"), &stream.finish().unwrap());
        let one = CiphertextSet::new(vec![seeded.clone()]).unwrap();
        to.put("ckks_set", &at("one"), &one.to_bytes().unwrap());
        let many = CiphertextSet::new(vec![seeded.clone(), seeded, public, square, low]).unwrap();
        to.put("ckks_set", &at("many"), &many.to_bytes().unwrap());
        to.put("ckks_keys", &at("public"), &world.public.to_bytes().unwrap());
        to.put("ckks_keys", &at("relin"), &world.relin.to_bytes().unwrap());
        to.put("ckks_keys", &at("galois"), &world.galois.to_bytes().unwrap());
        to.put("ckks_keys", &at("secret"), &world.secret.to_secret_bytes());
        let serving = ServingKey::new(world.relin.clone(), world.public.clone()).unwrap();
        to.put("ckks_keys", &at("serving"), &serving.to_bytes().unwrap());
    }
    let mut packed = vec![50];
    galen_rns::packing::pack(&[1, 2, (1 << 50) - 27, 7, 0, 99, 1 << 49, 3], 50, &mut packed).unwrap();
    to.put("rns_packing", "residues", &packed);
    to.put("rns_packing", "bits", &[1, 0xaa, 0x55]);
    to.put("rns_packing", "words", &[64, 1, 2, 3, 4, 5, 6, 7, 8]);
}

fn core(to: &Folder) {
    let (study, frozen) = (galen_fuzz::heart(), galen_fuzz::core::frozen_heart());
    let coordinator = frozen.coordinator().clone();
    let mut draft = Draft::of(&frozen, 2, Digest::of(b"state"));
    to.put_for("core_files", "draft", 2, draft.to_toml().unwrap().as_bytes());
    draft.remove(&study.party[0].name);
    to.put_for("core_files", "draft-less", 2, draft.to_toml().unwrap().as_bytes());
    if let Ok(successor) = draft.freeze(&frozen) {
        to.put_for(
            "core_files",
            "successor",
            0,
            successor.to_toml().unwrap().as_bytes(),
        );
    }
    to.put_for("core_files", "frozen", 0, frozen.to_toml().unwrap().as_bytes());
    to.put_for(
        "core_files",
        "coordinator",
        1,
        galen_coordinator::config::SAMPLE.as_bytes(),
    );
    to.put_for("core_files", "party", 1, galen_party::config::SAMPLE.as_bytes());
    to.put_for(
        "core_files",
        "card",
        1,
        toml::to_string(&coordinator).unwrap().as_bytes(),
    );
    to.put("core_study", "heart", toml::to_string(&study).unwrap().as_bytes());
    for (name, text) in [("name", "long-beach"), ("json", "\"long-beach\"")] {
        to.put_for("core_names", name, 0, text.as_bytes());
    }
    to.put_for("core_names", "digest", 0, Digest::of(b"x").to_hex().as_bytes());
    let refusal = Refusal::new(Code::Busy, "later");
    to.put_for(
        "core_names",
        "refusal",
        0,
        &postcard::to_stdvec(&refusal).unwrap(),
    );
    let signed = signing_key(1)
        .sign("domain", &Digest::of(b"study"), &Digest::of(b"x"))
        .unwrap();
    to.put_for("core_names", "signed", 1, &postcard::to_stdvec(&signed).unwrap());
    to.put_for("keys", "signing", 0, signing_key(1).to_pkcs8());
    to.put_for("keys", "receiver", 1, &FEDERATION.receivers[0].to_bytes());
    to.put_for("keys", "one-round", 1, &FEDERATION.secrets[0].to_bytes());
    to.put_for("keys", "storage", 2, &[b"GALENKY1".as_slice(), &[6; 32]].concat());
    let dir = galen_fuzz::scratch_dir().join("identity");
    fs::create_dir_all(&dir).unwrap();
    galen_net::Identity::generate().unwrap().save(&dir).unwrap();
    let files = [
        fs::read(dir.join("tls-key.pem")).unwrap(),
        fs::read(dir.join("tls-certificate.pem")).unwrap(),
    ];
    to.put_for("keys", "identity", 3, &files.join(&0));
}

fn sums(to: &Folder) {
    let f = &*FEDERATION;
    let key = OneRoundKey {
        round: f.round.id(),
        custodian: f.names[0].clone(),
        key: *f.secrets[0].public(),
        incarnation: Digest::of(b"incarnation"),
        seq: 7,
    };
    let certified = f.certificate.endorsement().clone();
    let answer = AnswerHeader {
        record: certified.record,
        set: certified.set,
        sum: certified.sum,
        custodian: f.names[0].clone(),
        pieces: f.round.held_by(&f.names[0]).to_vec(),
        key_sum: Digest::of(b"key sum"),
        sealed: SealedTexts::of(&f.names.iter().map(|name| (name.clone(), vec![3; 100])).collect()),
    };
    let record = postcard::to_stdvec(&f.record).unwrap();
    let header = postcard::to_stdvec(&f.headers[1]).unwrap();
    let endorsement = postcard::to_stdvec(&certified).unwrap();
    let key = postcard::to_stdvec(&key).unwrap();
    let answer = postcard::to_stdvec(&answer).unwrap();
    let authored = postcard::to_stdvec(&f.signed_by(1, galen_sums::authored::CONTRIBUTION, &header)).unwrap();
    let certificate = AuditEvent::Certified {
        id: f.round.id(),
        set: certified.set,
        sum: certified.sum,
        endorsements: vec![f.signed_by(0, galen_sums::authored::ENDORSEMENT, &endorsement)],
    };
    let (line, signed) = {
        let (signed, _) = AuditLine::sign(
            &f.coordinator,
            f.roster.study(),
            &AuditHead::default(),
            7,
            certificate.clone(),
        )
        .unwrap();
        let mut chain = Chain::new(*f.roster.study(), f.coordinator.public());
        (chain.push(&signed).unwrap(), signed)
    };
    let file = json_lines::write(&line, &signed).unwrap().into_bytes();
    let line_of_log = postcard::to_stdvec(&line).unwrap();
    let certificate = postcard::to_stdvec(&certificate).unwrap();
    let fingerprint = {
        let values = Fingerprint::zero(&f.round);
        let challenge = Challenge::new(&certified);
        let (name, key) = (&f.names[1], &f.signing[1]);
        let said = FingerprintStatement::sign(&f.round, &challenge, name, key, &values).unwrap();
        let said: FingerprintStatement = said.statement.read_unverified().unwrap();
        postcard::to_stdvec(&said).unwrap()
    };
    let held = f.round.held_by(&f.names[0]);
    let key_check = postcard::to_stdvec(&KeyCheck {
        record: certified.record,
        set: certified.set,
        sum: certified.sum,
        custodian: f.names[0].clone(),
        digests: vec![Digest::of(b"piece"); held.len()],
        answered: held[..1].to_vec(),
        sealed: SealedTexts::of(&f.names.iter().map(|name| (name.clone(), vec![3; 100])).collect()),
    })
    .unwrap();
    let nonce = Digest::of(b"incarnation");
    let incarnation = postcard::to_stdvec(&Incarnation {
        custodian: f.names[0].clone(),
        nonce,
        seq: 3,
    })
    .unwrap();
    let confirmation = postcard::to_stdvec(&Confirmation {
        custodian: f.names[0].clone(),
        nonce,
        newest: Some(f.round.id()),
    })
    .unwrap();
    let stale = postcard::to_stdvec(&Stale {
        custodian: f.names[0].clone(),
        nonce,
        newest: f.key_of(0, &key),
    })
    .unwrap();
    let abandoned = postcard::to_stdvec(&Abandoned { round: f.round.id() }).unwrap();
    for (which, name, bytes) in [
        (0, "record", &record),
        (1, "round-key", &key),
        (2, "contribution", &header),
        (3, "endorsement", &endorsement),
        (4, "answer", &answer),
        (5, "authored", &authored),
        (6, "audit-line", &certificate),
        (7, "audit-file", &file),
        (8, "fingerprint", &fingerprint),
        (9, "key-check", &key_check),
        (10, "incarnation", &incarnation),
        (10, "confirmation", &confirmation),
        (10, "stale", &stale),
        (10, "abandoned", &abandoned),
    ] {
        to.put_for("sums_signed", name, which, bytes);
    }
    let rd = Digest::of(b"record");
    let refused = statement::SeedsRefused {
        record: rd,
        contributor: f.names[1].clone(),
    };
    let opened = statement::Opened {
        record: rd,
        result: rd,
        max_noise: 7,
    };
    let failed = statement::OpeningFailed {
        record: rd,
        detail: "why".into(),
        fault: statement::OpeningFault::Remainder,
    };
    let release = statement::Release { model: rd };
    let contributor_refused = statement::FingerprintRefused {
        record: rd,
        contributor: f.names[1].clone(),
    };
    let judged = statement::Judged {
        record: rd,
        liars: vec![f.names[0].clone()],
        doubted: vec![f.names[1].clone(), f.names[2].clone()],
        detail: "why".into(),
    };
    let sealed = SealedStatement {
        said: f.signed_by(0, galen_sums::authored::ANSWER, &answer),
        texts: f.names.iter().map(|name| (name.clone(), vec![3; 10])).collect(),
    };
    let encoded = |value: Result<Vec<u8>, postcard::Error>| value.unwrap();
    let all = [
        authored,
        key,
        record,
        header,
        postcard::to_stdvec(&f.set).unwrap(),
        endorsement,
        answer,
        postcard::to_stdvec(&refused).unwrap(),
        postcard::to_stdvec(&opened).unwrap(),
        postcard::to_stdvec(&failed).unwrap(),
        postcard::to_stdvec(&release).unwrap(),
        line_of_log,
        encoded(postcard::to_stdvec(&contributor_refused)),
        encoded(postcard::to_stdvec(&judged)),
        key_check,
        incarnation,
        confirmation,
        stale,
        abandoned,
        fingerprint,
        encoded(postcard::to_stdvec(&sealed)),
        encoded(postcard::to_stdvec(&f.inputs)),
    ];
    for (which, bytes) in all.iter().enumerate() {
        to.put_for(
            "sums_statements",
            &format!("statement-{which}"),
            which as u8,
            bytes,
        );
    }
    let plan = postcard::to_stdvec(&f.record.plan).unwrap();
    to.put_for("sums_statements", "plan", 21, &plan);

    let mut blob = Vec::new();
    let values = [1, -2, 3, 4, -5];
    galen_custody::encrypt(&f.round, &f.names[1], &f.signing[1], &values, &mut blob).unwrap();
    // Header, and a pattern whose residues are below the prime.
    to.put_deep(
        "sums_blob",
        "contribution",
        [0, 0],
        &[&blob[..76], &[0; 5]].concat(),
    );
    to.put_deep(
        "sums_blob",
        "pattern",
        [0, 0],
        &[&blob[..76], &[1, 0, 7]].concat(),
    );
    let mut sum = blob[..76].to_vec();
    sum[10] = 2;
    sum[44..].copy_from_slice(&f.set.digest().0);
    to.put_deep("sums_blob", "sum", [0, 0], &[&sum[..], &[0; 5]].concat());
    to.put_deep("sums_blob", "long", [0, 1], &blob[..80]);
    for width in [4, 9, 10, 12] {
        to.put_deep(
            "custody_key_sum",
            &format!("width-{width}"),
            [0, 0],
            &[1, width, 0x12, 0x80, 0x77],
        );
    }
    to.put_deep("custody_key_sum", "short", [0, 1], &[1, 9, 0]);
}

fn net(to: &Folder) {
    let f = &*FEDERATION;
    let study = Digest::of(b"study");
    let (digest, name) = (Digest::of(b"x"), f.names[0].clone());
    let signed = f.record.sign(&f.coordinator).unwrap();
    let view = View {
        version: 9,
        study: StudyPhase::Frozen {
            missing: vec![name.clone()],
        },
        first: 0,
        rounds: 1,
        published: vec![PublishedRound {
            attempt: 0,
            sum: digest,
            result: digest,
        }],
        incarnations: Vec::new(),
        attempt: Some(AttemptView {
            round: 1,
            attempt: 0,
            phase: AttemptPhase::Certified,
            awaiting: vec![name.clone()],
            set: f.names.clone(),
            sum: Some(digest),
            contributors: Vec::new(),
            replaced: 0,
            set_digest: None,
            assignments: vec![(name.clone(), vec![0, 1])],
        }),
        serving: Some(digest),
    };
    let put = |name: &str, kind, payload: Vec<u8>| {
        let header: [u8; HEADER_BYTES] = Header {
            kind,
            study,
            len: payload.len() as u32,
        }
        .encode();
        to.put("net_frame", name, &[&header[..], &payload].concat());
    };
    let requests = [
        Request::Hello {
            consent: signed.clone(),
        },
        Request::Poll { seen: 3, from: 0 },
        Request::Post(Statement::Contribution(signed.clone())),
        Request::Fetch {
            round: 1,
            attempt: 0,
            item: Item::Headers,
            after: Some((name.clone(), digest)),
        },
        Request::FetchSealed {
            round: 1,
            attempt: 0,
            item: Item::Answers,
            statement: digest,
        },
        Request::Put {
            digest,
            len: 1 << 20,
            kind: BlobKind::Batch,
        },
        Request::Get { digest, offset: 5 },
        Request::Query {
            model: digest,
            key: digest,
            batch: digest,
        },
        Request::Post(Statement::KeyCheck(signed.clone())),
        Request::Post(Statement::FingerprintRefused(signed.clone())),
        Request::Serving,
        Request::KeyStatus { key: digest },
        Request::QueryStatus { batch: digest },
        Request::Audit { from: 3 },
        Request::Models,
        Request::Cancel { batch: digest },
        Request::Acknowledge { batch: digest },
    ];
    for (i, request) in requests.iter().enumerate() {
        put(
            &format!("request-{i}"),
            request.frame_kind(),
            request.encode().unwrap(),
        );
    }
    let responses = [
        Response::View(view),
        Response::Statements {
            found: vec![(name, signed.clone())],
            more: true,
        },
        Response::Ok,
        Response::Audit(vec![signed]),
        Response::Offset(9),
        Response::Key(KeyState::Present),
        Response::Query(QueryState::Failed(Refusal::new(Code::Busy, "later"))),
        Response::Sealed(vec![1, 2, 3]),
        Response::Wait,
        Response::Blob { len: 7 },
        Response::Serving(Some(Serving {
            model: digest,
            preset: "p".into(),
        })),
        Response::Query(QueryState::Running { done: 1, total: 2 }),
        Response::Refused(Refusal::new(Code::Busy, "later")),
        Response::Models(vec![Offer {
            name: "heart".into(),
            version: digest,
            interface: digest,
            engine: Engine::Ckks,
            packed: false,
            current: true,
            batch_ms: 12,
        }]),
        Response::Query(QueryState::Cancelled),
    ];
    for (i, response) in responses.iter().enumerate() {
        put(
            &format!("response-{i}"),
            response.frame_kind(),
            response.encode().unwrap(),
        );
    }
}

/// What other programs and people give: see `galen_fuzz::models::imports`.
fn imports(to: &Folder, residual: &Model) {
    let mut file = ModelFile::from(residual.clone());
    file.record(&[[0.5, -1.0, 2.0]]).unwrap();
    file.annotations.classes = vec!["healthy".into(), "ill".into()];
    to.put_for("model_imports", "annotated", 0, &file.to_safetensors().unwrap());
    let network = galen_fuzz::models::NETWORK;
    let image = Model::initial(toml::from_str(network).unwrap(), 2).unwrap();
    for (name, model) in [("residual", residual), ("image", &image)] {
        to.put_for(
            "model_imports",
            &format!("onnx-{name}"),
            1,
            &model.to_onnx().unwrap(),
        );
    }
    // PyTorch's names.
    let own = image.to_safetensors().unwrap();
    let own = safetensors::SafeTensors::deserialize(&own).unwrap();
    let renamed = own.tensors().into_iter().map(|(name, tensor)| {
        let name = name.replace("scale", "weight").replace("shift", "bias");
        let name = name
            .replace("mean", "running_mean")
            .replace("variance", "running_var");
        (name, tensor)
    });
    let renamed = safetensors::serialize(renamed, None).unwrap();
    to.put_for("model_imports", "tensors", 2, &renamed);
    to.put_for("model_imports", "network", 3, network.as_bytes());
}

fn models(to: &Folder) {
    let residual = Model::initial(ModelSpec::residual_mlp(3, &[2], 0.1, 2).unwrap(), 3).unwrap();
    let linear = ModelSpec {
        input: Shape::Features(1),
        layers: vec![Layer::Dense { outputs: 1 }],
    };
    let linear = Model::initial(linear, 1).unwrap();
    let parsed = |text: &str| Model::initial(toml::from_str(text).unwrap(), 2).unwrap();
    let image = parsed(
        r#"
        input = [1, 4, 4]
        layers = [
            { conv2d = { channels = 2, kernel = 2, padding = [1, 0], stride = [1, 2] } },
            "square",
            { average_pool = { kernel = 2, stride = 1 } },
            "flatten",
            { dense = { outputs = 2 } },
        ]
        "#,
    );
    let teacher = parsed(
        r#"
        input = [2, 2, 4]
        layers = [
            { add = { body = [{ conv2d = { channels = 2, kernel = 1, groups = 2 } }, { batch_norm = {} }, { hermite = {} }] } },
            { dropout = { rate = 0.5 } },
            { max_pool = { kernel = 2 } },
            { sum_pool = { kernel = [1, 2] } },
            { polynomial = { degree = 3, per = "channel" } },
            { fixed_polynomial = { coefficients = [0.5, 0.25, -1.0] } },
            { power = { scale = 0.5, power = 3 } },
            "relu",
            "sigmoid",
            "tanh",
            "sign",
            "flatten",
            { dense = { outputs = 1 } },
        ]
        "#,
    );
    for (name, model, inputs) in [
        ("residual", &residual, 3),
        ("linear", &linear, 1),
        ("image", &image, 16),
        ("teacher", &teacher, 16),
    ] {
        let bytes = model.to_safetensors().unwrap();
        to.put_for("model_files", name, 0, &bytes);
        to.put_for(
            "model_files",
            &format!("spec-{name}"),
            1,
            &serde_json::to_vec(model.spec()).unwrap(),
        );
        let released = ReleasedModel {
            safetensors: bytes,
            input_ranges: vec![Range::new(-4.0, 4.0); inputs],
        };
        to.put_for(
            "model_files",
            &format!("released-{name}"),
            2,
            &postcard::to_stdvec(&released).unwrap(),
        );
    }
    imports(to, &residual);
    let unit = 1i64 << 20;
    let words = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    to.put(
        "model_sums",
        "counts",
        &words(&[10, 12, 20, unit, 2 * unit, 20, -unit, 3 * unit]),
    );
    to.put("model_sums", "zeros", &words(&[0, 1, 0]));
    for (name, file) in [
        ("cleveland", "../configs/studies/heart/cleveland.csv"),
        ("zurich", "../configs/studies/heart/zurich.csv"),
    ] {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let some: String = text.lines().take(4).flat_map(|line| [line, "\n"]).collect();
        let rest: String = text
            .lines()
            .take(4)
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned() + "\n")
            .collect();
        for header in [0, 1] {
            to.put_deep("table", &format!("{name}-{header}"), [0, header], some.as_bytes());
            to.put_deep(
                "table",
                &format!("{name}-patients-{header}"),
                [1, header],
                rest.as_bytes(),
            );
        }
    }
}

fn stored(to: &Folder) {
    for (name, which, bytes) in galen_fuzz::stored::examples() {
        to.put_deep("stored", name, which, &bytes);
    }
}
