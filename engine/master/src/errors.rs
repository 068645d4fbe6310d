//! What the services refuse, and the one place where a refusal becomes a gRPC status.

use std::path::PathBuf;
use std::time::Duration;

use braidcast_media::pack::PackError;
use braidcast_media::{AssetId, LibraryId};
use tonic::{Code, Status};

use crate::accounts::{AccountNameError, PasswordError, Role};
use crate::distribution::{IndexError, WindowError};
use crate::film::FilmError;
use crate::names::NameError;
use crate::room;

/// Why a call was refused. The text names the culprit and what to do about it, and holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("no access token: log in, and send it as metadata `authorization: Bearer TOKEN`")]
    TokenMissing,
    #[error("the access token has expired: refresh it and call again")]
    TokenStale,
    #[error("the account was removed or got another password after the access token was issued: log in again")]
    TokenVoid,
    #[error("the access token is not one of this master: log in again")]
    TokenInvalid,
    #[error("the join token is wrong: give the server the one in the master's join-token file")]
    WrongJoinToken,
    #[error("server {server} has not joined, or another process has joined as it since: join again")]
    NotJoined { server: String },

    #[error("this needs the role {needed}, and {username} has the role {found}")]
    Role { username: String, needed: Role, found: Role },

    #[error("there is no video named {name:?}")]
    NoVideo { name: String },
    #[error("there is no asset {0} any more: its video was removed or replaced; open the video again by its name")]
    NoAsset(AssetId),
    #[error(
        "the origin has lost the pack of asset {0}: it is healed from a media server that holds a whole copy; without \
             one put the pack back, or publish the video again with `--replace`"
    )]
    PackLost(AssetId),
    #[error("{name:?} is being healed from a media server, because {damage}: try again in a few seconds")]
    Healing { name: String, damage: String },
    #[error("{name:?} cannot be healed just now, because {damage}: {hindrance}")]
    HealingHindered { name: String, damage: String, hindrance: String },
    #[error("this server was not asked to send asset {0}, or no longer: forget the order")]
    PushNotAsked(AssetId),
    #[error("the push is out of order: {0}")]
    PushOrder(&'static str),
    #[error("{part} of asset {asset} was pushed and does not match its hash: the copy on that server is damaged, too")]
    PushDamaged { asset: AssetId, part: String },
    #[error("the push sent nothing for {0:?} and was dropped: the master orders it again")]
    PushIdle(Duration),
    #[error("the push brought less than {0} bytes per second and was dropped: the master asks another server")]
    PushSlow(u64),
    #[error("the push broke off: the master orders it again")]
    PushBroken,
    #[error(
        "this server's folder holds copies of library {found}, and this master's library is {own}: put the right \
             database back at the master, or give the server its own master or an empty state folder; nothing is deleted"
    )]
    OtherLibrary { found: String, own: LibraryId },
    #[error("there is no user named {username:?}")]
    NoUser { username: String },
    #[error("there is no media server {server:?}: `braidcast servers` lists their addresses and ids")]
    NoServer { server: String },
    #[error("the media server {server_id} is connected: stop it first, else it joins again at once")]
    ServerConnected { server_id: String },

    #[error(
        "a video named {name:?} is there already: publish with `--replace` to put this one in its place, \
             or under another name"
    )]
    NameTaken { name: String },
    #[error("a user named {username:?} is there already")]
    UserTaken { username: String },

    #[error(transparent)]
    VideoName(#[from] NameError),
    #[error(transparent)]
    AccountName(#[from] AccountNameError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("a user needs a role: VIEWER, PUBLISHER or ADMIN")]
    NoRole,
    #[error("the file has {bytes} bytes, and a video can have at most {bytes_max}: cut it into parts")]
    FileTooLong { bytes: u64, bytes_max: u64 },
    #[error(
        "the film and its index take {extents} extents of 307,200 bytes, and a video can have at most {extents_max}: \
             cut it into parts"
    )]
    FilmTooLong { extents: u64, extents_max: u64 },
    #[error(transparent)]
    Film(#[from] FilmError),
    #[error("a window that asks for {0}")]
    Window(#[from] WindowError),
    #[error("{found} orphans were named, and at most {limit} are taken at a time: name fewer")]
    TooManyOrphans { found: usize, limit: usize },
    #[error("the request has no `{0}`")]
    FieldMissing(&'static str),
    #[error("server address {address:?}: {problem}; it must be the IP address and UDP port where clients reach it")]
    ServerAddress { address: String, problem: &'static str },
    #[error("a server id is 1 to {bytes_max} letters, digits, `-` and `_`; {found:?} is not one")]
    ServerId { found: String, bytes_max: usize },
    #[error("`plain_roots` has {found} bytes, and a file of this length has {needed}")]
    PlainRoots { found: usize, needed: usize },

    #[error("this video has no time line: it was published as plain bytes")]
    NoTimeLine,
    #[error("the publishing attempt {0} is unknown, stale, of another user, or used already: begin again")]
    AttemptUnknown(AssetId),
    #[error("the upload is out of order: {0}")]
    UploadOrder(&'static str),
    #[error(
        "the server's clock is {seconds} s {direction} of the master's, and at most {seconds_max} s are tolerated: \
             set both by NTP (`chronyc makestep`)"
    )]
    ClockOff { seconds: u64, direction: &'static str, seconds_max: u64 },
    #[error("{username:?} is the last administrator: make another one first")]
    LastAdmin { username: String },

    #[error("{path} is not the folder that the master started with: mount the origin's disk there again")]
    OriginGone { path: PathBuf },
    #[error(
        "{path} is full: the video needs {needed} bytes there, and {free} are free{beside}; remove some or enlarge the disk",
        beside = beside(*kept)
    )]
    DiskFull { path: PathBuf, needed: u64, free: u64, kept: u64 },
    #[error(
        "{path} is full: the database needs {needed} bytes there, and {free} are free; remove files or enlarge the disk"
    )]
    DatabaseFull { path: PathBuf, needed: u64, free: u64 },
    #[error(
        "{path} is not the file that the master has open: it was moved or deleted, and nothing is changed until it is \
             back. {remedy}"
    )]
    DatabaseGone { path: PathBuf, remedy: String },
    #[error("{limit} {what} are under way: try again later")]
    TooMany { what: &'static str, limit: usize },

    #[error("the video arrived damaged and was dropped: {0}; publish it again")]
    Damaged(PackError),
    #[error("the pack was not taken: {0}; publisher and master must be of one version")]
    Pack(PackError),

    #[error("the frame index of {name:?} (asset {asset}) is damaged or untrue: {problem}; publish the video again")]
    Index { name: String, asset: AssetId, problem: IndexError },

    #[error("bytes {offset} to {end} are past the end of pack {asset}, which has {pack_bytes}")]
    PastEnd { asset: AssetId, offset: u64, end: u128, pack_bytes: u64 },

    #[error(
        "no listed media server holds all of {name:?} yet ({listed} of {known} servers are listed): \
             see `braidcast servers`, or try again in a few seconds"
    )]
    NoHolder { name: String, listed: usize, known: usize },
    #[error("too many logins at once: try again in a few seconds")]
    LoginsBusy,
    #[error("the call took longer than {0:?} and was dropped: call again")]
    CallTooLong(Duration),
    #[error("the request is longer than such a call's may be: send less")]
    RequestTooLong,
    #[error("the request did not arrive at once, and others wait: send it whole, and call again in a few seconds")]
    TooSlow,
    #[error("nothing of the pack was taken for {0:?}: read on from where it ended")]
    ReadStalled(Duration),
    #[error("nothing of the answer was taken for {0:?}: call again")]
    AnswerStalled(Duration),

    #[error("the upload sent nothing for {0:?} and was dropped: publish again")]
    UploadIdle(Duration),
    #[error("the upload broke off: publish again")]
    UploadBroken,

    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the master's database failed: see the master's log")]
    Database(#[from] sqlx::Error),
    #[error("a password could not be hashed: see the master's log")]
    Hashing(argon2::password_hash::Error),
    #[error("a token could not be signed: see the master's log")]
    Signing(jsonwebtoken::errors::Error),
    #[error("a task of the master's failed: see the master's log")]
    Task(#[from] tokio::task::JoinError),
}

/// Says of free bytes that others are kept for the database, where packs share its disk.
fn beside(kept: u64) -> String {
    if kept == 0 { String::new() } else { format!(" beside {kept} that are kept for the database") }
}

impl ServiceError {
    /// Whether the bytes of the origin's pack can be the cause.
    pub(crate) fn may_blame_the_pack(&self) -> bool {
        matches!(self, Self::PackLost(_) | Self::Index { .. } | Self::Io { .. })
    }

    /// Whether a push failed because of the origin's disk, and not of the server that pushed.
    pub(crate) fn is_of_origin(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. } | Self::OriginGone { .. } | Self::Io { .. } | Self::PackLost(_) | Self::Task(_)
        )
    }

    fn code(&self) -> Code {
        use ServiceError as E;
        match self {
            E::TokenMissing
            | E::TokenStale
            | E::TokenVoid
            | E::TokenInvalid
            | E::WrongJoinToken
            | E::NotJoined { .. } => Code::Unauthenticated,
            E::Role { .. } => Code::PermissionDenied,
            E::NoVideo { .. } | E::NoAsset(_) | E::NoUser { .. } | E::NoServer { .. } => Code::NotFound,
            E::NameTaken { .. } | E::UserTaken { .. } => Code::AlreadyExists,
            E::VideoName(_)
            | E::AccountName(_)
            | E::Password(_)
            | E::NoRole
            | E::FileTooLong { .. }
            | E::FilmTooLong { .. }
            | E::Film(_)
            | E::Window(_)
            | E::TooManyOrphans { .. }
            | E::FieldMissing(_)
            | E::ServerAddress { .. }
            | E::ServerId { .. }
            | E::PushOrder(_)
            | E::PlainRoots { .. } => Code::InvalidArgument,
            E::NoTimeLine
            | E::AttemptUnknown(_)
            | E::UploadOrder(_)
            | E::ClockOff { .. }
            | E::LastAdmin { .. }
            | E::ServerConnected { .. }
            | E::PushNotAsked(_)
            | E::OtherLibrary { .. }
            | E::OriginGone { .. }
            | E::DatabaseGone { .. }
            | E::Pack(_) => Code::FailedPrecondition,
            E::DiskFull { .. }
            | E::DatabaseFull { .. }
            | E::HealingHindered { .. }
            | E::TooMany { .. }
            | E::TooSlow => Code::ResourceExhausted,
            E::Damaged(_) | E::PackLost(_) | E::PushDamaged { .. } | E::Index { .. } => Code::DataLoss,
            E::PastEnd { .. } | E::RequestTooLong => Code::OutOfRange,
            E::NoHolder { .. } | E::Healing { .. } | E::LoginsBusy => Code::Unavailable,
            E::UploadIdle(_)
            | E::PushIdle(_)
            | E::PushSlow(_)
            | E::CallTooLong(_)
            | E::ReadStalled(_)
            | E::AnswerStalled(_) => Code::DeadlineExceeded,
            E::UploadBroken | E::PushBroken => Code::Aborted,
            E::Io { source, .. } if room::is_full(source) => Code::ResourceExhausted,
            E::Io { .. } | E::Database(_) | E::Hashing(_) | E::Signing(_) | E::Task(_) => Code::Internal,
        }
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let code = error.code();
        // What the disk or the origin has wrong is the operator's to put right.
        if code == Code::Internal || matches!(error, ServiceError::Index { .. }) {
            tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
        }
        Self::new(code, error.to_string())
    }
}
