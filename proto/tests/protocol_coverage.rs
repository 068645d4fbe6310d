//! Every tagged sentence of PROTOCOL.md is quoted, word for word, at code that obeys it and at a test that proves it.
//!
//! A quote is one line: two slashes, `= PROTOCOL`, the tag, a colon, the sentence. Where it stands decides what it is: in a
//! folder `tests`, in a file `tests.rs` or behind `#[cfg(test)] mod` it is a proof, anywhere else it is the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the workspace that hold code or tests of the data plane.
const FOLDERS: [&str; 3] = ["engine", "bindings", "proto"];

/// Split, so that this file holds no quote of its own.
const QUOTE: &str = concat!("//", "= PROTOCOL ");

#[test]
fn every_tagged_sentence_is_obeyed_and_proved() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("proto/ stands in the workspace");
    let protocol = fs::read_to_string(root.join("proto/PROTOCOL.md")).expect("PROTOCOL.md is readable");
    let sentences = sentences(&protocol);
    assert!(sentences.len() > 30, "PROTOCOL.md has more tagged sentences than the {} found", sentences.len());
    let mut files = Vec::new();
    for folder in FOLDERS {
        rust_files(&root.join(folder), &mut files);
    }
    let mut quotes = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        quotes.extend(quotes_in(file.strip_prefix(root).expect("files are listed below the root"), &text));
    }
    let faults = faults(&sentences, &quotes);
    assert!(faults.is_empty(), "{faults}");
}

/// The tagged sentences by their tags.
fn sentences(protocol: &str) -> BTreeMap<&str, &str> {
    let mut sentences = BTreeMap::new();
    for line in protocol.lines() {
        let Some((tag, sentence)) = line.strip_prefix("- [").and_then(|rest| rest.split_once("] ")) else { continue };
        assert!(sentence.contains("MUST"), "{tag} has a tag and no MUST: {sentence}");
        assert!(sentences.insert(tag, sentence).is_none(), "two sentences have the tag {tag}");
    }
    sentences
}

/// A sentence as it is quoted somewhere.
#[derive(Debug, PartialEq, Eq)]
struct Quote {
    tag: String,
    sentence: String,
    proves: bool,
    place: String,
}

/// All quotes in a file.
fn quotes_in(file: &Path, text: &str) -> Vec<Quote> {
    let parts: Vec<_> = file.iter().collect();
    let mut proves = parts.iter().any(|part| *part == "tests" || *part == "tests.rs");
    let mut quotes = Vec::new();
    let mut before = "";
    for (number, line) in text.lines().map(str::trim).enumerate() {
        // Tests stand last in a file; a declaration that ends with a semicolon has its body in another.
        proves |= before == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
        before = line;
        let Some(quote) = line.strip_prefix(QUOTE) else { continue };
        let (tag, sentence) = quote.split_once(": ").unwrap_or((quote, ""));
        let place = format!("{}:{}", file.display(), number + 1);
        quotes.push(Quote { tag: tag.to_owned(), sentence: sentence.to_owned(), proves, place });
    }
    quotes
}

/// What is wrong, a line each; empty if nothing is.
fn faults(sentences: &BTreeMap<&str, &str>, quotes: &[Quote]) -> String {
    let mut faults = String::new();
    for quote in quotes {
        match sentences.get(quote.tag.as_str()) {
            None => writeln!(faults, "{}: PROTOCOL.md has no sentence {}", quote.place, quote.tag),
            Some(sentence) if *sentence != quote.sentence => {
                writeln!(faults, "{}: {} is quoted otherwise than it reads: {sentence}", quote.place, quote.tag)
            }
            Some(_) => Ok(()),
        }
        .expect("a string takes all that is written");
    }
    for (proves, lack) in [(false, "obeyed by no code"), (true, "proved by no test")] {
        let covered: BTreeSet<&str> = quotes.iter().filter(|q| q.proves == proves).map(|q| q.tag.as_str()).collect();
        for (tag, sentence) in sentences.iter().filter(|(tag, _)| !covered.contains(*tag)) {
            writeln!(faults, "{tag} is {lack}: {sentence}").expect("a string takes all that is written");
        }
    }
    faults
}

/// All Rust files below `folder`, in a fixed order; none if it is not there.
fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("folders are readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn quote(tag: &str, sentence: &str) -> String {
    format!("    {QUOTE}{tag}: {sentence}\n")
}

#[test]
fn a_quote_proves_only_where_tests_stand() {
    let line = quote("X1", "It MUST.");
    let proves = |file: &str, text: &str| {
        let found: Vec<bool> = quotes_in(Path::new(file), text).iter().map(|quote| quote.proves).collect();
        assert_eq!(found.len(), 1, "{text}");
        found[0]
    };
    assert!(!proves("engine/a/src/lib.rs", &line));
    assert!(proves("engine/a/tests/suite/a.rs", &line));
    assert!(proves("engine/a/src/packet/tests.rs", &line));
    assert!(proves("engine/a/src/lib.rs", &format!("#[cfg(test)]\nmod tests {{\n{line}}}")));
    assert!(!proves("engine/a/src/lib.rs", &format!("#[cfg(test)]\nmod tests;\n{line}")));
    assert!(!proves("engine/a/src/lib.rs", &format!("{line}#[cfg(test)]\nmod tests {{}}")));
}

#[test]
fn faults_name_tag_and_place() {
    let sentences = sentences("- [X1] It MUST.\n- [X2] They MUST.\n- a point without a tag\n");
    let quoted = |text: &str| faults(&sentences, &quotes_in(Path::new("engine/a/src/lib.rs"), text));
    let both = quote("X1", "It MUST.") + &quote("X2", "They MUST.");
    assert_eq!(quoted(&format!("{both}#[cfg(test)]\nmod tests {{\n{both}}}")), "");
    assert_eq!(quoted(&both), "X1 is proved by no test: It MUST.\nX2 is proved by no test: They MUST.\n");
    let otherwise = quoted(&quote("X1", "It must."));
    assert!(otherwise.contains("engine/a/src/lib.rs:1: X1 is quoted otherwise than it reads: It MUST."), "{otherwise}");
    let unknown = quoted(&quote("X3", "We MUST."));
    assert!(unknown.contains("engine/a/src/lib.rs:1: PROTOCOL.md has no sentence X3"), "{unknown}");
    assert!(unknown.contains("X2 is obeyed by no code: They MUST."), "{unknown}");
}
