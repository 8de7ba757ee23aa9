//! Models that the operator registers, asked by hospitals: the real daemon and the real commands, over the network.

use anyhow::{Context, ensure};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_integration_tests::served::{image, larger_image, patients, tabular};
use galen_models::ModelFile;
use serde_json::Value;
use std::path::Path;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
const ASKER: &str = "zurich";

/// A coordinator; no round is ever run, since nobody else's daemon is started.
fn scene() -> anyhow::Result<Scene> {
    let mut scene = Scene::new(EXECUTABLE, &small_heart(60)?)?;
    scene.start(COORDINATOR)?;
    Ok(scene)
}

/// Registers a model; returns its version.
fn add(scene: &mut Scene, file: &ModelFile, name: &str) -> anyhow::Result<String> {
    let path = scene.dir().join(format!("{name}.safetensors"));
    std::fs::write(&path, file.to_safetensors()?)?;
    let added = scene.run(COORDINATOR, &["model", "add", &shown(&path), "--name", name])?;
    ensure!(added["served"] == true, "{added}");
    Ok(added["version"].as_str().context("no version")?.to_owned())
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Checks a table of results against the plain network.
fn check(table: &str, file: &ModelFile, rows: &[Vec<f64>]) -> anyhow::Result<()> {
    let plain = file.model.forward(rows)?;
    let lines: Vec<&str> = table.lines().skip(1).collect();
    ensure!(lines.len() == rows.len(), "{} lines", lines.len());
    for ((patient, line), outputs) in lines.iter().enumerate().zip(plain.rows()) {
        let cells: Vec<&str> = line.split(',').collect();
        ensure!(cells.first() == Some(&format!("p{patient}").as_str()), "{line}");
        let (logit, score): (f64, f64) = (outputs[0], cells[3].parse()?);
        ensure!((logit - score).abs() < 0.008, "{line}: {logit} in clear");
        let sure = logit.abs() > 0.01;
        ensure!(!sure || (cells[1] == "ill") == (logit > 0.0), "{line}");
    }
    Ok(())
}

fn error_code(failure: &str) -> &str {
    failure
        .lines()
        .find_map(|line| line.strip_prefix("error "))
        .and_then(|rest| rest.split(':').next())
        .unwrap_or_default()
}

#[test]
fn a_registered_model_is_asked() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let file = tabular(1)?;
    let first = add(&mut scene, &file, "heart")?;
    let listed = scene.run(ASKER, &["query", "--list"])?;
    ensure!(listed["models"][0]["name"] == "heart" && listed["models"][0]["version"] == first.as_str());

    let (csv, schema, rows) = patients(&file, scene.dir(), 12)?;
    let out = scene.dir().join("out.csv");
    let [data, schema, out_arg] = [shown(&csv), shown(&schema), shown(&out)];
    let ask = ["query", "heart", "--data", &data, "--schema", &schema];
    let dry = |scene: &mut Scene| -> anyhow::Result<Value> {
        scene.run(ASKER, &[&ask[..], &["--dry-run"]].concat())
    };
    let plan = dry(&mut scene)?;
    ensure!(
        plan["key"] == "missing" && plan["patients"] == 12 && plan["dry_run"] == true,
        "{plan}"
    );
    scene.run(ASKER, &[&ask[..], &["--out", &out_arg]].concat())?;
    check(&std::fs::read_to_string(&out)?, &file, &rows)?;
    ensure!(dry(&mut scene)?["key"] == "present");

    // A later version takes the name; the earlier one is still answered by its digest.
    let other = tabular(2)?;
    let second = add(&mut scene, &other, "heart")?;
    let by_name = scene.run(ASKER, &[&ask[..], &["--out", &out_arg]].concat())?;
    ensure!(
        by_name["version"] == second.as_str() && by_name["key"] == "present",
        "{by_name}"
    );
    check(&std::fs::read_to_string(&out)?, &other, &rows)?;
    let digits = &first[..12];
    let earlier = [
        "query", digits, "--data", &data, "--schema", &schema, "--out", &out_arg,
    ];
    scene.run(ASKER, &earlier)?;
    check(&std::fs::read_to_string(&out)?, &file, &rows)?;

    // What the model does not take is named, but not shown; it can be clipped.
    std::fs::write(&csv, "id,chol,age,sex\np0,200,50,1\nSchmidt,200,987,1\n")?;
    let failure = scene.command(ASKER, ask)?.failure()?;
    ensure!(error_code(&failure.log) == "P205", "{}", failure.log);
    ensure!(
        failure.log.contains("patient 2") && failure.log.contains("\"age\""),
        "{}",
        failure.log
    );
    ensure!(
        !failure.log.contains("987") && !failure.log.contains("Schmidt"),
        "{}",
        failure.log
    );
    let clipped = scene.run(ASKER, &[&ask[..], &["--clip"]].concat())?;
    ensure!(clipped["clipped_values"] == 1, "{clipped}");
    ensure!(clipped["table"]["rows"][1][0] == "Schmidt", "{clipped}");

    // The file of an image needs no schema. A restart lowers the choice that was kept, also of what was added meanwhile.
    let pictures = image()?;
    add(&mut scene, &pictures, "shapes")?;
    scene.restart_coordinator()?;
    let idx = scene.dir().join("x.idx");
    let header = [&[0u8, 0, 8, 3][..], &[0, 0, 0, 2], &[0, 0, 0, 6], &[0, 0, 0, 6]].concat();
    let pixels: Vec<u8> = (0..72u8).map(|i| i.wrapping_mul(29)).collect();
    std::fs::write(&idx, [header, pixels.clone()].concat())?;
    let shapes = scene.run(ASKER, &["query", "shapes", "--data", &shown(&idx)])?;
    let rows: Vec<Vec<f64>> = pixels
        .chunks(36)
        .map(|image| image.iter().map(|&p| f64::from(p) / 255.0).collect())
        .collect();
    let plain = pictures.model.forward(&rows)?;
    for (outputs, row) in plain
        .rows()
        .zip(shapes["table"]["rows"].as_array().context("no rows")?)
    {
        for (class, output) in outputs.iter().enumerate() {
            let score: f64 = row[5 + class].as_str().context("no score")?.parse()?;
            ensure!((score - output).abs() < 0.01, "{row}: {outputs:?}");
        }
    }

    scene.run(COORDINATOR, &["model", "remove", "heart"])?;
    scene.wait_for("the model is gone", |_, snapshot| {
        let models = snapshot.coordinator.as_ref().map(|status| &status.models);
        Ok(models.is_some_and(|models| models.iter().all(|model| model.name == "shapes")))
    })?;
    let failure = scene.command(ASKER, ask)?.failure()?;
    ensure!(failure.log.contains("there are shapes"), "{}", failure.log);

    // A model whose batches nobody could send is not taken.
    let config = scene.home(COORDINATOR).join("config.toml");
    let allowed = std::fs::read_to_string(&config)?.replace("max_batch_mib = 512", "max_batch_mib = 1");
    std::fs::write(&config, allowed)?;
    let path = shown(&scene.dir().join("shapes.safetensors"));
    let refused = scene
        .command(COORDINATOR, ["model", "add", path.as_str()])?
        .failure()?;
    ensure!(refused.log.contains("max_batch_mib"), "{}", refused.log);
    scene.end()
}

