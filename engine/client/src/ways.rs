//! What is remembered of ways to servers, per network: where UDP was found blocked, so that the next start tries TCP at
//! once, and what paths have delivered, so that the next start need not find it out again.
//!
//! The file is a convenience: one that is missing, broken or cannot be written is as good as none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidcast_transport::congestion::Retained;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// How long anything is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of either kind; the one that expires first makes room.
const ENTRIES_MAX: usize = 256;
/// A longer file is not of this program's making.
const FILE_BYTES_MAX: u64 = 128 * 1024;

/// A server as seen from a network: the address that the route to it picks, and its own.
type Place = (IpAddr, SocketAddr);

/// What is remembered, and what was learnt since.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    path: Option<PathBuf>,
    remembered: Memory,
    /// Whether TCP was needed.
    needed_tcp: BTreeMap<Place, bool>,
    measured: BTreeMap<Place, Retained>,
}

/// What a file holds, each until a moment in Unix seconds.
#[derive(Debug, Default)]
struct Memory {
    /// Where UDP counts as blocked.
    blocked: BTreeMap<Place, u64>,
    paths: BTreeMap<Place, (Retained, u64)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WaysFile {
    way: Vec<WayEntry>,
    path: Vec<PathEntry>,
}

#[derive(Serialize, Deserialize)]
struct WayEntry {
    here: IpAddr,
    server: SocketAddr,
    way: Name,
    until_unix_s: u64,
}

#[derive(Serialize, Deserialize)]
struct PathEntry {
    here: IpAddr,
    server: SocketAddr,
    bytes_per_s: u64,
    round_trip_us: u64,
    until_unix_s: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Tcp,
}

impl Ways {
    /// What the user's file holds: `$XDG_CACHE_HOME/braidcast/ways.toml`, or that in `~/.cache`.
    pub(crate) fn load() -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
        cache.map(|cache| Self::load_from(cache.join("braidcast/ways.toml"), SystemTime::now())).unwrap_or_default()
    }

    fn load_from(path: PathBuf, now: SystemTime) -> Self {
        let remembered = Memory::read(&path, unix_s(now));
        Self { path: Some(path), remembered, ..Self::default() }
    }

    /// Whether UDP from `here` to `server` was found blocked not long ago.
    pub(crate) fn needs_tcp(&self, here: IpAddr, server: SocketAddr) -> bool {
        self.remembered.blocked.contains_key(&(here, server))
    }

    /// What the path from `here` to `server` delivered not long ago.
    pub(crate) fn retained(&self, here: IpAddr, server: SocketAddr) -> Option<Retained> {
        self.remembered.paths.get(&(here, server)).map(|(retained, _)| *retained)
    }

    /// `server` has answered, over TCP or not.
    pub(crate) fn on_answered(&mut self, here: IpAddr, server: SocketAddr, over_tcp: bool) {
        if over_tcp || self.needs_tcp(here, server) {
            self.needed_tcp.insert((here, server), over_tcp);
        }
    }

    /// The path to `server` was measured.
    pub(crate) fn on_measured(&mut self, here: IpAddr, server: SocketAddr, retained: Retained) {
        self.measured.insert((here, server), retained);
    }

    /// Writes what was learnt, if anything, over what the file holds by now.
    pub(crate) fn save(self, now: SystemTime) -> io::Result<()> {
        let has_learnt = !self.needed_tcp.is_empty() || !self.measured.is_empty();
        let Some(path) = self.path.filter(|_| has_learnt) else { return Ok(()) };
        let until = unix_s(now + REMEMBERED_FOR);
        let Memory { mut blocked, mut paths } = Memory::read(&path, unix_s(now));
        for (place, needed_tcp) in self.needed_tcp {
            if needed_tcp {
                blocked.insert(place, until);
            } else {
                blocked.remove(&place);
            }
        }
        paths.extend(self.measured.into_iter().map(|(place, retained)| (place, (retained, until))));
        make_room(&mut blocked, |until| *until);
        make_room(&mut paths, |(_, until)| *until);
        let text = toml::to_string(&Memory { blocked, paths }.into_file()).map_err(io::Error::other)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        private_file::write_cache(&path, text.as_bytes())
    }
}

impl Memory {
    /// The entries of a file that count at `now`.
    fn read(path: &Path, now: u64) -> Self {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        let WaysFile { way, path } = read.ok().and_then(|_| toml::from_str(&text).ok()).unwrap_or_default();
        // What expires later than it could was written by a clock that was wrong.
        let counts = |until: u64| (now..=now + REMEMBERED_FOR.as_secs()).contains(&until);
        let ways = way.into_iter().filter(|entry| counts(entry.until_unix_s)).take(ENTRIES_MAX);
        let paths = path.into_iter().filter(|entry| counts(entry.until_unix_s)).take(ENTRIES_MAX);
        Self {
            blocked: ways.map(|entry| ((entry.here, entry.server), entry.until_unix_s)).collect(),
            paths: paths
                .map(|entry| {
                    let (rate, rtt) = (entry.bytes_per_s as f64, Duration::from_micros(entry.round_trip_us));
                    ((entry.here, entry.server), (Retained { rate, rtt }, entry.until_unix_s))
                })
                .collect(),
        }
    }

    fn into_file(self) -> WaysFile {
        let way = self.blocked.into_iter();
        let way = way.map(|((here, server), until_unix_s)| WayEntry { here, server, way: Name::Tcp, until_unix_s });
        let path = self.paths.into_iter().map(|((here, server), (retained, until_unix_s))| PathEntry {
            here,
            server,
            bytes_per_s: retained.rate as u64,
            round_trip_us: retained.rtt.as_micros() as u64,
            until_unix_s,
        });
        WaysFile { way: way.collect(), path: path.collect() }
    }
}

