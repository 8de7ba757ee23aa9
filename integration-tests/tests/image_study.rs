//! A study on images over real daemons: hospitals whose images are files in folders, and one whose images are IDX arrays.

use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{Role, Study};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::folder::{Data, StudyFolder};
use galen_integration_tests::scene::Scene;
use galen_models::{Model, ModelFile, Range};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
const SIDE: usize = 8;
const CLASSES: [&str; 2] = ["no-nodule", "nodule"];

/// A gray image; if it is `positive`, with a bright square of 3 x 3 somewhere, which gives no single pixel away. `number` fixes everything else.
fn scan(number: usize, positive: bool) -> Vec<u8> {
    let mix = |value: usize| {
        let mixed = (value as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
    };
    let mut pixels: Vec<u8> = (0..SIDE * SIDE)
        .map(|pixel| (40 + mix(number * 64 + pixel) % 20) as u8)
        .collect();
    let place = mix(number ^ 0x5555) as usize;
    let (top, left) = (place % (SIDE - 2), place / 7 % (SIDE - 2));
    if positive {
        for pixel in (0..9).map(|i| (top + i / 3) * SIDE + left + i % 3) {
            pixels[pixel] = pixels[pixel].saturating_add(120);
        }
    } else {
        // As many bright pixels, but scattered: what tells is where they are, not how many.
        for i in 0..9 {
            let pixel = (place + 7 * i) % (SIDE * SIDE);
            pixels[pixel] = pixels[pixel].saturating_add(120);
        }
    }
    pixels
}

/// Two of five have a nodule.
fn is_positive(number: usize) -> bool {
    number % 5 < 2
}

fn save(folder: &Path, number: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let side = SIDE as u32;
    let image = image::GrayImage::from_raw(side, side, scan(number, is_positive(number)));
    let file = folder.join(format!("{number:04}.png"));
    Ok(image.context("the size of an image")?.save(file)?)
}

/// Images in PNG, in a folder for each class.
fn png(root: &Path, numbers: std::ops::Range<usize>) -> anyhow::Result<Data> {
    for number in numbers {
        save(&root.join(CLASSES[usize::from(is_positive(number))]), number)?;
    }
    Ok(Data::Images(root.to_owned()))
}

/// Images as IDX, with their labels beside.
fn idx(root: &Path, numbers: std::ops::Range<usize>) -> anyhow::Result<Data> {
    let file = |sides: &[usize], bytes: Vec<u8>| {
        let sides_as_bytes = sides.iter().flat_map(|&side| (side as u32).to_be_bytes());
        let magic = [0, 0, 8, sides.len() as u8];
        magic
            .into_iter()
            .chain(sides_as_bytes)
            .chain(bytes)
            .collect::<Vec<u8>>()
    };
    let pixels = numbers
        .clone()
        .flat_map(|number| scan(number, is_positive(number)));
    let labels = numbers.clone().map(|number| u8::from(is_positive(number)));
    let images = root.join("scans-images-idx3-ubyte");
    std::fs::write(&images, file(&[numbers.len(), SIDE, SIDE], pixels.collect()))?;
    std::fs::write(
        root.join("scans-labels-idx1-ubyte"),
        file(&[numbers.len()], labels.collect()),
    )?;
    Ok(Data::Images(images))
}

/// The shipped study on images, with other images, a smaller network and fewer rounds.
fn study() -> anyhow::Result<Study> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/pneumonia/study.toml");
    let mut study: Study = galen_core::config::load(&file)?;
    study.sums.patience_s = 20;
    study.sums.max_attempts = 50;
    study.data = toml::from_str(&format!(
        "max_rows = 500\nheld_out = 0.2\n[samples]\ninput = [1, {SIDE}, {SIDE}]\n\
         target = {{ binary = {{ negative = {{ name = \"none\", labels = [\"{}\", \"0\"] }}, positive = {{ name = \"nodule\", labels = [\"{}\", \"1\"] }} }} }}",
        CLASSES[0], CLASSES[1]
    ))?;
    #[derive(serde::Deserialize)]
    struct Layers {
        layers: Vec<galen_core::network::Layer>,
    }
    let layers: Layers = toml::from_str(
        r#"layers = [
            { conv2d = { channels = 6, kernel = 3 } },
            { polynomial = { degree = 2, per = "channel" } },
            "flatten",
            { dense = { outputs = 1 } },
        ]"#,
    )?;
    study.model.layers = layers.layers;
    study.training.local_epochs = 4;
    let recipe = study.training.recipe.as_mut().context("a recipe")?;
    recipe.augmentation = None;
    let stage = recipe.stages.first_mut().context("a stage")?;
    stage.epochs = 10;
    stage.weights.weight_decay = 0.1;
    Ok(study)
}

/// Images that no hospital has.
const NEW: std::ops::Range<usize> = 5000..5200;

