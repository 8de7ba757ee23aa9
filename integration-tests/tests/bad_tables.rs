//! A hospital whose table does not fit the study is told file, line and column; the others and the coordinator are not disturbed.

use galen_integration_tests::StudyFolder;
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// Exit status of `party` for a table that does not fit.
const TABLE: i32 = 4;

/// The heart study with a header line in every table.
fn with_headers() -> anyhow::Result<StudyFolder> {
    let heart = small_heart(30)?;
    let names: Vec<_> = heart
        .study()
        .data
        .column
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let header = names.join(",") + "\n";
    let mut folder = heart.clone().with(|study| study.data.header = true)?;
    for member in &heart.study().party {
        let table = heart.table(&member.name).unwrap_or_default();
        folder = folder.with_table(member.name.as_str(), [header.as_bytes(), table].concat())?;
    }
    Ok(folder)
}

/// A table without one of its columns.
fn without(table: &str, column: usize) -> String {
    let cut = |line: &str| {
        let cells = line.split(',').enumerate().filter(|(index, _)| *index != column);
        cells.map(|(_, cell)| cell).collect::<Vec<_>>().join(",") + "\n"
    };
    table.lines().map(cut).collect()
}

#[test]
fn errors_name_file_line_and_column_and_the_study_goes_on_once_they_are_corrected() -> anyhow::Result<()> {
    let folder = with_headers()?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    scene.start(COORDINATOR)?;
    for name in ["cleveland", "budapest", "long-beach"] {
        scene.start(name)?;
    }
    let path = scene.home("zurich").join("data.csv");
    let good = std::fs::read_to_string(&path)?;
    let cell = |line: usize, column: usize, text: &str| -> String {
        let changed = good.lines().enumerate().map(|(index, content)| {
            let mut cells: Vec<&str> = content.split(',').collect();
            if index + 1 == line {
                cells[column] = text;
            }
            cells.join(",") + "\n"
        });
        changed.collect()
    };
    let cases = [
        ("a missing column", without(&good, 4), ":1: column \"chol\""),
        (
            "a column too many",
            good.replacen(",chol,", ",cholesterol,", 1),
            ":1: column \"cholesterol\"",
        ),
        (
            "a cell too few",
            good.replacen("32,1,1,95,", "32,1,1,", 1),
            ":2: ",
        ),
        ("text in a number", cell(5, 0, "Schmidt"), ":5: column \"age\""),
        (
            "an implausible number",
            cell(6, 7, "2000"),
            ":6: column \"thalach\"",
        ),
        ("an empty file", String::new(), ":1: column \"age\""),
        (
            "a class that the study does not know",
            cell(9, 13, "7"),
            ":9: column \"num\"",
        ),
    ];
    for (what, table, place) in cases {
        anyhow::ensure!(table != good, "{what}: the table was not changed");
        std::fs::write(&path, table)?;
        scene.start("zurich")?;
        let (status, log) = scene.wait_ended("zurich")?;
        let place = format!("{}{place}", path.display());
        anyhow::ensure!(status.code() == Some(TABLE), "{what}: exit status {status}");
        anyhow::ensure!(log.contains(&place), "{what}: \"{place}\" is not in\n{log}");
        // A log may be read by others than the hospital's doctors.
        anyhow::ensure!(
            !log.contains("2000") && !log.contains("Schmidt"),
            "{what}: the log shows a cell\n{log}"
        );
        // The others have come and the coordinator still runs.
        scene.wait_for("only zurich is missing", |_, snapshot| {
            let missing = snapshot
                .coordinator
                .as_ref()
                .map(|status| status.missing.as_slice());
            Ok(missing.is_some_and(|missing| matches!(missing, [name] if name.as_str() == "zurich")))
        })?;
    }
    std::fs::write(&path, good)?;
    scene.start("zurich")?;
    scene.finish()?;
    Ok(())
}
