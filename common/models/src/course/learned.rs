//! What the training rounds of a study have led to.

use super::Course;
use super::server::ServerState;
use galen_core::{Digest, Transcript};
use serde::{Deserialize, Serialize};

/// What follows from the opened training rounds, the same at every contributor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// All parameters in flat order. Private ones are as they were at the beginning.
    pub params: Vec<f64>,
    /// What the server strategy remembers.
    pub server: ServerState,
    /// All parameters of the teacher, once a stage has made one.
    pub teacher: Option<Vec<f64>>,
}

/// The parameters that one hospital keeps to itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Personal {
    /// The private values in flat order, as it trained them in the last round whose set it was in.
    pub params: Vec<f64>,
    /// Those at the end of the stage that made the teacher.
    pub teacher: Option<Vec<f64>>,
}

impl Learned {
    /// SHA-256 that names what was learnt: the model's own name for a plain average without a teacher, which need nothing else to go on
    /// from; otherwise model, memory of the server and teacher together.
    ///
    /// `None` if the parameters do not fit the network.
    pub fn digest(&self, course: &Course) -> Option<Digest> {
        let model = course.model(Some(self), None).ok()?.digest();
        if self.server == ServerState::default() && self.teacher.is_none() {
            return Some(model);
        }
        let bytes = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let transcript = Transcript::new("galen training state v1")
            .field(&model.0)
            .field(&bytes(&self.server.first))
            .field(&bytes(&self.server.second));
        Some(match &self.teacher {
            Some(teacher) => transcript.number(1).field(&bytes(teacher)).digest(),
            None => transcript.number(0).digest(),
        })
    }
}
