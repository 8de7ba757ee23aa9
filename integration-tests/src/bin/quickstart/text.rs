//! The report for people.

use crate::report::{Phase, Report, Share};
use std::fmt::Write;

/// The whole report.
pub(crate) fn describe(report: &Report) -> String {
    let mut out = String::new();
    heading(&mut out, report);
    prediction(&mut out, report);
    exactness(&mut out, report);
    decision(&mut out, report);
    phases(&mut out, report);
    parameters(&mut out, report);
    paragraph(&mut out, "What the coordinator saw", &seen(report));
    verdict(&mut out, report);
    out
}

// Writing to a string cannot fail, so results are dropped below.

fn heading(out: &mut String, report: &Report) {
    let study = &report.study;
    let _ = writeln!(
        out,
        "\n{} (study \"{}\", digest {})",
        study.title,
        study.name,
        study.digest.short()
    );
    let (train, held_out) = study
        .hospitals
        .values()
        .fold((0, 0), |(t, h), p| (t + p.train, h + p.held_out));
    let _ = writeln!(
        out,
        "{} hospitals, {} patients: {train} to learn from, {held_out} held out. {} encrypted sums, model of {} parameters.",
        study.hospitals.len(),
        train + held_out,
        study.rounds,
        study.parameters,
    );
}

fn prediction(out: &mut String, report: &Report) {
    let auc = &report.auc;
    let held_out: usize = report
        .study
        .hospitals
        .values()
        .map(|patients| patients.held_out)
        .sum();
    let _ = writeln!(
        out,
        "\nHow good are the predictions? (area under the ROC curve on all {held_out} held-out patients)\n"
    );
    let number = |auc: Option<f64>| auc.map_or("     -".to_owned(), |auc| format!("{auc:.4}"));
    let width = report
        .study
        .hospitals
        .keys()
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0)
        .max(9);
    for (name, value) in &auc.alone {
        let train = report
            .study
            .hospitals
            .get(name)
            .map_or(0, |patients| patients.train);
        let _ = writeln!(
            out,
            "  {:width$}  {}   alone, from its own {train} patients",
            name.as_str(),
            number(*value)
        );
    }
    let _ = writeln!(
        out,
        "  {:width$}  {}   mean of the hospitals alone",
        "",
        number(auc.alone_mean)
    );
    let _ = writeln!(
        out,
        "  {:width$}  {}   all together, encrypted; from added histograms ({} when scores are compared one by one)",
        "federated",
        number(auc.federated),
        number(auc.federated_exact)
    );
    let _ = writeln!(
        out,
        "  {:width$}  {}   all patients' data in one place, for comparison",
        "pooled",
        number(auc.pooled)
    );
}

fn exactness(out: &mut String, report: &Report) {
    let _ = writeln!(out, "\nIs the encrypted result the right one?\n");
    let sums = &report.sums;
    let exact = if report.sum_exact {
        "equal"
    } else {
        "DO NOT ALL EQUAL"
    };
    let _ = writeln!(
        out,
        "  sums       {} opened sums ({} values) {exact} what plain addition gives, bit for bit",
        sums.opened,
        thousands(sums.values as u64)
    );
    if sums.absences > 0 {
        let _ = writeln!(
            out,
            "             {} times a round went on without a hospital that made no progress",
            sums.absences
        );
    }
    match report.inference {
        Some(inference) => {
            let _ = writeln!(
                out,
                "  inference  {} patients in {}; probabilities differ from the plain model's by at most {:.1e}",
                inference.patients,
                queries(inference.queries),
                inference.max_abs_error
            );
        }
        None => {
            let _ = writeln!(
                out,
                "  inference  none: this study keeps the model with the hospitals"
            );
        }
    }
}

fn decision(out: &mut String, report: &Report) {
    let Some(exact) = &report.exact else {
        return;
    };
    let _ = writeln!(out, "\nAn exact decision: is this patient's heart diseased?\n");
    let _ = writeln!(
        out,
        "  {}, as in plain integers: {}; the hospital learned this one bit, and the coordinator nothing",
        if exact.decision { "yes" } else { "no" },
        if exact.expected { "yes" } else { "no" },
    );
    let _ = writeln!(
        out,
        "  {:.2} s from table to decision, {} bootstraps; {:.2} s the first time, with the key of {}",
        exact.seconds,
        exact.bootstraps,
        exact.first_seconds,
        bytes(exact.key_bytes)
    );
}

