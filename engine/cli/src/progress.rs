//! Progress bars on standard error; nothing at all where that is no terminal.

use std::collections::HashMap;
use std::net::SocketAddr;

use braidcast_client::download::Progress;
use indicatif::{BinaryBytes, HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::output;

const BAR: &str = "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
const LINE: &str = "  {msg}";

/// How far one file is.
#[derive(Clone)]
pub(crate) struct FileBar(ProgressBar);

impl FileBar {
    /// A bar for the file called `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self(bar(name))
    }

    /// Shows that `done` of `total` bytes are done.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Takes the bar from the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// How far a download is, with a line for each source.
pub(crate) struct DownloadBars {
    screen: MultiProgress,
    whole: ProgressBar,
    sources: HashMap<SocketAddr, ProgressBar>,
}

impl DownloadBars {
    /// Bars for the video called `name`.
    pub(crate) fn new(name: &str) -> Self {
        let screen = MultiProgress::new();
        let whole = screen.add(bar(name));
        Self { screen, whole, sources: HashMap::new() }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if self.whole.is_hidden() {
            return;
        }
        self.whole.set_length(progress.bytes_total);
        self.whole.set_position(progress.bytes_done);
        for source in &progress.sources {
            let line = self.sources.entry(source.address).or_insert_with(|| self.screen.add(line()));
            let rate = HumanBytes(source.bytes_per_s as u64);
            let bytes = BinaryBytes(source.bytes);
            line.set_message(format!(
                "{:<22} {:>10}  {rate:>10}/s  {}",
                source.address.to_string(),
                bytes.to_string(),
                source.state
            ));
        }
    }

    /// Takes the bars from the screen.
    pub(crate) fn clear(&self) {
        for line in self.sources.values() {
            line.finish_and_clear();
        }
        self.whole.finish_and_clear();
    }
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).expect("a fixed template");
    ProgressBar::new(0).with_style(style).with_prefix(output::printable(name).into_owned())
}

fn line() -> ProgressBar {
    ProgressBar::new_spinner().with_style(ProgressStyle::with_template(LINE).expect("a fixed template"))
}
