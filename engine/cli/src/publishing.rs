//! Publishing many files: several at a time, so that one is looked into or sealed while the master syncs another to its
//! disk, and reported in the order in which they were given.

mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use braidcast_client::publish::{PublishError, Published};
use tokio::task::{JoinError, JoinSet};

use crate::error::CliError;
use crate::progress::{FileShare, FilesBar};
use turns::{Claim, Turns};

/// What became of a file.
pub(crate) type Outcome = Result<Published, PublishError>;

/// Publishes each of `files` by `publish`, which is told where to show how far it is. `report` gets the outcomes in the order of
/// `files`; its error ends everything.
///
/// Dropped, it abandons what is under way, and reports what has been published and waited for its turn.
pub(crate) async fn publish_each<P, F, R>(files: &[PathBuf], publish: P, report: R) -> Result<(), CliError>
where
    P: Fn(PathBuf, FileShare) -> F,
    F: Future<Output = Outcome> + Send + 'static,
    R: FnMut(&Path, Outcome) -> Result<(), CliError>,
{
    // What cannot be read is told of when it is its turn.
    let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes: Vec<u64> = files.iter().map(bytes).collect();
    let claims: Vec<Claim> = files.iter().zip(&bytes).map(|(path, bytes)| Claim::of(path, *bytes)).collect();
    let bar = FilesBar::new(files, bytes.iter().sum());
    let mut turns = Turns::default();
    let mut pending = (0..files.len()).peekable();
    let mut under_way = UnderWay { files, bar: &bar, tasks: JoinSet::new(), ended: BTreeMap::new(), next: 0, report };
    loop {
        while let Some(number) = pending.next_if(|&number| turns.take(&claims[number])) {
            let work = publish(files[number].clone(), bar.file(bytes[number]));
            under_way.tasks.spawn(async move { (number, work.await) });
        }
        let Some(number) = under_way.next_ended().await? else { return Ok(()) };
        turns.give_back(&claims[number]);
    }
}

/// The files that are being published, and those that ended and are not reported yet.
struct UnderWay<'a, R: FnMut(&Path, Outcome) -> Result<(), CliError>> {
    files: &'a [PathBuf],
    bar: &'a FilesBar,
    tasks: JoinSet<(usize, Outcome)>,
    ended: BTreeMap<usize, Outcome>,
    /// The file that is to be reported next.
    next: usize,
    report: R,
}

impl<R: FnMut(&Path, Outcome) -> Result<(), CliError>> UnderWay<'_, R> {
    /// Waits until one more has ended, and reports what can be reported. `None`: nothing is under way.
    async fn next_ended(&mut self) -> Result<Option<usize>, CliError> {
        let Some(ended) = self.tasks.join_next().await else { return Ok(None) };
        let (number, outcome) = ended.unwrap_or_else(go_on_panicking);
        self.ended.insert(number, outcome);
        while let Some(outcome) = self.ended.remove(&self.next) {
            self.next += 1;
            self.tell(self.next - 1, outcome)?;
        }
        Ok(Some(number))
    }

    fn tell(&mut self, number: usize, outcome: Outcome) -> Result<(), CliError> {
        self.bar.suspend(|| (self.report)(&self.files[number], outcome))
    }
}

impl<R: FnMut(&Path, Outcome) -> Result<(), CliError>> Drop for UnderWay<'_, R> {
    fn drop(&mut self) {
        while let Some(Ok((number, outcome))) = self.tasks.try_join_next() {
            self.ended.insert(number, outcome);
        }
        for (number, outcome) in std::mem::take(&mut self.ended) {
            // Whoever interrupted this, or closed its output, is told of nothing more.
            let _ = self.tell(number, outcome);
        }
    }
}

/// Nothing cancels a task before the set of them is dropped: it has panicked.
fn go_on_panicking<T>(error: JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}
