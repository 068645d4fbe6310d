//! Puts the migrations into the program: a table of the files in `migrations`, made anew when one is added.
//!
//! It does what `sqlx::migrate!` does. That macro's crate takes longer to compile than the master.

use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDER: &str = "migrations";

fn main() {
    println!("cargo::rerun-if-changed={FOLDER}");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(FOLDER);
    let entries = fs::read_dir(&folder).expect("the folder of migrations");
    let rows: Vec<String> = entries.map(|entry| row(&entry.expect("a readable folder").path())).collect();
    let table = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("migrations.rs");
    fs::write(table, format!("[{}]", rows.join(","))).expect("cargo's own folder");
}

/// `(1, "start", include_str!(PATH))` for a file `0001_start.sql`.
fn row(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".sql"));
    let parts = name.and_then(|name| name.split_once('_')).and_then(|(n, what)| Some((n.parse::<i64>().ok()?, what)));
    let (version, what) = parts.unwrap_or_else(|| panic!("{} is not named as 0001_start.sql is", path.display()));
    format!("({version}, {:?}, include_str!({path:?}))", what.replace('_', " "))
}
