//! How long a round takes from announcement to published model.

use crate::coordinator::Process;
use crate::hospital;
use crate::machine;
use crate::shared::{Mark, Shared};
use crate::study::{Scene, Shape};
use std::sync::Arc;

/// Measures and prints. The last custodian dies in the last of the rounds, once it is certified.
pub(crate) fn measure(contributors: usize, repeat: u32) -> anyhow::Result<()> {
    println!("machine: {}", machine::describe());
    let dir = tempfile::Builder::new().prefix("galen-load-").tempdir()?;
    let shape = Shape {
        contributors,
        custodians: 5,
        threshold: 3,
        agreement: 4,
        patience_s: 2,
        training_rounds: repeat + 1,
        connections: galen_net::Tuning::default().connections,
    };
    let scene = Scene::new(shape, dir.path())?;
    let dying = repeat + 1;
    let doomed = (scene.keys[4].name.clone(), dying);
    let shared = Arc::new(Shared::new(scene, false, Some(doomed)));
    println!("{}", shared.scene.describe()?);
    println!(
        "patience {} s. Hospitals and coordinator share this machine; they encrypt, open and compare with the plain sum, and train nothing.",
        shape.patience_s
    );
    let coordinator = Process::start(&shared.scene.coordinator)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let lost = runtime.block_on(hospital::run(&shared, dying + 1))?;
    for round in 1..=dying {
        let seconds =
            |from, to| -> anyhow::Result<f64> { Ok(shared.between(round, from, to)?.as_secs_f64()) };
        println!(
            "round {round}{}: {:.2} s from announcement to published (keys {:.2}, encrypt and upload {:.2}, add {:.2}, endorse {:.2}, answer \
             {:.2}, open {:.2})",
            if round == dying {
                ", a custodian dies when it is certified"
            } else {
                ""
            },
            seconds(Mark::Announced, Mark::Published)?,
            seconds(Mark::Announced, Mark::Collecting)?,
            seconds(Mark::Collecting, Mark::Contributed)?,
            seconds(Mark::Contributed, Mark::Proposed)?,
            seconds(Mark::Proposed, Mark::Certified)?,
            seconds(Mark::Certified, Mark::Opening)?,
            seconds(Mark::Opening, Mark::Published)?,
        );
    }
    println!(
        "coordinator: peak {:.1} MiB, {:.2} s of processor time; connections lost: {lost}",
        coordinator.peak_mib(),
        coordinator.cpu().as_secs_f64()
    );
    coordinator.stop()
}