/// A model whose ciphertexts wait on disk, in the coordinator's folder, gives the same answers; what a coordinator that was killed has left there goes.
#[test]
fn a_model_that_does_not_fit_in_memory_is_asked() -> anyhow::Result<()> {
    const SIDE: u8 = 12;
    let mut scene = scene()?;
    let pictures = larger_image()?;
    let path = shown(&scene.dir().join("shapes.safetensors"));
    std::fs::write(&path, pictures.to_safetensors()?)?;
    let free = scene.run(COORDINATOR, &["model", "add", &path])?;
    ensure!(free["plan"]["spilled"].is_null(), "{free}");
    let peak = free["plan"]["peak_bytes"].as_u64().context("no memory")?;
    let allowed = (peak * 3 / 4) >> 20;
    let limit = ["--max-memory", &allowed.to_string()].map(str::to_owned);
    let add = ["model", "add", &path, &limit[0], &limit[1]];
    let refused = scene.command(COORDINATOR, add)?.failure()?;
    ensure!(refused.log.contains("wait on disk"), "{}", refused.log);
    let added = scene.run(COORDINATOR, &[&add[..], &["--spill"]].concat())?;
    let plan = &added["plan"];
    ensure!(
        plan["peak_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= allowed << 20),
        "{added}"
    );
    ensure!(
        plan["spilled"]["written_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0),
        "{added}"
    );

    // What a coordinator that was killed has left is removed by the next one.
    let scratch = scene.home(COORDINATOR).join("scratch");
    std::fs::create_dir_all(scratch.join("batch-left"))?;
    std::fs::write(scratch.join("batch-left").join("value-1-0"), "left")?;
    scene.restart_coordinator()?;

    let idx = scene.dir().join("x.idx");
    let header = [
        &[0u8, 0, 8, 3][..],
        &[0, 0, 0, 1],
        &[0, 0, 0, SIDE],
        &[0, 0, 0, SIDE],
    ]
    .concat();
    let pixels: Vec<u8> = (0..SIDE * SIDE).map(|i| i.wrapping_mul(41)).collect();
    std::fs::write(&idx, [header, pixels.clone()].concat())?;
    // Nothing of a packed batch waits on disk.
    let ask = ["query", "shapes", "--data", &shown(&idx), "--packing", "slots"];
    let answered = scene.run(ASKER, &ask)?;
    let rows = [pixels.iter().map(|&p| f64::from(p) / 255.0).collect::<Vec<f64>>()];
    let plain = pictures.model.forward(&rows)?;
    let outputs = plain.rows().next().context("no outputs")?;
    for (class, output) in outputs.iter().enumerate() {
        let score = answered["table"]["rows"][0][5 + class]
            .as_str()
            .context("no score")?;
        ensure!(
            (score.parse::<f64>()? - output).abs() < 0.01,
            "{answered}: {outputs:?}"
        );
    }
    ensure!(std::fs::read_dir(&scratch)?.next().is_none());
    scene.end()
}

/// Quotas of one batch: what a killed asker has sent without asking does not count against the next attempt, and who asks too often is told for how
/// long to wait.
#[test]
fn quotas_hold_back_and_nothing_that_was_left_counts() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let file = tabular(1)?;
    add(&mut scene, &file, "heart")?;
    let (csv, schema, rows) = patients(&file, scene.dir(), 12)?;
    let out = scene.dir().join("out.csv");
    let [data, schema, out_arg] = [shown(&csv), shown(&schema), shown(&out)];
    let ask = [
        "query", "heart", "--csv", &data, "--schema", &schema, "--out", &out_arg,
    ];
    let config = scene.home(COORDINATOR).join("config.toml");
    let allow = |hourly: u32| -> anyhow::Result<()> {
        let lines = std::fs::read_to_string(&config)?;
        let lines = lines.lines().map(|line| match line.split_once(" = ") {
            Some(("max_waiting", _)) => "max_waiting = 1".to_owned(),
            Some(("max_hourly", _)) => format!("max_hourly = {hourly}"),
            _ => line.to_owned(),
        });
        let lines: Vec<String> = lines.collect();
        Ok(std::fs::write(&config, lines.join("\n"))?)
    };
    allow(1)?;
    scene.restart_coordinator()?;
    for _ in 0..3 {
        scene.run_killed_at(ASKER, &ask, "party.query.uploaded")?;
    }
    scene.run(ASKER, &ask)?;
    check(&std::fs::read_to_string(&out)?, &file, &rows)?;

    let refused = scene.command(ASKER, ask)?.failure()?;
    ensure!(error_code(&refused.log) == "G1703", "{}", refused.log);
    ensure!(refused.log.contains("the next one in"), "{}", refused.log);
    allow(0)?;
    scene.restart_coordinator()?;
    scene.run(ASKER, &ask)?;
    scene.end()
}

/// Two batches. The asker is killed when the first one is submitted, and when it is answered; then the coordinator is.
#[test]
fn a_query_goes_on_where_it_was_interrupted() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let file = tabular(1)?;
    add(&mut scene, &file, "heart")?;
    let (csv, schema, _) = patients(&file, scene.dir(), 1)?;
    let [data, schema] = [shown(&csv), shown(&schema)];
    let ask = ["query", "heart", "--data", &data, "--schema", &schema];
    let plan = scene.run(ASKER, &[&ask[..], &["--dry-run"]].concat())?;
    let size = plan["max_patients"].as_u64().context("no batch size")? as usize;
    let (_, _, rows) = patients(&file, scene.dir(), size + 5)?;

    scene.run_killed_at(ASKER, &ask, "party.query.submitted")?;
    scene.run_killed_at(ASKER, &ask, "party.query.answered")?;
    scene.restart_coordinator()?;
    let out = scene.dir().join("out.csv");
    let asked = scene.run(ASKER, &[&ask[..], &["--out", &shown(&out)]].concat())?;
    ensure!(asked["answered_before"] == 1 && asked["batches"] == 2, "{asked}");
    check(&std::fs::read_to_string(&out)?, &file, &rows)?;

    // What is not finished can be taken back, and the question asked anew.
    scene.run_killed_at(ASKER, &ask, "party.query.submitted")?;
    let cancelled = scene.run(ASKER, &["query", "--cancel"])?;
    ensure!(cancelled["cancelled"] == 1, "{cancelled}");
    let again = scene.run(ASKER, &[&ask[..], &["--out", &shown(&out)]].concat())?;
    ensure!(again["answered_before"] == 0, "{again}");
    check(&std::fs::read_to_string(&out)?, &file, &rows)?;
    scene.end()
}
