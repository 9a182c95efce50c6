//! Suspending a run while a file exists, for people who share a machine: nothing of the run changes but when it ends.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::event::RunEvent;
use crate::signals::Stop;

/// How often the file is looked for, while steps are made and while the run is suspended.
const LOOK: Duration = Duration::from_millis(50);

/// Whether a run is suspended.
pub(super) struct Pause<'a> {
    file: Option<&'a Path>,
    stop: &'a Stop,
    looked: Option<Instant>,
}

impl<'a> Pause<'a> {
    /// Suspends while `file` exists, unless it is asked to stop.
    pub fn new(file: Option<&'a Path>, stop: &'a Stop) -> Self {
        Pause { file, stop, looked: None }
    }

    /// Returns when the file is not there, with the time for which it was waited. To be called between two steps.
    pub fn wait(&mut self, tell: &mut dyn FnMut(RunEvent)) -> Duration {
        let Some(file) = self.file else { return Duration::ZERO };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Duration::ZERO;
        }
        self.looked = Some(Instant::now());
        // What cannot be looked at suspends nothing.
        let is_there = || file.try_exists().unwrap_or(false);
        if !is_there() {
            return Duration::ZERO;
        }
        let began = Instant::now();
        tell(RunEvent::Note { text: format!("suspended while {} exists", file.display()) });
        while is_there() && !self.stop.is_requested() {
            std::thread::sleep(LOOK);
        }
        if !self.stop.is_requested() {
            let waited = humantime::format_duration(Duration::from_secs(began.elapsed().as_secs()));
            tell(RunEvent::Note { text: format!("continues after {waited}") });
        }
        began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_file_or_the_wish_to_stop_and_tells_how_long() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause");
        let stop = Stop::never();
        let mut notes = Vec::new();
        assert_eq!(Pause::new(None, &stop).wait(&mut |note| notes.push(note)), Duration::ZERO);
        assert_eq!(Pause::new(Some(&file), &stop).wait(&mut |note| notes.push(note)), Duration::ZERO);
        assert!(notes.is_empty());
        std::fs::write(&file, "").unwrap();
        let other = file.clone();
        let remover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            std::fs::remove_file(other).unwrap();
        });
        let waited = Pause::new(Some(&file), &stop).wait(&mut |note| notes.push(note));
        remover.join().unwrap();
        assert!(waited >= Duration::from_millis(150) && notes.len() == 2, "{waited:?}, {notes:?}");
        std::fs::write(&file, "").unwrap();
        stop.request();
        Pause::new(Some(&file), &stop).wait(&mut |note| notes.push(note));
        assert!(notes.len() == 3 && file.exists(), "{notes:?}");
    }
}
