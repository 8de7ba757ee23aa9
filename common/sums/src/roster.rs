//! What the sums need to know of a study: who may do what, under which keys.

use crate::error::SumsError;
use crate::pieces::PieceTable;
use galen_core::study::{FrozenStudy, Role};
use galen_core::{PartyId, PublicKey, StudyDigest};
use std::collections::BTreeMap;

/// A member as the sums see it.
#[derive(Clone, Debug)]
pub struct RosterMember {
    /// Its name.
    pub name: PartyId,
    /// Key of its statements.
    pub signing: PublicKey,
    /// X25519 key to which opened key sums are sealed.
    pub sealing: [u8; 32],
    /// Whether it contributes (and so receives the sums).
    pub contributor: bool,
    /// Whether it keeps pieces.
    pub custodian: bool,
}

/// What a [`Roster`] is made of. Members stand in the order of the study.
#[derive(Clone, Debug)]
pub struct RosterParts {
    /// Digest of the frozen study.
    pub study: StudyDigest,
    /// The coordinator's signing key.
    pub coordinator: PublicKey,
    /// Everyone else.
    pub members: Vec<RosterMember>,
    /// t.
    pub threshold: u32,
    /// g.
    pub agreement: u32,
    /// Fewest contributions of a sum.
    pub min_contributors: u32,
}

/// The members of one study with their keys, and the pieces among its custodians.
#[derive(Clone, Debug)]
pub struct Roster {
    study: StudyDigest,
    coordinator: PublicKey,
    members: BTreeMap<PartyId, RosterMember>,
    contributors: Vec<PartyId>,
    custodians: Vec<PartyId>,
    pieces: PieceTable,
    agreement: usize,
    min_contributors: usize,
}

impl Roster {
    /// The roster of a frozen study.
    ///
    /// # Errors
    /// Those of [`Roster::new`]; a study that froze gives none, except for a member without a card.
    pub fn from_study(frozen: &FrozenStudy) -> Result<Self, SumsError> {
        let study = frozen.study();
        let member = |name: &PartyId| {
            let card = frozen
                .card(name)
                .ok_or(SumsError::Roster("a member has no card"))?;
            Ok(RosterMember {
                name: name.clone(),
                signing: card.signing,
                sealing: card.sealing.0,
                contributor: study.has_role(name, Role::Contributor),
                custodian: study.has_role(name, Role::Custodian),
            })
        };
        let members: Result<_, SumsError> = study.party.iter().map(|party| member(&party.name)).collect();
        Self::new(RosterParts {
            study: frozen.digest(),
            coordinator: frozen.coordinator().signing,
            members: members?,
            threshold: study.sums.threshold,
            agreement: study.sums.agreement,
            min_contributors: study.sums.min_contributors,
        })
    }

    /// A roster from its parts.
    ///
    /// # Errors
    /// [`SumsError::Roster`] for a repeated name, an agreement outside of t..=n or fewer than three contributors per sum;
    /// [`SumsError::Plan`] for a threshold that no sharing has.
    pub fn new(parts: RosterParts) -> Result<Self, SumsError> {
        let names = |wanted: fn(&RosterMember) -> bool| -> Vec<PartyId> {
            parts
                .members
                .iter()
                .filter(|m| wanted(m))
                .map(|m| m.name.clone())
                .collect()
        };
        let (contributors, custodians) = (names(|m| m.contributor), names(|m| m.custodian));
        let pieces = PieceTable::new(custodians.len(), parts.threshold as usize)?;
        let agreement = parts.agreement as usize;
        if agreement < pieces.threshold() || agreement > custodians.len() {
            return Err(SumsError::Roster(
                "agreement must be between the threshold and the number of custodians",
            ));
        }
        if parts.min_contributors < 3 {
            return Err(SumsError::Roster("a sum needs at least three contributors"));
        }
        let count = parts.members.len();
        let members: BTreeMap<_, _> = parts.members.into_iter().map(|m| (m.name.clone(), m)).collect();
        if members.len() != count {
            return Err(SumsError::Roster("a name occurs twice"));
        }
        Ok(Self {
            study: parts.study,
            coordinator: parts.coordinator,
            members,
            contributors,
            custodians,
            pieces,
            agreement,
            min_contributors: parts.min_contributors as usize,
        })
    }

