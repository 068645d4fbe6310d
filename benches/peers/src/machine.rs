//! The machine, and what is installed on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Where this workspace says which version of a library it is built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Fails unless a program is there.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // nginx and ip are where ordinary users do not look.
    let further = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&paths).chain(further).map(|folder| folder.join(program)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("{program} is not installed (make bench-peers installs it)"),
    }
}

/// Whether the kernel encrypts TLS records, if it is asked to.
pub(crate) fn has_kernel_tls() -> bool {
    let protocols = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    protocols.split_whitespace().any(|name| name == "tls")
}

/// Lines that tell where and with what was measured.
pub(crate) fn describe(braidcast: &Path) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpus, "model name").unwrap_or("unknown CPU");
    let braidcast = braidcast.display().to_string();
    let mut versions = vec![version(&[&braidcast, "--version"], "braidcast")];
    versions.push(version(&["nginx", "-V"], "nginx"));
    versions.push(version(&["curl", "--version"], "curl"));
    versions.push(version(&["aria2c", "--version"], "aria2c"));
    versions.push(format!("quinn {}", locked("quinn").unwrap_or("of unknown version")));
    versions.push(version(&["srt-file-transmit", "-version"], "srt-file-transmit"));
    let first = format!("{model}, {cores} cores, Linux {}", kernel.trim());
    std::iter::once(first).chain(versions.chunks(3).map(|versions| versions.join("; "))).collect()
}

/// What a program says of itself, on one line.
fn version(command: &[&str], name: &str) -> String {
    let Some((program, arguments)) = command.split_first() else { return name.to_owned() };
    let program = find(program).unwrap_or_else(|_| PathBuf::from(program));
    let Ok(output) = Command::new(program).args(arguments).output() else { return format!("no {name}") };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let first = said.lines().find(|line| line.chars().any(|letter| letter.is_ascii_digit())).unwrap_or_default();
    let words: Vec<&str> = up_to_version(first);
    let openssl = said.lines().find_map(|line| line.strip_prefix("built with "));
    let openssl = openssl.map(|words| format!(" with {words}")).unwrap_or_default();
    if words.is_empty() { format!("{name} of unknown version") } else { format!("{}{openssl}", words.join(" ")) }
}

/// The words of a line up to its first version: curl goes on with all its libraries.
fn up_to_version(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_version = |word: &&str| word.contains('.') && word.contains(|letter: char| letter.is_ascii_digit());
    let end = words.iter().position(is_version).map_or(words.len(), |at| at + 1);
    words[..end].to_vec()
}

/// `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim())
}

/// The version of a package in `Cargo.lock`.
fn locked(package: &str) -> Option<&'static str> {
    let (_, rest) = LOCK.split_once(&format!("name = \"{package}\"\n"))?;
    rest.lines().next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_versions_are_found() {
        let cpus = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel\t\t: 7\n";
        assert_eq!(field(cpus, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(cpus, "power"), None);
        let quinn = locked("quinn").expect("it is built with it");
        assert!(quinn.split('.').count() == 3 && quinn.starts_with("0."), "{quinn}");
        assert_eq!(locked("no-such-package"), None);
    }

    #[test]
    fn a_line_ends_with_its_version() {
        let shown = |line| up_to_version(line).join(" ");
        assert_eq!(shown("aria2 version 1.36.0 and more 2.0"), "aria2 version 1.36.0");
        assert_eq!(shown("  nginx version: nginx/1.22.1"), "nginx version: nginx/1.22.1");
        assert_eq!(shown("no version"), "no version");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = find("no-such-program").expect_err("there is none");
        assert!(error.to_string().contains("no-such-program is not installed"), "{error:#}");
    }
}
