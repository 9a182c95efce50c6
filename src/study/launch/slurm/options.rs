//! Options of sbatch that a user gives, as flags or as variables: which are passed on, and which would break the runs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::numbers;
use crate::words::shell_quoted;

/// What an array is submitted with beyond what the program says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Options of sbatch by their names without dashes; a flag has an empty value.
    sbatch: Vec<(String, String)>,
    /// The most tasks of an array at the same time.
    array_limit: Option<usize>,
}

/// An option that is not passed on: its name, its letter, and what to do instead.
type Refused = (&'static str, Option<char>, &'static str);

const LOG: &str = "a task's output goes to RUNS/.slurm/ARRAY/task-N.log, where messages point: leave it out";
const NUMBER: &str = "the array's number is read from what sbatch prints: leave it out";
const ENVIRONMENT: &str = "a task has this command's environment: set variables before the command";
const ABOUT: &str = "nothing would be submitted: start sbatch itself for that";

/// Options that replace what the program says (as its own, a later one would hold), keep runs from starting, or keep
/// the program from following them.
const REFUSED: [Refused; 20] = [
    ("wrap", None, "each task carries out one run: leave it out"),
    ("array", Some('a'), "the program numbers the tasks itself: array_limit=N has at most N of them run at a time"),
    ("output", Some('o'), LOG),
    ("error", Some('e'), LOG),
    ("open-mode", None, LOG),
    ("chdir", Some('D'), "start the program in that folder, or say --runs-dir and --data-dir"),
    ("export", None, ENVIRONMENT),
    ("export-file", None, ENVIRONMENT),
    ("get-user-env", None, ENVIRONMENT),
    ("no-requeue", None, "a run goes back to the queue before a time limit and where its node is lost: leave it out"),
    (
        "dependency",
        Some('d'),
        "a run whose task is lost is submitted again, when SLURM may know the other job no more: start the program once \
         that job is over",
    ),
    ("clusters", Some('M'), "all of SLURM's commands have to follow: set SLURM_CLUSTERS before the command"),
    ("wait", Some('W'), "the program waits for its runs itself: leave it out"),
    ("parsable", None, NUMBER),
    ("quiet", Some('Q'), NUMBER),
    ("test-only", None, "nothing would be submitted: --dry-run shows what would be"),
    ("help", Some('h'), ABOUT),
    ("usage", None, ABOUT),
    ("version", Some('V'), ABOUT),
    (
        "signal",
        None,
        "a run leaves its checkpoint at SIGUSR1: signal=B:USR1@SECONDS sends it earlier or later before a time limit",
    ),
];

/// Variables that sbatch takes for options, and the option that each stands for, where that is not its own name.
const OTHER_NAMES: [(&str, &str); 1] = [("SBATCH_ARRAY_INX", "array")];

/// What of the environment sbatch must not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// The variables' names.
    pub names: Vec<String>,
    /// What to tell of those that change what the user may have meant, a line each.
    pub told: Vec<String>,
}

impl Variables {
    /// Those of this process's environment.
    ///
    /// # Errors
    /// As [`Variables::among`].
    pub fn here() -> Result<Self> {
        Self::among(std::env::vars_os())
    }

    /// Those among `variables` (names and values) that stand for an option which is not passed on.
    ///
    /// # Errors
    /// [`Error::Usage`] for one without which the runs would be others than meant: they would go to another cluster.
    pub fn among(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        let mut found = Variables::default();
        for (name, value) in variables {
            let (Some(name), value) = (name.to_str(), value.to_string_lossy()) else { continue };
            let Some((option, instead)) = stands_for(name) else { continue };
            // sbatch takes an empty value for none.
            if option == "clusters" && !value.is_empty() {
                return Err(Error::Usage(format!("{name}={}: {instead}, and unset {name}", shell_quoted(&value))));
            }
            found.names.push(name.to_owned());
            // These the program says itself, and sbatch puts its command line before the environment.
            if !["array", "output", "open-mode", "signal"].contains(&option) {
                found.told.push(format!("{name} is kept from sbatch; {instead}"));
            }
        }
        found.names.sort();
        found.told.sort();
        Ok(found)
    }
}

