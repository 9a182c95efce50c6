//! Examines the machine: devices, processor, threads, memory.

use bytesize::ByteSize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::finding::Finding;
use crate::runtime::DeviceChoice;

/// The largest of the paper's training runs takes about this much memory.
const COMFORTABLE_MEMORY: u64 = 4 << 30;
/// Below this not even the smallest ones fit.
const LEAST_MEMORY: u64 = 512 << 20;

/// The device asked for, and what CUDA devices there are.
pub(super) fn devices(choice: DeviceChoice) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match choice.open() {
        Ok(_) => Finding::ok("device", choice.to_string()),
        Err(error) => Finding::fail("device", format!("{choice} cannot be used"), error.to_string()),
    });
    let cuda = match tch::Cuda::device_count() {
        _ if !tch::Cuda::is_available() => "none that this libtorch sees; runs use the CPU".to_owned(),
        count => format!("{count}, used with --device cuda (this path is untested)"),
    };
    findings.push(Finding::ok("CUDA devices", cuda));
    findings
}

/// The processor and the vector instructions that libtorch's kernels are written for.
pub(super) fn processor() -> Finding {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
    let brand = system.as_ref().and_then(|system| system.cpus().first()).map(|cpu| cpu.brand().trim());
    let brand = brand.filter(|brand| !brand.is_empty()).unwrap_or(std::env::consts::ARCH);
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return Finding::ok("processor", format!("{brand}, AVX-512"));
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return Finding::ok("processor", format!("{brand}, AVX2"));
        }
        Finding::warn(
            "processor",
            format!("{brand}, without AVX2"),
            "Everything works, several times slower than on a newer machine",
        )
    }
    #[cfg(not(target_arch = "x86_64"))]
    Finding::ok("processor", brand.to_owned())
}

/// How many threads can run at once here.
pub(super) fn threads() -> Finding {
    match std::thread::available_parallelism() {
        Ok(count) => Finding::ok(
            "threads",
            format!("{count} CPU(s) for this process; a run uses 1 unless --threads says otherwise"),
        ),
        Err(error) => Finding::warn(
            "threads",
            format!("the number of CPUs is unknown: {error}"),
            "Set --threads and --jobs to what this machine has",
        ),
    }
}

/// Memory of the machine, or of the container that holds this process.
pub(super) fn memory() -> Finding {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = match System::new_with_specifics(refresh) {
        Ok(system) => system,
        Err(error) => return Finding::warn("memory", format!("unknown: {error}"), "Check that /proc is mounted"),
    };
    let (total, free) = (system.total_memory(), system.available_memory());
    let (total, free) = match system.cgroup_limits() {
        Some(limit) => (limit.total_memory.min(total), limit.free_memory.min(free)),
        None => (total, free),
    };
    judge_memory(total, free)
}

fn judge_memory(total: u64, free: u64) -> Finding {
    let found = format!("{} free of {}", ByteSize(free).display().iec(), ByteSize(total).display().iec());
    if free < LEAST_MEMORY {
        Finding::fail("memory", found, "Close other programs, or give this machine or container more memory")
    } else if free < COMFORTABLE_MEMORY {
        Finding::warn("memory", found, "Large networks may not fit; lower --jobs and --batch-size")
    } else {
        Finding::ok("memory", found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn memory_is_judged_by_what_is_free() {
        assert_eq!(judge_memory(16 << 30, 8 << 30).state, State::Ok);
        let short = judge_memory(16 << 30, 3 << 30);
        assert_eq!((short.state, short.found.as_str()), (State::Warn, "3.0 GiB free of 16.0 GiB"));
        assert_eq!(judge_memory(16 << 30, 100 << 20).state, State::Fail);
    }

    #[test]
    fn the_processor_of_this_machine_is_named() {
        assert!(!processor().found.is_empty());
        assert!(threads().found.starts_with(char::is_numeric));
    }

    #[test]
    fn the_cpu_is_always_a_device_and_an_absent_one_fails() {
        assert_eq!(devices("cpu".parse().unwrap())[0].state, State::Ok);
        let far = devices("cuda:99".parse().unwrap());
        assert_eq!(far[0].state, State::Fail);
        assert!(!far[0].remedy.is_empty());
    }
}
