//! Finding places, and what trimming and deleting do to readers.

use crate::{
    conformance::{
        Backend,
        backend::{GENEROUS, eventually, expect_kind, read_until, within},
    },
    fixtures,
};
use ports::{ErrorKind, Offset, Position, ReadLimits, Record, Timestamp, TopicName, TopicPartition};
use std::time::Duration;

async fn locate(backend: &Backend, partition: &TopicPartition, at: Position) -> Offset {
    let found = backend.log().locate(&partition.topic, &[(partition.partition, at)]).await;
    let found = found.expect("the place can be found");
    assert_eq!(found.len(), 1, "one offset a position");
    found[0]
}

/// Appends records of these times, each in a request of its own, so that logs that keep times a batch are
/// asked for what they promise.
async fn append_at(backend: &Backend, partition: &TopicPartition, times: &[i64]) -> Vec<Offset> {
    let mut offsets = Vec::new();
    for time in times {
        let record = Record { timestamp: Timestamp(*time), ..fixtures::record(time.to_string()) };
        offsets.push(backend.append(&partition.topic, vec![(partition.partition, record)]).await[0].offset);
    }
    offsets
}

pub(super) async fn a_time_finds_the_first_record_as_late(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    let base = fixtures::now().0 - 3_600_000;
    let times = [base, base + 1000, base + 1000, base + 5000];
    let offsets = append_at(&backend, &partition, &times).await;
    // Two in one batch.
    let of = |time| (0, Record { timestamp: Timestamp(base + time), ..fixtures::record("batch") });
    let batch = backend.append(&partition.topic, vec![of(6000), of(7000)]).await;
    for (time, expected) in [
        (0, offsets[0]),
        (base - 1, offsets[0]),
        (base, offsets[0]),
        (base + 1, offsets[1]),
        (base + 1000, offsets[1]),
        (base + 1001, offsets[3]),
        (base + 5000, offsets[3]),
        (base + 5001, batch[0].offset),
        (base + 6001, batch[1].offset),
        (base + 7000, batch[1].offset),
        (base + 7001, batch[1].offset + 1),
    ] {
        let found = locate(&backend, &partition, Position::Timestamp(Timestamp(time))).await;
        assert_eq!(found, expected, "the first at {} ms", time - base);
    }
}

pub(super) async fn a_time_finds_the_first_record_also_where_times_go_back(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    let base = fixtures::now().0 - 3_600_000;
    let offsets = append_at(&backend, &partition, &[base + 100, base + 300, base + 200, base + 400]).await;
    for (time, expected) in [(200, offsets[1]), (300, offsets[1]), (301, offsets[3]), (50, offsets[0])] {
        let found = locate(&backend, &partition, Position::Timestamp(Timestamp(base + time))).await;
        assert_eq!(found, expected, "the first at {time} ms");
    }
}

pub(super) async fn positions_of_several_partitions_are_answered_in_order(backend: Backend) {
    let topic = backend.topic(3).await;
    let base = fixtures::now().0 - 3_600_000;
    for number in 0..3_u32 {
        let partition = TopicPartition::new(topic.clone(), number);
        let times: Vec<_> = (0..=i64::from(number)).map(|nth| base + nth * 1000).collect();
        append_at(&backend, &partition, &times).await;
    }
    let at = [
        (2, Position::Latest),
        (0, Position::Earliest),
        (1, Position::Timestamp(Timestamp(base + 500))),
        (0, Position::Latest),
        (2, Position::Timestamp(Timestamp(base + 2000))),
        (1, Position::Latest),
    ];
    let found = backend.log().locate(&topic, &at).await.expect("the places can be found");
    assert_eq!(found, [3, 0, 1, 1, 2, 2]);
    assert!(backend.log().locate(&topic, &[]).await.expect("nothing is nothing wrong").is_empty());
}

pub(super) async fn an_empty_partition_begins_where_it_ends(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    for at in [Position::Earliest, Position::Latest, Position::Timestamp(fixtures::now())] {
        assert_eq!(locate(&backend, &partition, at).await, 0);
    }
}

pub(super) async fn an_unknown_partition_cannot_be_located(backend: Backend) {
    let known = backend.topic(1).await;
    let at = [(0, Position::Earliest), (1, Position::Latest)];
    expect_kind(backend.log().locate(&known, &at).await, ErrorKind::NotFound);
    for at in [Position::Earliest, Position::Latest, Position::Timestamp(Timestamp(0))] {
        let nowhere = fixtures::topic_name("nowhere");
        expect_kind(backend.log().locate(&nowhere, &[(0, at)]).await, ErrorKind::NotFound);
    }
}

