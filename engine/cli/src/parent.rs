//! A process that was started for another, as the parts of `braidcast dev` are, ends with it, however that ends.

use std::io::{self, Read};

use clap::Args;

use crate::exit;

/// Set by `braidcast dev` on the parts it starts, and by tests on what they start.
#[derive(Debug, Default, Args)]
pub(crate) struct ParentArg {
    /// End at once when standard input closes
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

impl ParentArg {
    /// Starts to watch, if asked to. The parent holds the other end of the pipe and never writes: the kernel closes
    /// it even if the parent is killed with SIGKILL.
    pub(crate) fn watch(&self) -> io::Result<()> {
        if !self.exit_with_parent {
            return Ok(());
        }
        let watch = || {
            let mut stdin = io::stdin().lock();
            while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
            tracing::info!("the parent has ended, and so does this process");
            std::process::exit(exit::INTERRUPTED.into());
        };
        std::thread::Builder::new().name("parent-watch".to_owned()).spawn(watch).map(drop)
    }
}
