//! A full disk and a device that fails.

use super::{
    rig::{self, read_all},
    sim::{Keep, SimFs},
};
use crate::disk::DiskLog;
use ports::{AppendRequest, Appended, Effect, ErrorKind, EventLog, PortError};
use std::time::Duration;

async fn append(log: &DiskLog, id: u64, len: usize) -> Result<Appended, PortError> {
    let records = vec![(0, rig::record(id, len))];
    let request = AppendRequest { topic: rig::topic(), records, timeout: Duration::from_mins(1) };
    log.append(request).await.outcomes.remove(0)
}

async fn log_with_two_records(fs: &SimFs) -> DiskLog {
    let log = rig::open(fs);
    rig::create(&log, &rig::topic(), &[]).await.unwrap();
    assert_eq!(append(&log, 1, 100).await.unwrap().offset, 0);
    assert_eq!(append(&log, 2, 100).await.unwrap().offset, 1);
    log
}

async fn values(log: &DiskLog) -> Vec<Vec<u8>> {
    read_all(log, 0).await.unwrap().1
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_the_log_goes_on_when_there_is_room() {
    let fs = SimFs::new(1);
    let log = log_with_two_records(&fs).await;
    fs.leave_room(150);
    let error = append(&log, 3, 400).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    assert!(error.is_safe_to_retry() && error.detail().contains("free room"), "{error}");
    assert_eq!(values(&log).await.len(), 2);
    fs.unlimited_room();
    assert_eq!(append(&log, 4, 400).await.unwrap().offset, 2);
    let log = rig::open(&fs.lose_power(Keep::Anything));
    assert_eq!(values(&log).await, [rig::value(1, 100), rig::value(2, 100), rig::value(4, 400)]);
}

#[tokio::test]
async fn what_a_failed_sync_covered_is_cut_off_and_never_believed() {
    // What of it the device has after all is left to chance.
    for seed in 0..20 {
        let fs = SimFs::new(seed);
        let log = log_with_two_records(&fs).await;
        fs.fail_syncs(1);
        let error = append(&log, 3, 100).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
        assert_eq!(values(&log).await.len(), 2);
        // The same bytes again: a log that trusted the page cache would find them synced.
        assert_eq!(append(&log, 3, 100).await.unwrap().offset, 2);
        assert_eq!(append(&log, 4, 100).await.unwrap().offset, 3);
        let log = rig::open(&fs.lose_power(Keep::Nothing));
        let all: Vec<_> = (1..5).map(|id| rig::value(id, 100)).collect();
        assert_eq!(values(&log).await, all);
    }
}

#[tokio::test]
async fn an_append_that_was_said_to_have_no_effect_never_appears() {
    for seed in 0..20 {
        let fs = SimFs::new(seed);
        let log = log_with_two_records(&fs).await;
        fs.fail_syncs(1);
        assert_eq!(append(&log, 3, 100).await.unwrap_err().effect(), Effect::None);
        let log = rig::open(&fs.lose_power(Keep::Nothing));
        assert_eq!(values(&log).await, [rig::value(1, 100), rig::value(2, 100)], "seed {seed}");
    }
}

#[tokio::test]
async fn a_segment_that_could_not_be_begun_takes_no_records_from_the_one_before() {
    let fs = SimFs::new(5);
    let log = rig::open(&fs);
    rig::create(&log, &rig::topic(), &[("segment.bytes", "4000")]).await.unwrap();
    append(&log, 1, 3500).await.unwrap();
    // The file of the next segment is made, and its name is perhaps not durable.
    fs.fail_syncs(1);
    assert_eq!(append(&log, 2, 500).await.unwrap_err().effect(), Effect::None);
    // This one would have room in the old segment.
    assert_eq!(append(&log, 3, 20).await.unwrap().offset, 1);
    for after in [fs.kill(), fs.lose_power(Keep::Nothing)] {
        assert_eq!(values(&rig::open(&after)).await, [rig::value(1, 3500), rig::value(3, 20)]);
    }
}

#[tokio::test]
async fn a_segment_that_a_killed_process_began_is_durable_before_it_is_used() {
    let fs = SimFs::new(6);
    let log = rig::open(&fs);
    rig::create(&log, &rig::topic(), &[("segment.bytes", "4000")]).await.unwrap();
    append(&log, 1, 3500).await.unwrap();
    // The next call makes the file of the next segment, the one after that would sync its name.
    fs.cut_power_after(1);
    append(&log, 2, 500).await.unwrap_err();
    let fs = fs.kill();
    let log = rig::open(&fs);
    assert_eq!(append(&log, 3, 500).await.unwrap().offset, 1);
    let log = rig::open(&fs.lose_power(Keep::Nothing));
    assert_eq!(values(&log).await, [rig::value(1, 3500), rig::value(3, 500)]);
}

#[tokio::test]
async fn an_append_that_cannot_be_taken_back_is_said_to_be_open() {
    let fs = SimFs::new(3);
    let log = log_with_two_records(&fs).await;
    fs.fail_syncs(1);
    fs.fail_truncates(2);
    let error = append(&log, 3, 100).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown));
    // It is not shown either, and nothing is written behind it until it is cut off.
    assert_eq!(values(&log).await.len(), 2);
    let error = append(&log, 4, 100).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
    assert_eq!(append(&log, 5, 100).await.unwrap().offset, 2);
    let log = rig::open(&fs.lose_power(Keep::Nothing));
    assert_eq!(values(&log).await, [rig::value(1, 100), rig::value(2, 100), rig::value(5, 100)]);
}

#[tokio::test]
async fn a_topic_that_could_not_be_made_leaves_nothing() {
    let fs = SimFs::new(4);
    let log = rig::open(&fs);
    fs.leave_room(0);
    let error = rig::create(&log, &rig::topic(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fs.unlimited_room();
    rig::create(&log, &rig::topic(), &[]).await.unwrap();
    assert_eq!(append(&log, 1, 1).await.unwrap().offset, 0);
}
