//! How `braidcast dev --restart` reaches the `dev` that runs: a Unix socket in the state folder.
//!
//! One line goes each way: the part's name as `--restart` takes it, and the line that the part's start prints, or
//! `error: ` and the reason.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{DevError, Part};

const SOCKET: &str = "dev.sock";
const ERROR: &str = "error: ";
/// A request is one short word.
const REQUEST_BYTES_MAX: u64 = 32;
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// Longer than starting a part and having it listed may take.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

/// Requests still to be worked on.
const REQUESTS_MAX: usize = 8;

/// Takes requests to restart a part.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: mpsc::Receiver<Request>,
    _accepting: AbortOnDrop,
}

/// One such request.
#[derive(Debug)]
pub(super) struct Request {
    /// What to restart.
    pub(super) part: Part,
    /// Takes the line that tells of the part, or why it does not run.
    pub(super) answer: oneshot::Sender<Result<String, DevError>>,
}

impl Requests {
    /// Listens in the state folder, which the caller has locked.
    pub(super) fn listen(root: &Path) -> Result<Self, DevError> {
        let at = |source| DevError::State { path: root.join(SOCKET), source };
        // What stands there was left by a dev that was killed: the lock says that none runs.
        match fs::remove_file(root.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let (folder, path) = short_path(root).map_err(at)?;
        let listener = UnixListener::bind(path).map_err(at)?;
        drop(folder);
        let (sender, waiting) = mpsc::channel(REQUESTS_MAX);
        let accepting = tokio::spawn(accept(listener, sender));
        Ok(Self { waiting, _accepting: AbortOnDrop(accepting) })
    }

    /// The next request. Nothing is lost when this is dropped before it is done.
    pub(super) async fn next(&mut self) -> Request {
        match self.waiting.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A caller that says something else than a request is told so and forgotten.
async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: no reason to end, and none to spin.
            tokio::time::sleep(REQUEST_WAIT).await;
            continue;
        };
        if let Ok(Some(request)) = timeout(REQUEST_WAIT, take(stream)).await
            && requests.send(request).await.is_err()
        {
            return;
        }
    }
}

/// Reads a request; its answer is sent by a task of its own.
async fn take(mut stream: UnixStream) -> Option<Request> {
    let mut word = String::new();
    BufReader::new((&mut stream).take(REQUEST_BYTES_MAX)).read_line(&mut word).await.ok()?;
    let part = match word.trim().parse() {
        Ok(part) => part,
        Err(error) => {
            // Whoever asked may have gone.
            let _ = stream.write_all(format!("{ERROR}{error}\n").as_bytes()).await;
            return None;
        }
    };
    let (answer, answered) = oneshot::channel::<Result<String, DevError>>();
    tokio::spawn(async move {
        let text = match answered.await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => format!("{ERROR}{error}"),
            Err(_) => format!("{ERROR}dev is ending"),
        };
        // As above.
        let _ = stream.write_all(format!("{text}\n").as_bytes()).await;
    });
    Some(Request { part, answer })
}

/// Asks the `dev` that runs on `state` to bring `part` back, and gives the line that tells of it.
pub(crate) async fn request(state: &Path, part: Part) -> Result<String, DevError> {
    let not_running = || DevError::NotRunning { state: state.to_owned() };
    let (_folder, path) = short_path(state).map_err(|_| not_running())?;
    let mut stream = UnixStream::connect(path).await.map_err(|_| not_running())?;
    let exchange = async {
        stream.write_all(format!("{}\n", part.argument()).as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = match timeout(ANSWER_WAIT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(DevError::Restart(format!("dev ended while {part} was being restarted: {error}")));
        }
        Err(_) => return Err(DevError::Restart(format!("dev has not restarted {part} after {ANSWER_WAIT:?}"))),
    };
    match (answer.trim_end(), answer.strip_prefix(ERROR)) {
        (_, Some(reason)) => Err(DevError::Restart(reason.trim_end().to_owned())),
        ("", None) => Err(DevError::Restart(format!("dev ended while {part} was being restarted"))),
        (line, None) => Ok(line.to_owned()),
    }
}

/// A path to the socket that fits into the 108 bytes that a socket's address has, however deep the folder is.
fn short_path(root: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(root)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    Ok((folder, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder whose path is longer than a socket's address.
    fn deep_folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        fs::create_dir_all(&deep).expect("writable");
        (dir, deep)
    }

    #[tokio::test]
    async fn a_request_gets_the_answer_that_is_given_to_it() {
        let (_dir, state) = deep_folder();
        let mut requests = Requests::listen(&state).expect("writable");
        let serving = tokio::spawn(async move {
            let request = requests.next().await;
            assert_eq!(request.part, Part::Server(2));
            request.answer.send(Ok("server 2 17 127.0.0.1:9".to_owned())).expect("the caller waits");
            let request = requests.next().await;
            request.answer.send(Err(DevError::NoSuchPart { part: request.part, servers: 2 })).expect("as before");
        });
        assert_eq!(request(&state, Part::Server(2)).await.expect("answered"), "server 2 17 127.0.0.1:9");
        let error = request(&state, Part::Server(9)).await.expect_err("refused").to_string();
        assert_eq!(error, "there is no server 9 here: `dev` runs 2 servers");
        serving.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_caller_that_makes_no_sense_does_not_keep_others_out() {
        let (_dir, state) = deep_folder();
        let mut requests = Requests::listen(&state).expect("writable");
        let (_folder, path) = short_path(&state).expect("exists");
        let mut senseless = UnixStream::connect(path).await.expect("listening");
        senseless.write_all(&[0xff; 64]).await.expect("writable");
        let serving = tokio::spawn(async move { requests.next().await.part });
        let asking = tokio::spawn(async move { request(&state, Part::Master).await });
        assert_eq!(serving.await.expect("no panic"), Part::Master);
        assert!(asking.await.expect("no panic").is_err(), "the request was dropped unanswered");
    }

    #[tokio::test]
    async fn where_no_dev_runs_the_error_says_how_to_start_one() {
        let (_dir, state) = deep_folder();
        let error = request(&state, Part::Master).await.expect_err("nobody listens").to_string();
        assert!(error.contains("braidcast dev DIR"), "{error}");
    }
}