    /// Digest of the study.
    pub fn study(&self) -> &StudyDigest {
        &self.study
    }

    /// The coordinator's signing key.
    pub fn coordinator(&self) -> &PublicKey {
        &self.coordinator
    }

    /// Everybody but the coordinator, by name.
    pub fn members(&self) -> impl Iterator<Item = &PartyId> {
        self.members.keys()
    }

    /// The custodians in the order of the study; their positions are the custodian numbers of [`PieceTable`].
    pub fn custodians(&self) -> &[PartyId] {
        &self.custodians
    }

    /// The contributors in the order of the study.
    pub fn contributors(&self) -> &[PartyId] {
        &self.contributors
    }

    /// Who may read an opened sum: every contributor.
    pub fn receivers(&self) -> &[PartyId] {
        &self.contributors
    }

    /// Number of a custodian.
    pub fn custodian_index(&self, party: &PartyId) -> Option<usize> {
        self.custodians.iter().position(|custodian| custodian == party)
    }

    /// Whether a party contributes.
    pub fn is_contributor(&self, party: &PartyId) -> bool {
        self.members.get(party).is_some_and(|member| member.contributor)
    }

    /// Key of a member's statements.
    pub fn signing(&self, party: &PartyId) -> Option<&PublicKey> {
        self.members.get(party).map(|member| &member.signing)
    }

    /// Key to which a member's openings are sealed.
    pub fn sealing(&self, party: &PartyId) -> Option<&[u8; 32]> {
        self.members.get(party).map(|member| &member.sealing)
    }

    /// t.
    pub fn threshold(&self) -> usize {
        self.pieces.threshold()
    }

    /// g.
    pub fn agreement(&self) -> usize {
        self.agreement
    }

    /// Fewest contributions of a sum.
    pub fn min_contributors(&self) -> usize {
        self.min_contributors
    }

