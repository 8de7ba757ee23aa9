//! The run, live, on standard error: moving lines on a terminal, one line per step elsewhere.

use galen_core::PartyId;
use galen_core::study::Purpose;
use galen_integration_tests::Snapshot;
use galen_party::status::Status as PartyStatus;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows a run.
pub(crate) struct Progress {
    began: Instant,
    screen: Option<Screen>,
    said: String,
}

struct Screen {
    lines: MultiProgress,
    rounds: ProgressBar,
    coordinator: ProgressBar,
    parties: BTreeMap<PartyId, ProgressBar>,
}

impl Progress {
    /// Moving lines if standard error is a terminal.
    pub(crate) fn new(parties: &[PartyId]) -> Self {
        let screen = std::io::stderr().is_terminal().then(|| Screen::new(parties));
        Self {
            began: Instant::now(),
            screen,
            said: String::new(),
        }
    }

    /// Says that a step begins.
    pub(crate) fn say(&mut self, line: &str) {
        if self.said == line {
            return;
        }
        self.said = line.to_owned();
        let stamped = format!("{:6.1} s  {line}", self.began.elapsed().as_secs_f64());
        match &self.screen {
            // A terminal that goes away is no reason to stop.
            Some(screen) => drop(screen.lines.println(stamped)),
            None => drop(writeln!(std::io::stderr(), "{stamped}")),
        }
    }

    /// Shows what everybody does.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        if let Some(line) = step(snapshot, self.screen.is_some()) {
            self.say(&line);
        }
        if let Some(screen) = &self.screen {
            screen.show(snapshot);
        }
    }

    /// Shows encrypted queries.
    pub(crate) fn show_queries(&mut self, snapshot: &Snapshot, done: usize, all: usize) {
        if let Some(screen) = &self.screen {
            screen.show(snapshot);
            screen.coordinator.set_message(format!(
                "evaluates encrypted patients; {done} of {all} hospitals have their answers"
            ));
        }
    }

    /// Clears the moving lines.
    pub(crate) fn finish(&mut self) {
        if let Some(screen) = self.screen.take() {
            drop(screen.lines.clear());
        }
    }
}

impl Screen {
    fn new(parties: &[PartyId]) -> Self {
        let lines = MultiProgress::new();
        let width = parties
            .iter()
            .map(|name| name.as_str().len())
            .max()
            .unwrap_or(0)
            .max("coordinator".len());
        let line = |name: &str| {
            let bar = lines.add(ProgressBar::new_spinner());
            bar.set_style(style("  {prefix} {spinner} {wide_msg}"));
            bar.set_prefix(format!("{name:width$}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        };
        let rounds = lines.add(ProgressBar::new(1));
        rounds.set_style(style("  {bar:40} {pos} of {len} rounds, {elapsed}"));
        let coordinator = line("coordinator");
        let parties = parties
            .iter()
            .map(|name| (name.clone(), line(name.as_str())))
            .collect();
        Self {
            lines,
            rounds,
            coordinator,
            parties,
        }
    }

    fn show(&self, snapshot: &Snapshot) {
        if let Some(status) = &snapshot.coordinator {
            self.rounds.set_length(status.rounds_total.into());
            self.rounds.set_position(status.published.len() as u64);
            let waits: Vec<_> = status
                .attempt
                .iter()
                .flat_map(|attempt| &attempt.awaiting)
                .map(PartyId::as_str)
                .collect();
            let waits = if waits.is_empty() {
                String::new()
            } else {
                format!("; waits for {}", waits.join(", "))
            };
            self.coordinator.set_message(format!("{}{waits}", status.phase));
        }
        for (name, bar) in &self.parties {
            if let Some(status) = snapshot.parties.get(name) {
                bar.set_message(doing(status));
            }
        }
    }
}

/// The templates are constants; a wrong one would show plain lines.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn doing(status: &PartyStatus) -> String {
    match &status.training {
        Some(training) => format!(
            "trains, pass {} of {}, loss {:.3}",
            training.epoch, training.epochs, training.loss
        ),
        None => status.phase.clone(),
    }
}

/// The step in a line: as long as it stays the same, it is said once. In `brief`, rounds of training are not told one by one.
fn step(snapshot: &Snapshot, brief: bool) -> Option<String> {
    let status = snapshot.coordinator.as_ref()?;
    if !status.missing.is_empty() {
        return Some("the hospitals connect and show their signatures".into());
    }
    let Some(attempt) = &status.attempt else {
        return (status.published.len() as u32 == status.rounds_total && status.serving.is_none())
            .then(|| "the hospitals release the model for serving".into());
    };
    let again = if attempt.attempt > 0 {
        format!(", attempt {}", attempt.attempt + 1)
    } else {
        String::new()
    };
    Some(match attempt.purpose? {
        Purpose::Statistics => {
            format!("statistics: means and deviations of all hospitals together, encrypted{again}")
        }
        Purpose::Training => {
            let rounds = status.rounds_total.saturating_sub(2);
            match brief {
                true => format!("training: {rounds} rounds, an encrypted sum each"),
                false => format!("training: round {} of {rounds}{again}", attempt.round),
            }
        }
        Purpose::Evaluation => format!("evaluation: histograms of scores, encrypted{again}"),
    })
}
