//! The study: what the parties agree on before anything is computed.
//!
//! An operator writes a [`Study`] as TOML, [`Study::check`] finds what is wrong with it, and [`FrozenStudy::freeze`] joins it with the
//! identity [`Card`]s of the coordinator and of every party. The digest of the frozen study is what parties compare by
//! telephone and sign; it is bound into every message after. A hospital joins or leaves by a successor ([`Draft`]): another frozen
//! study, which names the one that it goes on from.

mod agreement;
mod check;
mod check_training;
mod data;
mod frozen;
mod plan;
mod successor;
mod training;

pub use agreement::Agreement;
pub use check::Problem;
pub use data::{Column, ColumnKind, DataSchema, Target};
pub use frozen::{Card, FrozenStudy, STUDY_SIGNATURE, StudyError};
pub use plan::{EvaluationPlan, Member, Purpose, Receivers, Release, Role, ServingPlan, Study, SumsPolicy};
pub use successor::{Changes, Draft, Predecessor, Written};
pub use training::{ModelPlan, Server, TrainingPlan};
