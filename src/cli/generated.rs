//! What is made of the command line's own description: completion scripts of shells, on stdout, and manual pages.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::terminal::print;
use crate::error::{IoContext, Result};

// `backpack-run completions`: the completion script of a shell, on stdout.

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
pub fn completions(args: CompletionsArgs, command: Command) -> Result<()> {
    print(&String::from_utf8_lossy(&script(args.shell, command)))
}

fn script(shell: Shell, mut command: Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

// `backpack-run man`: the manual pages, made from the command line's own description.

/// Print the manual page, or write a page per subcommand to a folder.
///
/// Example: backpack-run man --out ~/.local/share/man/man1
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The folder for the pages (backpack-run.1, backpack-run-grid.1, ...), created if it is missing [default: the main page
    /// goes to stdout]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints or writes the pages of `command`, the whole command line.
///
/// # Errors
/// If the folder or a page cannot be written.
pub fn manual(args: ManArgs, command: Command) -> Result<()> {
    let Some(folder) = args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).at("rendering", "the manual page")?;
        return print(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(&folder).at("creating the folder", &folder)?;
    clap_mangen::generate_to(command, &folder).at("writing manual pages", &folder)
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

    #[test]
    fn every_subcommand_gets_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let doctor = crate::cli::doctor::DoctorArgs::augment_args(Command::new("doctor"));
        let command = Command::new("backpack-run").about("About.").subcommand(doctor);
        manual(ManArgs { out: Some(folder.path().join("man1")) }, command).unwrap();
        for (page, text) in [("backpack-run.1", "About."), ("backpack-run-doctor.1", "runs\\-dir")] {
            let content = std::fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
            assert!(content.contains(text), "{page}: {content}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = manual(ManArgs { out: Some(file.path().join("man1")) }, Command::new("backpack-run")).unwrap_err();
        assert!(error.to_string().contains("man1"), "{error}");
    }
}