/// Forgets what expires first as long as there are too many.
fn make_room<T>(entries: &mut BTreeMap<Place, T>, until: impl Fn(&T) -> u64) {
    while entries.len() > ENTRIES_MAX
        && let Some(first) = entries.iter().min_by_key(|(_, entry)| until(entry)).map(|(place, _)| *place)
    {
        entries.remove(&first);
    }
}

fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    fn server(port: u16) -> SocketAddr {
        ([192, 0, 2, 7], port).into()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    /// A file in a folder that is not there yet.
    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("braidcast/ways.toml");
        (dir, path)
    }

    fn learn(path: &Path, at: SystemTime, port: u16, over_tcp: bool) {
        let mut ways = Ways::load_from(path.to_owned(), at);
        ways.on_answered(HERE, server(port), over_tcp);
        ways.save(at).expect("writable");
    }

    fn needs_tcp(path: &Path, at: SystemTime, here: IpAddr, port: u16) -> bool {
        Ways::load_from(path.to_owned(), at).needs_tcp(here, server(port))
    }

    #[test]
    fn a_server_that_answered_over_tcp_is_remembered_for_a_day_and_for_this_network() {
        let (_dir, path) = path();
        learn(&path, now(), 1, true);
        assert_eq!(fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
        let last = now() + REMEMBERED_FOR;
        assert!(needs_tcp(&path, now(), HERE, 1) && needs_tcp(&path, last, HERE, 1));
        assert!(!needs_tcp(&path, last + Duration::from_secs(1), HERE, 1));
        assert!(!needs_tcp(&path, now(), HERE, 2));
        assert!(!needs_tcp(&path, now(), [10, 9, 9, 9].into(), 1));
    }

    #[test]
    fn an_answer_over_udp_is_no_reason_to_write_but_to_forget() {
        let (_dir, path) = path();
        learn(&path, now(), 1, false);
        assert!(!path.exists());
        learn(&path, now(), 1, true);
        learn(&path, now(), 2, true);
        learn(&path, now(), 1, false);
        assert!(!needs_tcp(&path, now(), HERE, 1) && needs_tcp(&path, now(), HERE, 2));
    }

    #[test]
    fn what_a_path_has_delivered_is_remembered_for_a_day_beside_the_way() {
        let (_dir, path) = path();
        let retained = Retained { rate: 4_000_000.0, rtt: Duration::from_millis(50) };
        // Both begin before the other has told anything of the same place.
        let [mut blocked, mut fast] = [0; 2].map(|_| Ways::load_from(path.clone(), now()));
        blocked.on_answered(HERE, server(1), true);
        fast.on_measured(HERE, server(1), retained);
        blocked.save(now()).expect("writable");
        fast.save(now()).expect("writable");
        let later = now() + Duration::from_secs(1);
        learn(&path, later, 1, true);
        let ways = Ways::load_from(path.clone(), later);
        assert!(ways.needs_tcp(HERE, server(1)));
        assert_eq!([1, 2].map(|port| ways.retained(HERE, server(port))), [Some(retained), None]);
        let ways = Ways::load_from(path.clone(), later + REMEMBERED_FOR);
        assert!(ways.needs_tcp(HERE, server(1)), "that was found again");
        assert_eq!(ways.retained(HERE, server(1)), None);
        learn(&path, later, 1, false);
        let ways = Ways::load_from(path, later);
        assert!(!ways.needs_tcp(HERE, server(1)) && ways.retained(HERE, server(1)) == Some(retained));
    }

    #[test]
    fn what_another_process_has_learnt_meanwhile_stays() {
        let (_dir, path) = path();
        let mut slow = Ways::load_from(path.clone(), now());
        slow.on_answered(HERE, server(1), true);
        learn(&path, now(), 2, true);
        slow.save(now()).expect("writable");
        assert!(needs_tcp(&path, now(), HERE, 1) && needs_tcp(&path, now(), HERE, 2));
    }

    #[test]
    fn a_full_file_forgets_what_expires_first_and_can_be_read() {
        let (_dir, path) = path();
        learn(&path, now(), 1, true);
        let later = now() + Duration::from_secs(1);
        let mut ways = Ways::load_from(path.clone(), later);
        for port in 2..=ENTRIES_MAX as u16 + 1 {
            ways.on_answered(HERE, server(port), true);
            let retained = Retained { rate: u64::MAX as f64, rtt: Duration::from_micros(u64::MAX) };
            ways.on_measured(HERE, server(port), retained);
        }
        ways.save(later).expect("writable");
        assert!(fs::metadata(&path).expect("written").len() < FILE_BYTES_MAX);
        assert!(!needs_tcp(&path, later, HERE, 1));
        assert!((2..=ENTRIES_MAX as u16 + 1).all(|port| needs_tcp(&path, later, HERE, port)));
    }

    #[test]
    fn a_broken_file_is_as_good_as_none_and_is_replaced() {
        let (_dir, path) = path();
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        let from_the_future = format!(
            "[[way]]\nhere = '{HERE}'\nserver = '{}'\nway = 'tcp'\nuntil_unix_s = {}",
            server(1),
            unix_s(now() + 2 * REMEMBERED_FOR)
        );
        for text in ["way = 3", "[[way]]\nhere = 'x'", &"#".repeat(1 << 20), &from_the_future] {
            fs::write(&path, text).expect("writable");
            assert!(!needs_tcp(&path, now(), HERE, 1));
        }
        learn(&path, now(), 1, true);
        assert!(needs_tcp(&path, now(), HERE, 1));
    }
}
