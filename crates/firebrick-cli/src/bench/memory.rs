//! How much memory this process has had at most.

/// The peak of the resident memory so far, MiB; none where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn peak_resident_mb() -> Option<f64> {
    of_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The peak of the resident memory so far, MiB; none where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn peak_resident_mb() -> Option<f64> {
    None
}

/// The figure in `VmHWM: 123456 kB` of Linux' status file, where a kB is 1,024 bytes.
#[cfg(any(test, target_os = "linux"))]
fn of_status(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_peak_among_the_lines() {
        assert_eq!(of_status("VmPeak:\t 9999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 10 kB\n"), Some(2.0));
        assert_eq!(of_status("VmPeak:\t 9999 kB\n"), None);
        assert_eq!(of_status("VmHWM:\t many kB\n"), None);
    }
}
