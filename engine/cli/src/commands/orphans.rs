//! `braidcast orphans`

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal};

use braidcast_client::Control;
use braidcast_media::AssetId;
use braidcast_proto::v1::{KeptOrphan, ListOrphansResponse, Orphan};
use clap::Args;
use indicatif::HumanBytes;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::output;

/// Flags of `braidcast orphans`.
#[derive(Debug, Args)]
#[command(after_help = "\
An orphan is a whole pack in the master's origin that its database does not know: published after a backup that was
put back, or left by a master that was killed. The master keeps them, and takes one back when a newer database knows
it. Without its database's key nobody can open one. One that may be the only copy of a video whose pack is lost or
damaged (NEEDED BY) is not deleted before that pack is healed or the video removed. Needs an administrator's profile.

Examples:
  braidcast orphans
  braidcast orphans --delete 9c0ffee5a1f00d42")]
pub(crate) struct OrphansArgs {
    /// Delete this orphan for good; may be repeated
    #[arg(long, value_name = "ASSET", num_args = 1.., conflicts_with = "delete_all")]
    delete: Vec<AssetId>,
    /// Delete all orphans for good
    #[arg(long)]
    delete_all: bool,
    /// Do not ask before deleting
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    profile: ProfileArg,
}

/// Lists the orphans, or deletes them.
pub(crate) async fn run(args: OrphansArgs) -> Result<(), CliError> {
    let control = connect(&args.profile).await?;
    let found = control.list_orphans().await?;
    if args.delete_all {
        confirm(args.yes, &format!("all {} orphans", found.total))?;
        return delete_all(&control, found).await;
    }
    if args.delete.is_empty() {
        return output::print(&list(&found));
    }
    let named: BTreeSet<AssetId> = args.delete.into_iter().collect();
    confirm(args.yes, &format!("{} orphans", named.len()))?;
    let done = control.remove_orphans(named.iter().map(|asset| asset.0).collect()).await?;
    deleted(done.removed, done.bytes)?;
    refuse_kept(&done.kept)?;
    match (named.len() as u64).saturating_sub(done.removed) {
        0 => Ok(()),
        missing => Err(CliError::NoOrphans { missing, named: named.len() as u64 }),
    }
}

fn list(found: &ListOrphansResponse) -> String {
    let row = |orphan: &Orphan| {
        let size = HumanBytes(orphan.bytes).to_string();
        [AssetId(orphan.asset).to_string(), size, output::time(orphan.written_at), orphan.needed_by.clone()]
    };
    let rows: Vec<[String; 4]> = found.orphans.iter().map(row).collect();
    let mut text = output::table(["ASSET", "SIZE", "WRITTEN", "NEEDED BY"], &rows);
    if found.total > rows.len() as u64 {
        text += &format!("and {} more\n", found.total - rows.len() as u64);
    }
    text
}

/// Deletes what was listed, list by list, and so nothing that became an orphan since the last one.
async fn delete_all(control: &Control, mut found: ListOrphansResponse) -> Result<(), CliError> {
    let (mut removed, mut bytes) = (0, 0);
    let mut kept = Vec::new();
    while !found.orphans.is_empty() {
        let done = control.remove_orphans(found.orphans.iter().map(|orphan| orphan.asset).collect()).await?;
        removed += done.removed;
        bytes += done.bytes;
        // Every list begins anew, so the last one has all that were kept.
        kept = done.kept;
        if done.removed == 0 || removed >= found.total {
            break;
        }
        found = control.list_orphans().await?;
    }
    deleted(removed, bytes)?;
    refuse_kept(&kept)
}

/// Says which orphans were not deleted, and why.
fn refuse_kept(kept: &[KeptOrphan]) -> Result<(), CliError> {
    let Some(first) = kept.first() else { return Ok(()) };
    let (kept, asset, name) = (kept.len(), AssetId(first.asset), first.needed_by.clone());
    Err(CliError::OrphansNeeded { kept, asset, name })
}

fn deleted(removed: u64, bytes: u64) -> Result<(), CliError> {
    output::print(&format!("deleted {removed} orphans, {}\n", HumanBytes(bytes)))
}

/// Asks on the terminal, unless it was said already.
fn confirm(yes: bool, what: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage("no terminal to ask on whether to delete for good; use --yes".to_owned()));
    }
    output::print_error(&format!("Delete {what} for good? Nobody can bring them back. [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(CliError::Runtime)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::Usage("nothing was deleted".to_owned())),
    }
}
