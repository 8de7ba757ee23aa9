//! Which parties a round has lost: whether it can still be finished.

use super::World;

impl World<'_> {
    /// Custodians that are not confirmed when a round is announced sit it out. It is announced without them only if nothing moved for the
    /// study's patience.
    pub(super) fn note_announced(&mut self) {
        let Some(state) = self.coordinator.state() else {
            return;
        };
        let Some(attempt) = state
            .attempt
            .filter(|attempt| self.announced != Some(attempt.round))
        else {
            return;
        };
        self.announced = Some(attempt.round);
        let shape = self.cast.shape;
        for party in 0..shape.custodians {
            let known = state.incarnations.get(self.cast.members[party].name());
            if known.is_none_or(|known| known.confirmed.len() + 1 < shape.agreement as usize) {
                self.lost.insert((party, attempt.round));
            }
        }
    }

    /// Whether the round under way can be finished: its contributors are there to fill the quorum, and custodians to agree. A custodian that
    /// lost its power or came back from an old disk sits out that round.
    pub fn can_go_on(&self) -> bool {
        let round = self.round();
        let shape = self.cast.shape;
        let lost = |party: &usize| self.seats[*party].gone || self.lost.contains(&(*party, round));
        let custodians = (0..shape.custodians).filter(lost).count();
        let parties = (0..shape.parties).filter(lost).count();
        custodians <= shape.custodians - shape.agreement as usize
            && parties <= shape.parties - shape.quorum as usize
    }

    /// The round under way, or the last one that anybody was shown.
    fn round(&self) -> u32 {
        let shown = self.recorder.rounds().map(|round| round.id().round).max();
        let state = self.coordinator.state();
        state.map_or(shown.unwrap_or_default(), |state| state.published.len() as u32)
    }

    /// A party loses what its machine remembered, or what was on its disk. It is lost until its custodian has introduced itself anew, maybe
    /// in a later round.
    pub(super) fn lose(&mut self, party: usize) {
        self.seats[party].lost = true;
        self.lost.insert((party, self.round()));
    }
}
