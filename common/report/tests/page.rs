//! The page has what the report has, is well-formed, and needs nothing else.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

use galen_data::{Class, Dataset, Groups, Schema, Source, Target, Targets};
use galen_models::{ModelSpec, Shape};
use galen_report::{ActivationRange, Curve, DataPart, Evaluation, LearningCurve, Report, ReportError};
use roxmltree::Document;

fn dataset() -> Dataset {
    let class = |name: &str| Class {
        name: name.into(),
        labels: Vec::new(),
    };
    let schema = Schema {
        input: Shape::Features(2),
        elements: vec!["age".into(), "a<b&c".into()],
        target: Target::Classes {
            classes: vec![class("N"), class("S & V"), class("Q")],
        },
        source: Source::default(),
    };
    let sites = Some(Groups::new(["x", "y", "x", "y"].map(String::from)));
    let values = vec![50.0, 1.0, 60.0, f32::NAN, 70.0, 2.0, 80.0, 3.0];
    Dataset::new(schema, values, Targets::Classes(vec![0, 1, 0, 2]), None, sites).unwrap()
}

fn report() -> Report {
    let mut report = Report::new("Heart <disease>");
    report.set("seed", 7);
    report.data.push(DataPart {
        name: "train".into(),
        description: dataset().describe(),
    });
    let network = "input = 2\nlayers = [{ dense = { outputs = 3 } }]";
    let network: ModelSpec = toml::from_str(network).unwrap();
    report.model = Some(network.summary().unwrap());
    let line = |name: &str, scale: f64| Curve {
        name: name.into(),
        points: (1..=5).map(|e| [f64::from(e), scale / f64::from(e)]).collect(),
    };
    report.curves.push(LearningCurve {
        quantity: "loss".into(),
        lines: vec![line("train", 1.0), line("validation", 1.2)],
    });
    let names = ["N", "S & V", "Q"].map(String::from);
    let probabilities = [0.7, 0.2, 0.1, 0.5, 0.4, 0.1, 0.1, 0.8, 0.1, 0.2, 0.2, 0.6];
    report
        .evaluations
        .push(Evaluation::classes("test", &names, &probabilities, &[0, 1, 1, 2]).unwrap());
    report
        .evaluations
        .push(Evaluation::binary("two", ["healthy", "ill"], &[0.1, 0.8, 0.3, 0.9], &[0, 1, 1, 1]).unwrap());
    report
        .evaluations
        .push(Evaluation::regression("later", "score", "points", &[1.0, 2.5], &[1.5, 2.0]).unwrap());
    report.activations.push(ActivationRange {
        layer: "2 square".into(),
        min: -3.0,
        max: 9.5,
        interval: Some([-8.0, 8.0]),
    });
    report
}

/// The page without its document type, as XML.
fn parse(html: &str) -> Document<'_> {
    Document::parse(html.strip_prefix("<!DOCTYPE html>\n").unwrap()).unwrap()
}

fn texts<'a>(page: &'a Document<'_>, tag: &str) -> Vec<&'a str> {
    page.descendants()
        .filter(|n| n.has_tag_name(tag))
        .filter_map(|n| n.text())
        .collect()
}

#[test]
fn every_part_of_the_report_is_on_the_page() {
    let html = report().to_html().unwrap();
    let page = parse(&html);
    assert_eq!(texts(&page, "h1"), ["Heart <disease>"]);
    assert_eq!(
        texts(&page, "h2"),
        [
            "Run",
            "Result on test (4 samples)",
            "Result on two (4 samples)",
            "Result on later (2 samples)",
            "Learning curves",
            "Activation ranges",
            "Model",
            "Data"
        ]
    );
    // Two pictures per classification, one of the regression, one curve, one of the activations.
    let pictures = page
        .descendants()
        .filter(|n| n.tag_name().name() == "svg")
        .count();
    assert_eq!(pictures, 2 + 2 + 1 + 1 + 1);
    let cells = texts(&page, "td");
    for expected in ["S & V", "a<b&c", "66.67%", "2 square", "layer0"] {
        assert!(cells.contains(&expected), "{expected} is not in {cells:?}");
    }
    // The confusion matrix of "test": sample 1 of class 1 was taken for class 0.
    let shaded: Vec<&str> = page
        .descendants()
        .filter(|n| n.has_tag_name("td") && n.attribute("style").is_some())
        .filter_map(|n| n.text())
        .collect();
    assert_eq!(
        shaded,
        ["1", "0", "0", "1", "1", "0", "0", "0", "1", "1", "0", "1", "2"]
    );
    let text: String = page.descendants().filter_map(|n| n.text()).collect();
    assert!(text.contains("1 of 1 activations saw inputs outside"));
    assert!(text.contains("root mean squared error"));
}

#[test]
fn the_page_needs_nothing_else() {
    let html = report().to_html().unwrap();
    let page = parse(&html);
    for node in page.descendants() {
        assert!(!["script", "link", "img", "iframe", "object"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            assert!(
                !["src", "href", "onload", "onclick"].contains(&attribute.name()),
                "{attribute:?}"
            );
            assert!(!attribute.value().contains("url("), "{attribute:?}");
        }
    }
}

#[test]
fn json_holds_the_same_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    report().write(folder.path()).unwrap();
    let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    // Numbers may come back with another last digit, so what has none is compared.
    let (back, sent) = (serde_json::from_str::<Report>(&json).unwrap(), report());
    assert_eq!(
        (&back.title, &back.settings, &back.model),
        (&sent.title, &sent.settings, &sent.model)
    );
    assert_eq!(back.data[0].description.sites, sent.data[0].description.sites);
    assert_eq!(
        (back.curves.len(), back.evaluations.len(), &back.activations),
        (1, 3, &sent.activations)
    );
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["format"], 1);
    assert_eq!(value["evaluations"][0]["judgement"]["kind"], "classes");
    assert_eq!(value["evaluations"][0]["judgement"]["accuracy"], 0.75);
    assert_eq!(value["data"][0]["description"]["elements"][1]["missing"], 1);
    let html = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert_eq!(html, report().to_html().unwrap());
}

#[test]
fn an_empty_report_is_a_page_and_bad_numbers_are_refused() {
    let html = Report::new("empty").to_html().unwrap();
    assert!(texts(&parse(&html), "h2").is_empty());
    let mut bad = report();
    bad.curves[0].lines[0].points[1][1] = f64::NAN;
    assert!(matches!(
        bad.to_json(),
        Err(ReportError::NotFinite("the learning curves"))
    ));
    let mut bad = report();
    bad.activations[0].max = f64::INFINITY;
    assert!(matches!(
        bad.to_html(),
        Err(ReportError::NotFinite("the ranges of activations"))
    ));
}
