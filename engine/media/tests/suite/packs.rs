//! A pack appears whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use braidcast_media::pack::{PARTIAL_SUFFIX, PackError, PackWriter};
use braidcast_media::seal::Sealed;
use braidcast_media::{AssetId, PackLayout};

use crate::sealing::{film, seal};

const ASSET: AssetId = AssetId(0x00c0_ffee);
const BYTES: usize = 307_201;

struct Bench {
    folder: tempfile::TempDir,
    extents: Vec<Vec<u8>>,
    sealed: Sealed,
}

impl Bench {
    fn new() -> Self {
        let (extents, sealed) = seal(&film(BYTES));
        Self { folder: tempfile::tempdir().expect("a temporary folder"), extents, sealed }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("film.pack")
    }

    fn create(&self) -> PackWriter {
        let layout = PackLayout::of_file(BYTES as u64).expect("a short file");
        PackWriter::create(&self.path(), ASSET, layout).expect("the folder is writable")
    }

    fn written(&self) -> PackWriter {
        let mut writer = self.create();
        for (number, extent) in (0..).zip(&self.extents) {
            writer.write_extent(number, extent).expect("the extent has its length");
        }
        writer
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is readable");
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect()
    }
}

fn content(path: &Path) -> Vec<u8> {
    fs::read(path).expect("the file is readable")
}

//= PROTOCOL K1: A pack MUST appear under its name complete or not at all.
#[test]
fn a_pack_has_no_name_before_it_is_whole() {
    let bench = Bench::new();
    let mut writer = bench.create();
    for (number, extent) in (0..).zip(&bench.extents) {
        assert!(!bench.path().exists());
        writer.write_extent(number, extent).expect("the extent has its length");
    }
    assert_eq!(bench.names(), [format!("film.pack.{PARTIAL_SUFFIX}")]);
    writer.finish(&bench.sealed.header.to_bytes()).expect("the pack is whole");
    assert_eq!(bench.names(), ["film.pack"]);
}

#[test]
fn a_pack_given_up_midway_leaves_nothing() {
    let bench = Bench::new();
    let mut writer = bench.create();
    writer.write_extent(0, &bench.extents[0]).expect("the extent has its length");
    drop(writer);
    assert!(bench.names().is_empty());
}

#[test]
fn a_failed_pack_leaves_the_one_that_stood_there() {
    let bench = Bench::new();
    fs::write(bench.path(), b"the pack before").expect("the folder is writable");
    drop(bench.written());
    let mut header = bench.sealed.header.clone();
    header.sealed_hashes[1][0] ^= 1;
    let error = bench.written().finish(&header.to_bytes()).expect_err("an extent is not as the header says");
    assert!(matches!(error, PackError::Extent(1)), "{error}");
    assert_eq!(bench.names(), ["film.pack"]);
    assert_eq!(content(&bench.path()), b"the pack before");
}

#[test]
fn a_whole_pack_replaces_the_one_that_stood_there() {
    let bench = Bench::new();
    fs::write(bench.path(), b"the pack before").expect("the folder is writable");
    bench.written().finish(&bench.sealed.header.to_bytes()).expect("the pack is whole");
    assert_eq!(bench.names(), ["film.pack"]);
    assert_eq!(content(&bench.path()).len() as u64, bench.sealed.header.layout.pack_bytes());
}

#[test]
fn what_an_earlier_attempt_left_does_not_shine_through() {
    let bench = Bench::new();
    let partial = bench.folder.path().join(format!("film.pack.{PARTIAL_SUFFIX}"));
    fs::write(&partial, vec![0xff; 2_000_000]).expect("the folder is writable");
    bench.written().finish(&bench.sealed.header.to_bytes()).expect("the pack is whole");
    let (pack, layout) = (content(&bench.path()), &bench.sealed.header.layout);
    assert_eq!(pack.len() as u64, layout.pack_bytes());
    let behind_last_chunk = layout.extent_offset(2) as usize + layout.sealed_bytes(2);
    assert!(pack[behind_last_chunk..].iter().all(|&byte| byte == 0), "holes are zeros");
}

#[test]
fn a_header_of_another_asset_or_layout_is_refused() {
    let bench = Bench::new();
    let mut other_asset = bench.sealed.header.clone();
    other_asset.asset = AssetId(1);
    let (_, other_length) = seal(&film(BYTES + 1));
    for header in [other_asset, other_length.header] {
        let error = bench.written().finish(&header.to_bytes()).expect_err("the header is not this pack's");
        assert!(matches!(error, PackError::OtherAsset), "{error}");
        assert!(bench.names().is_empty());
    }
    let error = bench.written().finish(b"BRAIDPK0").expect_err("no header at all");
    assert!(matches!(error, PackError::Header(_)), "{error}");
    assert!(bench.names().is_empty());
}

#[test]
fn a_pack_with_a_missing_extent_is_refused() {
    let bench = Bench::new();
    let mut writer = bench.create();
    for number in [2, 0] {
        writer.write_extent(number, &bench.extents[number as usize]).expect("extents come in any order");
    }
    let error = writer.finish(&bench.sealed.header.to_bytes()).expect_err("extent 1 is missing");
    assert!(matches!(error, PackError::Incomplete { missing: 1 }), "{error}");
    assert!(bench.names().is_empty());
}

#[test]
fn an_extent_of_the_wrong_length_or_number_is_refused() {
    let bench = Bench::new();
    let mut writer = bench.create();
    let whole = &bench.extents[0];
    for (number, bytes) in [(0, &whole[1..]), (0, &[][..]), (1, whole), (3, whole), (3, &[]), (u32::MAX, whole)] {
        let error = writer.write_extent(number, bytes).expect_err("neither length nor number fits");
        assert!(matches!(error, PackError::ExtentLength { extent, .. } if extent == number), "{error}");
    }
    writer.write_extent(0, whole).expect("the writer goes on");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let bench = Bench::new();
    let path = bench.folder.path().join("nowhere").join("film.pack");
    let error = PackWriter::create(&path, ASSET, bench.sealed.header.layout).expect_err("no such folder");
    assert!(matches!(error, PackError::Io { .. }));
    assert!(error.to_string().contains("nowhere"), "{error}");
}
