//! Other programs: started, heard to their end, and given up where that does not come.

use std::io::{ErrorKind, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What a command said, in at most this time.
///
/// # Errors
/// Where it cannot be started; [`ErrorKind::TimedOut`] where it does not end, and is then killed.
pub(crate) fn output(command: &mut Command, limit: Duration) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Read meanwhile: a command that says more than a pipe holds would wait for its reader.
    let (out, err) = (child.stdout.take().map(reader), child.stderr.take().map(reader));
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if began.elapsed() > limit => {
                child.kill()?;
                child.wait()?;
                return Err(std::io::Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}")));
            }
            None => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_millis(10));
            }
        }
    };
    let read = |reader: Option<Receiver<Vec<u8>>>| {
        // A grandchild may hold the pipe open for longer than the command lives.
        reader.and_then(|reader| reader.recv_timeout(limit).ok()).unwrap_or_default()
    };
    Ok(Output { status, stdout: read(out), stderr: read(err) })
}

/// Reads a pipe to its end in a thread of its own.
fn reader(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is to tell.
        if let Err(error) = pipe.read_to_end(&mut bytes) {
            tracing::debug!("reading a command's output failed: {error}");
        }
        sender.send(bytes).is_ok()
    });
    receiver
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_answer_is_given_up() {
        let began = Instant::now();
        let error = output(Command::new("sleep").arg("60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && began.elapsed() < Duration::from_secs(30), "{error}");
        let said =
            output(Command::new("sh").args(["-c", "yes | head -100000; exit 3"]), Duration::from_secs(300)).unwrap();
        assert_eq!((said.stdout.len(), said.status.code()), (200_000, Some(3)));
    }
}
