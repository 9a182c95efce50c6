//! What is set once for the whole process: the device, libtorch's threads, the memory allocator, and how the program is
//! started again.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Once, OnceLock};

use tch::Device;

use crate::error::{Error, Result};

/// Where tensors live and computations run; the one place that names a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChoice(pub Device);

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cpu" => Ok(DeviceChoice(Device::Cpu)),
            "cuda" => Ok(DeviceChoice(Device::Cuda(0))),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(|index| DeviceChoice(Device::Cuda(index)))
                .ok_or_else(|| Error::Usage(format!("device `{text}`: expected cpu, cuda or cuda:INDEX"))),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            _ => write!(f, "cpu"),
        }
    }
}

impl DeviceChoice {
    /// The device, after checking that this machine and this libtorch have it.
    ///
    /// # Errors
    /// [`Error::Environment`] with a remedy where CUDA was asked for and is not there.
    pub fn open(self) -> Result<Device> {
        if let Device::Cuda(index) = self.0 {
            if !tch::Cuda::is_available() {
                return Err(Error::Environment(format!(
                    "device {self}: this libtorch sees no CUDA device. Install torch's CUDA build (pip install torch==2.13.0), \
                     run `eval \"$(scripts/setup.sh)\"` and build again, check that `nvidia-smi` works, or use --device \
                     cpu"
                )));
            }
            let count = tch::Cuda::device_count();
            if index as i64 >= count {
                return Err(Error::Environment(format!(
                    "device {self}: this machine has {count} CUDA device(s), counted from 0"
                )));
            }
        }
        Ok(self.0)
    }
}

/// Sets how many threads libtorch computes with in this process; call it before the first tensor operation.
pub fn set_threads(threads: usize) {
    // libtorch takes the number of threads between operations once a process, and raises an exception afterwards.
    static BETWEEN_OPERATIONS: Once = Once::new();
    tch::set_num_threads(threads as i32);
    BETWEEN_OPERATIONS.call_once(|| tch::set_num_interop_threads(1));
}

/// The file that is this program where that is not the process's own executable.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that this process is an interpreter in which the program was started as `path`, which starts its workers.
pub fn set_program(path: PathBuf) {
    // The first one stands: a process is one program.
    let _ = PROGRAM.set(path);
}

/// Whether this process is an interpreter in which the program was started.
pub fn is_in_interpreter() -> bool {
    PROGRAM.get().is_some()
}

/// This program's file, to be started again.
///
/// # Errors
/// [`Error::Environment`] where the system does not say.
pub fn program() -> Result<PathBuf> {
    match PROGRAM.get() {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe()
            .map_err(|error| Error::Environment(format!("the program's own file cannot be found: {error}"))),
    }
}
