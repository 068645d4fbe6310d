//! `braidcast doctor`

mod greeting;

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use braidcast_client::control::{Host, VideoRef, Window};
use braidcast_client::{Control, ControlError, Profile};
use braidcast_io::Capabilities;
use braidcast_proto::v1::{ServerStatus, Severity, Video};
use clap::Args;

use crate::args::ProfileArg;
use crate::error::CliError;
use crate::film::{condition_in_words, is_sound};
use crate::output;

/// Clocks that differ by more than this make tickets and certificates look expired (PROTOCOL.md, section 7).
const CLOCK_SKEW_S: i64 = 60;
/// Videos that are asked about to get tickets for all servers.
const VIDEOS_ASKED_MAX: usize = 16;
/// Videos without a sound copy that are named: they often have one cause, which must not scroll away.
const VIDEOS_NAMED_MAX: usize = 5;

/// Flags of `braidcast doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each check is one line: `ok`, `warn` for what costs speed or may cost trouble, `FAIL` with what to do about it.
The exit code is 1 when a check failed.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    profile: ProfileArg,
}

/// Checks what stands between this machine and a film.
pub(crate) async fn run(args: DoctorArgs) -> Result<(), CliError> {
    let mut findings = Findings::default();
    check_kernel(&mut findings)?;
    match Profile::discover(args.profile.profile.as_deref()) {
        Ok(profile) => {
            findings.ok("profile", profile.path.display())?;
            if let Some(control) = check_master(&profile, &mut findings).await? {
                check_clock(&control, &mut findings).await?;
                check_servers(&control, &mut findings).await?;
                check_videos(&control, &mut findings).await?;
                check_library(&control, &mut findings).await?;
            }
        }
        Err(error) => findings.fail("profile", error)?,
    }
    if findings.failed == 0 { Ok(()) } else { Err(CliError::Unhealthy(findings.failed)) }
}

/// Prints findings as they come, and counts the bad ones.
#[derive(Default)]
struct Findings {
    failed: usize,
}

impl Findings {
    fn ok(&mut self, what: &str, why: impl Display) -> Result<(), CliError> {
        line("ok  ", what, why)
    }

    fn warn(&mut self, what: &str, why: impl Display) -> Result<(), CliError> {
        line("warn", what, why)
    }

    fn fail(&mut self, what: &str, why: impl Display) -> Result<(), CliError> {
        self.failed += 1;
        line("FAIL", what, why)
    }
}

fn line(verdict: &str, what: &str, why: impl Display) -> Result<(), CliError> {
    output::print(&format!("{verdict}  {what}: {}\n", output::one_line(&why.to_string())))
}

fn check_kernel(findings: &mut Findings) -> Result<(), CliError> {
    let found = match Capabilities::probe() {
        Ok(found) => found,
        Err(error) => return findings.fail("kernel", format!("no UDP socket can be made: {error}")),
    };
    match found.uring {
        Ok(()) => findings.ok("io_uring", "to be had; a media server here uses it")?,
        Err(reason) => findings.warn("io_uring", format!("{reason}; a media server here runs on plain sockets"))?,
    }
    for (what, there) in [("UDP GSO", found.segmentation), ("UDP GRO", found.coalescing)] {
        if there {
            findings.ok(what, "to be had")?;
        } else {
            findings.warn(what, "not offered by this kernel, which costs CPU; Linux 5.0 or newer has it")?;
        }
    }
    Ok(())
}

/// Connects; the kind of error tells how far that went.
async fn check_master(profile: &Profile, findings: &mut Findings) -> Result<Option<Control>, CliError> {
    let answers = format!("{} answers", profile.master);
    let error = match Control::connect(profile).await {
        Ok(control) => {
            findings.ok("master", answers)?;
            findings.ok("TLS", "the certificate is signed by the profile's authority")?;
            findings.ok("login", format!("as {}", profile.username))?;
            return Ok(Some(control));
        }
        Err(error) => error,
    };
    match error {
        ControlError::Address { .. } | ControlError::Unreachable { .. } | ControlError::Timeout { .. } => {
            findings.fail("master", error)?;
        }
        ControlError::NotTrusted { .. } | ControlError::CertificateTime { .. } => {
            findings.ok("master", answers)?;
            findings.fail("TLS", error)?;
        }
        _ => {
            findings.ok("master", answers)?;
            findings.fail("login", error)?;
        }
    }
    Ok(None)
}

async fn check_clock(control: &Control, findings: &mut Findings) -> Result<(), CliError> {
    match control.clock_ahead_s().await {
        Ok(Some(ahead)) if ahead.abs() > CLOCK_SKEW_S => {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let off = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
            findings.fail("clock", format!("this machine's is {off} {way} the master's; let both be set by NTP"))
        }
        Ok(Some(ahead)) => findings.ok("clock", format!("within {} s of the master's", ahead.abs() + 1)),
        Ok(None) => findings.warn("clock", "something between here and the master strips its time"),
        Err(error) => findings.fail("clock", error),
    }
}

