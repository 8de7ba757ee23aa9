//! Summaries as text.

use super::{LayerSummary, Summary};
use std::fmt;

/// A column of the picture: its heading, and what stands there for a layer.
type Column = (&'static str, fn(&LayerSummary) -> String);

const COLUMNS: [Column; 6] = [
    ("shape", |layer| layer.output.to_string()),
    ("parameters", |layer| number(layer.parameters as u64)),
    ("levels", |layer| {
        layer
            .levels
            .map_or_else(|| "no polynomial".into(), |levels| levels.to_string())
    }),
    ("weight products", |layer| number(layer.cost.weight_products)),
    ("products", |layer| number(layer.cost.products)),
    ("relinearisations", |layer| number(layer.cost.relinearisations)),
];

/// With a space between groups of three digits; nothing for 0.
fn number(n: u64) -> String {
    let digits = n.to_string();
    if n == 0 {
        return String::new();
    }
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A table of the layers, drawn as the way that a patient's values take.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let blank = || vec![String::new(); COLUMNS.len()];
        let headings: Vec<String> = COLUMNS.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        rows.push((String::new(), headings));
        let mut input = blank();
        input[0] = self.input.to_string();
        rows.push(("input".into(), input));
        for layer in &self.layers {
            rows.push((
                drawing(&layer.path, &layer.layer),
                COLUMNS.iter().map(|(_, of)| of(layer)).collect(),
            ));
        }
        let mut total = blank();
        total[0] = self.output.to_string();
        total[1] = number(self.parameters as u64);
        total[2] = self
            .levels
            .map_or_else(|| "no polynomial".into(), |levels| levels.to_string());
        total[3] = number(self.cost.weight_products);
        total[4] = number(self.cost.products);
        total[5] = number(self.cost.relinearisations);
        rows.push(("output, in all".into(), total));
        let mut first = 0;
        let mut widths = [0; COLUMNS.len()];
        for (name, cells) in &rows {
            first = first.max(name.chars().count());
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (name, cells) in &rows {
            let mut line = format!("{name:first$}");
            for (cell, &width) in cells.iter().zip(&widths) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `layer3.body0` and its words, indented and with a line to what it belongs to.
fn drawing(path: &str, words: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let mut text = String::new();
    for step in steps.iter().skip(1) {
        // The body runs down on the left; the shortcut is drawn with a broken line.
        text.push_str(if step.starts_with("body") { "│ " } else { "┆ " });
    }
    let place = steps.last().copied().unwrap_or(path);
    format!("{text}{place} {words}")
}
