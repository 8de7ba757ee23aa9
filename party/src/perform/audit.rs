//! Keeping the copy of the audit log up with the records that are acted upon.

use super::blocking;
use crate::audit::NotTaken;
use crate::error::PartyError;
use crate::link::Link;
use crate::party::Party;
use galen_core::Signed;
use galen_sums::Round;
use std::sync::Arc;

impl Party {
    /// Brings the copy of the audit log up to the head in a record, or, without one, as far as the log goes. Nothing is done on a record
    /// before.
    pub(super) async fn follow_audit(
        &self,
        link: &Link,
        record: Option<(&Round, &Signed)>,
    ) -> Result<(), PartyError> {
        let target = record.map(|(round, _)| round.record().audit);
        let id = record.map(|(round, _)| round.id());
        loop {
            let (shared, target) = (Arc::clone(&self.shared), target);
            let missing = blocking(move || {
                let missing = shared.audit.missing(target.as_ref());
                missing.map_err(|source| PartyError::Forked { id, source })
            });
            let lines = match missing.await {
                Ok(None) => return Ok(()),
                Ok(Some(from)) => link.audit(from).await?,
                Err(error) => {
                    self.keep_evidence(&error, record.map(|(_, signed)| signed.clone()), Vec::new())
                        .await?;
                    return Err(error);
                }
            };
            let (shared, given) = (Arc::clone(&self.shared), lines.clone());
            let staged = blocking(move || {
                shared
                    .audit
                    .stage(&given, target.as_ref())
                    .map_err(|error| match error {
                        NotTaken::Forked(source) => PartyError::Forked { id, source },
                        NotTaken::Here(error) => error,
                    })
            });
            if let Err(error) = staged.await {
                self.keep_evidence(&error, record.map(|(_, signed)| signed.clone()), lines)
                    .await?;
                return Err(error);
            }
            if target.is_none() && lines.is_empty() {
                return Ok(());
            }
        }
    }

    async fn keep_evidence(
        &self,
        error: &PartyError,
        record: Option<Signed>,
        lines: Vec<Signed>,
    ) -> Result<(), PartyError> {
        let PartyError::Forked { source, .. } = error else {
            return Ok(());
        };
        let (shared, text) = (Arc::clone(&self.shared), source.to_string());
        blocking(move || shared.audit.keep_evidence(&text, record.as_ref(), &lines)).await
    }
}
