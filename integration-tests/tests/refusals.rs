//! What a live coordinator refuses, each with its code, and that nothing is lost by it.
//!
//! A raw client of `galen-net` holds a hospital's real keys and says what no party would.

use anyhow::{Context, bail, ensure};
use galen_core::{Code, Digest, Refusal, Signed, StudyDigest};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_models::agenda;
use galen_net::frame::{FrameKind, HEADER_BYTES, Header};
use galen_net::protocol::{AttemptPhase, BlobKind, Item, Request, Response, Statement};
use galen_net::{Client, Identity, Message, NetError, Peer, Tuning};
use galen_sums::schedule::Schedule;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// The hospital whose keys the raw client holds.
const VICTIM: &str = "long-beach";

/// A connection with the victim's keys.
struct Raw {
    peer: Peer,
    study: StudyDigest,
}

fn client(scene: &Scene, identity: &Identity) -> anyhow::Result<Client> {
    let frozen = scene.frozen();
    let pin = frozen.coordinator().certificate;
    Ok(Client::new(
        scene.address().to_string(),
        identity,
        pin,
        frozen.digest(),
        Tuning::default(),
    )?)
}

impl Raw {
    async fn connect(scene: &Scene) -> anyhow::Result<Self> {
        let home = scene.home(VICTIM);
        let identity = Identity::load(&home.join("keys"))?;
        let peer = client(scene, &identity)?.connect_patiently(|_, _| {}).await?;
        let consent: Signed = postcard::from_bytes(&std::fs::read(home.join("consent.bin"))?)?;
        ensure!(
            peer.call(&Request::Hello { consent }).await? == Response::Ok,
            "the consent was not accepted"
        );
        Ok(Self {
            peer,
            study: scene.frozen().digest(),
        })
    }

    /// Writes a frame header and bytes on a fresh stream, ends it, and reads the refusal.
    async fn write(&self, header: Header, bytes: &[u8]) -> anyhow::Result<Refusal> {
        let (mut send, mut recv) = self.peer.connection().open_bi().await?;
        send.write_all(&header.encode()).await?;
        // The coordinator may stop reading at the header; what it says is on its half of the stream.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        self.refusal(&recv.read_to_end(1 << 20).await?)
    }

    /// The refusal in the last frame of an answer.
    fn refusal(&self, mut bytes: &[u8]) -> anyhow::Result<Refusal> {
        loop {
            let (head, rest) = bytes
                .split_first_chunk::<HEADER_BYTES>()
                .context("the answer ended without a refusal")?;
            let header = Header::decode(head, &self.study)?;
            let (payload, rest) = rest
                .split_at_checked(header.len as usize)
                .context("a frame ended early")?;
            if let Response::Refused(refusal) = Response::decode(header.kind, payload)? {
                return Ok(refusal);
            }
            bytes = rest;
        }
    }

    /// Announces a blob of `len` bytes and sends some, in one chunk, that are fewer.
    async fn put_truncated(
        &self,
        kind: BlobKind,
        digest: Digest,
        len: u64,
        sent: &[u8],
    ) -> anyhow::Result<Refusal> {
        let request = Request::Put { digest, len, kind }.encode()?;
        let frame = |kind, bytes: &[u8]| {
            let header = Header {
                kind,
                study: self.study,
                len: bytes.len() as u32,
            };
            [header.encode().as_slice(), bytes].concat()
        };
        let bytes = [frame(FrameKind::Control, &request), frame(FrameKind::Chunk, sent)].concat();
        let (mut send, mut recv) = self.peer.connection().open_bi().await?;
        send.write_all(&bytes).await?;
        send.finish()?;
        self.refusal(&recv.read_to_end(1 << 20).await?)
    }

    async fn post(&self, statement: Statement) -> anyhow::Result<Refusal> {
        match self.peer.call(&Request::Post(statement)).await {
            Err(NetError::Refused(refusal)) => Ok(refusal),
            other => bail!("not refused: {other:?}"),
        }
    }
}

fn expect(refusal: &Refusal, code: Code, number: &str) -> anyhow::Result<()> {
    ensure!(
        refusal.code == code && code.to_string() == number,
        "{number} expected, refused with {refusal}"
    );
    Ok(())
}

/// Waits until the round is being collected and only the victim's contribution is missing.
fn wait_for_victim(scene: &mut Scene, round: u32) -> anyhow::Result<()> {
    scene.wait_for("only the victim's contribution is missing", |_, snapshot| {
        let attempt = snapshot
            .coordinator
            .as_ref()
            .and_then(|status| status.attempt.as_ref());
        Ok(attempt.is_some_and(|attempt| {
            attempt.round == round
                && attempt.phase == AttemptPhase::Collecting
                && attempt.awaiting.len() == 1
                && attempt.awaiting.iter().all(|party| party.as_str() == VICTIM)
        }))
    })
}

