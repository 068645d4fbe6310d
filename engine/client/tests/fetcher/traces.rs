//! What a fetcher tells of what it does.

use std::time::Duration;

use braidcast_client::fetcher::Record;
use braidcast_client::trace::{Extent, Sample, Stall};
use braidcast_media::StreamId;

use crate::asset::Asset;
use crate::world::{DELAY, World};

#[test]
fn a_trace_tells_when_each_extent_came_and_who_gave_which_part() {
    let mut world = World::new(Asset::new(5_000_001), 2);
    world.begin();
    world.download();
    assert!(matches!(world.records.first(), Some(Record::Trace(header)) if header.stream_bytes == 5_000_001));
    let mut extents: Vec<&Extent> = extents(&world).collect();
    assert!(extents.is_sorted_by_key(|extent| extent.t));
    extents.sort_by_key(|extent| extent.extent);
    assert!(extents.iter().map(|extent| extent.extent).eq(0..world.asset.extents()));
    let mut bytes = [0, 0];
    for extent in &extents {
        assert!(extent.since <= extent.t && extent.t <= world.elapsed().as_secs_f64());
        assert_eq!(extent.stream, StreamId::ORIGINAL.0);
        let chunks: u64 = extent.origins.iter().map(|(_, chunks)| u64::from(*chunks)).sum();
        assert_eq!(chunks, extent.bytes.div_ceil(1_200));
        assert!(extent.origins.windows(2).all(|pair| pair[0].0 != pair[1].0), "runs are as long as they can be");
        extent.origins.iter().for_each(|(source, chunks)| bytes[usize::from(*source)] += u64::from(*chunks) * 1_200);
    }
    for (number, source) in world.fetcher.snapshot().sources.iter().enumerate() {
        assert!(bytes[number].abs_diff(source.bytes) < 1_200, "all but the last chunk are of 1,200 bytes");
        assert_eq!(samples(&world, number).last().map(|sample| sample.bytes), Some(source.bytes));
    }
    assert!(world.records.iter().any(|record| matches!(record, Record::Fetched(_))));
}

#[test]
fn each_source_is_sampled_ten_times_a_second() {
    let mut world = World::new(Asset::new(20_000_000), 2);
    world.begin();
    world.run_for(Duration::from_millis(550));
    for number in 0..2 {
        let samples: Vec<&Sample> = samples(&world, number).collect();
        assert_eq!(samples.len(), 5);
        let last = samples[4];
        assert_eq!((last.state.as_ref(), last.phase.as_ref()), ("up", "fixed"));
        assert!(last.bytes > 0 && last.in_flight_bytes <= last.window_bytes, "{last:?}");
        assert!(last.min_rtt_ms.is_none_or(|rtt| rtt >= 2.0 * DELAY.as_secs_f64() * 1e3), "{last:?}");
        assert!(last.rtt_ms.is_some_and(|rtt| rtt >= 2.0 * DELAY.as_secs_f64() * 1e3), "{last:?}");
    }
}

#[test]
fn a_silence_is_a_stall_from_the_last_chunk_to_the_next_and_the_failure_is_told() {
    let mut world = World::new(Asset::new(20_000_000), 1);
    world.begin();
    world.run_until(|world| world.given.len() > 10);
    let silent_at = world.elapsed().as_secs_f64();
    world.servers[0].is_silent = true;
    world.run_for(Duration::from_secs(4));
    let (heard_at, told) = (world.elapsed().as_secs_f64(), world.given.len());
    world.servers[0].is_silent = false;
    world.run_until(|world| world.given.len() > told + 10);
    world.run_for(Duration::from_millis(200));
    let stall = |record: &Record| match record {
        Record::Stall(Stall { t, of }) if of == "fetch" => Some((false, *t)),
        Record::StallEnd(Stall { t, of }) if of == "fetch" => Some((true, *t)),
        _ => None,
    };
    let stalls: Vec<(bool, f64)> = world.records.iter().filter_map(stall).collect();
    let [(false, begin), (true, end)] = stalls[..] else { panic!("{stalls:?}") };
    assert!((silent_at..silent_at + 0.1).contains(&begin), "{begin} for {silent_at}");
    assert!(end >= heard_at, "{end} for {heard_at}");
    let failed =
        world.records.iter().filter(|record| matches!(record, Record::Failed(failed) if failed.kind == "silent"));
    assert!(failed.count() >= 1);
    assert!(world.records.iter().any(|record| matches!(record, Record::Lost(lost) if lost.chunks > 0)));
}

#[test]
fn a_seek_is_told_and_what_was_under_way_before_it_is_not() {
    let mut world = World::new(Asset::new(5_000_000), 1);
    world.begin();
    world.run_until(|world| world.given.len() > 3);
    world.fetcher.abandon(world.now);
    let sought_at = world.elapsed().as_secs_f64();
    world.begin();
    world.run_until(World::is_fetched);
    let seeks: Vec<f64> =
        world.records.iter().filter(|record| matches!(record, Record::Seek(_))).map(Record::t).collect();
    assert_eq!(seeks.len(), 1);
    assert!((seeks[0] - sought_at).abs() < 1e-6);
    assert!(extents(&world).filter(|extent| extent.t > sought_at).all(|extent| extent.since >= sought_at));
}

fn extents(world: &World) -> impl Iterator<Item = &Extent> {
    world.records.iter().filter_map(|record| match record {
        Record::Extent(extent) => Some(extent),
        _ => None,
    })
}

fn samples(world: &World, number: usize) -> impl Iterator<Item = &Sample> {
    world.records.iter().filter_map(move |record| match record {
        Record::Sample(sample) if usize::from(sample.source) == number => Some(sample),
        _ => None,
    })
}
