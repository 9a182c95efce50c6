//! How much memory this process has taken, as Linux tells.

/// The most memory that this process has had resident so far (VmHWM), in bytes; none where the system does not tell.
pub fn peak() -> Option<u64> {
    entry("VmHWM:")
}

/// The memory that is resident now (VmRSS), in bytes; none where the system does not tell.
pub fn resident() -> Option<u64> {
    entry("VmRSS:")
}

/// Gives freed memory back to the system and makes [`peak`] begin anew from what is left, where Linux allows it.
pub fn forget_peak() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only returns free pages of the allocator.
    unsafe {
        libc::malloc_trim(0);
    }
    // Where it cannot be written, the peak stays that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn entry(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_shows_in_the_peak() {
        let room = std::hint::black_box(vec![1u8; 300 << 20]);
        // The system counts in batches of pages, and not every system tells.
        let Some(with) = peak() else { return };
        drop(room);
        assert!(with >= 290 << 20, "{with}");
        assert!(peak().unwrap() >= 290 << 20, "a peak stays");
        assert!(resident().is_some());
        forget_peak();
        assert!(peak().unwrap() < 290 << 20, "the peak begins anew");
    }
}
