//! Looking into a file before it is published: another program does so, since a file may be made to break the library
//! that reads it. That program runs under limits of memory and time, and what it says is checked like any input.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use braidcast_media::{StreamId, StreamLayout};
use braidcast_proto::prost::Message;
use braidcast_proto::v1::{Film, ProbeReport, probe_report};
use tokio::io::AsyncReadExt;

use super::PublishError;

/// Longest report: the index of 16 million frames, and the film.
const REPORT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The program that looks into files, `braidcast-probe`, and what comes before its own arguments.
#[derive(Clone, Debug)]
pub struct ProbeCommand {
    /// Path or name of the program.
    pub program: OsString,
    /// Arguments in front of those that are added.
    pub arguments: Vec<OsString>,
}

/// What was found in a film.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) film: Film,
    pub(super) frame_index: Vec<u8>,
    pub(super) key_frame_index: Vec<u8>,
    /// Length of stream 4; 0 where there is none.
    pub(super) access_unit_bytes: u64,
}

impl ProbeCommand {
    fn command(&self, what: &str, file: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).arg(what).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn error(&self, reason: String) -> PublishError {
        PublishError::Probe { program: self.program.clone().into(), reason }
    }

    /// Looks into a file.
    pub(super) async fn report(&self, file: &Path) -> Result<Probed, PublishError> {
        let wrong = |error: io::Error| self.error(error.to_string());
        let mut command = tokio::process::Command::from(self.command("report", file));
        let mut child = command.kill_on_drop(true).spawn().map_err(wrong)?;
        let mut report = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(REPORT_BYTES_MAX).read_to_end(&mut report).await.map_err(wrong)?;
        }
        let status = child.wait().await.map_err(wrong)?;
        if let Some(code) = status.code().filter(|&code| code != 0) {
            return Err(self.error(format!("it ended with code {code}")));
        }
        if !status.success() {
            // The limits that it runs under end it so: the file is at fault.
            return Err(PublishError::Unreadable {
                path: file.to_owned(),
                reason: format!("its reader ended by {status}"),
            });
        }
        match ProbeReport::decode(&report[..]).ok().and_then(|report| report.result) {
            Some(probe_report::Result::Probed(probed)) => {
                let film = probed.film.ok_or_else(|| self.error("it names no film".to_owned()))?;
                Ok(Probed {
                    film,
                    frame_index: probed.frame_index,
                    key_frame_index: probed.key_frame_index,
                    access_unit_bytes: probed.access_unit_bytes,
                })
            }
            Some(probe_report::Result::NotAFilm(reason)) => {
                Err(PublishError::Unreadable { path: file.to_owned(), reason })
            }
            None => Err(self.error("its report cannot be read; is it of this version?".to_owned())),
        }
    }

    /// Gives the access units of a film, stream 4.
    pub(super) fn access_units(&self, file: &Path) -> Result<AccessUnits, PublishError> {
        let mut child = self.command("access-units", file).spawn().map_err(|error| self.error(error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| self.error("it has no standard output".to_owned()))?;
        Ok(AccessUnits { child, stdout })
    }
}

impl Probed {
    /// The streams of the film beside the file itself, in the order of their ids, and their lengths.
    pub(super) fn access_unit_stream(&self) -> Option<StreamLayout> {
        let bytes = self.access_unit_bytes;
        (bytes > 0).then_some(StreamLayout { id: StreamId::ACCESS_UNITS, bytes })
    }
}

/// The program that writes stream 4. It ends with its reader.
pub(super) struct AccessUnits {
    child: Child,
    stdout: ChildStdout,
}

impl Read for AccessUnits {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(out)?;
        if read == 0 && !out.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("the program that reads its frames ended by {status}")));
            }
        }
        Ok(read)
    }
}

impl Drop for AccessUnits {
    fn drop(&mut self) {
        // It fails for one that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
