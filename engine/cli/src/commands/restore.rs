//! `braidcast restore`

use std::path::PathBuf;

use braidcast_master::backup;
use clap::Args;

use crate::args::MasterStateArg;
use crate::error::CliError;
use crate::output;

/// Flags of `braidcast restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it on the host where the master is to run, as the user that it will run as, and while no master uses the folder.
The backup is checked before anything is changed, and what it replaces stays under other names. Packs are not in a
backup: those that the origin lacks come back from the media servers once the master runs. If the origin holds no pack
at all, the master starts only when its disk is mounted, or with --adopt-origin, which says that the packs are lost.

Examples:
  braidcast restore braidcast.backup --state /var/lib/braidcast
  braidcast restore /var/lib/braidcast/backups/braidcast-2026-01-31.backup --state /var/lib/braidcast")]
pub(crate) struct RestoreArgs {
    /// What `braidcast backup` wrote, or one of the master's daily snapshots
    file: PathBuf,
    #[command(flatten)]
    state: MasterStateArg,
}

/// Puts a snapshot of a master's state in place.
pub(crate) async fn run(args: RestoreArgs) -> Result<(), CliError> {
    let config = args.state.config();
    let done = backup::restore(&config, &args.file).await?;
    let library = done.library.map_or("a library without an id yet".to_owned(), |id| format!("library {id}"));
    let mut text = format!("restored {library}, as it was at {}\n", output::time(done.made_at));
    text += &format!("{} videos, {} of whose packs are in the origin\n", done.videos, done.packs);
    if done.unknown > 0 {
        text += &format!(
            "{} packs of the origin are not in this backup: a master that starts now moves them to {}, where they wait \
             for a newer backup; delete none of them before you know what they are\n",
            done.unknown,
            config.state_dir.join("origin/orphans").display()
        );
    }
    if !done.has_digest {
        output::print_error(
            "warning: this backup was made before backups had a digest: whether a bit in its keys or names is rotten \
             cannot be told\n",
        )?;
    }
    for path in &done.written {
        text += &format!("wrote {}\n", path.display());
    }
    for path in &done.moved {
        text += &format!("what stood in the way is kept as {}\n", path.display());
    }
    text += "accounts and passwords are those of the backup: remove again whom you have removed since\n";
    let state = config.state_dir.display();
    text += &if done.origin_empty {
        let origin = config.state_dir.join("origin");
        format!(
            "next: mount the origin's disk on {origin}, or copy its files there, and then: braidcast master --state {state}\n\
             or, if the packs are lost, once: braidcast master --state {state} --adopt-origin; media servers that reach \
             it give their copies back\n",
            origin = origin.display()
        )
    } else {
        format!("next: braidcast master --state {state}; media servers that reach it give missing packs back\n")
    };
    output::print(&text)
}
