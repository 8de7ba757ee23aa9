//! The page.

use crate::evaluation::{Evaluation, Judgement};
use crate::{ActivationRange, DataPart, Report, ReportError, charts};
use galen_models::Summary;
use galen_models::metrics::{ClassScores, Confusion};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:1100px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.25em;margin-top:2em;border-bottom:1px solid #ddd}h3{font-size:1.05em}\
table{border-collapse:collapse;margin:.6em 0}th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}\
th:first-child,td:first-child{text-align:left}thead th{border-bottom:1px solid #999}\
.row{display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start}figure{margin:0}figcaption{font-size:.9em;color:#555}\
.figures{font-size:1.1em}.warn{color:#a33c00}.wide{overflow-x:auto}svg{max-width:100%;height:auto}\
@media print{body{max-width:none}}";

/// Text that cannot be taken for markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A table; its cells are texts, not markup.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, row: &[String]| -> String {
        row.iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
            .collect()
    };
    let head: Vec<String> = head.iter().map(|&h| h.to_owned()).collect();
    let body: String = rows
        .into_iter()
        .map(|row| format!("<tr>{}</tr>\n", cells("td", &row)))
        .collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>\n{body}</tbody></table></div>\n",
        cells("th", &head)
    )
}

fn figure(svg: &str, caption: &str) -> String {
    format!(
        "<figure>{svg}<figcaption>{}</figcaption></figure>\n",
        escape(caption)
    )
}

fn section(title: &str, content: &str) -> String {
    format!("<h2>{}</h2>\n{content}", escape(title))
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}

fn optional(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// The whole page.
pub(crate) fn page(report: &Report) -> Result<String, ReportError> {
    let mut body = format!("<h1>{}</h1>\n", escape(&report.title));
    if !report.settings.is_empty() {
        let rows = report
            .settings
            .iter()
            .map(|s| vec![s.name.clone(), s.value.clone()]);
        body += &section("Run", &table(&["setting", "value"], rows));
    }
    for evaluation in &report.evaluations {
        let title = format!("Result on {} ({} samples)", evaluation.part, evaluation.samples);
        body += &section(&title, &judgement(evaluation)?);
    }
    if !report.curves.is_empty() {
        let mut figures = String::new();
        for curve in &report.curves {
            figures += &figure(&charts::learning(&curve.quantity, &curve.lines)?, &curve.quantity);
        }
        body += &section(
            "Learning curves",
            &format!("<div class=\"row\">{figures}</div>\n"),
        );
    }
    if !report.activations.is_empty() {
        body += &section("Activation ranges", &activations(&report.activations)?);
    }
    if let Some(summary) = &report.model {
        body += &section("Model", &model(summary));
    }
    if !report.data.is_empty() {
        body += &section("Data", &report.data.iter().map(data).collect::<String>());
    }
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/>\
         <title>{}</title><style>{STYLE}</style></head><body>\n{body}</body></html>\n",
        escape(&report.title)
    ))
}

fn judgement(evaluation: &Evaluation) -> Result<String, ReportError> {
    match &evaluation.judgement {
        Judgement::Classes {
            names,
            accuracy,
            balanced_accuracy,
            macro_f1,
            brier,
            confusion,
            classes,
            roc,
            calibration,
        } => {
            let mut html = format!(
                "<p class=\"figures\">accuracy <b>{}</b>, balanced {}, macro F1 {macro_f1:.4}, Brier score {brier:.4}, \
                 calibration error {:.4}</p>\n",
                percent(*accuracy),
                percent(*balanced_accuracy),
                calibration.expected_error
            );
            let mut figures = String::new();
            if !roc.is_empty() {
                let caption = if names.len() == 2 {
                    "ROC curve"
                } else {
                    "ROC curves, each class against the rest"
                };
                figures += &figure(&charts::roc(roc)?, caption);
            }
            let caption = "Reliability: dots on the diagonal mean that probabilities are what they say";
            figures += &figure(&charts::reliability(calibration, names.len() == 2)?, caption);
            html += &format!("<div class=\"row\">{figures}</div>\n");
            let auc = |name: &String| roc.iter().find(|c| &c.class == name).map(|c| c.auc);
            html += &per_class(names, classes, auc);
            html += &confusion_table(names, confusion);
            Ok(html)
        }
        Judgement::Regression {
            name,
            unit,
            errors,
            pairs,
        } => {
            let unit = escape(unit);
            let html = format!(
                "<p class=\"figures\">root mean squared error <b>{}</b> {unit}, mean absolute error {} {unit}, R² {}</p>\n",
                number(errors.rmse),
                number(errors.mae),
                optional(errors.r2, number)
            );
            let caption = format!("Predicted over true {name}; {} samples shown", pairs.len());
            Ok(html + &figure(&charts::scatter(name, pairs)?, &caption))
        }
    }
}

