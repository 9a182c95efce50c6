//! `backpack-run completions`: the completion script of a shell, on stdout.

use clap::{Args, Command};
use clap_complete::Shell;

use super::terminal::print;
use crate::error::Result;

/// Print a shell's completion script.
///
/// Example: backpack-run completions bash > ~/.local/share/bash-completion/completions/backpack-run
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script for `command`, the whole command line.
///
/// # Errors
/// If stdout cannot be written.
pub fn run(args: CompletionsArgs, command: Command) -> Result<()> {
    print(&String::from_utf8_lossy(&script(args.shell, command)))
}

fn script(shell: Shell, mut command: Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_subcommands_and_flags() {
        for shell in Shell::value_variants() {
            let doctor = crate::cli::doctor::DoctorArgs::augment_args(Command::new("doctor"));
            let text = String::from_utf8(script(*shell, Command::new("backpack-run").subcommand(doctor))).unwrap();
            assert!(text.contains("doctor") && text.contains("runs-dir"), "{shell}: {text}");
        }
    }
}
