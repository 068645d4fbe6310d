//! Passwords come from a prompt or from standard input, never from the command line, where `ps` would show them.

use std::io::{self, BufRead, IsTerminal};

use braidcast_client::Secret;
use clap::Args;

use crate::error::CliError;

/// Where a password comes from.
#[derive(Debug, Args)]
pub(crate) struct PasswordArg {
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

impl PasswordArg {
    /// Reads the password for `username`; a new one is asked for twice.
    pub(crate) async fn read(&self, username: &str, new: bool) -> Result<Secret, CliError> {
        if self.password_stdin {
            return blocking(|| first_line(io::stdin().lock())).await;
        }
        if !io::stdin().is_terminal() {
            return Err(CliError::Usage("no terminal to ask for a password on; use --password-stdin".to_owned()));
        }
        let prompt = format!("Password for {username}: ");
        let password = blocking(move || ask(prompt)).await?;
        if new && blocking(|| ask("The same again: ".to_owned())).await? != password {
            return Err(CliError::Usage("the two passwords differ".to_owned()));
        }
        Ok(password)
    }
}

fn ask(prompt: String) -> Result<Secret, CliError> {
    rpassword::prompt_password(prompt).map(Secret::new).map_err(CliError::Password)
}

fn first_line(mut input: impl BufRead) -> Result<Secret, CliError> {
    let mut line = zeroize::Zeroizing::new(String::new());
    input.read_line(&mut line).map_err(CliError::Password)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CliError::Usage("the first line of standard input is empty; it must be the password".to_owned()));
    }
    Ok(Secret::new(password))
}

async fn blocking(work: impl FnOnce() -> Result<Secret, CliError> + Send + 'static) -> Result<Secret, CliError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line_without_its_end() {
        for input in ["open sesame", "open sesame\n", "open sesame\r\n", "open sesame\nmore\n"] {
            assert_eq!(first_line(input.as_bytes()).expect("a line").expose(), "open sesame", "{input:?}");
        }
    }

    #[test]
    fn an_empty_password_is_wrong_usage() {
        for input in ["", "\n", "\r\n"] {
            assert!(matches!(first_line(input.as_bytes()), Err(CliError::Usage(_))), "{input:?}");
        }
    }
}