/// The option that is not passed on and for which a variable stands, and what to do instead.
fn stands_for(variable: &str) -> Option<(&'static str, &'static str)> {
    let name = match OTHER_NAMES.iter().find(|(name, _)| *name == variable) {
        Some((_, option)) => (*option).to_owned(),
        None => variable.strip_prefix("SBATCH_")?.to_lowercase().replace('_', "-"),
    };
    REFUSED.iter().find(|(option, ..)| *option == name).map(|(option, _, instead)| (*option, *instead))
}

impl Options {
    /// Reads `key=value,..`, a key without a value being a flag. Keys are those of sbatch, with `_` as good as `-`, or its
    /// letters; `array_limit` is the program's own.
    ///
    /// # Errors
    /// An entry that is no option, and an option that would break the runs, with what to do instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Options::default();
        for entry in numbers::split(text) {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            let (key, value) = (key.trim().trim_start_matches('-').replace('_', "-"), value.trim());
            if key.is_empty() || !key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
                return Err(format!("expected options of sbatch as key=value, comma-separated, found `{entry}`"));
            }
            if key == "array-limit" {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                options.array_limit = Some(limit.ok_or_else(|| {
                    format!("array_limit: expected how many tasks of an array run at a time, from 1, found `{value}`")
                })?);
                continue;
            }
            check(&key, value)?;
            options.sbatch.push((key, value.to_owned()));
        }
        Ok(options)
    }

    /// The most tasks of an array at the same time, if that was said here or by `jobs`.
    pub fn limit(&self, jobs: Option<usize>) -> Option<usize> {
        self.array_limit.into_iter().chain(jobs).min()
    }

    /// The options as sbatch takes them.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.sbatch.iter().map(|(key, value)| {
            let is_letter = key.len() == 1;
            let mut argument = format!("{}{key}", if is_letter { "-" } else { "--" });
            if !value.is_empty() {
                let _ = write!(argument, "{}{value}", if is_letter { "" } else { "=" });
            }
            argument
        })
    }
}

/// Refuses what would break the runs. sbatch takes the beginning of a name for the whole where no other begins so; which
/// names there are depends on its version, so such a beginning is refused too.
fn check(key: &str, value: &str) -> Result<(), String> {
    let letter = Some(key).filter(|key| key.len() == 1).and_then(|key| key.chars().next());
    let stands_for = |(name, short, _): &&Refused| match letter {
        Some(_) => *short == letter,
        None => name.starts_with(key),
    };
    // The name itself before longer ones that begin with it.
    let Some((name, _, instead)) =
        REFUSED.iter().find(|(name, ..)| *name == key).or_else(|| REFUSED.iter().find(stands_for))
    else {
        return Ok(());
    };
    if *name == "signal" && key == *name && value.starts_with("B:USR1@") {
        return Ok(());
    }
    if letter.is_none() && key != *name {
        return Err(format!("`{key}` may stand for sbatch's `{name}`, which is not passed on; write the name in full"));
    }
    Err(format!("sbatch's `{name}` is not passed on; {instead}"))
}

/// A SLURM cluster as this machine reaches it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// This program, which the nodes must see under the same path.
    pub program: PathBuf,
    /// Further options of sbatch.
    pub options: Options,
    /// The most tasks at the same time, if that was said.
    pub jobs: Option<usize>,
}

