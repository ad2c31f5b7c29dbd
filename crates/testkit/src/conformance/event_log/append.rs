//! Appending: order, outcomes, limits.

use crate::{
    conformance::{
        Backend,
        backend::{PATIENCE, expect_kind, within},
    },
    fixtures,
};
use ports::{AppendRequest, Effect, ErrorKind, PartitionId, Record, TopicPartition};
use std::{collections::BTreeMap, time::Duration};

/// Which writer, which of its requests, which record of that: what a record's value says.
type Mark = (u32, u32, u32);

fn mark((writer, request, nth): Mark) -> Record {
    fixtures::record(format!("{writer}/{request}/{nth}"))
}

fn read_mark(record: &Record) -> Mark {
    let value = String::from_utf8(record.value.clone().expect("a value").to_vec()).expect("text");
    let parts: Vec<u32> = value.split('/').map(|part| part.parse().expect("a number")).collect();
    (parts[0], parts[1], parts[2])
}

/// Several writers at once, each with requests one after another of which each goes to all `partitions` in
/// turn. Gives for each partition the marks in the order of their offsets.
async fn race(backend: &Backend, partitions: u32, size: u32) -> (Vec<TopicPartition>, Vec<Vec<Mark>>) {
    const WRITERS: u32 = 8;
    const REQUESTS: u32 = 20;
    let topic = backend.topic(partitions).await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (log, topic) = (backend.log().clone(), topic.clone());
        writers.push(tokio::spawn(async move {
            let mut told = BTreeMap::new();
            for request in 0..REQUESTS {
                let records = (0..size).map(|nth| (nth % partitions, mark((writer, request, nth)))).collect();
                let request = AppendRequest { topic: topic.clone(), records, timeout: PATIENCE };
                let result = within("an append", log.append(request)).await;
                for (nth, outcome) in result.outcomes.into_iter().enumerate() {
                    let partition = nth as u32 % partitions;
                    let offset = outcome.expect("the record is appended").offset;
                    told.entry(partition).or_insert_with(Vec::new).push(offset);
                }
            }
            (writer, told)
        }));
    }
    let names: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topic.clone(), number)).collect();
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.expect("the writer ends"));
    }
    let mut found = Vec::new();
    for (number, partition) in names.iter().enumerate() {
        let stored = backend.read_all(partition).await;
        for (writer, offsets) in &told {
            let theirs = stored.iter().filter(|it| read_mark(&it.record).0 == *writer).map(|it| it.offset);
            assert_eq!(
                theirs.collect::<Vec<_>>(),
                offsets[&(number as u32)],
                "the offsets are those that were told"
            );
        }
        found.push(stored.iter().map(|it| read_mark(&it.record)).collect());
    }
    (names, found)
}

pub(super) async fn offsets_follow_the_input_of_each_request_under_concurrent_appends(backend: Backend) {
    let (_, found) = race(&backend, 3, 10).await;
    for marks in found {
        for writer in 0..8 {
            let theirs: Vec<_> = marks.iter().filter(|mark| mark.0 == writer).collect();
            assert!(
                theirs.is_sorted(),
                "the records of writer {writer} lie in the order of its requests: {theirs:?}"
            );
        }
    }
}

pub(super) async fn a_later_request_gets_later_offsets(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    let mut last = None;
    for request in 0..20 {
        for appended in
            backend.append_values(&partition, [format!("{request}a"), format!("{request}b")]).await
        {
            assert!(Some(appended.offset) > last, "{} comes after {last:?}", appended.offset);
            last = Some(appended.offset);
        }
    }
}

pub(super) async fn a_batch_lies_together_where_the_log_promises_it(backend: Backend) {
    let (_, found) = race(&backend, 2, 20).await;
    for marks in found {
        assert_eq!(marks.len(), 8 * 20 * 10);
        if backend.log().capabilities().atomic_partition_batches {
            for batch in marks.chunks(10) {
                let of = (batch[0].0, batch[0].1);
                assert!(batch.iter().all(|mark| (mark.0, mark.1) == of), "a batch is torn: {batch:?}");
            }
        }
    }
}

pub(super) async fn a_request_is_shared_among_its_partitions(backend: Backend) {
    let topic = backend.topic(3).await;
    let order: [PartitionId; 7] = [2, 0, 2, 1, 0, 2, 1];
    let records =
        order.iter().enumerate().map(|(nth, to)| (*to, fixtures::record(nth.to_string()))).collect();
    let appended = backend.append(&topic, records).await;
    for number in 0..3 {
        let stored = backend.read_all(&TopicPartition::new(topic.clone(), number)).await;
        let expected: Vec<_> = (0..order.len()).filter(|nth| order[*nth] == number).collect();
        assert_eq!(stored.len(), expected.len());
        for (stored, nth) in stored.iter().zip(expected) {
            assert_eq!(stored.record.value.as_deref(), Some(nth.to_string().as_bytes()));
            assert_eq!(stored.offset, appended[nth].offset);
        }
    }
}