#[test]
fn what_does_not_belong_is_refused_and_nothing_is_lost() -> anyhow::Result<()> {
    // All four must contribute, so that a round stands still exactly as long as this test wants.
    let folder = small_heart(2)?.with(|study| study.sums.quorum = 4)?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    scene.start(COORDINATOR)?;
    for party in scene.parties().to_vec() {
        if party.as_str() != VICTIM {
            scene.start(party.as_str())?;
        }
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(strangers_are_refused(&scene))?;
    let raw = runtime.block_on(Raw::connect(&scene))?;
    runtime.block_on(frames_are_refused(&raw))?;
    wait_for_victim(&mut scene, 0)?;
    runtime.block_on(a_truncated_contribution_is_refused(&scene, &raw))?;
    raw.peer.close();

    // The victim comes too late for a key of round 0 but contributes to it, and dies in round 1, in which that contribution is then sent
    // again.
    scene.start_killed_at(VICTIM, "party.key.announced")?;
    scene.wait_killed(VICTIM)?;
    wait_for_victim(&mut scene, 1)?;
    let raw = runtime.block_on(Raw::connect(&scene))?;
    runtime.block_on(a_contribution_of_another_round_is_refused(&raw))?;
    raw.peer.close();

    scene.start(VICTIM)?;
    scene.wait_done()?;
    let raw = runtime.block_on(Raw::connect(&scene))?;
    runtime.block_on(the_beginning_of_a_truncated_blob_is_kept(&raw))?;
    raw.peer.close();
    scene.check_sums_of_all()?;
    scene.end()
}

async fn strangers_are_refused(scene: &Scene) -> anyhow::Result<()> {
    let stranger = Identity::generate()?;
    let error = match client(scene, &stranger)?.connect_patiently(|_, _| {}).await {
        Ok(_) => bail!("a stranger was admitted"),
        Err(error) => error,
    };
    ensure!(error.code() == Some(Code::UnknownCertificate), "{error}");
    ensure!(Code::UnknownCertificate.to_string() == "G1001");
    Ok(())
}

async fn frames_are_refused(raw: &Raw) -> anyhow::Result<()> {
    let request = Request::Serving.encode()?;
    let header = Header {
        kind: FrameKind::Control,
        study: raw.study,
        len: request.len() as u32,
    };
    let other = Header {
        study: Digest::of(b"another study"),
        ..header
    };
    expect(&raw.write(other, &request).await?, Code::WrongStudy, "G1002")?;
    let oversized = Header {
        len: FrameKind::Control.limit() + 1,
        ..header
    };
    expect(
        &raw.write(oversized, &request).await?,
        Code::FrameTooLarge,
        "G1101",
    )?;
    // The connection lives on.
    ensure!(raw.peer.call(&Request::Serving).await? == Response::Serving(None));
    Ok(())
}

async fn a_truncated_contribution_is_refused(scene: &Scene, raw: &Raw) -> anyhow::Result<()> {
    let roster = galen_sums::Roster::from_study(scene.frozen())?;
    let study = scene.frozen().study();
    let schedule = Schedule::new(agenda::schedule_shapes(study)?, study.sums.max_attempts);
    let inputs = schedule.inputs(&roster, 0).context("round 0")?;
    let len = galen_sums::SumPlan::new(&inputs)?.blob_len();
    let refusal = raw.put_truncated(BlobKind::Contribution, Digest::of(b"the whole"), len, &[7; 1000]);
    expect(&refusal.await?, Code::BlobTruncated, "G1201")
}

async fn the_beginning_of_a_truncated_blob_is_kept(raw: &Raw) -> anyhow::Result<()> {
    let kind = BlobKind::EvaluationKey;
    let blob: Vec<u8> = (0..300_000u32).map(|index| (index % 251) as u8).collect();
    let (digest, len) = (Digest::of(&blob), blob.len() as u64);
    let sent = 200_000;
    let refusal = raw.put_truncated(kind, digest, len, &blob[..sent]);
    expect(&refusal.await?, Code::BlobTruncated, "G1201")?;
    // The upload goes on from where it ended, save for the segment of the store that was not full.
    let (sender, resumed) = std::sync::mpsc::channel();
    let open = move |offset: u64| {
        let _ = sender.send(offset);
        Ok(std::io::Cursor::new(blob[offset as usize..].to_vec()))
    };
    raw.peer.put(digest, len, kind, open, |_, _| {}).await?;
    let kept = resumed.try_recv()?;
    ensure!(
        kept > 100_000 && kept <= sent as u64,
        "{kept} of {sent} bytes were kept"
    );
    Ok(())
}

async fn a_contribution_of_another_round_is_refused(raw: &Raw) -> anyhow::Result<()> {
    let published = match raw.peer.call(&Request::Poll { seen: 0, from: 0 }).await? {
        Response::View(view) => view.published,
        other => bail!("{other:?}"),
    };
    let attempt = published.first().context("round 0 is not published")?.attempt;
    let headers = match raw
        .peer
        .call(&Request::Fetch {
            round: 0,
            attempt,
            item: Item::Headers,
            after: None,
        })
        .await?
    {
        Response::Statements { found, .. } => found,
        other => bail!("{other:?}"),
    };
    let own = headers.into_iter().find(|(author, _)| author.as_str() == VICTIM);
    let (_, own) = own.context("the victim did not contribute to round 0")?;
    expect(
        &raw.post(Statement::Contribution(own)).await?,
        Code::WrongRound,
        "G1401",
    )
}