fn phases(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "\nWhat did it cost? (bytes that the hospitals sent and received)\n"
    );
    let _ = writeln!(
        out,
        "  {:<12}{:>9}{:>14}{:>14}",
        "phase", "seconds", "sent", "received"
    );
    for Phase {
        name,
        seconds,
        bytes_sent,
        bytes_received,
        ..
    } in &report.phases
    {
        let _ = writeln!(
            out,
            "  {name:<12}{seconds:>9.1}{:>14}{:>14}",
            bytes(*bytes_sent),
            bytes(*bytes_received)
        );
    }
    let _ = writeln!(out, "  {:<12}{:>9.1}\n", "all", report.seconds);
    for name in report.study.hospitals.keys() {
        let shares = report.phases.iter().filter_map(|phase| phase.parties.get(name));
        let total = shares.fold(Share::default(), |a, b| Share {
            seconds: a.seconds + b.seconds,
            bytes_sent: a.bytes_sent + b.bytes_sent,
            bytes_received: a.bytes_received + b.bytes_received,
        });
        let (sent, received) = (bytes(total.bytes_sent), bytes(total.bytes_received));
        let _ = writeln!(
            out,
            "  {:<12}{:>9.1}{sent:>14}{received:>14}",
            name.as_str(),
            total.seconds
        );
    }
    let peak = &report.peak_rss_bytes;
    let _ = writeln!(
        out,
        "\n  memory: coordinator {}, a hospital at most {}",
        bytes(peak.coordinator),
        bytes(peak.party)
    );
}

fn parameters(out: &mut String, report: &Report) {
    let sums = &report.security.sums;
    let _ = writeln!(
        out,
        "\nHow strong is the encryption? (128-bit security allows log2 Q up to the bound)\n"
    );
    let _ = writeln!(
        out,
        "  sums       N = {}, log2 Q = {:.1}, bound {}; one-round keys in {} pieces, {} custodians, any {} open, {} must agree",
        sums.n, sums.log2_q, sums.bound, sums.pieces, sums.custodians, sums.threshold, sums.agreement
    );
    if let Some(inference) = &report.security.inference {
        let _ = writeln!(
            out,
            "  inference  N = {}, log2 QP = {}, bound {}; preset {}, under each hospital's own key",
            inference.n, inference.log2_qp, inference.bound, inference.preset
        );
    }
    if let Some(exact) = &report.exact {
        let _ = writeln!(
            out,
            "  exact      TFHE at {} bits, {}; wrong with a probability of at most 2^{:.0}",
            exact.security_bits, exact.parameters, exact.log2_failure
        );
    }
}

/// What the coordinator saw, in words; no more than this run shows.
fn seen(report: &Report) -> String {
    let study = &report.study;
    let mut text = format!(
        "The coordinator saw who takes part and the plan of the study; when each hospital was connected and how many bytes it \
         sent; {} ciphertexts of {} rounds with their senders, sizes and digests; seeds and key sums sealed to others, which it \
         cannot open; the encrypted sums that it added up itself; and digests of what the hospitals derived from them. It got no \
         secret key, no patient, no hospital's statistics, update or scores, and no opened sum.",
        study.rounds as usize * study.hospitals.len() - report.sums.absences,
        study.rounds,
    );
    if let Some(inference) = report.inference {
        let _ = write!(
            text,
            " It did get the final model, because this study releases it for serving, with the range that each input can have, from \
             which, of a study on tables, means and deviations over all hospitals' patients can be told. Of {} it saw the sender, the time, the \
             sizes and the evaluation keys, neither patients nor probabilities.",
            queries(inference.queries)
        );
    }
    text.push_str(
        " A coordinator that deviates from the protocol is kept from more by the custodians' agreement, the contributors' \
         fingerprints and the audit log, of which every hospital has a copy. The hospitals saw every opened sum. SECURITY.md \
         says what is promised and what is not.",
    );
    text
}

fn paragraph(out: &mut String, title: &str, text: &str) {
    const WIDTH: usize = 100;
    let _ = writeln!(out, "\n{title}\n");
    let mut line = String::from(" ");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

fn verdict(out: &mut String, report: &Report) {
    if report.failures.is_empty() {
        let _ = writeln!(out, "\nEverything held.");
        return;
    }
    let _ = writeln!(out, "\nNOT EVERYTHING HELD:");
    for failure in &report.failures {
        let _ = writeln!(out, "  - {failure}");
    }
}

fn queries(count: usize) -> String {
    match count {
        1 => "one encrypted query".into(),
        _ => format!("{count} encrypted queries"),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [9_999, 10_500, 9_999_999, 12_340_000].map(bytes),
            ["9999 B", "10 kB", "10000 kB", "12.3 MB"]
        );
    }
}
