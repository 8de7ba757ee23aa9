//! What follows from an error: connect again, look again, give the step up, or end.

use crate::error::PartyError;
use crate::steps::Step;
use galen_core::Code;
use galen_net::NetError;

/// How often a step that fails on this party's side is tried before it is given up.
const TRIES: u32 = 5;

/// The step that failed last on this party's side, and how often in a row.
#[derive(Debug, Default)]
pub(crate) struct Failing(Option<(Step, u32)>);

impl Failing {
    /// Counts a failure; tells whether the step is tried again.
    pub(crate) fn again(&mut self, step: &Step) -> bool {
        let before = self.0.take().filter(|(failing, _)| failing == step);
        let times = before.map_or(0, |(_, times)| times).saturating_add(1);
        self.0 = Some((step.clone(), times));
        times < TRIES
    }

    pub(crate) fn succeeded(&mut self, step: &Step) {
        self.0 = self.0.take().filter(|(failing, _)| failing != step);
    }
}

/// Whether connecting again may help.
pub fn may_pass(error: &PartyError) -> bool {
    let busy = error
        .refusal()
        .is_some_and(|refusal| matches!(refusal.code, Code::Busy | Code::Internal));
    busy || error.is_transient()
}

/// Whether an error ends a step, but not the daemon. What does not verify when a published round is taken in ends the daemon: it could
/// only go on from a state that is not its own.
pub(crate) fn concerns_only(step: &Step, error: &PartyError) -> bool {
    match error {
        PartyError::Untrue(_) | PartyError::Spoilt(_) | PartyError::Forked { .. } => {
            !matches!(step, Step::Apply { .. } | Step::Close { .. })
        }
        PartyError::StandsAside(_) => true,
        PartyError::Net(NetError::Refused(_)) => !may_pass(error),
        _ => false,
    }
}

/// Whether a sum could not be opened for a reason that lies with this party's disk or with the transfer, so that another try may do.
pub(crate) fn is_of_this_side(step: &Step, error: &PartyError) -> bool {
    let opens = matches!(step, Step::Apply { .. } | Step::Open { .. });
    opens && matches!(error, PartyError::Spoilt(_) | PartyError::Store(_))
}

/// Whether a refusal only says that the view is older than the coordinator's state.
pub(crate) fn is_of_the_moment(error: &PartyError) -> bool {
    let PartyError::Net(NetError::Refused(refusal)) = error else {
        return false;
    };
    matches!(
        refusal.code,
        Code::WrongPhase | Code::WrongRound | Code::BlobUnknown | Code::BlobForbidden | Code::StudyInactive
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::{Digest, Refusal};
    use galen_custody::LedgerError;
    use galen_store::StoreError;
    use galen_sums::RoundId;
    use galen_sums::audit::AuditError;

    fn refused(code: Code) -> PartyError {
        NetError::Refused(Refusal::new(code, "")).into()
    }

    /// Every refusal is of exactly one kind: connect again, look again, give the step up.
    #[test]
    fn every_refusal_has_its_consequence() {
        let id = RoundId { round: 0, attempt: 0 };
        let step = Step::Announce(id);
        for &code in Code::ALL {
            let error = refused(code);
            let kinds = [
                may_pass(&error),
                is_of_the_moment(&error),
                concerns_only(&step, &error),
            ];
            let moment = is_of_the_moment(&error);
            assert!(kinds.contains(&true), "{code:?} would end the daemon");
            assert!(!may_pass(&error) || !moment, "{code:?}");
        }
        assert!(may_pass(&refused(Code::Busy)) && is_of_the_moment(&refused(Code::WrongRound)));
        assert!(concerns_only(&step, &refused(Code::Conflict)) && !may_pass(&refused(Code::Conflict)));
    }

    #[test]
    fn a_published_round_that_does_not_verify_ends_the_daemon() {
        let id = RoundId { round: 0, attempt: 0 };
        let sum = Digest::of(b"sum");
        let apply = Step::Apply { id, sum, result: sum };
        let untrue = PartyError::Untrue("x".into());
        assert!(!concerns_only(&apply, &untrue));
        assert!(concerns_only(&Step::Endorse { id, sum }, &untrue));
        let forked = PartyError::Forked {
            id: Some(id),
            source: AuditError::Malformed { line: 3 },
        };
        assert!(!concerns_only(&apply, &forked) && !may_pass(&forked) && !is_of_this_side(&apply, &forked));
        assert!(concerns_only(&Step::Endorse { id, sum }, &forked));
        let mismatch = PartyError::Mismatch {
            round: 0,
            published: sum,
            derived: Digest::of(b"own"),
        };
        assert!(!concerns_only(&apply, &mismatch) && !may_pass(&mismatch));
    }

    #[test]
    fn what_fails_on_this_side_is_tried_again_and_then_ends_what_cannot_go_on() {
        let id = RoundId { round: 0, attempt: 0 };
        let sum = Digest::of(b"sum");
        let apply = Step::Apply { id, sum, result: sum };
        let open = Step::Open { id, sum, replaced: 0 };
        let spoilt = PartyError::Spoilt("x".into());
        let disk = PartyError::Store(StoreError::BlobUnknown { digest: sum });
        for step in [&apply, &open] {
            assert!(is_of_this_side(step, &spoilt) && is_of_this_side(step, &disk));
            assert!(!is_of_this_side(step, &PartyError::Untrue("x".into())));
        }
        assert!(!concerns_only(&apply, &spoilt) && concerns_only(&open, &spoilt));
        assert!(!concerns_only(&apply, &disk) && !concerns_only(&open, &disk));
        assert!(!is_of_this_side(&Step::Announce(id), &disk));
    }

    #[test]
    fn a_failing_step_is_tried_some_times_in_a_row() {
        let [first, second] = [0, 1].map(|round| Step::Announce(RoundId { round, attempt: 0 }));
        let mut failing = Failing::default();
        for _ in 0..2 {
            for time in 1..=TRIES + 2 {
                assert_eq!(failing.again(&first), time < TRIES, "{time}");
                failing.succeeded(&second);
            }
            failing.succeeded(&first);
        }
        // Another step has its own tries.
        assert!(!(0..TRIES).all(|_| failing.again(&first)) && failing.again(&second));
    }

    #[test]
    fn a_custodian_that_stands_aside_goes_on_with_everything_else() {
        let id = RoundId { round: 0, attempt: 1 };
        let until = RoundId { round: 0, attempt: 0 };
        let aside = PartyError::StandsAside(LedgerError::Forgotten { asked: id, until });
        let step = Step::Announce(id);
        assert!(concerns_only(&step, &aside) && !may_pass(&aside) && !is_of_the_moment(&aside));
    }
}
