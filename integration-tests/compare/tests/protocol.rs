//! The process answers requests as `suite/library.py` sends them. The comparison itself needs Python; see README.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

struct Library {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Library {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_galen-compare"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            requests: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn send(&mut self, line: &str) -> Value {
        let requests = self.requests.as_mut().unwrap();
        writeln!(requests, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn ok(&mut self, request: &Value) -> Value {
        let answer = self.send(&request.to_string());
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].clone()
    }

    fn error(&mut self, request: &Value) -> String {
        let answer = self.send(&request.to_string());
        answer["error"].as_str().expect("an error").to_owned()
    }

    /// Closes its input, upon which it must end without failure.
    fn finish(mut self) {
        drop(self.requests.take());
        assert!(self.child.wait().unwrap().success());
    }
}

const SLOTS: usize = 4096;

fn open() -> Value {
    let x: Vec<f64> = (0..SLOTS).map(|i| (i % 100) as f64 / 100.0).collect();
    let y: Vec<f64> = (0..SLOTS).map(|i| (i % 7) as f64 / 7.0 - 0.5).collect();
    json!({
        "op": "open",
        "parameters": {
            "degree": 8192, "base_bits": 50, "levels": 2, "scale_bits": 40,
            "special": 1, "special_bits": 50, "digit": 1,
        },
        "operands": [x, y],
    })
}

#[test]
fn programs_compute_what_they_say() {
    let mut library = Library::start();
    let opened = library.ok(&open());
    assert_eq!(opened["name"], "n8192_q50_2x40_p1x50");
    assert_eq!(opened["slots"], SLOTS);

    let x: Vec<f64> = (0..SLOTS).map(|i| (i as f64 / 100.0).sin()).collect();
    let y: Vec<f64> = (0..SLOTS).map(|i| (i as f64 / 70.0).cos()).collect();
    let answer = library.ok(&json!({
        "op": "evaluate",
        "inputs": {"x": x, "y": y},
        "program": [
            {"to": "p", "do": "mul", "a": "x", "b": "y"},
            {"to": "p", "do": "rotate", "a": "p", "steps": 3},
            // One level below: y has to come down.
            {"to": "r", "do": "sub", "a": "p", "b": "y"},
            {"to": "w", "do": "weighted_sum", "of": ["x", "p"], "weights": [0.5, -2.0]},
            {"to": "s", "do": "mul_plain", "a": "x", "values": y},
            {"to": "s", "do": "add_scalar", "a": "s", "value": 0.25},
        ],
        "outputs": ["r", "w", "s"],
    }));
    let p: Vec<f64> = (0..SLOTS)
        .map(|i| x[(i + 3) % SLOTS] * y[(i + 3) % SLOTS])
        .collect();
    let close = |name: &str, expected: &dyn Fn(usize) -> f64| {
        let got = answer["values"][name].as_array().unwrap();
        assert_eq!(got.len(), SLOTS);
        for (i, value) in got.iter().enumerate() {
            let (value, expected) = (value.as_f64().unwrap(), expected(i));
            assert!(
                (value - expected).abs() < 1e-5,
                "{name}[{i}]: {value}, not {expected}"
            );
        }
        assert!(answer["stated_bits"][name].as_f64().unwrap() > 10.0);
    };
    close("r", &|i| p[i] - y[i]);
    close("w", &|i| 0.5 * x[i] - 2.0 * p[i]);
    close("s", &|i| x[i] * y[i] + 0.25);
    library.finish();
}

#[test]
fn everything_offered_can_be_measured() {
    let mut library = Library::start();
    let opened = library.ok(&open());
    for operation in opened["operations"].as_array().unwrap() {
        let times =
            library.ok(&json!({"op": "time", "operation": operation, "samples": 2, "sample_ms": 0.01}));
        let times = times["times_ns"].as_array().unwrap();
        assert!(
            times.len() == 2 && times.iter().all(|t| t.as_f64().unwrap() > 0.0),
            "{operation}"
        );
    }
    let sizes = library.ok(&json!({"op": "sizes"}));
    let bytes = |name: &str| sizes[name].as_u64().unwrap();
    // Two halves of three primes, 130 bits of modulus, for each of 8192 coefficients; a seed for one of them.
    assert!((2 * 8192 * 130 / 8..2 * 8192 * 130 / 8 + 1000).contains(&bytes("ciphertext")));
    assert!((8192 * 130 / 8..8192 * 130 / 8 + 1000).contains(&bytes("ciphertext_seeded")));
    library.finish();
}

#[test]
fn an_aggregation_is_exact() {
    let (contributors, values) = (4, 5000);
    let folder = tempfile::tempdir().unwrap();
    let (updates, sum) = (folder.path().join("updates"), folder.path().join("sum"));
    let clear: Vec<f64> = (0..contributors * values)
        .map(|i| ((i * 31) as f64).sin() / 3.0)
        .collect();
    let bytes: Vec<u8> = clear.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&updates, bytes).unwrap();
    let mut library = Library::start();
    let report = library.ok(&json!({
        "op": "aggregate", "updates": updates, "contributors": contributors, "custodians": 3, "threshold": 2,
        "max_abs": 0.5, "fraction_bits": 20, "sum": sum,
    }));
    assert_eq!(report["exact"], true);
    let sum = std::fs::read(&sum).unwrap();
    assert_eq!(sum.len(), values * 8);
    for (i, bytes) in sum.as_chunks::<8>().0.iter().enumerate() {
        let got = f64::from_le_bytes(*bytes);
        let expected: f64 = (0..contributors).map(|c| clear[c * values + i]).sum();
        assert!(
            (got - expected).abs() < 4.0 / 2f64.powi(20),
            "{i}: {got}, not {expected}"
        );
    }
    library.finish();
}

