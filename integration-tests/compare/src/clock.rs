//! Process CPU time, which waiting for the processor does not add to.

use crate::protocol::Times;
use anyhow::Result;
use galen_measure::process_time;
use std::hint::black_box;

/// What times are of, in words.
pub(crate) const CLOCK: &str = "CLOCK_PROCESS_CPUTIME_ID";

/// Nanoseconds of CPU time that this process has used, in all its threads.
pub(crate) fn now_ns() -> f64 {
    process_time().as_secs_f64() * 1e9
}

/// Seconds of CPU time that a stage takes, and what it returns.
pub(crate) fn seconds<T>(stage: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = now_ns();
    let value = stage()?;
    Ok(((now_ns() - start) / 1e9, value))
}

/// Measures `call`: after two calls to warm up, `samples` samples of as many calls as take `sample_ms`.
pub(crate) fn measure<T>(
    samples: usize,
    sample_ms: f64,
    mut call: impl FnMut() -> Result<T>,
) -> Result<Times> {
    black_box(call()?);
    let start = now_ns();
    black_box(call()?);
    let once = (now_ns() - start).max(1.0);
    let calls = (sample_ms * 1e6 / once).ceil().clamp(1.0, 10_000.0) as u32;
    let mut times_ns = Vec::with_capacity(samples);
    for _ in 0..samples {
        let start = now_ns();
        for _ in 0..calls {
            black_box(call()?);
        }
        times_ns.push((now_ns() - start) / f64::from(calls));
    }
    Ok(Times { times_ns, calls })
}
