//! How far a download is: a bar on a terminal, plain lines otherwise; always on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use super::target;
use crate::problems::data::obtain::Progress;

/// A bar where stderr is a terminal, else a line every ten seconds.
pub(in crate::cli) fn download_progress() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bar::default()) } else { Box::new(Lines::default()) }
}

#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl Progress for Bar {
    fn start(&mut self, name: &str, size: u64, have: u64) {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(size), target())
            .with_style(style)
            .with_message(name.to_owned())
            .with_position(have);
        bar.reset_eta();
        self.0 = Some(bar);
    }

    fn reached(&mut self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.0 {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish();
        }
    }
}

struct Lines {
    name: String,
    size: u64,
    last: Instant,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { name: String::new(), size: 0, last: Instant::now() }
    }
}

impl Progress for Lines {
    fn start(&mut self, name: &str, size: u64, have: u64) {
        *self = Lines { name: name.to_owned(), size, last: Instant::now() };
        let have = if have > 0 { format!(", {} of which are there", ByteSize(have)) } else { String::new() };
        eprintln!("{name}: fetching {}{have}", ByteSize(size));
    }

    fn reached(&mut self, bytes: u64) {
        if self.last.elapsed() >= Duration::from_secs(10) {
            self.last = Instant::now();
            eprintln!("{}: {} of {}", self.name, ByteSize(bytes), ByteSize(self.size));
        }
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }

    fn finish(&mut self) {
        eprintln!("{}: done", self.name);
    }
}
