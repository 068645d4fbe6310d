//! `get --trace` tells what was done, and `trace` draws it.

use std::fs;
use std::path::Path;

use braidcast_client::trace::Record;

use crate::support::{Dev, Output, Process, sha256_of_file};

const FILM: &str = "film";
/// Lasts about a second at this rate.
const BYTES: u64 = 20_000_000;
const SLOW_KIB_S: &str = "4096";
const USAGE: i32 = 2;
const LOCAL_FILE: i32 = 7;

#[test]
fn a_trace_tells_who_gave_which_extent_and_its_picture_names_each_server() {
    let dev = Dev::of([(FILM, BYTES)]).flag("--rate", SLOW_KIB_S).start();
    let (copy, trace) = (dev.path("copy"), dev.path("trace.jsonl"));
    let report = dev.client().get(FILM).to(&copy).flag("--trace", &trace).finish().report();
    let text = fs::read_to_string(&trace).expect("get has written it");
    let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let Some(Record::Trace(header)) = records.first() else { panic!("{text}") };
    assert!(matches!(records.last(), Some(Record::End(_))), "{text}");
    let extents = records.iter().filter_map(|record| match record {
        Record::Extent(extent) if extent.stream == header.stream => Some(extent),
        _ => None,
    });
    let mut given: Vec<u32> = extents.clone().map(|extent| extent.extent).collect();
    given.sort_unstable();
    assert!(given.iter().copied().eq(0..BYTES.div_ceil(header.extent_bytes) as u32), "each extent once: {given:?}");
    assert_eq!(extents.clone().map(|extent| extent.bytes).sum::<u64>(), BYTES);
    let of_file = extents.clone().flat_map(|extent| extent.origins.iter().map(|&(source, _)| source));
    for extent in extents {
        let chunks: u64 = extent.origins.iter().map(|&(_, chunks)| u64::from(chunks)).sum();
        assert_eq!(chunks, extent.bytes.div_ceil(1_200), "{extent:?}");
        assert!(extent.since <= extent.t);
    }
    let samples = |number: u8| {
        records.iter().filter_map(move |record| match record {
            Record::Sample(sample) if sample.source == number => Some(sample),
            _ => None,
        })
    };
    for (number, source) in report.sources.iter().enumerate() {
        assert_eq!(samples(number as u8).next_back().expect("each is sampled").bytes, source.bytes);
    }

    assert_eq!(draw(&[&trace]).success(), "");
    let svg = fs::read_to_string(dev.path("trace.svg")).expect("beside the trace");
    check_xml(&svg);
    for part in dev.servers() {
        assert!(svg.contains(&part.address.to_string()), "{} is missing", part.address);
    }
    // Who gives anything is the scheduler's choice; the picture shows just those who did.
    let givers = (0..).zip(&report.sources).filter(|(number, _)| of_file.clone().any(|given| given == *number)).count();
    assert_eq!(
        svg.matches("class=\"given\"").count(),
        givers,
        "each server that gave something of the file: {report:?}"
    );
    assert_eq!(draw(&[&trace, Path::new("-o"), Path::new("-")]).success(), svg);
}

#[test]
fn a_cut_trace_is_drawn_and_what_is_none_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let head = r#"{"type":"trace","version":1,"asset":"ab","stream":0,"stream_bytes":5,"extent_bytes":307200,"extents_max":9,"rate_max_bytes_per_s":null}"#;
    fs::write(file("cut"), format!("{head}\n{{\"type\":\"se")).expect("writable");
    draw(&[&file("cut")]).success();
    check_xml(&fs::read_to_string(file("cut.svg")).expect("it was drawn"));
    fs::write(file("film"), b"\x00\x00\x00 ftypisom").expect("writable");
    draw(&[&file("film")]).assert_refused(LOCAL_FILE, &["film", "is no trace", "--trace"]);
    draw(&[&file("none")]).assert_refused(LOCAL_FILE, &["none", "No such file"]);
    draw(&[&file("cut"), Path::new("-o"), &file("cut")]).assert_refused(USAGE, &["would be overwritten"]);
}

#[test]
fn a_trace_that_cannot_be_written_is_told_first_and_one_whose_disk_is_full_disturbs_nobody() {
    let dev = Dev::of([(FILM, BYTES)]).start();
    let copy = dev.path("copy");
    let refused = dev.client().get(FILM).to(&copy).flag("--trace", dev.path("none/trace")).finish();
    let said = refused.failure(LOCAL_FILE);
    assert!(said.contains("none/trace") && !copy.exists(), "{said}");
    let ended = dev.client().get(FILM).to(&copy).flag("--trace", "/dev/full").finish();
    assert!(ended.report().verified);
    assert!(ended.output.stderr.contains("the trace ends here"), "{}", ended.output.stderr);
    assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256);
}

fn draw(arguments: &[&Path]) -> Output {
    Process::start([Path::new("trace")].iter().chain(arguments)).finish()
}

/// Every tag that begins also ends, in the right order, and no other character that XML reserves is about.
fn check_xml(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut parts = text.split('<');
    assert_eq!(parts.next(), Some(""), "it begins with a tag");
    for part in parts {
        let (tag, words) = part.split_once('>').expect("each tag ends");
        assert!(!words.contains('>'), "{words:?}");
        for entity in words.split('&').skip(1) {
            assert!(["lt;", "gt;", "amp;", "quot;"].iter().any(|name| entity.starts_with(name)), "{words:?}");
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().expect("a tag has a name")),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