pub(super) async fn what_is_appended_is_readable_once_it_is_answered(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    for round in 0..10 {
        let value = format!("round {round}");
        let offset = backend.append_values(&partition, [&value]).await[0].offset;
        let stored = backend.read_from(&partition, offset).await;
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].record.value.as_deref(), Some(value.as_bytes()));
    }
}

pub(super) async fn an_empty_request_has_no_outcomes(backend: Backend) {
    let topic = backend.topic(1).await;
    assert!(backend.try_append(&topic, Vec::new()).await.is_empty());
}

pub(super) async fn an_unknown_topic_fails_every_record_without_effect(backend: Backend) {
    let topic = fixtures::topic_name("nowhere");
    let records = vec![(0, fixtures::record("a")), (1, fixtures::record("b"))];
    for outcome in backend.try_append(&topic, records).await {
        let error = expect_kind(outcome, ErrorKind::NotFound);
        assert_eq!(error.effect(), Effect::None);
    }
    assert!(
        backend.admin().describe(&topic).await.expect("it can be asked").is_none(),
        "asking made no topic"
    );
}

pub(super) async fn an_unknown_partition_fails_its_records_alone(backend: Backend) {
    let topic = backend.topic(2).await;
    let records = [0, 2, 1, 7, 0].map(|to| (to, fixtures::record(format!("to {to}")))).into();
    let mut outcomes = backend.try_append(&topic, records).await;
    for unknown in [3, 1] {
        let error = expect_kind(outcomes.remove(unknown), ErrorKind::NotFound);
        assert_eq!(error.effect(), Effect::None);
    }
    for outcome in outcomes {
        outcome.expect("the partition exists");
    }
    assert_eq!(backend.read_all(&TopicPartition::new(topic.clone(), 0)).await.len(), 2);
    assert_eq!(backend.read_all(&TopicPartition::new(topic, 1)).await.len(), 1);
}

pub(super) async fn a_record_over_the_topics_limit_fails_alone(backend: Backend) {
    let topic = backend.topic_with(1, &[("max.message.bytes", "65536")]).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let large = fixtures::record(fixtures::payload(&mut fixtures::rng(1), 200_000));
    let records = vec![(0, fixtures::record("before")), (0, large), (0, fixtures::record("after"))];
    let mut outcomes = backend.try_append(&topic, records).await;
    let error = expect_kind(outcomes.remove(1), ErrorKind::TooLarge);
    assert_eq!(error.effect(), Effect::None);
    for outcome in outcomes {
        outcome.expect("it is small enough");
    }
    let stored = backend.read_all(&partition).await;
    let values: Vec<_> = stored.iter().map(|it| it.record.value.as_deref().expect("a value")).collect();
    assert_eq!(values, [b"before".as_slice(), b"after"]);
}

pub(super) async fn what_a_passed_deadline_left_open_is_told_later(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    for round in 0..5 {
        let values: Vec<_> = (0..3).map(|nth| format!("{round}/{nth}")).collect();
        let records = values.iter().map(|value| (0, fixtures::record(value.clone()))).collect();
        let request = AppendRequest { topic: partition.topic.clone(), records, timeout: Duration::ZERO };
        let result = within("an append without time", backend.log().append(request)).await;
        let mut known = BTreeMap::new();
        let mut open = Vec::new();
        for (nth, outcome) in result.outcomes.into_iter().enumerate() {
            match outcome {
                Ok(appended) => drop(known.insert(nth, appended.offset)),
                Err(error) => {
                    // Either its time was up before it was taken (there was no room, or nobody said where the
                    // topic is) and it never will be, or it is open.
                    let refused = error.effect() == Effect::None
                        && matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Timeout);
                    let timed_out = error.kind() == ErrorKind::Timeout && error.effect() == Effect::Unknown;
                    assert!(refused || timed_out, "{error:?}");
                    if timed_out {
                        open.push(nth);
                    }
                }
            }
        }
        assert_eq!(result.late.is_some(), !open.is_empty(), "late reports come where outcomes are open");
        if let Some(late) = result.late {
            let reports = within("the late reports", late).await;
            let told: Vec<_> = reports.iter().map(|(nth, _)| *nth).collect();
            assert_eq!(told, open, "each open outcome is told once");
            known.extend(reports.into_iter().filter_map(|(nth, outcome)| Some((nth, outcome.ok()?.offset))));
        }
        for (nth, offset) in known {
            let stored = backend.read_from(&partition, offset).await;
            assert_eq!(
                stored[0].record.value.as_deref(),
                Some(values[nth].as_bytes()),
                "it lies where it was told"
            );
        }
    }
}