impl Cluster {
    /// The most tasks at the same time, if that was said.
    pub(super) fn limit(&self) -> Option<usize> {
        self.options.limit(self.jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        Options::parse(text).unwrap().arguments().collect()
    }

    #[test]
    fn what_breaks_no_run_is_passed_on() {
        assert_eq!(
            arguments("partition=gpu, --time=02:00:00,exclusive,cpus_per_task=4"),
            ["--partition=gpu", "--time=02:00:00", "--exclusive", "--cpus-per-task=4"]
        );
        assert_eq!(arguments("p=gpu,-t=10,H"), ["-pgpu", "-t10", "-H"]);
        assert_eq!(
            arguments("requeue,job-name=fig10,wait-all-nodes=1,signal=B:USR1@300"),
            ["--requeue", "--job-name=fig10", "--wait-all-nodes=1", "--signal=B:USR1@300"]
        );
    }

    #[test]
    fn what_would_break_the_runs_is_refused_in_every_spelling() {
        for (name, short, instead) in REFUSED {
            let letter = short.map(|letter| letter.to_string());
            let spellings = [name.to_owned(), format!("--{name}"), name.replace('-', "_")];
            for spelling in spellings.into_iter().chain(letter.clone()).chain(letter.map(|letter| format!("-{letter}")))
            {
                for text in [spelling.clone(), format!("{spelling}=x"), format!("partition=a, {spelling} = x")] {
                    let error = Options::parse(&text).unwrap_err();
                    assert!(error.contains(&format!("`{name}`")) && error.contains(instead), "{text}: {error}");
                }
            }
            for end in 2..name.len() {
                let error = Options::parse(&format!("{}=x", &name[..end])).unwrap_err();
                assert!(error.contains("write the name in full") || error.contains("not passed on"), "{error}");
            }
        }
    }

    #[test]
    fn variables_that_would_break_the_runs_are_kept_from_sbatch() {
        let among = |variables: &[(&str, &str)]| {
            Variables::among(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
        };
        let kept = among(&[
            ("SBATCH_EXPORT", "NONE"),
            ("SBATCH_WAIT", "1"),
            ("SBATCH_ARRAY_INX", "0-3"),
            ("SBATCH_OUTPUT", "log"),
            ("SBATCH_ERROR", "log"),
            ("SBATCH_GET_USER_ENV", ""),
            ("SBATCH_NO_REQUEUE", "1"),
            ("SBATCH_SIGNAL", "KILL"),
            ("SBATCH_PARTITION", "gpu"),
            ("SBATCH_TIMELIMIT", "10"),
            ("SBATCH_CLUSTERS", ""),
            ("SLURM_CLUSTERS", "one"),
            ("EXPORT", "NONE"),
            ("HOME", "/root"),
        ])
        .unwrap();
        assert_eq!(
            kept.names,
            [
                "SBATCH_ARRAY_INX",
                "SBATCH_CLUSTERS",
                "SBATCH_ERROR",
                "SBATCH_EXPORT",
                "SBATCH_GET_USER_ENV",
                "SBATCH_NO_REQUEUE",
                "SBATCH_OUTPUT",
                "SBATCH_SIGNAL",
                "SBATCH_WAIT",
            ]
        );
        let told = kept.told.join("\n");
        assert!(told.contains("SBATCH_EXPORT is kept from sbatch; a task has this command's environment"), "{told}");
        assert!(!told.contains("SBATCH_SIGNAL") && told.contains("SBATCH_WAIT"), "{told}");
        let error = among(&[("SBATCH_CLUSTERS", "other")]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("set SLURM_CLUSTERS"), "{error}");
        assert_eq!(among(&[("PATH", "/bin")]).unwrap(), Variables::default());
    }

    #[test]
    fn the_smaller_limit_holds() {
        let limit = |text: &str, jobs| Options::parse(text).unwrap().limit(jobs);
        assert_eq!(limit("array_limit=8", None), Some(8));
        assert_eq!(limit("array-limit=8", Some(2)), Some(2));
        assert_eq!(limit("array_limit=8", Some(20)), Some(8));
        assert_eq!(limit("partition=a", Some(20)), Some(20));
        assert_eq!(limit("partition=a", None), None);
        assert!(arguments("array_limit=8").is_empty());
        for text in ["array_limit", "array_limit=0", "array_limit=-1", "array_limit=x", "array_limit=1.5"] {
            assert!(Options::parse(text).unwrap_err().contains("from 1"), "{text}");
        }
    }
}
