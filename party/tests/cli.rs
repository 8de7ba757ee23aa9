//! The commands as a hospital meets them: what they print, what they refuse, and with which exit status.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command;

use command::{json, party, text};
use galen_core::study::{Card, FrozenStudy, Purpose, Study};
use galen_core::{Digest, PartyId, PublicKey, Signed, SigningKey};
use galen_party::audit::{AuditCopy, LOG};
use galen_party::home::Home;
use galen_party::identity::Identity;
use galen_sums::audit::{AuditEvent, AuditHead, AuditLine};
use galen_sums::authored::ENDORSEMENT;
use galen_sums::{Authored, ContributionSet, Endorsement, RoundId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const STUDIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/studies");

struct Site {
    temp: tempfile::TempDir,
}

impl Site {
    /// The four hospitals of the heart study, initialised; Cleveland's table is in its folder.
    fn new() -> Self {
        let site = Self {
            temp: tempfile::tempdir().unwrap(),
        };
        for name in ["cleveland", "budapest", "zurich", "long-beach"] {
            let made = party(&["init", "--dir", &site.dir(name), "--name", name]);
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        std::fs::copy(format!("{STUDIES}/heart/cleveland.csv"), site.table()).unwrap();
        site
    }

    fn dir(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    fn table(&self) -> PathBuf {
        self.temp.path().join("cleveland/data.csv")
    }

    /// Freezes the heart study as the operator does.
    fn frozen(&self) -> (FrozenStudy, String) {
        self.frozen_by(PublicKey(Digest::of(b"key")))
    }

    /// The same, with the coordinator's signing key.
    fn frozen_by(&self, key: PublicKey) -> (FrozenStudy, String) {
        let text = std::fs::read_to_string(format!("{STUDIES}/heart/study.toml")).unwrap();
        let study: Study = toml::from_str(&text).unwrap();
        let card = |name: &str| -> Card {
            let text = std::fs::read_to_string(Path::new(&self.dir(name)).join("card.toml")).unwrap();
            toml::from_str(&text).unwrap()
        };
        let mut coordinator = card("zurich");
        coordinator.name = "coordinator".parse().unwrap();
        coordinator.certificate = Digest::of(b"certificate");
        coordinator.signing = key;
        coordinator.sealing = Digest::default();
        let cards = study
            .party
            .iter()
            .map(|member| card(member.name.as_str()))
            .collect();
        let frozen = FrozenStudy::freeze(study, coordinator, cards).unwrap();
        let file = self.dir("study.toml");
        std::fs::write(&file, frozen.to_toml().unwrap()).unwrap();
        (frozen, file)
    }
}

#[test]
fn init_makes_a_party_once() {
    let site = Site::new();
    let dir = site.dir("st-mary");
    let made = party(&[
        "init",
        "--dir",
        &dir,
        "--name",
        "st-mary",
        "--title",
        "St \"Mary\"",
        "--coordinator",
        "g.org:1",
    ]);
    let said = text(&made.stdout);
    assert!(made.status.success());
    for part in [
        "card.toml",
        "fingerprint",
        "party study sign",
        "[[party]]",
        r#"title = 'St "Mary"'"#,
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let config = std::fs::read_to_string(Path::new(&dir).join("config.toml")).unwrap();
    assert!(config.contains("coordinator = \"g.org:1\"") && config.contains("# The hospital's table"));
    let card = std::fs::read(Path::new(&dir).join("card.toml")).unwrap();
    let (status, again) = json(&["init", "--dir", &dir, "--name", "other"]);
    assert_eq!(
        (status, again["ok"].as_bool(), again["error"]["code"].as_str()),
        (3, Some(false), Some("P102"))
    );
    assert_eq!(std::fs::read(Path::new(&dir).join("card.toml")).unwrap(), card);
}

#[test]
fn a_study_is_shown_and_signed_only_with_consent() {
    let site = Site::new();
    let (frozen, file) = site.frozen();
    let dir = site.dir("cleveland");
    // Nobody says yes (standard input is empty), or another digest was compared.
    let silent = Command::new(env!("CARGO_BIN_EXE_party"))
        .args(["study", "sign", &file, "--dir", &dir])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(silent.status.code(), Some(3));
    let shown = text(&silent.stderr);
    assert!(
        shown.contains(&frozen.digest().spoken()) && shown.contains("fits the study: 303 patients"),
        "{shown}"
    );
    let other = Digest::of(b"other").to_hex();
    let (status, refused) = json(&["study", "sign", &file, "--dir", &dir, "--digest", &other, "--yes"]);
    assert_eq!((status, refused["error"]["code"].as_str()), (3, Some("P106")));
    assert!(!Path::new(&dir).join("consent.bin").exists() && !Path::new(&dir).join("study.toml").exists());
    let digest = frozen.digest().to_hex();
    let (status, signed) = json(&["study", "sign", &file, "--dir", &dir, "--digest", &digest]);
    assert_eq!((status, signed["ok"].as_bool()), (0, Some(true)));
    assert_eq!(signed["result"]["digest"].as_str(), Some(digest.as_str()));
    assert_eq!(signed["result"]["patients"].as_u64(), Some(303));
    // A study changed by a single letter has another digest than it says.
    let changed = std::fs::read_to_string(&file)
        .unwrap()
        .replace("four hospitals", "five hospitals");
    std::fs::write(&file, changed).unwrap();
    let (status, refused) = json(&["study", "sign", &file, "--dir", &dir, "--yes"]);
    assert_eq!((status, refused["error"]["code"].as_str()), (3, Some("P105")));
}

#[test]
fn errors_in_the_table_reach_the_user_before_anything_is_done() {
    let site = Site::new();
    let (_, file) = site.frozen();
    let dir = site.dir("cleveland");
    let good = std::fs::read_to_string(site.table()).unwrap();
    assert!(
        party(&["study", "sign", &file, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    let mut lines: Vec<&str> = good.lines().collect();
    let broken = lines[6].replacen(',', ",Schmidt", 1);
    lines[6] = &broken;
    std::fs::write(site.table(), lines.join("\n")).unwrap();
    for command in [
        &["serve", "--dir", &dir][..],
        &["study", "sign", &file, "--dir", &dir, "--yes"],
    ] {
        let (status, refused) = json(command);
        assert_eq!(
            (status, refused["error"]["code"].as_str()),
            (4, Some("P201")),
            "{command:?}"
        );
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("data.csv:7: column \"sex\""), "{message}");
        assert!(!message.contains("Schmidt"), "{message}");
    }
    assert!(!Path::new(&dir).join("store").exists() && !Path::new(&dir).join("status.json").exists());
}

#[test]
fn commands_say_what_has_to_come_first() {
    let site = Site::new();
    let (_, file) = site.frozen();
    let dir = site.dir("cleveland");
    let out = site.dir("model.safetensors");
    let refused = |args: &[&str], exit: i32, code: &str, part: &str| {
        let (status, said) = json(args);
        assert_eq!(
            (status, said["error"]["code"].as_str()),
            (exit, Some(code)),
            "{args:?} {said}"
        );
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert!(
            said["error"]["hint"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty())
        );
    };
    refused(&["serve", "--dir", &dir], 3, "P106", "party study sign");
    refused(&["status", "--dir", &dir], 1, "P601", "party serve");
    refused(
        &["status", "--dir", &site.dir("nowhere")],
        3,
        "P102",
        "no party lives here",
    );
    assert!(
        party(&["study", "sign", &file, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    refused(&["opened", "--dir", &dir], 1, "P601", "nothing has been opened");
    refused(
        &["query", "--held-out", "--dir", &dir],
        1,
        "P601",
        "nothing has been opened",
    );
    refused(
        &["model", "export", "--out", &out, "--dir", &dir],
        1,
        "P601",
        "nothing has been opened",
    );
    let config = Path::new(&dir).join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().position(|line| line.starts_with("[log]")).unwrap() + 1;
    std::fs::write(&config, text.replace("[log]", "colour = \"red\"\n[log]")).unwrap();
    refused(
        &["serve", "--dir", &dir],
        3,
        "P101",
        &format!("config.toml:{line}:1"),
    );
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let help = text(&party(&["--help"]).stdout);
    for part in [
        "init",
        "study",
        "serve",
        "status",
        "query",
        "opened",
        "model",
        "audit",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    let wrong = party(&["serve"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("--dir"));
}

/// The lines of a study up to its first published round, over `of`; everybody else stays away.
fn first_round(site: &Site, study: &FrozenStudy, key: &SigningKey, of: &[&str]) -> (Vec<Signed>, AuditHead) {
    let name = |text: &str| PartyId::new(text).unwrap();
    let digest = |text: String| Digest::of(text.as_bytes());
    let id = RoundId { round: 0, attempt: 0 };
    let everybody: Vec<PartyId> = study.cards().iter().map(|card| card.name.clone()).collect();
    let (record, sum) = (digest("record".into()), digest("sum".into()));
    let header = |who: &PartyId| digest(format!("header {who}"));
    let members: BTreeMap<_, _> = of.iter().map(|who| (name(who), header(&name(who)))).collect();
    let set = ContributionSet {
        record,
        members: members.clone(),
    }
    .digest();
    let endorse = |who: &PartyId| {
        let identity = Identity::load(&Home::open(Path::new(&site.dir(who.as_str()))).unwrap()).unwrap();
        let said = Endorsement { record, set, sum };
        Authored::sign(&identity.signing, who, ENDORSEMENT, &study.digest(), &said).unwrap()
    };
    let result = digest("result".into());
    let mut events = Vec::new();
    for party in &everybody {
        events.push(AuditEvent::Admitted {
            party: party.clone(),
            consent: digest(format!("consent {party}")),
        });
    }
    events.push(AuditEvent::Activated);
    events.push(AuditEvent::Record {
        id,
        purpose: Purpose::Statistics,
        record,
        base: digest("initial".into()),
        standing: BTreeMap::new(),
    });
    for (contributor, header) in &members {
        events.push(AuditEvent::Contribution {
            id,
            contributor: contributor.clone(),
            header: *header,
            blob: digest(format!("blob {contributor}")),
        });
    }
    events.push(AuditEvent::Proposed {
        id,
        members: members.clone(),
        set,
        sum,
    });
    events.push(AuditEvent::Certified {
        id,
        set,
        sum,
        endorsements: everybody.iter().map(endorse).collect(),
    });
    events.push(AuditEvent::Opened {
        id,
        receivers: everybody.clone(),
        contributors: members.len() as u32,
    });
    for receiver in &everybody {
        events.push(AuditEvent::Read {
            id,
            receiver: receiver.clone(),
            result,
        });
    }
    events.push(AuditEvent::Published { id, sum, result });
    let (mut lines, mut head) = (Vec::new(), AuditHead::default());
    for (second, event) in (0..).zip(events) {
        let time = 1_798_761_600_000 + second * 1000;
        let (line, next) = AuditLine::sign(key, &study.digest(), &head, time, event).unwrap();
        lines.push(line);
        head = next;
    }
    (lines, head)
}

#[test]
fn an_audit_log_is_verified_offline_and_told_in_words() {
    let site = Site::new();
    let key = SigningKey::generate().unwrap();
    let (study, file) = site.frozen_by(key.public());
    let dir = site.dir("cleveland");
    assert!(
        party(&["study", "sign", &file, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    let empty = party(&["audit", "verify", "--dir", &dir]);
    assert!(empty.status.success() && text(&empty.stdout).contains("No sum was opened"));

    let three = ["cleveland", "budapest", "zurich"];
    let (lines, head) = first_round(&site, &study, &key, &three);
    let home = Home::open(Path::new(&dir)).unwrap();
    let copy = AuditCopy::open(&home, study.digest(), key.public()).unwrap();
    copy.stage(&lines, Some(&head)).unwrap();
    drop(copy);
    let log = home.audit().join(LOG);
    let exported = site.dir("exported.jsonl");
    std::fs::copy(&log, &exported).unwrap();

    let verified = party(&["audit", "verify", "--dir", &dir, "--head", &head.digest.to_hex()]);
    let said = text(&verified.stdout);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    for part in [
        "1 sum was opened:",
        "round 0 attempt 0 (statistics): on 2027-01-01 00:00:11 UTC the sum over 3 contributors (budapest, cleveland and zurich) was opened to ",
        "its result was published",
        "Every line is signed, in its place, and within the rules of the study.",
        &format!("The head that was given is that of line {}.", lines.len()),
        &head.digest.spoken(),
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let shown = text(&party(&["audit", "show", "--dir", &dir, "--from", "5"]).stdout);
    assert!(
        shown.starts_with("     5  2027-01-01 00:00:04 UTC  Every party has signed"),
        "{shown}"
    );
    assert_eq!(shown.lines().count(), lines.len() - 4);
    let (status, object) = json(&["audit", "show", "--dir", &dir, "--from", "6"]);
    assert_eq!(
        (status, &object["result"][0]["event"]["record"]["purpose"]),
        (0, &"statistics".into())
    );
    for args in [&["--study", &file][..], &["--dir", &dir]] {
        let (status, object) = json(&[&["audit", "verify", &exported], args].concat());
        let report = &object["result"]["report"];
        assert_eq!(status, 0, "{object}");
        assert_eq!(report["head"]["lines"], lines.len());
        assert_eq!(
            report["openings"][0]["contributors"],
            serde_json::json!(["budapest", "cleveland", "zurich"])
        );
    }

    // A changed file, one that was told to somebody else, a head that is not on the log: exit status 6 and the line.
    let refused = |args: &[&str], code: &str, part: &str| {
        let (status, said) = json(args);
        assert_eq!(
            (status, said["error"]["code"].as_str()),
            (6, Some(code)),
            "{args:?} {said}"
        );
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    };
    let good = std::fs::read_to_string(&exported).unwrap();
    std::fs::write(
        &exported,
        good.replacen("over 3 contributors", "over 4 contributors", 1),
    )
    .unwrap();
    let opened = lines.len() - study.cards().len() - 1;
    refused(
        &["audit", "verify", &exported, "--study", &file],
        "G1409",
        &format!("line {opened} of the file says in words what was not signed"),
    );
    let all = ["cleveland", "budapest", "zurich", "long-beach"];
    let other = Home::open(Path::new(&site.dir("zurich"))).unwrap();
    let copy = AuditCopy::open(&other, study.digest(), key.public()).unwrap();
    let (told, _) = first_round(&site, &study, &key, &all);
    copy.stage(&told, None).unwrap();
    let forked = other.audit().join(LOG).display().to_string();
    assert_eq!(
        json(&["audit", "verify", &forked, "--study", &file]).0,
        0,
        "by itself it is good"
    );
    refused(&["audit", "verify", &forked, "--dir", &dir], "G1409", "line 9");
    let elsewhere = Digest::of(b"elsewhere").to_hex();
    refused(
        &["audit", "verify", "--dir", &dir, "--head", &elsewhere],
        "G1409",
        &elsewhere,
    );

    // Genuine lines that the rules forbid.
    let (two, _) = first_round(&site, &study, &key, &three[..2]);
    let other = Home::open(Path::new(&site.dir("budapest"))).unwrap();
    AuditCopy::open(&other, study.digest(), key.public())
        .unwrap()
        .stage(&two, None)
        .unwrap();
    let small = other.audit().join(LOG).display().to_string();
    refused(
        &["audit", "verify", &small, "--study", &file],
        "G1410",
        "line 9: the set of round 0 attempt 0 has 2 members, the study asks for at least 3",
    );

    // A copy that lost its end does not lead to the head that was seen.
    let cut = good.trim_end().rsplit_once('\n').unwrap().0;
    std::fs::write(&log, format!("{cut}\n")).unwrap();
    refused(
        &["audit", "verify", "--dir", &dir],
        "G1409",
        &format!("line {} is missing", lines.len()),
    );
}

/// A passphrase in a file, as automation gives it.
fn passphrase(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

#[test]
fn keys_are_backed_up_verified_and_restored() {
    let site = Site::new();
    let (frozen, study) = site.frozen();
    let dir = site.dir("cleveland");
    assert!(
        party(&["study", "sign", &study, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    let secret = passphrase(&site, "passphrase", "six random words would be good");
    let file = site.dir("cleveland.galen-backup");
    let (status, made) = json(&[
        "keys",
        "backup",
        &file,
        "--dir",
        &dir,
        "--passphrase-file",
        &secret,
    ]);
    assert_eq!((status, made["ok"].as_bool()), (0, Some(true)), "{made}");
    assert_eq!(made["result"]["party"].as_str(), Some("cleveland"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    let before = std::fs::read(&file).unwrap();
    let (status, again) = json(&[
        "keys",
        "backup",
        &file,
        "--dir",
        &dir,
        "--passphrase-file",
        &secret,
    ]);
    assert_eq!((status, again["error"]["code"].as_str()), (3, Some("P115")));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // For people, and from the environment.
    let said = Command::new(env!("CARGO_BIN_EXE_party"))
        .args(["keys", "verify", &file, "--dir", &dir, "--study", &study])
        .env("GALEN_PASSPHRASE", "six random words would be good")
        .output()
        .unwrap();
    let said = (said.status.code(), text(&said.stdout), text(&said.stderr));
    assert_eq!(said.0, Some(0), "{said:?}");
    for part in [
        "party \"cleveland\"",
        &frozen.digest().spoken(),
        "signing.pkcs8, sealing.key",
        "card, signed study, party in the folder, given study",
        "Nothing was written",
    ] {
        assert!(said.1.contains(part), "{part}\n{said:?}");
    }
    let new = site.dir("cleveland-new");
    let (status, restored) = json(&[
        "keys",
        "restore",
        &file,
        "--dir",
        &new,
        "--passphrase-file",
        &secret,
    ]);
    assert_eq!((status, restored["ok"].as_bool()), (0, Some(true)), "{restored}");
    for name in [
        "card.toml",
        "consent.bin",
        "study.toml",
        "config.toml",
        "keys/tls-key.pem",
    ] {
        let read = |dir: &str| std::fs::read(Path::new(dir).join(name)).unwrap();
        assert_eq!(read(&dir), read(&new), "{name}");
    }
    assert!(Path::new(&new).join("restored.toml").exists());
    assert!(!Path::new(&new).join("store").exists());
    // The restored party backs itself up again.
    let second = site.dir("second.galen-backup");
    let (status, _) = json(&[
        "keys",
        "backup",
        &second,
        "--dir",
        &new,
        "--passphrase-file",
        &secret,
    ]);
    assert_eq!(status, 0);
}

#[test]
fn what_is_wrong_with_a_backup_is_told_apart() {
    let site = Site::new();
    let dir = site.dir("cleveland");
    let secret = passphrase(&site, "passphrase", "six random words would be good");
    let file = site.dir("cleveland.galen-backup");
    let (status, made) = json(&[
        "keys",
        "backup",
        &file,
        "--dir",
        &dir,
        "--passphrase-file",
        &secret,
    ]);
    assert_eq!(status, 0, "{made}");
    let good = std::fs::read(&file).unwrap();
    let refused = |args: &[&str], code: &str, part: &str| {
        let (status, said) = json(args);
        assert_eq!(
            (status, said["error"]["code"].as_str()),
            (3, Some(code)),
            "{args:?} {said}"
        );
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert!(
            said["error"]["hint"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty())
        );
        assert!(!said.to_string().contains("random words"));
    };
    let verify = ["keys", "verify", &file, "--passphrase-file"];
    let other = passphrase(&site, "other", "six random words would be bad");
    refused(&[&verify[..], &[&other]].concat(), "P113", "does not open");
    let short = passphrase(&site, "short", "short");
    let out = site.dir("out");
    refused(
        &["keys", "backup", &out, "--dir", &dir, "--passphrase-file", &short],
        "P113",
        "too short",
    );
    assert!(!Path::new(&out).exists());
    let zurich = site.dir("zurich");
    refused(
        &[&verify[..], &[&secret, "--dir", &zurich]].concat(),
        "P114",
        "of \"cleveland\"",
    );
    refused(
        &[
            "keys",
            "restore",
            &file,
            "--dir",
            &zurich,
            "--passphrase-file",
            &secret,
        ],
        "P115",
        "not an empty folder",
    );
    let write = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
    };
    write(|bytes| bytes[40] ^= 1);
    refused(&[&verify[..], &[&secret]].concat(), "P111", "damaged");
    write(|bytes| bytes.truncate(100));
    refused(&[&verify[..], &[&secret]].concat(), "P111", "damaged");
    write(|bytes| bytes[7] = 2);
    refused(&[&verify[..], &[&secret]].concat(), "P112", "format version 2");
    write(|bytes| bytes.insert(0, b' '));
    refused(&[&verify[..], &[&secret]].concat(), "P111", "no Galen backup");
}
