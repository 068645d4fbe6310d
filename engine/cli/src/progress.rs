//! Progress bars on standard error; nothing at all where that is no terminal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use braidcast_client::download::Progress;
use indicatif::{BinaryBytes, HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::output;

const BAR: &str = "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
const WAITING: &str = "{prefix}  asking for media servers that have it: {elapsed}";
/// How often the time is shown for which nothing has come.
const TICK: Duration = Duration::from_secs(1);
const LINE: &str = "  {msg}";

/// How far the publication of some files is: one bar for all of them.
#[derive(Clone)]
pub(crate) struct FilesBar {
    bar: ProgressBar,
    sums: Arc<Mutex<Sums>>,
}

/// What the bar shows of many files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    files_ended: usize,
    files: usize,
    bytes_done: u64,
    bytes_total: u64,
}

impl FilesBar {
    /// A bar for `files`, which are `bytes` long together.
    pub(crate) fn new(files: &[PathBuf], bytes: u64) -> Self {
        let name = if let [file] = files { file.display().to_string() } else { String::new() };
        let sums = Sums { files: files.len(), bytes_total: bytes, ..Sums::default() };
        let shown = Self { bar: bar(&name), sums: Arc::new(Mutex::new(sums)) };
        shown.change(|_| {});
        shown
    }

    /// The part of one file of `bytes`. It counts as ended when the last clone is dropped.
    pub(crate) fn file(&self, bytes: u64) -> FileShare {
        FileShare(Arc::new(Share { bar: self.clone(), part: Mutex::new(Part { done: 0, total: bytes }) }))
    }

    /// Takes the bar from the screen while `print` prints.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    fn change(&self, change: impl FnOnce(&mut Sums)) {
        let mut sums = lock(&self.sums);
        change(&mut sums);
        if sums.files > 1 {
            self.bar.set_prefix(format!("{} of {} files", sums.files_ended, sums.files));
        }
        self.bar.set_length(sums.bytes_total);
        self.bar.set_position(sums.bytes_done);
        if sums.files_ended == sums.files {
            self.bar.finish_and_clear();
        }
    }
}

/// How far one file of a [`FilesBar`] is.
#[derive(Clone)]
pub(crate) struct FileShare(Arc<Share>);

struct Share {
    bar: FilesBar,
    part: Mutex<Part>,
}

/// Bytes of one file, as the sums hold them.
#[derive(Clone, Copy)]
struct Part {
    done: u64,
    total: u64,
}

impl FileShare {
    /// Shows that `done` of `total` bytes are done. A film's total is more than the file's length.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.0.show(Part { done, total }, 0);
    }
}

impl Share {
    fn show(&self, now: Part, ended: usize) {
        let before = std::mem::replace(&mut *lock(&self.part), now);
        self.bar.change(|sums| {
            sums.files_ended += ended;
            sums.bytes_done = (sums.bytes_done + now.done).saturating_sub(before.done);
            sums.bytes_total = (sums.bytes_total + now.total).saturating_sub(before.total);
        });
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // What failed is done with, too.
        let total = lock(&self.part).total;
        self.show(Part { done: total, total }, 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a download is, with a line for each source.
pub(crate) struct DownloadBars {
    screen: MultiProgress,
    whole: ProgressBar,
    /// Nothing has been shown yet.
    waits: bool,
    sources: HashMap<SocketAddr, ProgressBar>,
}

impl DownloadBars {
    /// Bars for the video called `name`. Until the first progress is shown they tell for how long that is waited for.
    pub(crate) fn new(name: &str) -> Self {
        let screen = MultiProgress::new();
        let whole = screen.add(bar(name));
        whole.set_style(style(WAITING));
        whole.enable_steady_tick(TICK);
        Self { screen, whole, waits: true, sources: HashMap::new() }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if self.whole.is_hidden() {
            return;
        }
        if std::mem::take(&mut self.waits) {
            self.whole.disable_steady_tick();
            self.whole.set_style(style(BAR));
            // The rate is that of what comes now, not of what was there already.
            self.whole.set_position(progress.bytes_done);
            self.whole.reset_eta();
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
    ProgressBar::new(0).with_style(style(BAR)).with_prefix(output::printable(name).into_owned())
}

fn line() -> ProgressBar {
    ProgressBar::new_spinner().with_style(style(LINE))
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a fixed template")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bar_counts_the_files_and_bytes_of_all() {
        let files: Vec<PathBuf> = vec!["a".into(), "b".into()];
        let bar = FilesBar::new(&files, 300);
        let sums = || *lock(&bar.sums);
        let (film, bytes) = (bar.file(100), bar.file(200));
        film.show(50, 110);
        assert_eq!(sums(), Sums { files_ended: 0, files: 2, bytes_done: 50, bytes_total: 310 });
        // It turned out to be none, and begins anew as plain bytes.
        let again = film.clone();
        drop(film);
        again.show(10, 100);
        assert_eq!(sums(), Sums { files_ended: 0, files: 2, bytes_done: 10, bytes_total: 300 });
        drop(again);
        assert_eq!(sums(), Sums { files_ended: 1, files: 2, bytes_done: 100, bytes_total: 300 });
        drop(bytes);
        assert_eq!(sums(), Sums { files_ended: 2, files: 2, bytes_done: 300, bytes_total: 300 });
    }
}
