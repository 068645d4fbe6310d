//! Files mapped for sending, and the trains made of them.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::pattern::{SEGMENT_BYTES, patterned_file};
use braidcast_io::limits::{REGIONS_PER_TRAIN_MAX, TAIL_BYTES_MAX, TRAIN_BYTES_MAX, TRAINS_MAX};
use braidcast_io::{MappedFile, Outbox, Train, TrainError};

const CHUNKS: u32 = 100;
const LEN: usize = CHUNKS as usize * SEGMENT_BYTES;

fn mapped() -> MappedFile {
    MappedFile::new(patterned_file(CHUNKS)).expect("mapped")
}

fn to() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

#[test]
fn a_region_lies_within_its_file() {
    let file = mapped();
    assert_eq!(file.len(), LEN);
    assert_eq!(file.region(0, LEN).map(|r| r.len()), Some(LEN));
    assert_eq!(file.region(LEN as u64 - 1, 1).map(|r| r.len()), Some(1));
    assert!(file.region(0, LEN + 1).is_none());
    assert!(file.region(LEN as u64, 1).is_none());
    assert!(file.region(5, 0).is_none());
    assert!(file.region(u64::MAX, 2).is_none());
    assert!(file.region(2, usize::MAX).is_none());
}

#[test]
fn an_empty_file_has_no_region() {
    let file = MappedFile::new(tempfile::tempfile().unwrap()).expect("mapped");
    assert!(file.is_empty());
    assert!(file.region(0, 1).is_none());
}

#[test]
fn populate_reads_what_is_there_and_tells_what_is_not() {
    let file = mapped();
    file.populate(0, LEN).expect("all of it is there");
    file.populate(1_233, 5_000).expect("at any offset");
    assert_eq!(file.populate(0, LEN + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(file.populate(0, 0).unwrap_err().kind(), ErrorKind::InvalidInput);

    file.file().set_len(8_192).expect("cut short");
    file.populate(0, 8_192).expect("the rest is there");
    let error = file.populate(8_192, 4_096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn a_train_takes_eight_regions_and_then_a_tail() {
    let file = mapped();
    let region = file.region(0, SEGMENT_BYTES).unwrap();
    let mut train = Train::new(to());
    for _ in 0..REGIONS_PER_TRAIN_MAX {
        train.push_region(region.clone()).expect("within the bound");
    }
    assert_eq!(train.push_region(region.clone()), Err(TrainError::TooManyRegions));
    train.push_tail(b"end").expect("the tail has its own place");
    assert_eq!(train.bytes(), REGIONS_PER_TRAIN_MAX * SEGMENT_BYTES + 3);
    assert_eq!(train.regions().count(), REGIONS_PER_TRAIN_MAX);
    assert_eq!(train.tail(), b"end");
    assert_eq!(train.push_region(region), Err(TrainError::AfterTail));
    assert_eq!(train.push_tail(b"end"), Err(TrainError::AfterTail));
}

#[test]
fn nothing_follows_the_tail_of_a_short_train_either() {
    let mut train = Train::datagram(to(), b"end").unwrap();
    assert_eq!(train.push_region(mapped().region(0, 1).unwrap()), Err(TrainError::AfterTail));
    assert_eq!(train.bytes(), 3);
}

#[test]
fn a_train_is_as_long_as_one_send_can_be() {
    let file = mapped();
    let mut train = Train::new(to());
    train.push_region(file.region(0, TRAIN_BYTES_MAX).unwrap()).expect("just fits");
    assert_eq!(train.push_tail(b"x"), Err(TrainError::TooLong { bytes: TRAIN_BYTES_MAX + 1 }));
    assert_eq!(train.bytes(), TRAIN_BYTES_MAX);
    let whole = file.region(0, TRAIN_BYTES_MAX + 1).unwrap();
    assert_eq!(Train::new(to()).push_region(whole), Err(TrainError::TooLong { bytes: TRAIN_BYTES_MAX + 1 }));
}

#[test]
fn a_tail_is_short() {
    Train::datagram(to(), &[1; TAIL_BYTES_MAX]).expect("just fits");
    let error = |bytes: &[u8]| Train::datagram(to(), bytes).unwrap_err();
    assert_eq!(error(&[1; TAIL_BYTES_MAX + 1]), TrainError::TailLength { bytes: TAIL_BYTES_MAX + 1 });
    assert_eq!(error(&[]), TrainError::TailLength { bytes: 0 });
}

#[test]
fn a_full_outbox_gives_the_train_back() {
    let mut outbox = Outbox::new();
    for n in 0..TRAINS_MAX {
        assert_eq!(outbox.room(), TRAINS_MAX - n);
        outbox.push(Train::datagram(to(), &[n as u8]).unwrap()).expect("room");
    }
    let back = outbox.push(Train::datagram(to(), b"late").unwrap()).unwrap_err();
    assert_eq!(back.tail(), b"late");
    assert_eq!(outbox.pop().unwrap().tail(), [0]);
    outbox.push(back).expect("room again");
}
