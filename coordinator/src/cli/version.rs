//! `coordinator --version`.

use super::output::Outcome;
use galen_rns::kernel;
use serde_json::json;

/// The version, and with `verbose` the kernels that were chosen for this CPU, which decide the speed of everything encrypted.
pub(crate) fn outcome(verbose: bool) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("coordinator {version}");
    let mut data = json!({ "version": version });
    if verbose {
        text = format!("{text}\n{}", kernel::describe());
        data["kernel"] = json!(kernel::active().name());
        data["description"] = json!(kernel::describe());
    }
    Outcome { text, data }
}