async fn trim(backend: &Backend, topic: &TopicName, before: Offset) {
    let earliest = backend.admin().trim(topic, &[(0, before)]).await.expect("the topic can be trimmed");
    assert_eq!(earliest, [before]);
}

pub(super) async fn trimmed_records_are_out_of_range_and_the_reader_goes_on_at_the_earliest(
    backend: Backend,
) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    backend.append_values(&partition, (0..10).map(|nth| nth.to_string())).await;
    trim(&backend, &partition.topic, 6).await;
    let mut reader = backend.open(&partition, 2).await;
    for _ in 0..2 {
        expect_kind(within("a read", reader.next(GENEROUS)).await, ErrorKind::OutOfRange);
    }
    let earliest = locate(&backend, &partition, Position::Earliest).await;
    assert_eq!(earliest, 6);
    reader.seek(earliest).await.expect("the cursor can be moved");
    let stored = read_until(&mut *reader, earliest, 10).await;
    assert_eq!(stored.iter().map(|it| it.offset).collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert_eq!(locate(&backend, &partition, Position::Timestamp(Timestamp(0))).await, 6);
    // All of it.
    trim(&backend, &partition.topic, 10).await;
    assert_eq!(locate(&backend, &partition, Position::Earliest).await, 10);
    assert_eq!(backend.append_values(&partition, ["more"]).await[0].offset, 10);
}

pub(super) async fn a_trim_reaches_a_reader_that_is_under_way(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    backend.append_values(&partition, (0..10).map(|nth| nth.to_string())).await;
    let mut reader = backend.open(&partition, 0).await;
    let one = ReadLimits { records_max: 1, ..GENEROUS };
    let fetched = within("a read", reader.next(one)).await.expect("the partition can be read");
    assert_eq!(fetched.records[0].offset, 0);
    trim(&backend, &partition.topic, 10).await;
    backend.append_values(&partition, ["new"]).await;
    // What was fetched ahead may still come; then the reader learns of the trim, and goes on behind it.
    within("reading on after the trim", async {
        loop {
            match reader.next(GENEROUS).await {
                Ok(fetched) if fetched.records.iter().any(|it| it.offset == 10) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
                    reader.seek(10).await.expect("the cursor can be moved");
                }
            }
        }
    })
    .await;
}

pub(super) async fn a_deleted_topic_is_gone_for_its_reader(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    backend.append_values(&partition, ["a"]).await;
    let mut reader = backend.open(&partition, 0).await;
    read_until(&mut *reader, 0, 1).await;
    let waiting = tokio::spawn(async move {
        loop {
            let limits = ReadLimits { wait_max: Duration::from_secs(1), ..GENEROUS };
            match reader.next(limits).await {
                Ok(fetched) => assert!(fetched.records.is_empty(), "nothing new was appended"),
                Err(error) if error.is_safe_to_retry() => {}
                Err(error) => return error,
            }
        }
    });
    backend.admin().delete(&partition.topic).await.expect("the topic can be deleted");
    let error = within("learning of the deletion", waiting).await.expect("the reader ends");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let outcome = eventually("an append to a deleted topic is refused", || async {
        backend.try_append(&partition.topic, vec![(0, fixtures::record("b"))]).await.remove(0).err()
    });
    assert_eq!(outcome.await.kind(), ErrorKind::NotFound);
}

pub(super) async fn a_topic_made_again_has_nothing_of_the_old_one(backend: Backend) {
    let name = backend.topic_with(2, &[("retention.ms", "3600000")]).await;
    let partition = TopicPartition::new(name.clone(), 0);
    backend.append_values(&partition, (0..5).map(|nth| nth.to_string())).await;
    trim(&backend, &name, 2).await;
    let old = backend.admin().describe(&name).await.expect("it can be asked").expect("it exists");
    backend.admin().delete(&name).await.expect("the topic can be deleted");
    assert!(
        backend.admin().describe(&name).await.expect("it can be asked").is_none(),
        "a deleted topic is gone"
    );
    backend.create(&name, 1, &[]).await;
    let new = backend.admin().describe(&name).await.expect("it can be asked").expect("it exists");
    assert_ne!(new.id, old.id, "the new topic can be told from the old one");
    assert_eq!(new.partitions.len(), 1);
    assert_eq!((new.partitions[0].earliest, new.partitions[0].latest), (0, 0));
    assert_ne!(new.config.get("retention.ms"), old.config.get("retention.ms"));
    assert_eq!(locate(&backend, &partition, Position::Latest).await, 0);
    assert_eq!(backend.append_values(&partition, ["new"]).await[0].offset, 0);
    let stored = backend.read_all(&partition).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].record.value.as_deref(), Some(b"new".as_slice()));
}
