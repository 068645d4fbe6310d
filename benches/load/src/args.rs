//! What the command line may say.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use braidcast_media::layout::CHUNK_BYTES;
use clap::Parser;

use crate::cluster::FILM_BYTES;

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "braidcast-load",
    about = "Watch one media server with many viewers at once, and see what reaches them in time",
    max_term_width = 110,
    after_help = "\
Starts a master and one media server with one thread of service (--shards 1) on loopback, publishes a file, and opens
a session with a ticket of its own for each viewer, all from one thread. Viewers arrive one after the other, 100 a
second; figures are taken over --seconds after the last. Chunks that come late count from the first arrival on.

A viewer asks for what its window holds: what is played within --window seconds from now. It plays from the moment
when its first second is there. A chunk is late if it comes, or has not come, after the moment at which it is played;
playback does not wait for it. A greedy viewer always has four PULLs of 52 chunks under way. Of its chunks one in a
hundred is opened, and all of them together get four fifths of this thread's time at most, so that the server makes
viewers wait and not this tool. A viewer with a rate opens and so verifies every chunk.

What is printed:
  reply          from a PULL to the last chunk of it, what was lost and asked for again included
  first second   from a viewer's greeting to the moment when it plays
  late           chunks that came after they were to be played, or never did
  server         share of one core of the whole process, all its threads, and how it says that it runs
  memory         what the server has resident (RSS), and what of that is anonymous (RssAnon): before the first session,
                 after one that fetched the whole file, and the most with all; the last step divided by the sessions
  tool           this program's thread: share of its core, and how late its timers went off

Goals: no late chunk, every chunk verifies, no viewer loses the server; without --greedy also 99% of the replies
within 20 ms, and at most 4 KiB of anonymous memory a session.

Exit code: 0 all goals met; 1 a goal missed, or an error; 2 void, because this tool was the bottleneck: its thread had
more than 90% of a core, its timers were more than 5 ms late (99th percentile), or its sockets overflowed; 130
interrupted. What a run makes it removes, on Ctrl-C too.

Needs two cores with nothing else to do.

Examples:
  braidcast-load                                   1,000 viewers at 2 Mbit/s: about a minute
  braidcast-load --viewers 200 --greedy 200        slow viewers beside others that take what they get
  braidcast-load --viewers 100 --rate 20M --seconds 60 --json"
)]
pub(crate) struct Arguments {
    /// Viewers that watch at --rate
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=VIEWERS_MAX))]
    pub(crate) viewers: u32,
    /// Bits per second of a viewer's film; k, M and G stand for thousands, millions and so on
    #[arg(long, value_name = "BIT_S", default_value = "2M")]
    pub(crate) rate: Rate,
    /// Take figures over so many seconds
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=300))]
    pub(crate) seconds: u32,
    /// Seconds of film that a viewer fetches ahead
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=120))]
    pub(crate) window: u32,
    /// Viewers beside them that ask for as much as they can get
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=VIEWERS_MAX))]
    pub(crate) greedy: u32,
    /// Then watch on while a client fetches another file at 100 MiB/s, first from the disk and then from memory; it takes
    /// 2 GB in the folder for temporary files, which must not be memory
    #[arg(long)]
    pub(crate) cold: bool,
    /// Chunks of 1,200 bytes that a viewer with a rate asks for at a time; fewer cost server and tool more
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=52))]
    pub(crate) chunks_per_pull: u16,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep what the processes log in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep_logs: Option<PathBuf>,
    /// The command to try [default: braidcast, beside this program]
    #[arg(long, value_name = "PATH", env = "BRAIDCAST")]
    pub(crate) braidcast: Option<PathBuf>,
}

/// Most viewers of a kind. A ticket is good for ten minutes, in which all of them are drawn and used.
const VIEWERS_MAX: i64 = 10_000;

impl Arguments {
    /// All viewers.
    pub(crate) fn sessions(&self) -> u32 {
        self.viewers + self.greedy
    }

    /// What a viewer fetches ahead.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.window.into())
    }

    /// Why this cannot be run.
    pub(crate) fn refusal(&self) -> Option<String> {
        let window_bytes = self.rate.0 / 8 * u64::from(self.window);
        if window_bytes > FILM_BYTES / 2 {
            return Some(format!(
                "--window {} at this --rate is {} MB, more than half of the file that is watched ({} MB); take less of either",
                self.window,
                window_bytes / 1_000_000,
                FILM_BYTES / 1_000_000
            ));
        }
        None
    }
}

/// Bits per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate(pub(crate) u64);

/// Below it a second of film is less than one chunk.
const RATE_MIN: u64 = CHUNK_BYTES as u64 * 8 * 8;
/// Above it a viewer is greedy.
const RATE_MAX: u64 = 1_000_000_000;

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let factors = [('k', 1e3), ('M', 1e6), ('G', 1e9)];
        let unit = factors.iter().find_map(|(unit, factor)| Some((text.strip_suffix(*unit)?, *factor)));
        let (digits, factor) = unit.unwrap_or((text, 1.0));
        let bit_s = digits.parse::<f64>().ok().map(|number| number * factor);
        match bit_s {
            Some(bit_s) if (RATE_MIN as f64..=RATE_MAX as f64).contains(&bit_s) => Ok(Self(bit_s as u64)),
            _ => Err(format!("expected bits per second from {RATE_MIN} to 1G, such as 2M or 800k")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_take_units_and_keep_their_bounds() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0).ok();
        assert_eq!(rate("2M"), Some(2_000_000));
        assert_eq!(rate("1.5M"), Some(1_500_000));
        assert_eq!(rate("800k"), Some(800_000));
        assert_eq!(rate("1G"), Some(1_000_000_000));
        assert_eq!(rate("2G"), None);
        assert_eq!(rate("76800"), Some(76_800));
        assert_eq!(rate("76799"), None);
        assert_eq!(rate("fast"), None);
        assert_eq!(rate("-2M"), None);
    }

    #[test]
    fn a_window_that_the_file_does_not_hold_is_refused() {
        let parse = |line: &[&str]| Arguments::try_parse_from(line).expect("a right command line");
        assert_eq!(parse(&["braidcast-load"]).refusal(), None);
        let refusal = parse(&["braidcast-load", "--rate", "1G"]).refusal().expect("1.25 GB ahead");
        assert!(refusal.contains("--window 10"), "{refusal}");
    }
}
