//! What is printed keeps to the width of the terminal, and what a real terminal shows during a study and after Ctrl-C.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::support::{cache, program, program_path, skip};

#[test]
fn a_table_is_as_wide_as_the_terminal_has_columns() {
    let said = |columns: &str| {
        let output = program().args(["list", "optimizers"]).env("COLUMNS", columns).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let (narrow, wide) = (said("80"), said("150"));
    assert!(longest(&narrow) <= 80 && longest(&wide) <= 150, "{narrow}{wide}");
    assert!(longest(&wide) > 80, "there is room for more: {wide}");
}

const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(100).unwrap();

/// The screen of a terminal with 100 columns, as the program under `script` draws it.
struct Screen(Arc<Mutex<vt100::Parser>>);

impl Screen {
    fn follow(mut output: impl Read + Send + 'static) -> (Self, std::thread::JoinHandle<()>) {
        let parser = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let screen = Screen(parser.clone());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = output.read(&mut bytes)
                && count > 0
            {
                parser.lock().unwrap().process(&bytes[..count]);
            }
        });
        (screen, reader)
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().screen().contents()
    }

    /// Waits for a screen of which this holds.
    fn wait(&self, holds: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn bars_show_metrics_at_100_columns_and_are_gone_after_ctrl_c() {
    // util-linux's, which gives a command a terminal of its own.
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip!("bars_show_metrics_at_100_columns_and_are_gone_after_ctrl_c", "there is no `script` of util-linux");
    }
    let folder = tempdir().unwrap();
    let grid = format!(
        "stty cols {COLUMNS} rows {ROWS}; exec {} grid --problem fmnist_logreg --set dataset=fashion_mnist_mini --optimizer momentum --lr \
         0.01,0.02 --epochs 100000 --jobs 2",
        program_path().display()
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &grid, "/dev/null"])
        .current_dir(folder.path())
        .env("BACKPACK_RUN_CACHE", cache())
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let (screen, reader) = Screen::follow(script.stdout.take().unwrap());
    // Both runs' names, bars and metrics, and the bar of all.
    let shown = screen.wait(|text| text.matches("accuracy valid").count() == 2 && text.contains("0/2 runs ["));
    assert!(shown.matches(" steps/s, ").count() == 2 && shown.matches("; epoch ").count() == 2, "{shown}");
    keys.write_all(b"\x03").unwrap();
    let status = script.wait().unwrap();
    reader.join().unwrap();
    let left = screen.text();
    assert_eq!(status.code(), Some(130), "{left}");
    assert!(left.contains("interrupted"), "{left}");
    assert!(!left.contains("steps/s") && !left.contains("runs ["), "{left}");
}
