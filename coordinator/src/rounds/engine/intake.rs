//! Taking in what parties state: verified, applied, durable, then acknowledged.

use super::{Engine, internal, proposal, statement_key, store_refusal};
use crate::rounds::audit;
use crate::rounds::state::{Answered, Attempt, Contribution, Named};
use crate::rounds::steps::Step;
use crate::rounds::transition::Event;
use crate::rounds::verify;
use galen_core::study::STUDY_SIGNATURE;
use galen_core::{Code, PartyId, Refusal, Signed, StudyDigest, faults};
use galen_net::protocol::{AttemptPhase, Statement};
use galen_sums::abandon::check_abandoned;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::{Authored, CHECKED, ENDORSEMENT};
use galen_sums::contribution::check_blob;
use galen_sums::record::RoundId;
use galen_sums::round::Round;
use galen_sums::sealed::SealedTexts;
use galen_sums::set::Certificate;

impl Engine {
    /// Stores a party's consent to the study.
    pub fn consent(&self, party: &PartyId, consent: &Signed) -> Result<(), Refusal> {
        let authored = Authored {
            author: party.clone(),
            statement: consent.clone(),
        };
        let digest: StudyDigest = verify::open(&self.roster, STUDY_SIGNATURE, &authored)?;
        if digest != self.study.digest() {
            return Err(Refusal::new(Code::WrongStudy, "the consent is to another study"));
        }
        let mut inner = self.lock();
        if inner.state.consents.contains(party) {
            return Ok(());
        }
        let mut state = inner.state.clone();
        state.consents.insert(party.clone());
        state.introduced_ms = self.clock.steady_ms();
        let admitted = AuditEvent::Admitted {
            party: party.clone(),
            consent: authored.digest(),
        };
        let statement = Some((format!("consent/{party}"), authored));
        self.commit(&mut inner, state, statement, vec![admitted])?;
        // Decided before the driver can go on: afterwards the study might have left this state.
        let active = !matches!(self.next_step(&inner.state), Step::AwaitConsent(_));
        drop(inner);
        if active {
            faults::reach("coordinator.study.active");
        }
        Ok(())
    }

    /// Takes in a party's statement: verified, applied, durable when this returns. What it should not have sent is refused, and the
    /// audit log says so.
    pub fn post(&self, party: &PartyId, statement: Statement) -> Result<(), Refusal> {
        let what = audit::name_of(&statement);
        let binding = match &statement {
            Statement::Endorsement(signed) | Statement::Abandoned(signed) => Some(signed.clone()),
            _ => None,
        };
        let taken = self.take(party, statement);
        if let Err(refusal) = &taken {
            self.note_refusal(party, what, refusal);
        }
        if let Some(statement) = binding {
            let author = party.clone();
            self.note_second_signature(Authored { author, statement })?;
        }
        taken
    }

