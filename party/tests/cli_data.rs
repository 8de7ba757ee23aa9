//! `party data` as its user meets it.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command;

use command::{json, party, text};

#[test]
fn a_data_set_is_described_or_its_first_fault_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let schema = r#"
        input = 2
        elements = ["age", "chol"]
        target = { binary = { negative = { name = "healthy", labels = ["0"] }, positive = { name = "ill", labels = ["1"] } } }
        source = { target = "num", site = "site", missing = ["?"] }
    "#;
    std::fs::write(at("schema.toml"), schema).unwrap();
    std::fs::write(
        at("a.csv"),
        "age,chol,num,site\n40,200,0,north\n50,?,1,north\n60,300,1,south\n",
    )
    .unwrap();
    let command = ["data", "describe", &at("a.csv"), "--schema", &at("schema.toml")];
    let (code, said) = json(&command);
    assert_eq!((code, &said["result"]["samples"]), (0, &3.into()), "{said}");
    assert_eq!(said["result"]["classes"][1]["samples"], 2);
    assert_eq!(said["result"]["elements"][1]["missing"], 1);
    assert_eq!(said["result"]["sites"][0]["name"], "north");
    let said = text(&party(&command).stdout);
    assert!(
        said.starts_with("3 samples of shape 2") && said.contains("south"),
        "{said}"
    );

    // The same under a name that tells nothing.
    std::fs::copy(at("a.csv"), at("export")).unwrap();
    let named = [
        "data",
        "describe",
        &at("export"),
        "--schema",
        &at("schema.toml"),
        "--stored-as",
        "csv",
    ];
    assert_eq!(json(&named).0, 0);
    let (code, said) = json(&named[..5]);
    assert_eq!(
        (code, said["error"]["code"].as_str()),
        (4, Some("P203")),
        "{said}"
    );

    std::fs::write(at("a.csv"), "age,chol,num,site\n40,Schmidt,0,north\n").unwrap();
    let (code, said) = json(&command);
    assert_eq!(
        (code, said["error"]["code"].as_str()),
        (4, Some("P203")),
        "{said}"
    );
    let message = said["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("a.csv:2: column \"chol\"") && !message.contains("Schmidt"),
        "{message}"
    );

    std::fs::write(at("schema.toml"), "input = 2\ntargets = 3\n").unwrap();
    let (code, said) = json(&command);
    assert_eq!(
        (code, said["error"]["code"].as_str()),
        (3, Some("P101")),
        "{said}"
    );
}
