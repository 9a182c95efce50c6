//! `backpack-run doctor`: what this machine has, what it lacks, and what to do about it.

use clap::Args;

use super::terminal::{print, wrapped};
use crate::cli::flags::{FolderFlags, Format, OutputFlags, chosen_device};
use crate::doctor::{self, Finding, Places, State};
use crate::error::{Error, Result};
use crate::runtime::DeviceChoice;
use crate::table;

/// Check this machine: libtorch, device, memory, data sets, folders.
///
/// Example: backpack-run doctor --device cuda
///
/// Every defect comes with a remedy. The exit code is 3 where something is missing that every run needs; what only some
/// commands need is a warning.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The device to check: cpu, cuda or cuda:INDEX [env: BACKPACK_RUN_DEVICE] [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Where files lie.
    #[command(flatten)]
    pub folders: FolderFlags,
    /// How the findings are printed.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// Examines the machine and prints the findings.
///
/// # Errors
/// [`Error::Environment`] (exit code 3) if a finding is a failure.
pub fn run(args: DoctorArgs) -> Result<()> {
    let findings = doctor::examine(&Places {
        device: chosen_device(args.device)?,
        data: args.folders.data(),
        runs: args.folders.runs(),
        results: args.folders.results(),
    });
    let text = match args.output.format {
        Format::Table => lines(&findings),
        Format::Csv => csv(&findings)?,
        Format::Json => json(&findings)?,
    };
    print(&text)?;
    let failed: Vec<_> =
        findings.iter().filter(|finding| finding.state == State::Fail).map(|finding| finding.check.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Environment(format!("not ready for runs: {}; the remedies are given above", failed.join(", "))))
}

/// A line for each finding, and below those that need it what to do about them: paths are too long for a table.
fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &wrapped(&format!("{:<4} {}: {}", finding.state.as_str(), finding.check, finding.found), 0);
        if finding.state != State::Ok {
            text += &wrapped(&finding.remedy, 5);
        }
    }
    text
}

fn csv(findings: &[Finding]) -> Result<String> {
    let record = |finding: &Finding| {
        vec![finding.check.clone(), finding.state.as_str().to_owned(), finding.found.clone(), finding.remedy.clone()]
    };
    table::csv(&["check", "state", "found", "remedy"], findings.iter().map(record))
}

fn json(findings: &[Finding]) -> Result<String> {
    let value = serde_json::json!({ "schema_version": 1, "findings": findings });
    let text =
        serde_json::to_string_pretty(&value).map_err(|error| Error::Environment(format!("writing JSON: {error}")))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        doctor::examine(&Places {
            device: "cpu".parse().unwrap(),
            data: None,
            runs: "runs".into(),
            results: "results".into(),
        })
    }

    #[test]
    fn csv_and_json_hold_every_finding() {
        let findings = findings();
        let text = csv(&findings).unwrap();
        assert_eq!(text.lines().next(), Some("check,state,found,remedy"));
        assert_eq!(csv::Reader::from_reader(text.as_bytes()).records().count(), findings.len());
        let value: serde_json::Value = serde_json::from_str(&json(&findings).unwrap()).unwrap();
        assert_eq!(value["schema_version"], 1);
        assert_eq!(value["findings"].as_array().unwrap().len(), findings.len());
        assert_eq!(value["findings"][0]["check"], "libtorch");
        assert_eq!(value["findings"][0]["state"], "ok");
    }

    #[test]
    fn every_check_has_a_line_and_its_remedy_follows() {
        let mut findings = findings();
        let text = lines(&findings);
        assert!(findings.iter().all(|finding| text.contains(&finding.check)), "{text}");
        findings[0].state = State::Fail;
        findings[0].remedy = "Do this.".to_owned();
        let text = lines(&findings);
        assert!(text.starts_with("fail libtorch: ") && text.contains("\n     Do this.\n"), "{text}");
    }

    #[test]
    fn a_folder_that_cannot_be_used_gives_exit_code_3() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let folders = FolderFlags { runs_dir: Some(file.path().to_owned()), ..FolderFlags::default() };
        let args = DoctorArgs { device: None, folders, output: OutputFlags { format: Format::Json } };
        let error = run(args).unwrap_err();
        assert_eq!(error.exit_code(), crate::error::EXIT_ENVIRONMENT);
        assert!(error.to_string().contains("runs folder"), "{error}");
    }
}
