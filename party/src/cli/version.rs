//! `party --version`.

use super::output::Output;
use galen_rns::kernel;
use serde::Serialize;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// Says the version, and with `verbose` the kernels that were chosen for this CPU.
pub(super) fn say(verbose: bool, output: &Output) -> anyhow::Result<()> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        kernel: verbose.then(|| kernel::active().name()),
        description: verbose.then(kernel::describe),
    };
    let mut text = format!("party {}", version.version);
    if let Some(description) = &version.description {
        text = format!("{text}\n{description}");
    }
    output.say(version, || text)
}
