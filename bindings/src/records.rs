//! Rust's reports as the data classes of `braidcast._records`.

use braidcast_client::download::Report;
use braidcast_player::{FilmInfo, PlayerStats};
use braidcast_proto::v1::{Condition, Video};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The module of the data classes.
const MODULE: &str = "braidcast._records";

#[derive(IntoPyObject)]
struct Film<'a, 'py> {
    name: &'a str,
    container: &'a str,
    bytes: u64,
    codec: &'a str,
    width: u32,
    height: u32,
    pixel_format: &'a str,
    frame_rate: Option<Bound<'py, PyAny>>,
    frame_count: u64,
    duration: f64,
    time_base: Bound<'py, PyAny>,
    rotation: f64,
    sample_aspect_ratio: Option<Bound<'py, PyAny>>,
    tracks: Bound<'py, PyTuple>,
}

#[derive(IntoPyObject)]
struct Track<'a> {
    kind: &'a str,
    codec: &'a str,
    language: Option<&'a str>,
}

#[derive(IntoPyObject)]
struct Stats<'py> {
    bytes: u64,
    redundant_bytes: u64,
    lists: u64,
    redistributions: u64,
    packets_early: u64,
    packets: u64,
    pictures: u64,
    decode_errors: u64,
    pictures_waiting: usize,
    sources: Bound<'py, PyTuple>,
}

#[derive(IntoPyObject)]
struct Source<'a> {
    address: String,
    bytes: u64,
    lost: u64,
    rejected: u64,
    failed: bool,
    state: &'a str,
}

#[derive(IntoPyObject)]
struct DownloadReport<'a, 'py> {
    name: &'a str,
    path: Bound<'py, PyAny>,
    bytes: u64,
    resumed_bytes: u64,
    seconds: f64,
    verified: bool,
    redundant_bytes: u64,
    redistributions: u32,
    sources: Bound<'py, PyTuple>,
}

#[derive(IntoPyObject)]
struct DownloadSource {
    address: String,
    bytes: u64,
    lost: u64,
    rejected: u64,
    failed: bool,
}

#[derive(IntoPyObject)]
struct CatalogueEntry<'a> {
    name: &'a str,
    bytes: u64,
    published_at: u64,
    film: bool,
    replicas_held: u32,
    replicas_wanted: u32,
    condition: &'static str,
    condition_reason: &'a str,
}

pub(crate) fn film<'py>(py: Python<'py>, film: &FilmInfo) -> PyResult<Bound<'py, PyAny>> {
    let tracks = film.tracks.iter().map(|track| {
        let language = Some(track.language.as_str()).filter(|language| !language.is_empty());
        record(py, "Track", Track { kind: track.kind.name(), codec: &track.codec, language })
    });
    let optional_fraction = |ratio: Option<(u32, u32)>| ratio.map(|ratio| fraction(py, ratio)).transpose();
    let fields = Film {
        name: &film.name,
        container: &film.container,
        bytes: film.bytes,
        codec: &film.codec,
        width: film.width,
        height: film.height,
        pixel_format: &film.pixel_format,
        frame_rate: optional_fraction(film.frame_rate)?,
        frame_count: film.pictures,
        duration: film.duration,
        time_base: fraction(py, film.time_base)?,
        rotation: film.rotation,
        sample_aspect_ratio: optional_fraction(film.sample_aspect_ratio)?,
        tracks: tuple(py, tracks)?,
    };
    record(py, "Film", fields)
}

pub(crate) fn stats<'py>(py: Python<'py>, stats: &PlayerStats) -> PyResult<Bound<'py, PyAny>> {
    let sources = stats.film.sources.iter().map(|source| {
        let fields = Source {
            address: source.address.to_string(),
            bytes: source.bytes,
            lost: source.lost,
            rejected: source.rejected,
            failed: source.failed,
            state: source.state,
        };
        record(py, "Source", fields)
    });
    let fields = Stats {
        bytes: stats.film.bytes,
        redundant_bytes: stats.film.redundant_bytes,
        lists: stats.film.lists,
        redistributions: stats.film.redistributions,
        packets_early: stats.film.frames_early,
        packets: stats.frames,
        pictures: stats.pictures,
        decode_errors: stats.decode_errors,
        pictures_waiting: stats.pictures_waiting,
        sources: tuple(py, sources)?,
    };
    record(py, "Stats", fields)
}

pub(crate) fn download_report<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyAny>> {
    let sources = report.sources.iter().map(|source| {
        let fields = DownloadSource {
            address: source.address.to_string(),
            bytes: source.bytes,
            lost: source.lost,
            rejected: source.rejected,
            failed: source.failed,
        };
        record(py, "DownloadSource", fields)
    });
    let fields = DownloadReport {
        name: &report.name,
        path: report.path.as_deref().into_pyobject(py)?,
        bytes: report.bytes,
        resumed_bytes: report.resumed_bytes,
        seconds: report.elapsed.as_secs_f64(),
        verified: report.verified,
        redundant_bytes: report.redundant_bytes,
        redistributions: report.redistributions,
        sources: tuple(py, sources)?,
    };
    record(py, "DownloadReport", fields)
}

pub(crate) fn catalogue_entry<'py>(py: Python<'py>, video: &Video) -> PyResult<Bound<'py, PyAny>> {
    let fields = CatalogueEntry {
        name: &video.name,
        bytes: video.bytes,
        published_at: video.published_at,
        film: video.film.is_some(),
        replicas_held: video.replicas_held,
        replicas_wanted: video.replicas_wanted,
        condition: match video.condition() {
            Condition::Lost => "lost",
            Condition::Damaged => "damaged",
            Condition::Sound | Condition::Unspecified => "sound",
        },
        condition_reason: &video.condition_reason,
    };
    record(py, "CatalogueEntry", fields)
}

/// Calls the data class `name` with `fields`, which are those of a struct.
fn record<'py, F>(py: Python<'py>, name: &str, fields: F) -> PyResult<Bound<'py, PyAny>>
where
    F: IntoPyObject<'py, Target = PyDict, Output = Bound<'py, PyDict>, Error = PyErr>,
{
    py.import(MODULE)?.getattr(name)?.call((), Some(&fields.into_pyobject(py)?))
}

fn tuple<'py>(
    py: Python<'py>,
    records: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, records.collect::<PyResult<Vec<_>>>()?)
}

fn fraction(py: Python<'_>, ratio: (u32, u32)) -> PyResult<Bound<'_, PyAny>> {
    py.import("fractions")?.getattr("Fraction")?.call1(ratio)
}
