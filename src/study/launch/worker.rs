//! A worker: a process that carries out the runs it is given on its standard input, one line of JSON each, and tells
//! what happens on its standard output, one line of JSON an event.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

use super::super::event::RunEvent;
use super::super::run::{self, DataCache};
use super::super::settings::RunTask;
use crate::error::{Error, Result};
use crate::runtime;
use crate::signals::Stop;

/// Carries out runs until the standard input ends.
///
/// # Errors
/// Where a line cannot be understood, or nobody reads what is told: both mean that the parent is gone or is another
/// version of the program.
pub fn serve(stop: &Stop) -> Result<()> {
    let tasks = receive(stop.clone())?;
    let mut cache = DataCache::default();
    let mut threads = 0;
    for line in tasks {
        let task: RunTask = serde_json::from_str(&line)
            .map_err(|error| Error::Usage(format!("worker: a task cannot be understood: {error}")))?;
        if threads == 0 {
            threads = task.settings.threads;
            runtime::set_threads(threads);
        }
        let mut heard = true;
        run::carry_out(&task, &mut cache, stop, &mut |event| {
            if heard && tell(&event).is_err() {
                // Nobody listens: the parent is gone.
                heard = false;
                stop.request();
            }
        });
        if stop.is_requested() {
            break;
        }
    }
    Ok(())
}

fn tell(event: &RunEvent) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// The lines of the standard input. Its end while a run is being carried out means that the parent is gone.
fn receive(stop: Stop) -> Result<Receiver<String>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("tasks".to_owned())
        .spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    return;
                }
            }
            stop.request();
        })
        .map(|_| receiver)
        .map_err(|error| Error::Environment(format!("worker: a thread cannot be started: {error}")))
}
