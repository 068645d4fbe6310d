//! Text for people: to standard output what was asked for, to standard error the rest.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::CliError;

/// The end of the year 9999, beyond which no time can be printed.
const TIME_MAX_UNIX_S: u64 = 253_402_300_799;

/// Prints `text`, which ends with a newline, and flushes it, so that whoever waits for a line gets it.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Output)
}

/// Prints `text`, which ends with a newline, to standard error.
pub(crate) fn print_error(text: &str) -> Result<(), CliError> {
    io::stderr().lock().write_all(text.as_bytes()).map_err(CliError::Output)
}

/// Prints an error, if standard error takes it: `eprintln` would panic where a full disk stands behind it.
pub(crate) fn complain(text: &str) {
    // There is nobody left to tell.
    let _ = print_error(&format!("{text}\n"));
}

/// A Unix time in seconds, as people read it.
pub(crate) fn time(unix_s: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(unix_s.min(TIME_MAX_UNIX_S))).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Columns, each as wide as its widest cell; the last is not padded.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&header.map(str::to_owned)).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `text` as it may go to a terminal: control characters, which a name may hold, are escaped.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Cow::Owned(text.chars().map(escape).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// An error on one line: libraries below may break theirs.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    printable(&lines.join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["größer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME    N\na       1\ngrößer  2\n");
    }

    #[test]
    fn no_time_that_a_master_can_send_is_too_late_to_be_printed() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn control_characters_in_names_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("Grüße 映画"), "Grüße 映画");
    }

    #[test]
    fn an_error_of_several_lines_becomes_one() {
        assert_eq!(one_line("first\n  second\n\nthird\n"), "first second third");
    }
}
