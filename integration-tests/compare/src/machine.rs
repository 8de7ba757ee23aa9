//! What the measurements were made on.

/// Processor and number of cores, as the kernel names them.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown")
    };
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{}, family {}, model {}, {cores} cores",
        field("model name"),
        field("cpu family"),
        field("model\t")
    )
}

/// The most memory that this process has had, in MiB.
pub(crate) fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