    fn take(&self, party: &PartyId, statement: Statement) -> Result<(), Refusal> {
        let authored = |signed: Signed| Authored {
            author: party.clone(),
            statement: signed,
        };
        let statement = match statement {
            Statement::Release(signed) => return self.release(party, authored(signed)),
            Statement::Incarnation(signed) => return self.incarnation(authored(signed)),
            Statement::Confirmation(signed) => return self.confirmation(authored(signed)),
            Statement::Stale(signed) => return self.stale(authored(signed)),
            statement => statement,
        };
        let (round, attempt) = {
            let inner = self.lock();
            let attempt = inner.state.attempt.clone();
            (
                inner.round.clone(),
                attempt.ok_or_else(|| match self.next_step(&inner.state) {
                    Step::AwaitConsent(_) => Refusal::new(Code::StudyInactive, "signatures are missing"),
                    _ => Refusal::new(Code::WrongRound, "no round is under way"),
                })?,
            )
        };
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let recorded = || {
            round
                .as_deref()
                .ok_or_else(|| Refusal::new(Code::WrongPhase, "the round record is not fixed yet"))
        };
        let mut events = Vec::new();
        let (kind, authored, event) = match statement {
            Statement::RoundKey(signed) => {
                let authored = authored(signed);
                let key = verify::round_key(&self.roster, id, &authored)?;
                let event = Event::RoundKey {
                    custodian: party.clone(),
                    key,
                };
                ("key".to_owned(), authored, event)
            }
            Statement::Contribution(signed) => {
                let authored = authored(signed);
                let event = self.contribution(recorded()?, &attempt, &authored)?;
                ("contribution".to_owned(), authored, event)
            }
            Statement::Endorsement(signed) => {
                let authored = authored(signed);
                let proposal = proposal(&attempt)?;
                let (set, sum) = (proposal.set_digest, proposal.sum);
                verify::endorsement(recorded()?, ENDORSEMENT, set, sum, &authored)?;
                let event = Event::Endorsement {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("endorsement".to_owned(), authored, event)
            }
            Statement::Checked(signed) => {
                let authored = authored(signed);
                let proposal = proposal(&attempt)?;
                let (set, sum) = (proposal.set_digest, proposal.sum);
                verify::endorsement(recorded()?, CHECKED, set, sum, &authored)?;
                let event = Event::Checked {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("checked".to_owned(), authored, event)
            }
            Statement::Abandoned(signed) => {
                let authored = authored(signed);
                check_abandoned(&self.roster, id, &authored).map_err(verify::refusal)?;
                let event = Event::Abandoned {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("abandoned".to_owned(), authored, event)
            }
            Statement::Fingerprint(signed) => {
                let authored = authored(signed);
                let certificate = self.certified(recorded()?, &attempt)?;
                verify::fingerprint(recorded()?, &certificate, &authored)?;
                let event = Event::Fingerprint {
                    contributor: party.clone(),
                    statement: authored.digest(),
                };
                ("fingerprint".to_owned(), authored, event)
            }
            Statement::KeyCheck(signed) => {
                let authored = authored(signed);
                let certificate = self.certified(recorded()?, &attempt)?;
                let check = verify::key_check(recorded()?, &certificate, &authored)?;
                self.sealed(party, &check.sealed)?;
                let event = Event::KeyCheck {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("keycheck".to_owned(), authored, event)
            }
            Statement::Judged(signed) => {
                let authored = authored(signed);
                let said = verify::judged(recorded()?, &authored)?;
                for liar in &said.liars {
                    // The list has each custodian once at most.
                    events.push(AuditEvent::Named {
                        id,
                        party: liar.clone(),
                        culprit: Culprit::WrongKeySum,
                        text: format!("receiver {party}: {}", said.detail),
                        evidence: vec![authored.clone()],
                    });
                }
                let event = Event::Judged {
                    receiver: party.clone(),
                    named: Named {
                        liars: said.liars,
                        doubted: said.doubted,
                    },
                };
                ("judged".to_owned(), authored, event)
            }
            Statement::SeedsRefused(signed) => {
                let authored = authored(signed);
                let contributor = verify::seeds_refused(recorded()?, &authored)?;
                events.push(AuditEvent::Named {
                    id,
                    party: contributor.clone(),
                    culprit: Culprit::BadSeeds,
                    text: format!("custodian {party} could not open them, or they do not fit their hashes"),
                    evidence: vec![authored.clone()],
                });
                (
                    "refused".to_owned(),
                    authored,
                    Event::SeedsRefused {
                        custodian: party.clone(),
                        contributor,
                    },
                )
            }
            Statement::Answer(signed) => {
                let authored = authored(signed);
                let certificate = self.certified(recorded()?, &attempt)?;
                let header = verify::answer(recorded()?, &certificate, &authored)?;
                self.sealed(party, &header.sealed)?;
                let statement = authored.digest();
                events.push(AuditEvent::Answered {
                    id,
                    custodian: party.clone(),
                    pieces: header.pieces.len() as u32,
                    key_sum: header.key_sum,
                });
                let event = Event::Answer {
                    custodian: party.clone(),
                    pieces: header.pieces,
                    answered: Answered {
                        statement,
                        sealed: header.sealed.blob,
                    },
                };
                (format!("answer-{statement}"), authored, event)
            }
            Statement::FingerprintRefused(signed) => {
                return self.complaint(recorded()?, &attempt, authored(signed));
            }
            Statement::Opened(signed) => {
                let authored = authored(signed);
                let result = verify::opened(recorded()?, &authored)?;
                (
                    "opened".to_owned(),
                    authored,
                    Event::Opened {
                        receiver: party.clone(),
                        result,
                    },
                )
            }
            Statement::OpeningFailed(signed) => {
                let authored = authored(signed);
                let failure = verify::opening_failed(recorded()?, &authored)?;
                (
                    "failed".to_owned(),
                    authored,
                    Event::OpeningFailed {
                        receiver: party.clone(),
                        failure,
                    },
                )
            }
            Statement::Release(_)
            | Statement::Incarnation(_)
            | Statement::Confirmation(_)
            | Statement::Stale(_) => {
                return Err(Refusal::new(Code::Internal, "not about an attempt"));
            }
        };
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let current = state
            .attempt
            .as_mut()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let current = current.ok_or_else(|| Refusal::new(Code::WrongRound, "the attempt has ended"))?;
        let before = current.clone();
        let before_phase = before.phase;
        current.apply(event, self.clock.steady_ms())?;
        if *current
            == (Attempt {
                progress_ms: current.progress_ms,
                ..before
            })
        {
            return Ok(());
        }
        if kind == "endorsement" && before_phase == AttemptPhase::Certified {
            // The certificate in the log is without it, and it can be asked for pieces from now on.
            events.push(AuditEvent::Endorsed {
                id,
                endorsement: authored.clone(),
            });
        }
        let fault = match kind.as_str() {
            "contribution" => Some("coordinator.contribution.stored"),
            kind if kind.starts_with("answer") => Some("coordinator.answer.stored"),
            _ => None,
        };
        self.commit(
            &mut inner,
            state,
            Some((statement_key(id, &kind, party), authored)),
            events,
        )?;
        if let Some(point) = fault {
            faults::reach(point);
        }
        Ok(())
    }

    fn contribution(&self, round: &Round, attempt: &Attempt, authored: &Authored) -> Result<Event, Refusal> {
        let header = verify::contribution(round, authored)?;
        let blobs = self.store.blobs();
        let info = blobs.info(&header.ciphertext).map_err(store_refusal)?;
        if !info.is_some_and(|info| info.has_owner(&authored.author)) {
            return Err(Refusal::new(
                Code::BlobUnknown,
                "send the ciphertexts before the header",
            ));
        }
        let known = attempt
            .contributions
            .get(&authored.author)
            .is_some_and(|c| c.blob == header.ciphertext);
        if !known && !self.is_checked(round, &authored.author, &header.ciphertext) {
            let reader = blobs.open_read(&header.ciphertext).map_err(store_refusal)?;
            let digest = check_blob(round, &authored.author, reader).map_err(verify::refusal)?;
            if digest != header.ciphertext {
                return Err(Refusal::new(
                    Code::NotConforming,
                    "the ciphertexts do not have the digest in the header",
                ));
            }
        }
        let contribution = Contribution {
            header: authored.digest(),
            blob: header.ciphertext,
        };
        Ok(Event::Contribution {
            contributor: authored.author.clone(),
            contribution,
        })
    }

    /// The certificate, for statements that have a meaning only beside it.
    fn certified(&self, round: &Round, attempt: &Attempt) -> Result<Certificate, Refusal> {
        let phases = AttemptPhase::Certified..=AttemptPhase::Judging;
        if !phases.contains(&attempt.phase) {
            return Err(Refusal::new(Code::WrongPhase, "the attempt is not certified"));
        }
        self.certificate(round, attempt).map_err(internal)
    }

    /// Checks that what a statement seals is here, so that no receiver looks for it in vain.
    fn sealed(&self, author: &PartyId, sealed: &SealedTexts) -> Result<(), Refusal> {
        if sealed.is_empty() {
            return Ok(());
        }
        let blobs = self.store.blobs();
        let info = blobs.info(&sealed.blob).map_err(store_refusal)?;
        if !info.is_some_and(|info| info.has_owner(author)) {
            return Err(Refusal::new(
                Code::BlobUnknown,
                "send what is sealed before the statement that names it",
            ));
        }
        let blob = blobs.open_read(&sealed.blob).map_err(store_refusal)?;
        if sealed.fits(blob).unwrap_or(false) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::NotConforming,
            "the sealed texts are not those whose digests were signed",
        ))
    }

    fn release(&self, party: &PartyId, authored: Authored) -> Result<(), Refusal> {
        let model = verify::release(&self.roster, &authored)?;
        let mut inner = self.lock();
        if inner.state.published.len() as u32 != self.frame.rounds {
            return Err(Refusal::new(Code::WrongPhase, "rounds are still under way"));
        }
        match inner.state.releases.get(party) {
            Some(known) if *known == model => return Ok(()),
            Some(_) => return Err(Refusal::new(Code::Conflict, "you released another model before")),
            None => {}
        }
        let mut state = inner.state.clone();
        state.releases.insert(party.clone(), model);
        self.commit(
            &mut inner,
            state,
            Some((format!("release/{party}"), authored)),
            Vec::new(),
        )
    }
}
