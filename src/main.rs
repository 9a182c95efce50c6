//! The program, with everything that is built in.

use std::process::ExitCode;

use backpack_run::Registry;

fn main() -> ExitCode {
    backpack_run::program(Registry::new())
}
