//! Asking the model: patients in, probabilities out, and the coordinator sees neither.

pub mod patients;

use crate::error::PartyError;
use crate::home::{self, Home};
use crate::traffic::Entry;

/// What all queries of this party have cost so far; `None` before the first.
pub fn totals(home: &Home) -> Result<Option<Entry>, PartyError> {
    let path = home.query().join("totals.json");
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&home::read(&path)?)
        .map(Some)
        .map_err(|error| PartyError::home(path, error.to_string()))
}
