//! `braidcast servers`

use std::time::Duration;

use braidcast_proto::v1::ServerStatus;
use clap::Args;
use indicatif::HumanBytes;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::output;

/// Flags of `braidcast servers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  braidcast servers                            list all, listed or not
  braidcast servers --forget 192.0.2.7:4700    one that is gone for good is no longer missed")]
pub(crate) struct ServersArgs {
    /// Forget a media server that is gone for good (administrators); one that comes back joins as a new one
    #[arg(long, value_name = "ADDRESS|ID")]
    forget: Option<String>,
    #[command(flatten)]
    profile: ProfileArg,
}

/// Lists the media servers, or forgets one.
pub(crate) async fn run(args: ServersArgs) -> Result<(), CliError> {
    let control = connect(&args.profile).await?;
    if let Some(server) = args.forget {
        let server_id = control.forget_server(&server).await?;
        return output::print(&format!("forgot the media server {server_id}\n"));
    }
    let servers = control.list_servers().await?;
    let rows: Vec<[String; 8]> = servers.iter().map(row).collect();
    let header = ["ADDRESS", "ID", "HEARD", "HOLDS", "USED", "SESSIONS", "SENT", "STATE"];
    output::print(&output::table(header, &rows))
}

fn row(server: &ServerStatus) -> [String; 8] {
    let heard = humantime::format_duration(Duration::from_millis(server.heartbeat_age_ms));
    let state = match (server.listed, server.reason.as_str()) {
        (true, "") => "listed".to_owned(),
        (true, complaint) => format!("listed; {complaint}"),
        (false, reason) => format!("not listed: {reason}"),
    };
    [
        server.address.clone(),
        output::printable(&server.server_id).into_owned(),
        format!("{heard} ago"),
        server.assets_held.to_string(),
        format!("{} of {}", HumanBytes(server.used_bytes), HumanBytes(server.capacity_bytes)),
        server.sessions.to_string(),
        format!("{} bytes", server.sent_bytes),
        output::printable(&state).into_owned(),
    ]
}