async fn check_servers(control: &Control, findings: &mut Findings) -> Result<(), CliError> {
    let servers = match control.list_servers().await {
        Ok(servers) if servers.is_empty() => {
            return findings.warn("servers", "no media server has joined; start one with `braidcast serve`");
        }
        Ok(servers) => servers,
        Err(error) => return findings.fail("servers", error),
    };
    let hosts = match hosts(control, &servers).await {
        Ok(hosts) => hosts,
        Err(error) => return findings.fail("tickets", error),
    };
    for server in &servers {
        let what = format!("server {}", server.address);
        if !server.listed {
            findings.fail(
                &what,
                format!(
                    "not listed: {}; see its log, or `braidcast servers --forget` it if it is gone for good",
                    server.reason
                ),
            )?;
            continue;
        }
        if !server.reason.is_empty() {
            findings.warn(&what, &server.reason)?;
        }
        match hosts.get(&server.server_id) {
            None => findings.warn(&what, "listed, but holds no video, so there is no ticket to greet it with")?,
            Some(host) => match (greeting::over_udp(host).await, greeting::over_tcp(host).await) {
                (Ok(()), Ok(())) => findings.ok(&what, "answers over UDP and over TCP")?,
                (Ok(()), Err(tcp)) => {
                    findings.ok(&what, "answers over UDP")?;
                    findings.warn(&what, format!("{tcp}; it is of no use to whose network blocks UDP"))?;
                }
                (Err(udp), Ok(())) => findings.warn(&what, format!("answers over TCP, which is used then; {udp}"))?,
                (Err(udp), Err(tcp)) => findings.fail(&what, format!("{udp}; {tcp}"))?,
            },
        }
    }
    Ok(())
}

/// Whether the origin has a sound copy of every video.
async fn check_videos(control: &Control, findings: &mut Findings) -> Result<(), CliError> {
    let videos = match control.list_videos().await {
        Ok(videos) => videos,
        Err(error) => return findings.fail("videos", error),
    };
    let unsound: Vec<_> = videos.iter().filter(|video| !is_sound(video)).collect();
    for video in unsound.iter().take(VIDEOS_NAMED_MAX) {
        findings.fail(&format!("video {:?}", video.name), condition_in_words(video))?;
    }
    if let Some(more) = unsound.len().checked_sub(VIDEOS_NAMED_MAX).filter(|more| *more > 0) {
        let why =
            format!("{more} more of {} have no sound copy at the origin; `braidcast ls` shows each", videos.len());
        findings.fail("videos", why)?;
    }
    check_copies(&videos, findings)?;
    if unsound.is_empty() {
        findings.ok("videos", format!("the origin has a sound copy of all {}, as far as it was read", videos.len()))?;
    }
    Ok(())
}

/// Names the videos that fewer servers hold than should.
fn check_copies(videos: &[Video], findings: &mut Findings) -> Result<(), CliError> {
    let few: Vec<_> = videos.iter().filter(|video| video.replicas_held < video.replicas_wanted).collect();
    let why =
        "other servers are being filled now, or have no room for it (USED in `braidcast servers`), or there are none";
    for video in few.iter().take(VIDEOS_NAMED_MAX) {
        let Video { name, replicas_held, replicas_wanted, .. } = video;
        let held = format!("{replicas_held} of {replicas_wanted} wanted copies are on servers: {why}");
        findings.warn(&format!("video {name:?}"), held)?;
    }
    match few.len().checked_sub(VIDEOS_NAMED_MAX).filter(|more| *more > 0) {
        Some(more) => findings.warn("videos", format!("{more} more have fewer copies on servers than wanted: {why}")),
        None => Ok(()),
    }
}

/// What the master itself has found out, which it tells administrators only.
async fn check_library(control: &Control, findings: &mut Findings) -> Result<(), CliError> {
    let found = match control.list_findings().await {
        Ok(found) => found,
        Err(ControlError::NotPermitted { .. }) => return Ok(()),
        Err(error) => return findings.fail("library", error),
    };
    if found.is_empty() {
        return findings.ok("library", "the master has nothing to report");
    }
    for finding in found {
        match finding.severity() {
            Severity::Failure => findings.fail(&finding.what, &finding.why)?,
            Severity::Warning | Severity::Unspecified => findings.warn(&finding.what, &finding.why)?,
        }
    }
    Ok(())
}

/// Tickets for as many servers as a few videos give.
async fn hosts(control: &Control, servers: &[ServerStatus]) -> Result<HashMap<String, Host>, ControlError> {
    let wanted = servers.iter().filter(|server| server.listed).count();
    let mut hosts = HashMap::new();
    for video in control.list_videos().await?.iter().take(VIDEOS_ASKED_MAX) {
        match control.distribution(VideoRef::Name(&video.name), Window::ALL).await {
            Ok(list) => hosts.extend(list.hosts.into_iter().map(|host| (host.server_id.clone(), host))),
            // Not held anywhere, or removed since the list: the next one may do.
            Err(ControlError::NoSource { .. } | ControlError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        if hosts.len() >= wanted {
            break;
        }
    }
    Ok(hosts)
}
