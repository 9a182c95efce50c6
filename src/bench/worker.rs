//! A process of its own for one task: it answers one request a line, so that its memory can be looked at and others can
//! take turns with it.
//!
//! Requests: `warm_up`, `gradient`, `pass`, `forward`, `own_gradient`, `channels_last`, `peak`. Answers are JSON, one line
//! each. The first line, before any request, says that the process is ready.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::contest::{Contest, Order};
use super::measure::{Pair, Timed};
use super::task::Task;
use crate::error::{Error, IoContext, Result};
use crate::optimizers::StepTimes;
use crate::process_memory;

/// The subcommand that serves.
pub const COMMAND: &str = "bench-worker";

/// An answer; what a request does not tell is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// The time of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Of a pass: the parts of the step behind it, zero without a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepTimes>,
    /// Of a pass: that a step has led to numbers that are not finite.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub diverged: bool,
    /// The most memory that the process has had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// The memory that it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Serves a task until stdin ends.
///
/// # Errors
/// Where the task cannot be prepared, or stdout is closed.
pub fn serve(task: &Task, requests: impl BufRead, mut answers: impl Write) -> Result<()> {
    let mut contest = Contest::new(task)?;
    let ready = Answer { resident_bytes: process_memory::resident(), ..Answer::default() };
    send(&mut answers, &ready)?;
    for line in requests.lines() {
        let line = line.at("reading", "stdin")?;
        let reply = answer(&mut contest, line.trim())
            .unwrap_or_else(|error| Answer { error: Some(error.to_string()), ..Answer::default() });
        send(&mut answers, &reply)?;
    }
    Ok(())
}

fn answer(contest: &mut Contest, request: &str) -> Result<Answer> {
    let timed = |seconds: f64| Answer { seconds: Some(seconds), ..Answer::default() };
    Ok(match request {
        "warm_up" => {
            contest.warm_up()?;
            Answer::default()
        }
        "gradient" => timed(contest.gradient()?),
        "forward" => timed(contest.forward()?),
        "own_gradient" => timed(contest.own_gradient()?),
        "channels_last" => timed(contest.gradient_in(Order::ChannelsLast)?),
        "pass" => {
            let Timed { seconds, step } = contest.pass()?;
            Answer { step: Some(step), diverged: contest.has_diverged(), ..timed(seconds) }
        }
        "peak" => Answer {
            peak_bytes: process_memory::peak(),
            resident_bytes: process_memory::resident(),
            ..Answer::default()
        },
        other => {
            return Err(Error::Usage(format!(
                "request `{other}`: expected warm_up, gradient, pass, forward, own_gradient, channels_last or peak"
            )));
        }
    })
}

fn send(answers: &mut impl Write, answer: &Answer) -> Result<()> {
    let text = serde_json::to_string(answer).map_err(|error| Error::Environment(format!("writing JSON: {error}")))?;
    writeln!(answers, "{text}").and_then(|()| answers.flush()).at("writing", "stdout")
}

/// A process that serves a task, for as long as this lives.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The memory that it had when it was ready.
    pub resident_bytes: Option<u64>,
    /// Whether a step has led to numbers that are not finite.
    pub diverged: bool,
}

impl Worker {
    /// Starts `program` for a task and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Environment`] where the process cannot be started or ends at once.
    pub fn start(program: &Path, task: &Task) -> Result<Self> {
        let text = serde_json::to_string(task).map_err(|error| Error::Environment(format!("writing JSON: {error}")))?;
        let mut child = Command::new(program)
            .args(["-qq", COMMAND, "--task", &text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .at("starting", program)?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Environment("a process was started without its pipes".into()));
        };
        let answers = BufReader::new(answers);
        let mut worker = Worker { child, requests: Some(requests), answers, resident_bytes: None, diverged: false };
        worker.resident_bytes = worker.read()?.resident_bytes;
        Ok(worker)
    }

    /// Makes one request.
    ///
    /// # Errors
    /// What the process says, or how it ended.
    pub fn ask(&mut self, request: &str) -> Result<Answer> {
        if let Some(requests) = &mut self.requests
            && writeln!(requests, "{request}").and_then(|()| requests.flush()).is_err()
        {
            return Err(self.lost());
        }
        self.read()
    }

    /// Makes one request for a time.
    ///
    /// # Errors
    /// As [`Worker::ask`].
    pub fn time(&mut self, request: &str) -> Result<f64> {
        seconds(&self.ask(request)?)
    }

    fn read(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).at("reading from", "a process of the benchmark")? == 0 {
            return Err(self.lost());
        }
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|error| Error::Environment(format!("an answer of a process cannot be read: {error}")))?;
        match answer.error {
            Some(error) => Err(Error::Environment(error)),
            None => Ok(answer),
        }
    }

    fn lost(&mut self) -> Error {
        self.requests = None;
        match self.child.wait() {
            Ok(status) => Error::Environment(format!("its process ended early ({status}), perhaps for lack of memory")),
            Err(error) => Error::Environment(format!("its process was lost: {error}")),
        }
    }
}

impl Pair for Worker {
    fn warm_up(&mut self) -> Result<()> {
        self.ask("warm_up").map(drop)
    }

    fn gradient(&mut self) -> Result<f64> {
        self.time("gradient")
    }

    fn pass(&mut self) -> Result<Timed> {
        let answer = self.ask("pass")?;
        self.diverged |= answer.diverged;
        Ok(Timed { seconds: seconds(&answer)?, step: answer.step.unwrap_or_default() })
    }
}

fn seconds(answer: &Answer) -> Result<f64> {
    answer.seconds.ok_or_else(|| Error::Environment("an answer of a process holds no time".into()))
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends by itself when its stdin does; nobody waits for a pass that is under way.
        self.requests = None;
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
