//! Named points at which a test may kill the process.
//!
//! A daemon calls [`reach`] right after each state has become durable, and in the middle of what takes long. When the environment variable `GALEN_KILL_AT`
//! names that point, the process sends itself SIGKILL there, which is as abrupt as a power cut: nothing is flushed,
//! no destructor runs. Without the variable, [`reach`] does nothing. It can end the process and nothing else.

use std::sync::OnceLock;

/// Environment variable that names the point at which to die, such as `coordinator.round.proposed`; a suffix `#3` waits for
/// the third time.
pub const KILL_AT: &str = "GALEN_KILL_AT";

struct Target {
    point: String,
    remaining: std::sync::atomic::AtomicU32,
}

/// Kills the process if `GALEN_KILL_AT` names this point.
pub fn reach(point: &str) {
    static TARGET: OnceLock<Option<Target>> = OnceLock::new();
    let target = TARGET.get_or_init(|| std::env::var(KILL_AT).ok().map(|text| parse(&text)));
    if let Some(target) = target
        && target.point == point
        && target
            .remaining
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed)
            == 1
    {
        die();
    }
}

fn parse(text: &str) -> Target {
    let (point, count) = text.split_once('#').unwrap_or((text, "1"));
    Target {
        point: point.to_owned(),
        remaining: count.parse().unwrap_or(1).into(),
    }
}

#[cfg(unix)]
fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(not(unix))]
fn die() {
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_may_carry_a_count() {
        let target = parse("party.sent#3");
        assert_eq!(
            (target.point.as_str(), target.remaining.into_inner()),
            ("party.sent", 3)
        );
        assert_eq!(parse("party.sent").remaining.into_inner(), 1);
    }

    #[test]
    fn an_unnamed_point_is_passed() {
        reach("nobody.asks.for.this");
    }
}
