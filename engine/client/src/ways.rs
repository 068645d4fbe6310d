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
/// Entries of the file; the one that expires first makes room.
const ENTRIES_MAX: usize = 256;
/// A longer file is not of this program's making.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A server as seen from a network: the address that the route to it picks, and its own.
type Place = (IpAddr, SocketAddr);

/// What is remembered, and what was learnt since.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    path: Option<PathBuf>,
    known: BTreeMap<Place, Known>,
    learnt: BTreeMap<Place, Known>,
}

/// What is known of the way to a server.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// UDP does not get through.
    needs_tcp: bool,
    retained: Option<Retained>,
    until_unix_s: u64,
}

#[derive(Serialize, Deserialize)]
struct WaysFile {
    way: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    here: IpAddr,
    server: SocketAddr,
    way: Name,
    /// The highest rate of late, and the round trip of the empty path.
    bytes_per_s: Option<u64>,
    round_trip_us: Option<u64>,
    until_unix_s: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Udp,
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
        let known = read(&path, unix_s(now));
        Self { path: Some(path), known, learnt: BTreeMap::new() }
    }

    /// Whether UDP from `here` to `server` was found blocked not long ago.
    pub(crate) fn needs_tcp(&self, here: IpAddr, server: SocketAddr) -> bool {
        self.known.get(&(here, server)).is_some_and(|known| known.needs_tcp)
    }

    /// What the path from `here` to `server` delivered not long ago.
    pub(crate) fn retained(&self, here: IpAddr, server: SocketAddr) -> Option<Retained> {
        self.known.get(&(here, server))?.retained
    }

    /// `server` has answered, over TCP or not.
    pub(crate) fn on_answered(&mut self, now: SystemTime, here: IpAddr, server: SocketAddr, over_tcp: bool) {
        let known = self.known.get(&(here, server)).copied();
        if over_tcp || known.is_some_and(|known| known.needs_tcp) {
            self.learn(now, (here, server), |known| known.needs_tcp = over_tcp);
        }
    }

    /// The path to `server` was measured.
    pub(crate) fn on_measured(&mut self, now: SystemTime, here: IpAddr, server: SocketAddr, retained: Retained) {
        self.learn(now, (here, server), |known| known.retained = Some(retained));
    }

    fn learn(&mut self, now: SystemTime, place: Place, change: impl FnOnce(&mut Known)) {
        let until_unix_s = unix_s(now + REMEMBERED_FOR);
        let before = self.learnt.get(&place).or_else(|| self.known.get(&place)).copied();
        let mut known = before.unwrap_or(Known { needs_tcp: false, retained: None, until_unix_s });
        change(&mut known);
        self.learnt.insert(place, Known { until_unix_s, ..known });
    }

    /// Writes what was learnt, if anything, over what the file holds by now.
    pub(crate) fn save(self, now: SystemTime) -> io::Result<()> {
        let Some(path) = self.path.filter(|_| !self.learnt.is_empty()) else { return Ok(()) };
        let mut known = read(&path, unix_s(now));
        known.extend(self.learnt);
        known.retain(|_, known| known.needs_tcp || known.retained.is_some());
        while known.len() > ENTRIES_MAX
            && let Some(first) = known.iter().min_by_key(|(_, known)| known.until_unix_s).map(|(place, _)| *place)
        {
            known.remove(&first);
        }
        let file = WaysFile { way: known.into_iter().map(|(place, known)| Entry::new(place, known)).collect() };
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        private_file::write(&path, text.as_bytes())
    }
}

impl Entry {
    fn new((here, server): Place, known: Known) -> Self {
        Self {
            here,
            server,
            way: if known.needs_tcp { Name::Tcp } else { Name::Udp },
            bytes_per_s: known.retained.map(|retained| retained.rate as u64),
            round_trip_us: known.retained.map(|retained| retained.rtt.as_micros() as u64),
            until_unix_s: known.until_unix_s,
        }
    }

    fn known(&self) -> Known {
        let retained = self.bytes_per_s.zip(self.round_trip_us);
        let retained = retained.map(|(rate, rtt)| Retained { rate: rate as f64, rtt: Duration::from_micros(rtt) });
        Known { needs_tcp: self.way == Name::Tcp, retained, until_unix_s: self.until_unix_s }
    }
}

/// The entries of a file that count at `now`.
fn read(path: &Path, now: u64) -> BTreeMap<Place, Known> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    let file = read.ok().and_then(|_| toml::from_str::<WaysFile>(&text).ok());
    let entries = file.into_iter().flat_map(|file| file.way);
    // What expires later than it could was written by a clock that was wrong.
    let counts = |entry: &Entry| (now..=now + REMEMBERED_FOR.as_secs()).contains(&entry.until_unix_s);
    entries.filter(counts).take(ENTRIES_MAX).map(|entry| ((entry.here, entry.server), entry.known())).collect()
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
        ways.on_answered(at, HERE, server(port), over_tcp);
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
    fn what_a_path_has_delivered_is_remembered_beside_the_way() {
        let (_dir, path) = path();
        let retained = Retained { rate: 4_000_000.0, rtt: Duration::from_millis(50) };
        learn(&path, now(), 1, true);
        let mut ways = Ways::load_from(path.clone(), now());
        assert_eq!(ways.retained(HERE, server(1)), None);
        ways.on_measured(now(), HERE, server(1), retained);
        ways.on_measured(now(), HERE, server(2), retained);
        ways.save(now()).expect("writable");
        let mut ways = Ways::load_from(path.clone(), now());
        assert_eq!([1, 2, 3].map(|port| ways.retained(HERE, server(port))), [Some(retained), Some(retained), None]);
        assert!(ways.needs_tcp(HERE, server(1)) && !ways.needs_tcp(HERE, server(2)));
        ways.on_answered(now(), HERE, server(1), false);
        ways.save(now()).expect("writable");
        let ways = Ways::load_from(path, now());
        assert!(!ways.needs_tcp(HERE, server(1)) && ways.retained(HERE, server(1)) == Some(retained));
    }

    #[test]
    fn what_another_process_has_learnt_meanwhile_stays() {
        let (_dir, path) = path();
        let mut slow = Ways::load_from(path.clone(), now());
        slow.on_answered(now(), HERE, server(1), true);
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
            ways.on_answered(later, HERE, server(port), true);
            let retained = Retained { rate: 1e12, rtt: Duration::from_secs(1_000) };
            ways.on_measured(later, HERE, server(port), retained);
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