fn accuracy(model: &Model) -> anyhow::Result<f64> {
    let rows: Vec<Vec<f64>> = NEW
        .map(|number| {
            let scan = scan(number, is_positive(number));
            scan.into_iter()
                .map(|byte| f64::from(f32::from(byte) / 255.0))
                .collect()
        })
        .collect();
    let probabilities = model.probabilities(&rows)?;
    let right = NEW
        .zip(probabilities)
        .filter(|(number, p)| (*p >= 0.5) == is_positive(*number));
    Ok(right.count() as f64 / NEW.len() as f64)
}

/// From images in three places to a model that tells new ones apart, in the clear and encrypted. A hospital dies in between, and reads its
/// images again.
#[test]
fn hospitals_train_on_images_and_have_new_ones_evaluated() -> anyhow::Result<()> {
    let data = tempfile::Builder::new().prefix("galen-scans-").tempdir()?;
    let study = study()?;
    let names: Vec<PartyId> = study.with_role(Role::Contributor).into_iter().cloned().collect();
    let place = |name: &str| -> anyhow::Result<PathBuf> {
        let place = data.path().join(name);
        std::fs::create_dir(&place)?;
        Ok(place)
    };
    let images = BTreeMap::from([
        (names[0].clone(), png(&place("north")?, 0..220)?),
        (names[1].clone(), idx(&place("middle")?, 1000..1300)?),
        (names[2].clone(), png(&place("coast")?, 2000..2180)?),
    ]);
    let mut scene = Scene::new(EXECUTABLE, &StudyFolder::of(study, images)?)?;
    let north = names[0].as_str();
    let consent = scene.log(&format!("{north}.setup"))?;
    for part in [
        "images of 1x8x8 (channels, height, width) with values from 0 to 1",
        "fit the study: 220 samples, 132 of class 0 (\"none\") and 88 of class 1 (\"nodule\")",
    ] {
        ensure!(
            consent.contains(part),
            "{part} is not told before it is signed:\n{consent}"
        );
    }
    scene.start(COORDINATOR)?;
    for name in &names[1..] {
        scene.start(name.as_str())?;
    }
    scene.start_killed_at(north, "party.contribution.drawn")?;
    scene.wait_killed(north)?;
    scene.start(north)?;
    scene.wait_done()?;
    scene.check_sums()?;

    let out = scene.dir().join("model.safetensors");
    scene.run(north, &["model", "export", "--out", &out.to_string_lossy()])?;
    let file = ModelFile::from_safetensors(&std::fs::read(&out)?)?;
    ensure!(
        file.annotations.classes == ["none", "nodule"],
        "{:?}",
        file.annotations
    );
    ensure!(
        file.annotations.inputs == [Range::new(0.0, 1.0)],
        "{:?}",
        file.annotations
    );
    let found = accuracy(&file.model)?;
    let majority = NEW.filter(|number| !is_positive(*number)).count() as f64 / NEW.len() as f64;
    ensure!(
        majority < 0.65 && found > 0.85,
        "accuracy {found} of new images, {majority} without looking"
    );

    // Held-out images, with the plain probabilities to compare.
    scene.query(&names[0])?;
    // New ones, in a folder without classes: named by their files.
    let fresh = place("new")?;
    for number in NEW.take(40) {
        save(&fresh.join("today"), number)?;
    }
    let (fresh, out) = (fresh.to_string_lossy().into_owned(), scene.dir().join("new.csv"));
    scene.run(
        north,
        &["query", "--data", &fresh, "--out", &out.to_string_lossy()],
    )?;
    let answers = std::fs::read_to_string(&out)?;
    let mut lines = answers.lines();
    ensure!(lines.next() == Some("patient,name,probability"), "{answers}");
    let mut right = 0;
    for (number, line) in NEW.zip(lines.by_ref()) {
        let cells: Vec<&str> = line.split(',').collect();
        let [patient, name, probability] = cells[..] else {
            anyhow::bail!("{line}")
        };
        ensure!(patient == (number - NEW.start + 1).to_string(), "{line}");
        ensure!(name == format!("today/{number:04}.png"), "{line}");
        right += u32::from((probability.parse::<f64>()? >= 0.5) == is_positive(number));
    }
    ensure!(right > 31, "{right} of 40 are right:\n{answers}");
    // Under its name, as any registered model is asked.
    let registered = scene.run(north, &["query", "study", "--data", &fresh])?;
    let rows = registered["table"]["rows"]
        .as_array()
        .context("a table of results")?;
    ensure!(rows.len() == 40 && rows[0][0] == "today/5000.png", "{registered}");
    let refused = scene.command(north, ["query", "--csv", "new.csv"])?.failure()?;
    ensure!(
        refused.status.code() == Some(4) && refused.log.contains("with --data"),
        "{refused:?}"
    );
    scene.end()
}