    /// The pieces among the custodians.
    pub fn pieces(&self) -> &PieceTable {
        &self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::study::{
        Card, Column, ColumnKind, DataSchema, EvaluationPlan, Member, ModelPlan, Receivers, Release,
        ServingPlan, Study, SumsPolicy, Target, TrainingPlan,
    };
    use galen_core::{Code, Digest, SigningKey};

    fn name(text: &str) -> PartyId {
        PartyId::new(text).unwrap()
    }

    fn parts(n: usize) -> RosterParts {
        let member = |index: usize| RosterMember {
            name: name(&format!("h{index}")),
            signing: PublicKey(Digest::of(&[index as u8])),
            sealing: [index as u8; 32],
            contributor: true,
            custodian: true,
        };
        RosterParts {
            study: Digest::of(b"study"),
            coordinator: PublicKey(Digest::of(b"coordinator")),
            members: (0..n).map(member).collect(),
            threshold: 3,
            agreement: 3,
            min_contributors: 3,
        }
    }

    #[test]
    fn rosters_that_contradict_themselves_are_refused() {
        assert!(Roster::new(parts(4)).is_ok());
        for (agreement, min_contributors) in [(2, 3), (5, 3), (3, 2)] {
            let refused = Roster::new(RosterParts {
                agreement,
                min_contributors,
                ..parts(4)
            })
            .unwrap_err();
            assert!(matches!(refused, SumsError::Roster(_)));
        }
        let mut twice = parts(4);
        twice.members[3].name = name("h0");
        assert!(matches!(Roster::new(twice), Err(SumsError::Roster(_))));
        let refused = Roster::new(parts(2)).unwrap_err();
        assert_eq!(refused.code(), Code::NotConforming);
    }

    fn study() -> Study {
        let member = |text: &str, roles: &[Role]| Member {
            name: name(text),
            title: String::new(),
            roles: roles.to_vec(),
        };
        let column = |text: &str, kind| Column {
            name: text.into(),
            kind,
            min: (kind == ColumnKind::Numeric).then_some(0.0),
            max: (kind == ColumnKind::Numeric).then_some(1.0),
            values: Vec::new(),
            missing_values: Vec::new(),
        };
        Study {
            format: 1,
            name: name("demo"),
            title: "demo".into(),
            seed: 1,
            party: vec![
                member("delta", &[Role::Contributor, Role::Custodian]),
                member("alpha", &[Role::Custodian]),
                member("bravo", &[Role::Contributor]),
                member("echo", &[Role::Custodian, Role::Contributor]),
            ],
            sums: SumsPolicy {
                threshold: 2,
                agreement: 3,
                min_contributors: 3,
                quorum: 3,
                patience_s: 10,
                give_up_s: 86_400,
                max_attempts: 3,
                receivers: Receivers::Contributors,
            },
            data: DataSchema {
                header: true,
                missing: Vec::new(),
                max_rows: 100,
                held_out: 0.25,
                column: vec![column("x", ColumnKind::Numeric), column("y", ColumnKind::Target)],
                target: Target {
                    negative: vec![0.0],
                    positive: vec![1.0],
                },
                samples: None,
                range: None,
            },
            model: ModelPlan {
                hidden: vec![4],
                power: 2,
                scale: 0.1,
                ..ModelPlan::default()
            },
            training: TrainingPlan {
                rounds: 2,
                local_epochs: 1,
                batch_size: 8,
                learning_rate: 0.1,
                learning_rate_decay: 1.0,
                momentum: 0.0,
                weight_decay: 0.0,
                latent_penalty: 0.0,
                latent_bound: 1.0,
                clip: 1.0,
                fraction_bits: 20,
                proximal: 0.0,
                server: galen_core::study::Server::Average,
                private: Vec::new(),
                recipe: None,
            },
            evaluation: EvaluationPlan { bins: 10 },
            serving: ServingPlan {
                release: Release::Contributors,
                precision_bits: 8,
            },
        }
    }

    #[test]
    fn a_frozen_study_gives_its_members_in_order_with_their_keys() {
        let card = |text: &str| Card {
            name: name(text),
            certificate: Digest::of(text.as_bytes()),
            signing: SigningKey::generate().unwrap().public(),
            sealing: Digest::of(&[text.as_bytes(), b"sealing"].concat()),
        };
        let cards = ["alpha", "bravo", "delta", "echo"].map(card).to_vec();
        let frozen = FrozenStudy::freeze(study(), card("coordinator"), cards.clone()).unwrap();
        let roster = Roster::from_study(&frozen).unwrap();
        assert_eq!(roster.study(), &frozen.digest());
        assert_eq!(roster.coordinator(), &frozen.coordinator().signing);
        assert_eq!(roster.custodians(), [name("delta"), name("alpha"), name("echo")]);
        assert_eq!(
            roster.contributors(),
            [name("delta"), name("bravo"), name("echo")]
        );
        assert_eq!(roster.receivers(), roster.contributors());
        assert_eq!(roster.custodian_index(&name("echo")), Some(2));
        assert_eq!(roster.custodian_index(&name("bravo")), None);
        assert!(roster.is_contributor(&name("bravo")) && !roster.is_contributor(&name("alpha")));
        assert_eq!(
            (roster.threshold(), roster.agreement(), roster.min_contributors()),
            (2, 3, 3)
        );
        assert_eq!(roster.pieces().len(), 3);
        for card in &cards {
            assert_eq!(roster.signing(&card.name), Some(&card.signing));
            assert_eq!(roster.sealing(&card.name), Some(&card.sealing.0));
        }
        assert_eq!(roster.signing(&name("stranger")), None);
    }
}
