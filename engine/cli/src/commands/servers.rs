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
pub(crate) struct ServersArgs {
    #[command(flatten)]
    profile: ProfileArg,
}

/// Lists the media servers.
pub(crate) async fn run(args: ServersArgs) -> Result<(), CliError> {
    let servers = connect(&args.profile).await?.list_servers().await?;
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
