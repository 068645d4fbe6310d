//! Networks that damage datagrams, packs that rot and servers that lie: out comes the file that was published, or
//! nothing does and the error names the culprit.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use braidcast_client::control::{Distribution, VideoRef, Window};
use braidcast_media::chunk::Sealer;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES, PACKET_HEADER_BYTES};
use braidcast_media::{ChunkNo, StreamId};

use crate::support::proxy::{Faults, Proxy};
use crate::support::{Client, Cluster, Report, eventually, sha256_of_file, write_film};

const FILM: &str = "film";
/// 66 extents, the last of them short.
const FILM_BYTES: u64 = 20_000_123;
/// In the third extent.
const CHUNK: ChunkNo = ChunkNo(600);
/// What forged chunks are full of.
const FORGED: u8 = 0x66;
/// Exit code of `get` where no server has a right copy.
const INTEGRITY: i32 = 6;

#[test]
fn through_a_network_that_loses_doubles_reorders_and_corrupts_a_twentieth_the_file_comes_whole() {
    const SEED: u64 = 0x1d05_cab1_e000;
    let rig = Rig::start([SEED, SEED + 1, SEED + 2].map(|seed| Proxy::start(seed, Faults::each(50))));
    //= PROTOCOL D2: A client MUST take a chunk's bytes only after its tag verifies.
    let report = rig.get_whole();
    assert!(report.sources.iter().any(|source| source.lost > 0), "{report:?}");
    assert!(report.sources.iter().any(|source| source.rejected > 0), "{report:?}");
    // How much is asked for twice is judged in the simulator, where nobody is late for want of a CPU: its scenario "a
    // network with every fault costs little that comes twice".
}

#[test]
fn a_pack_damaged_on_one_of_three_servers_does_no_harm() {
    let rig = Rig::of_perfect(3);
    for chunk in every_train() {
        rig.server_pack(1).damage(StreamId::ORIGINAL, chunk);
    }
    // The others cannot be reached until it has sent something, so it is asked, however late it is.
    let (report, _) = rig.get_from_first_then_others();
    rig.assert_whole(&report);
    let rejected = |number: usize| rig.part_of(number, &report).rejected;
    assert!(rejected(1) > 0, "its damaged chunks were asked for: {report:?}");
    assert_eq!((rejected(2), rejected(3)), (0, 0), "{report:?}");
}

#[test]
fn the_only_holder_of_a_damaged_pack_is_told_and_mends_it_from_the_origin() {
    let rig = Rig::of_perfect(1);
    let (pack, origin) = (rig.server_pack(1), rig.origin_pack());
    // In extents far apart: the second is found while the first is being mended.
    let damaged = [CHUNK, ChunkNo(16_000)];
    for chunk in damaged {
        pack.damage(StreamId::ORIGINAL, chunk);
    }
    let report = rig.get_whole();
    assert!(rig.part_of(1, &report).rejected > 0, "{report:?}");
    for chunk in damaged {
        assert!(pack.packet(StreamId::ORIGINAL, chunk) == origin.packet(StreamId::ORIGINAL, chunk), "mended on disk");
    }
}

#[test]
fn where_the_origin_is_damaged_too_the_error_names_server_and_chunk() {
    let rig = Rig::of_perfect(1);
    rig.server_pack(1).damage(StreamId::ORIGINAL, CHUNK);
    rig.origin_pack().damage(StreamId::ORIGINAL, CHUNK);
    rig.assert_no_copy(&["is damaged there"]);
}

#[test]
fn where_the_origin_has_lost_the_pack_the_error_names_server_and_chunk() {
    let rig = Rig::of_perfect(1);
    rig.server_pack(1).damage(StreamId::ORIGINAL, CHUNK);
    std::fs::remove_file(rig.origin_path()).expect("the origin has it");
    rig.assert_no_copy(&["is damaged there"]);
    let kept = rig.server_path(1).with_extension("filling");
    assert!(kept.exists(), "the rest of what may be the last copy is kept");
}

#[test]
fn a_server_that_forges_chunks_is_found_out_by_the_extents_hash_and_banned() {
    let mut rig = Rig::of_perfect(3);
    // The key is every viewer's, so that a viewer and a server together can make chunks that open.
    for chunk in [CHUNK, ChunkNo(CHUNK.0 + 1), ChunkNo(CHUNK.0 + 70)] {
        rig.forge(1, StreamId::ORIGINAL, chunk);
    }
    let outcome = rig.get_from_first_then_others();
    //= PROTOCOL D3: A client MUST NOT call an extent verified before its BLAKE3 hash equals the one that the master's roots vouch for.
    rig.assert_banned_and_completed(outcome);
    let server = rig.client().server_id(rig.address(1));
    eventually("the master is told, and tells its operator", || {
        let log = rig.cluster.master().stderr();
        log.lines().any(|line| line.contains("forges chunks") && line.contains(&server)).then_some(())
    });
}

