//! x
mod support;
use crate::support::Dev;
#[test]
fn x() {
    let dev = Dev::of([("film", 200_000_000)]).start();
    let got = dev.client().get("film").to(&dev.path("copy")).finish();
    println!("{:?} {:?} {:?}", got.report(), got.elapsed, got.peak_rss_kib);
    println!("{:?}", dev.client().sent_bytes());
}
