//! What a measurement was made on, and with: the machine, peak memory, processor time.
//!
//! For benchmarks and tests; no daemon depends on it. What the system does not tell is left out or said to be unknown, never guessed.
//!
//! ```
//! println!("{}", galen_measure::machine());
//! let start = galen_measure::thread_time();
//! // What is measured.
//! println!("{:?}", galen_measure::thread_time() - start);
//! if let Some(mib) = galen_measure::peak_mib() {
//!     println!("peak memory {mib:.0} MiB");
//! }
//! ```

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Processor and number of its cores, as the kernel names them.
#[must_use]
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let value = lines.find(|(key, _)| key.trim() == name);
        value.map_or("unknown", |(_, value)| value.trim())
    };
    // All that the machine has, not what this process may use.
    let cores = match info.lines().filter(|line| line.starts_with("processor")).count() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        cores => cores,
    };
    format!(
        "{}, family {}, model {}, {cores} cores",
        field("model name"),
        field("cpu family"),
        field("model")
    )
}

/// The most memory that this process has had, in bytes, where the system tells.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// [`peak_bytes`] in MiB.
#[must_use]
pub fn peak_mib() -> Option<f64> {
    peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Time that this thread has been on a processor: other processes on the machine count only for what they take of its caches.
#[must_use]
pub fn thread_time() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// Time that all threads of this process have been on a processor.
#[must_use]
pub fn process_time() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn clocks_advance_with_work() {
        let (thread, process) = (thread_time(), process_time());
        let mut x = 1u64;
        while thread_time() - thread < Duration::from_millis(5) {
            for _ in 0..1000 {
                x = black_box(x.wrapping_mul(6_364_136_223_846_793_005));
            }
        }
        assert!(process_time() - process >= Duration::from_millis(5));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        assert!(machine().ends_with("cores"));
        let before = peak_bytes().unwrap();
        let memory = black_box(vec![1u8; 32 << 20]);
        assert!(peak_bytes().unwrap() >= before.max(memory.len() as u64));
        assert!(peak_mib().unwrap() >= 32.0);
    }
}