/// The network in clear, for one image.
fn logits(image: &[f64], weights: &dyn Fn(&str, usize) -> f64) -> Vec<f64> {
    let mut hidden = Vec::new();
    for (map, row, column) in (0..845).map(|i| (i / 169, i / 13 % 13, i % 13)) {
        let mut sum = weights("conv_bias", map);
        for (u, v) in (0..25).map(|tap| (tap / 5, tap % 5)) {
            let (y, x) = (2 * row + u, 2 * column + v);
            // One pixel of padding, and the window may end beyond the other border.
            if (1..=28).contains(&y) && (1..=28).contains(&x) {
                sum += weights("conv", map * 25 + u * 5 + v) * image[(y - 1) * 28 + x - 1];
            }
        }
        hidden.push(sum * sum);
    }
    for (dense, bias, outputs) in [("dense1", "bias1", 100), ("dense2", "bias2", 10)] {
        let sums = (0..outputs).map(|output| {
            let products = hidden.iter().enumerate();
            let sum: f64 = products
                .map(|(k, x)| weights(dense, output * hidden.len() + k) * x)
                .sum();
            sum + weights(bias, output)
        });
        let sums: Vec<f64> = sums.collect();
        hidden = sums
            .iter()
            .map(|x| if outputs == 10 { *x } else { x * x })
            .collect();
    }
    hidden
}

#[test]
fn a_network_answers_for_every_image() {
    let batch = 3;
    let pixel = |image: usize, p: usize| ((image * 7 + p) % 11) as f64 / 10.0;
    // Hidden values come out below 1.
    let weights = |name: &str, index: usize| {
        let spread = ((index * 37 + 11) % 23) as f64 / 11.0 - 1.0;
        spread
            * match name {
                "conv" => 0.1,
                "dense1" => 0.01,
                "dense2" => 0.1,
                _ => 0.05,
            }
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, values: Vec<f64>| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    for (name, count) in [
        ("conv", 125),
        ("conv_bias", 5),
        ("dense1", 84_500),
        ("bias1", 100),
        ("dense2", 1000),
        ("bias2", 10),
    ] {
        write(name, (0..count).map(|index| weights(name, index)).collect());
    }
    write(
        "images",
        (0..784 * batch).map(|i| pixel(i % batch, i / batch)).collect(),
    );
    let mut library = Library::start();
    let report = library.ok(&json!({
        "op": "network", "folder": folder.path(), "batch": batch, "threads": 2, "runs": 1,
        "parameters": {
            "real": true, "degree": 8192, "base_bits": 50, "levels": 3, "scale_bits": 38,
            "special": 1, "special_bits": 50, "digit": 1,
        },
    }));
    assert!(report["server_s"].as_f64().unwrap() > 0.0);
    let bytes = std::fs::read(folder.path().join("logits")).unwrap();
    let got: Vec<f64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|x| f64::from_le_bytes(*x))
        .collect();
    assert_eq!(got.len(), 10 * batch);
    for image in 0..batch {
        let pixels: Vec<f64> = (0..784).map(|p| pixel(image, p)).collect();
        for (class, expected) in logits(&pixels, &weights).iter().enumerate() {
            let got = got[class * batch + image];
            assert!(
                (got - expected).abs() < 1e-3,
                "{image}, {class}: {got}, not {expected}"
            );
        }
    }
    library.finish();
}

#[test]
fn bad_requests_are_answered_and_survived() {
    let mut library = Library::start();
    assert!(
        library.send("not json")["error"]
            .as_str()
            .unwrap()
            .contains("not a request")
    );
    assert!(library.error(&json!({"op": "fly"})).contains("not a request"));
    assert!(library.error(&json!({"op": "sizes"})).contains("nothing is open"));
    let mut insecure = open();
    insecure["parameters"]["levels"] = 12.into();
    let refusal = library.error(&insecure);
    assert!(refusal.contains("above 214"), "{refusal}");
    library.ok(&open());
    let unknown = json!({"op": "time", "operation": "guess", "samples": 1, "sample_ms": 1.0});
    assert!(library.error(&unknown).contains("unknown operation guess"));
    let missing = json!({
        "op": "evaluate", "inputs": {"x": [0.5]}, "outputs": ["r"],
        "program": [{"to": "r", "do": "square", "a": "q"}],
    });
    assert!(library.error(&missing).contains("no vector q"));
    assert_eq!(library.ok(&json!({"op": "hello"}))["library"], "Galen");
    library.finish();
}
