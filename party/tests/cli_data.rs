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

#[test]
fn a_table_is_divided_among_hospitals_and_nothing_is_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let schema = r#"
        input = 1
        elements = ["age"]
        target = { binary = { negative = { name = "healthy", labels = ["0"] }, positive = { name = "ill", labels = ["1"] } } }
        source = { target = "num", site = "site" }
    "#;
    std::fs::write(at("schema.toml"), schema).unwrap();
    let mut table = String::from("age,num,site\n");
    for row in 0..40 {
        let site = if row % 4 == 0 { "St. Mary" } else { "north" };
        table.push_str(&format!("{},{},{site}\n", 30 + row, row % 2));
    }
    std::fs::write(at("all.csv"), &table).unwrap();
    let split = |by: &[&str], out: &str| {
        let (table, schema, out) = (at("all.csv"), at("schema.toml"), at(out));
        let fixed = [
            "data", "split", &table, "--schema", &schema, "--out", &out, "--by",
        ];
        json(&[&fixed[..], by].concat())
    };
    let (code, said) = split(&["site"], "sites");
    assert_eq!(code, 0, "{said}");
    let sites = said["result"]["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 2);
    assert_eq!(
        (&sites[0]["name"], &sites[0]["samples"]),
        (&"St. Mary".into(), &10.into())
    );
    // Every fourth row is of an even number, so healthy.
    assert_eq!(
        sites[0]["classes"][0],
        serde_json::json!({"name": "healthy", "samples": 10})
    );
    let file = std::fs::read_to_string(at("sites/St--Mary.csv")).unwrap();
    assert!(
        file.starts_with("age,num,site\n30,0,St. Mary\n34,0,St. Mary\n"),
        "{file}"
    );
    let (code, said) = split(&["site"], "sites");
    let message = said["error"]["message"].as_str().unwrap();
    assert!(code == 4 && message.contains("not overwritten"), "{said}");

    let (_, said) = split(&["even", "--hospitals", "4"], "even");
    for site in said["result"]["sites"].as_array().unwrap() {
        assert_eq!(site["samples"], 10, "{said}");
        assert_eq!(site["classes"][1]["samples"], 5, "{said}");
    }
    let dirichlet = ["dirichlet", "--hospitals", "3", "--alpha", "0.5", "--seed", "2"];
    let (_, said) = split(&dirichlet, "unlike");
    let samples = |said: &serde_json::Value| -> Vec<u64> {
        let sites = said["result"]["sites"].as_array().unwrap();
        sites
            .iter()
            .map(|site| site["samples"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(samples(&said).iter().sum::<u64>(), 40, "{said}");
    let (_, again) = split(&dirichlet, "again");
    assert_eq!(samples(&again), samples(&said));
    for name in ["hospital-1.csv", "hospital-2.csv", "hospital-3.csv"] {
        let read = |folder: &str| std::fs::read(temp.path().join(folder).join(name)).unwrap();
        assert_eq!(read("unlike"), read("again"));
    }
    let (code, said) = split(&["even", "--hospitals", "41"], "many");
    let message = said["error"]["message"].as_str().unwrap();
    assert!(code != 0 && message.contains("41 parts of 40"), "{said}");
    // What a division needs must be given.
    let (table, schema, out) = (at("all.csv"), at("schema.toml"), at("none"));
    let bare = [
        "data",
        "split",
        &table,
        "--schema",
        &schema,
        "--out",
        &out,
        "--by",
        "dirichlet",
    ];
    let refused = party(&bare);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("--hospitals") && said.contains("--alpha"), "{said}");
}
