//! `braidcast backup`

use std::path::PathBuf;

use braidcast_master::{MasterConfig, backup};
use clap::Args;
use indicatif::HumanBytes;

use crate::args::MasterStateArg;
use crate::error::CliError;
use crate::output;

/// Flags of `braidcast backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it on the master's host, as a user who may read the state folder, while the master runs or not. The file holds
accounts, catalogue, content keys, ticket keys, the certificate authority and the join token: all that the packs
need. It holds no pack: the origin and the media servers have those. Whoever has the file can open every video, so
only its owner may read it. A certificate of your own (--tls-cert) and a join token elsewhere (--join-token-file) are
not in it. A backup at FILE is replaced once the new one is whole.

Example:
  braidcast backup /mnt/backups/braidcast.backup --state /var/lib/braidcast")]
pub(crate) struct BackupArgs {
    /// Where to write it
    file: PathBuf,
    #[command(flatten)]
    state: MasterStateArg,
}

/// Writes a snapshot of the master's state.
pub(crate) async fn run(args: BackupArgs) -> Result<(), CliError> {
    let config: MasterConfig = args.state.config();
    let written = backup::write(&config, &args.file).await?;
    let (videos, size) = (written.videos, HumanBytes(written.bytes));
    let library = written.library.map_or("a library without an id yet".to_owned(), |id| format!("library {id}"));
    output::print(&format!("wrote {} ({size}): {library}, {videos} videos\n", args.file.display()))?;
    for path in written.absent {
        output::print_error(&format!("not in the backup, for it is not there: {}\n", path.display()))?;
    }
    Ok(())
}