/// What `--verify packets` gives up, and nothing else: what is damaged without the key does not open.
#[test]
fn where_packets_alone_are_verified_a_forgery_by_who_holds_the_key_goes_through_and_damage_does_not() {
    let rig = Rig::of_perfect(1);
    rig.forge(1, StreamId::ORIGINAL, CHUNK);
    rig.server_pack(1).damage(StreamId::ORIGINAL, ChunkNo(0));
    let report = rig.client().get(FILM).flag("--verify", "packets").to(&rig.copy()).finish().report();
    assert!(!report.verified && rig.part_of(1, &report).rejected > 0, "{report:?}");
    assert_eq!(report.source_bytes(), FILM_BYTES, "no hashes were fetched: {report:?}");
    let (mut film, copy) = (read(&rig.cluster.path(FILM)), read(&rig.copy()));
    film[CHUNK.0 as usize * CHUNK_BYTES..][..CHUNK_BYTES].fill(FORGED);
    assert!(film == copy, "all else is what was published");
}

#[test]
fn a_forger_among_the_givers_of_an_extent_is_told_from_the_honest_ones() {
    let rig = Rig::of_perfect(3);
    for chunk in every_train() {
        rig.forge(1, StreamId::ORIGINAL, chunk);
    }
    // The others join as soon as it has sent its first chunks, so that they give the rest of the extent.
    let outcome = rig.get_from_first_then_others();
    rig.assert_banned_and_completed(outcome);
}

#[test]
fn a_forged_hash_list_is_found_out_by_the_masters_roots() {
    let rig = Rig::of_perfect(3);
    rig.forge(1, StreamId::PLAIN_HASHES, ChunkNo(0));
    let outcome = rig.get_from_first_then_others();
    rig.assert_banned_and_completed(outcome);
}

#[test]
fn where_only_a_forger_holds_the_film_nothing_comes_out() {
    let rig = Rig::of_perfect(1);
    rig.forge(1, StreamId::ORIGINAL, CHUNK);
    let chunks = rig.failure();
    assert!(chunks.contains("forged") && chunks.contains(&rig.address(1).to_string()), "{chunks}");
}

#[test]
fn what_is_written_to_standard_output_before_a_forgery_is_right() {
    let rig = Rig::of_perfect(1);
    rig.forge(1, StreamId::ORIGINAL, CHUNK);
    let mut get = rig.client().get(FILM).piped().start();
    let mut out = Vec::new();
    get.take_stdout().read_to_end(&mut out).expect("a pipe is readable to its end");
    get.wait().failure(INTEGRITY);
    let film = std::fs::read(rig.cluster.path(FILM)).expect("it was published");
    assert!(out.len() <= CHUNK.extent().first_chunk().0 as usize * CHUNK_BYTES);
    assert!(film.starts_with(&out), "what came out is the film's beginning");
}

