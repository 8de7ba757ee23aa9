//! The commands as a hospital meets them: what they print, what they refuse, and with which exit status.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use galen_core::Digest;
use galen_core::study::{Card, FrozenStudy, Study};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const STUDIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/studies");

fn party(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_party"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command with `--format json`; the exit status and the one object on standard output.
fn json(args: &[&str]) -> (i32, Value) {
    let output = party(&[args, &["--format", "json"]].concat());
    let object =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code().unwrap(), object)
}

struct Site {
    temp: tempfile::TempDir,
}

impl Site {
    /// The four hospitals of the heart study, initialised; Cleveland's table is in its folder.
    fn new() -> Self {
        let site = Self {
            temp: tempfile::tempdir().unwrap(),
        };
        for name in ["cleveland", "budapest", "zurich", "long-beach"] {
            let made = party(&["init", "--dir", &site.dir(name), "--name", name]);
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        std::fs::copy(format!("{STUDIES}/heart/cleveland.csv"), site.table()).unwrap();
        site
    }

    fn dir(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    fn table(&self) -> PathBuf {
        self.temp.path().join("cleveland/data.csv")
    }

    /// Freezes the heart study as the operator does.
    fn frozen(&self) -> (FrozenStudy, String) {
        let text = std::fs::read_to_string(format!("{STUDIES}/heart/study.toml")).unwrap();
        let study: Study = toml::from_str(&text).unwrap();
        let card = |name: &str| -> Card {
            let text = std::fs::read_to_string(Path::new(&self.dir(name)).join("card.toml")).unwrap();
            toml::from_str(&text).unwrap()
        };
        let mut coordinator = card("zurich");
        coordinator.name = "coordinator".parse().unwrap();
        coordinator.certificate = Digest::of(b"certificate");
        coordinator.signing.0 = Digest::of(b"key");
        coordinator.sealing = Digest::default();
        let cards = study
            .party
            .iter()
            .map(|member| card(member.name.as_str()))
            .collect();
        let frozen = FrozenStudy::freeze(study, coordinator, cards).unwrap();
        let file = self.dir("study.toml");
        std::fs::write(&file, frozen.to_toml().unwrap()).unwrap();
        (frozen, file)
    }
}

#[test]
fn init_makes_a_party_once() {
    let site = Site::new();
    let dir = site.dir("st-mary");
    let made = party(&[
        "init",
        "--dir",
        &dir,
        "--name",
        "st-mary",
        "--title",
        "St \"Mary\"",
        "--coordinator",
        "g.org:1",
    ]);
    let said = text(&made.stdout);
    assert!(made.status.success());
    for part in [
        "card.toml",
        "fingerprint",
        "party study sign",
        "[[party]]",
        r#"title = 'St "Mary"'"#,
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let config = std::fs::read_to_string(Path::new(&dir).join("config.toml")).unwrap();
    assert!(config.contains("coordinator = \"g.org:1\"") && config.contains("# The hospital's table"));
    let card = std::fs::read(Path::new(&dir).join("card.toml")).unwrap();
    let (status, again) = json(&["init", "--dir", &dir, "--name", "other"]);
    assert_eq!(
        (status, again["ok"].as_bool(), again["error"]["code"].as_str()),
        (3, Some(false), Some("P102"))
    );
    assert_eq!(std::fs::read(Path::new(&dir).join("card.toml")).unwrap(), card);
}

#[test]
fn a_study_is_shown_and_signed_only_with_consent() {
    let site = Site::new();
    let (frozen, file) = site.frozen();
    let dir = site.dir("cleveland");
    // Nobody says yes (standard input is empty), or another digest was compared.
    let silent = Command::new(env!("CARGO_BIN_EXE_party"))
        .args(["study", "sign", &file, "--dir", &dir])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(silent.status.code(), Some(3));
    let shown = text(&silent.stderr);
    assert!(
        shown.contains(&frozen.digest().spoken()) && shown.contains("fits the study: 303 patients"),
        "{shown}"
    );
    let other = Digest::of(b"other").to_hex();
    let (status, refused) = json(&["study", "sign", &file, "--dir", &dir, "--digest", &other, "--yes"]);
    assert_eq!((status, refused["error"]["code"].as_str()), (3, Some("P106")));
    assert!(!Path::new(&dir).join("consent.bin").exists() && !Path::new(&dir).join("study.toml").exists());
    let digest = frozen.digest().to_hex();
    let (status, signed) = json(&["study", "sign", &file, "--dir", &dir, "--digest", &digest]);
    assert_eq!((status, signed["ok"].as_bool()), (0, Some(true)));
    assert_eq!(signed["result"]["digest"].as_str(), Some(digest.as_str()));
    assert_eq!(signed["result"]["patients"].as_u64(), Some(303));
    // A study changed by a single letter has another digest than it says.
    let changed = std::fs::read_to_string(&file)
        .unwrap()
        .replace("four hospitals", "five hospitals");
    std::fs::write(&file, changed).unwrap();
    let (status, refused) = json(&["study", "sign", &file, "--dir", &dir, "--yes"]);
    assert_eq!((status, refused["error"]["code"].as_str()), (3, Some("P105")));
}

#[test]
fn errors_in_the_table_reach_the_user_before_anything_is_done() {
    let site = Site::new();
    let (_, file) = site.frozen();
    let dir = site.dir("cleveland");
    let good = std::fs::read_to_string(site.table()).unwrap();
    assert!(
        party(&["study", "sign", &file, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    let mut lines: Vec<&str> = good.lines().collect();
    let broken = lines[6].replacen(',', ",Schmidt", 1);
    lines[6] = &broken;
    std::fs::write(site.table(), lines.join("\n")).unwrap();
    for command in [
        &["serve", "--dir", &dir][..],
        &["study", "sign", &file, "--dir", &dir, "--yes"],
    ] {
        let (status, refused) = json(command);
        assert_eq!(
            (status, refused["error"]["code"].as_str()),
            (4, Some("P201")),
            "{command:?}"
        );
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("data.csv:7: column \"sex\""), "{message}");
        assert!(!message.contains("Schmidt"), "{message}");
    }
    assert!(!Path::new(&dir).join("store").exists() && !Path::new(&dir).join("status.json").exists());
}

#[test]
fn commands_say_what_has_to_come_first() {
    let site = Site::new();
    let (_, file) = site.frozen();
    let dir = site.dir("cleveland");
    let out = site.dir("model.safetensors");
    let refused = |args: &[&str], exit: i32, code: &str, part: &str| {
        let (status, said) = json(args);
        assert_eq!(
            (status, said["error"]["code"].as_str()),
            (exit, Some(code)),
            "{args:?} {said}"
        );
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert!(
            said["error"]["hint"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty())
        );
    };
    refused(&["serve", "--dir", &dir], 3, "P106", "party study sign");
    refused(&["status", "--dir", &dir], 1, "P601", "party serve");
    refused(
        &["status", "--dir", &site.dir("nowhere")],
        3,
        "P102",
        "no party lives here",
    );
    assert!(
        party(&["study", "sign", &file, "--dir", &dir, "--yes"])
            .status
            .success()
    );
    refused(&["opened", "--dir", &dir], 1, "P601", "nothing has been opened");
    refused(
        &["query", "--held-out", "--dir", &dir],
        1,
        "P601",
        "nothing has been opened",
    );
    refused(
        &["model", "export", "--out", &out, "--dir", &dir],
        1,
        "P601",
        "nothing has been opened",
    );
    let config = Path::new(&dir).join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().position(|line| line.starts_with("[log]")).unwrap() + 1;
    std::fs::write(&config, text.replace("[log]", "colour = \"red\"\n[log]")).unwrap();
    refused(
        &["serve", "--dir", &dir],
        3,
        "P101",
        &format!("config.toml:{line}:1"),
    );
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let help = text(&party(&["--help"]).stdout);
    for part in [
        "init",
        "study",
        "serve",
        "status",
        "query",
        "opened",
        "model",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    let wrong = party(&["serve"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("--dir"));
}