fn per_class(names: &[String], classes: &[ClassScores], auc: impl Fn(&String) -> Option<f64>) -> String {
    let rows = names.iter().zip(classes).map(|(name, scores)| {
        vec![
            name.clone(),
            scores.support.to_string(),
            optional(scores.precision, percent),
            optional(scores.recall, percent),
            optional(scores.f1, |v| format!("{v:.4}")),
            optional(auc(name), |v| format!("{v:.4}")),
        ]
    });
    table(&["class", "samples", "precision", "recall", "F1", "AUC"], rows)
}

/// Counts, shaded by their share of the row.
fn confusion_table(names: &[String], confusion: &Confusion) -> String {
    let head: String = names.iter().map(|n| format!("<th>{}</th>", escape(n))).collect();
    let row = |(name, counts): (&String, &Vec<u64>)| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let cell = |&count: &u64| {
            let share = count as f64 / total;
            format!(
                "<td style=\"background:rgba(0,114,178,{:.3})\">{count}</td>",
                0.75 * share
            )
        };
        let cells: String = counts.iter().map(cell).collect();
        format!("<tr><th>{}</th>{cells}</tr>\n", escape(name))
    };
    let rows: String = names.iter().zip(confusion.counts()).map(row).collect();
    format!(
        "<h3>Confusion matrix</h3>\n<p>True classes in rows, predicted classes in columns.</p>\n\
         <div class=\"wide\"><table><thead><tr><th></th>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn activations(ranges: &[ActivationRange]) -> Result<String, ReportError> {
    let mut html = figure(
        &charts::activations(ranges)?,
        "Coloured: inputs that were seen. Grey: the interval that the activation is made for.",
    );
    let beyond = ranges.iter().filter(|r| charts::outside(r)).count();
    if beyond > 0 {
        html += &format!(
            "<p class=\"warn\">{beyond} of {} activations saw inputs outside of their interval.</p>\n",
            ranges.len()
        );
    }
    let rows = ranges.iter().map(|r| {
        let interval = r.interval.map_or_else(
            || "–".to_owned(),
            |[a, b]| format!("{} to {}", number(a), number(b)),
        );
        vec![r.layer.clone(), number(r.min), number(r.max), interval]
    });
    Ok(html + &table(&["layer", "smallest", "largest", "interval"], rows))
}

fn model(summary: &Summary) -> String {
    let depth = summary
        .levels
        .map_or_else(String::new, |d| format!(", {d} multiplicative levels"));
    let rows = summary.layers.iter().map(|layer| {
        vec![
            layer.path.clone(),
            layer.layer.clone(),
            layer.output.to_string(),
            layer.parameters.to_string(),
            layer.levels.map_or_else(|| "–".to_owned(), |l| l.to_string()),
        ]
    });
    format!(
        "<p>Input {}, {} parameters{depth}.</p>\n{}",
        summary.input,
        summary.parameters,
        table(&["place", "layer", "output", "parameters", "levels"], rows)
    )
}

fn data(part: &DataPart) -> String {
    let description = &part.description;
    let patients = description
        .patients
        .map_or_else(String::new, |p| format!(" of {p} patients"));
    let mut html = format!(
        "<h3>{}</h3>\n<p>{} samples{patients}, shape {}.</p>\n",
        escape(&part.name),
        description.samples,
        description.schema.input
    );
    if !description.classes.is_empty() {
        let share = |count: u64| percent(count as f64 / description.samples.max(1) as f64);
        let rows = description
            .classes
            .iter()
            .map(|c| vec![c.name.clone(), c.samples.to_string(), share(c.samples)]);
        html += &table(&["class", "samples", "share"], rows);
    }
    if !description.sites.is_empty() {
        let classes = description.classes.iter().map(|c| c.name.as_str());
        let head: Vec<&str> = ["site", "samples"].into_iter().chain(classes).collect();
        let row = |site: &galen_data::SiteCount| {
            let counts = site.classes.iter().map(u64::to_string);
            [site.name.clone(), site.samples.to_string()]
                .into_iter()
                .chain(counts)
                .collect::<Vec<String>>()
        };
        html += &table(&head, description.sites.iter().map(row));
    }
    let row = |element: &galen_data::ElementRange| {
        let of =
            |value: fn(&galen_data::ValueRange) -> f64| optional(element.range.as_ref().map(value), number);
        vec![
            element.name.clone(),
            of(|r| r.min),
            of(|r| r.max),
            of(|r| r.mean),
            of(|r| r.std),
            element.missing.to_string(),
        ]
    };
    html += &table(
        &["value", "smallest", "largest", "mean", "deviation", "missing"],
        description.elements.iter().map(row),
    );
    html
}