#[test]
fn where_only_a_forger_of_the_hash_list_holds_the_film_nothing_comes_out() {
    let rig = Rig::of_perfect(1);
    rig.forge(1, StreamId::PLAIN_HASHES, ChunkNo(0));
    let error = rig.failure();
    assert!(error.contains("forged") && error.contains(&rig.address(1).to_string()), "{error}");
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A chunk of every PULL that a client may send: whatever a server is asked for, one of them is in it.
fn every_train() -> impl Iterator<Item = ChunkNo> {
    let chunks = FILM_BYTES.div_ceil(CHUNK_BYTES as u64) as u32;
    (0..chunks).step_by(17).map(ChunkNo)
}

/// A master and servers that hold a film, each behind a proxy.
struct Rig {
    cluster: Cluster,
    proxies: Vec<Proxy>,
    sha256: String,
    list: Distribution,
}

impl Rig {
    /// Of so many servers, on a network without faults.
    fn of_perfect(servers: u64) -> Self {
        Self::start((0..servers).map(|seed| Proxy::start(seed, Faults::NONE)))
    }

    fn start(proxies: impl IntoIterator<Item = Proxy>) -> Self {
        let mut cluster = Cluster::start(&[]);
        let proxies: Vec<Proxy> = proxies.into_iter().collect();
        for proxy in &proxies {
            let server = cluster.add_server(&["--shards", "1", "--advertise", &proxy.address().to_string()]);
            proxy.connect(server);
        }
        cluster.wait_listed(proxies.len());
        let film = cluster.path(FILM);
        let sha256 = write_film(&film, FILM_BYTES, 1);
        cluster.publish(&film, FILM, proxies.len() as u32);
        let list = cluster.client().ask(async |control| control.distribution(VideoRef::Name(FILM), Window::ALL).await);
        let rig = Self { cluster, proxies, sha256, list: list.expect("a list of servers") };
        for number in 1..=rig.proxies.len() {
            eventually("the pack has its name", || rig.server_path(number).exists().then_some(()));
        }
        rig
    }

    fn client(&self) -> &Client {
        self.cluster.client()
    }

    /// Where clients find server `number`, from 1.
    fn address(&self, number: usize) -> SocketAddr {
        self.proxies[number - 1].address()
    }

    fn copy(&self) -> PathBuf {
        self.cluster.path("copy")
    }

    fn server_path(&self, number: usize) -> PathBuf {
        self.cluster.path(&format!("server-{number}/{}.pack", self.list.asset))
    }

    fn origin_path(&self) -> PathBuf {
        self.cluster.path(&format!("master/origin/{}.pack", self.list.asset))
    }

    fn server_pack(&self, number: usize) -> PackFile<'_> {
        PackFile::open(&self.server_path(number), &self.list)
    }

    fn origin_pack(&self) -> PackFile<'_> {
        PackFile::open(&self.origin_path(), &self.list)
    }

    /// Has server `number` send, in place of a chunk, another that opens under the content key.
    fn forge(&self, number: usize, stream: StreamId, chunk: ChunkNo) {
        let layout = self.list.layout.stream(stream).expect("films have this stream");
        let payload = vec![FORGED; layout.payload_bytes(chunk).expect("the stream has this chunk")];
        let mut packet = [0; PACKET_BYTES];
        Sealer::new(&self.list.content_key, self.list.asset).seal(stream, chunk, &payload, &mut packet);
        self.server_pack(number).write(stream, chunk, &packet);
    }

    /// Fetches the film and asserts that every byte is right.
    fn get_whole(&self) -> Report {
        let report = self.client().get(FILM).to(&self.copy()).finish().report();
        self.assert_whole(&report);
        report
    }

    /// Fetches the film; the other servers can be reached only after the first has sent something.
    fn get_from_first_then_others(&self) -> (Report, String) {
        let (first, others) = self.proxies.split_first().expect("there are servers");
        others.iter().for_each(|proxy| proxy.cut(true));
        let get = self.client().get(FILM).to(&self.copy()).start();
        eventually("the first server sends", || (first.data_to_clients() > 0).then_some(()));
        others.iter().for_each(|proxy| proxy.cut(false));
        let ended = get.wait();
        (ended.report(), ended.output.stderr)
    }

    /// Asserts that the download was completed from the others, and that server 1 was named as a forger.
    fn assert_banned_and_completed(&self, (report, stderr): (Report, String)) {
        self.assert_whole(&report);
        // Others may have failed, too, if they could not be reached for long; nobody else lied.
        assert!(report.failed().contains(&self.address(1)), "{report:?}");
        let bans: Vec<&str> = stderr.lines().filter(|line| line.contains("banned")).collect();
        let names_it = |line: &&str| line.contains(&self.address(1).to_string());
        assert!(!bans.is_empty() && bans.iter().all(names_it), "{stderr}");
    }

    fn assert_whole(&self, report: &Report) {
        assert!(report.verified);
        assert_eq!(report.bytes, FILM_BYTES);
        assert_eq!(sha256_of_file(&self.copy()), self.sha256);
    }

    /// What `get` says when no server has a right copy. Nothing may stand under the name of the output.
    fn failure(&self) -> String {
        let ended = self.client().get(FILM).to(&self.copy()).finish();
        let said = ended.failure(INTEGRITY).to_owned();
        assert!(!self.copy().exists(), "no file that is not right takes its name");
        said
    }

    /// Asserts that `get` fails, and that its error names the one server and the one chunk.
    fn assert_no_copy(&self, words: &[&str]) {
        let said = self.failure();
        let (address, chunk) = (self.address(1).to_string(), format!("chunk {CHUNK} of stream 0"));
        for word in [address.as_str(), &chunk].iter().chain(words) {
            assert!(said.contains(word), "{word:?} is missing in {said}");
        }
    }

    fn part_of<'a>(&self, number: usize, report: &'a Report) -> &'a crate::support::SourceReport {
        let found = report.sources.iter().find(|source| source.address == self.address(number));
        found.unwrap_or_else(|| panic!("server {number} is missing in {report:?}"))
    }
}

/// A pack that is tampered with in place, while it is served.
struct PackFile<'a> {
    file: File,
    list: &'a Distribution,
}

impl<'a> PackFile<'a> {
    fn open(path: &Path, list: &'a Distribution) -> Self {
        let file = File::options().read(true).write(true).open(path);
        Self { file: file.unwrap_or_else(|error| panic!("{}: {error}", path.display())), list }
    }

    fn offset(&self, stream: StreamId, chunk: ChunkNo) -> u64 {
        self.list.layout.chunk_offset(stream, chunk).expect("the pack has this chunk")
    }

    fn packet(&self, stream: StreamId, chunk: ChunkNo) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        self.file.read_exact_at(&mut packet, self.offset(stream, chunk)).expect("a pack is as long as its layout");
        packet
    }

    fn write(&self, stream: StreamId, chunk: ChunkNo, packet: &[u8; PACKET_BYTES]) {
        self.file.write_all_at(packet, self.offset(stream, chunk)).expect("writable");
    }

    /// Changes some bytes of a chunk; its header stays.
    fn damage(&self, stream: StreamId, chunk: ChunkNo) {
        let mut packet = self.packet(stream, chunk);
        packet[PACKET_HEADER_BYTES..][300..340].iter_mut().for_each(|byte| *byte = !*byte);
        self.write(stream, chunk, &packet);
    }
}
