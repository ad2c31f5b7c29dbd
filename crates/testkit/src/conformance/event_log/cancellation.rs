//! What dropping a call does: a read loses nothing, an append happens at most once.

use crate::{
    conformance::{
        Backend,
        backend::{GENEROUS, PATIENCE, check_fetched, within},
    },
    fixtures,
};
use ports::{AppendRequest, TopicPartition};
use rand::RngExt;
use std::{collections::HashMap, time::Duration};

pub(super) async fn a_read_that_is_dropped_loses_nothing(backend: Backend) {
    const COUNT: usize = 500;
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    let mut reader = backend.open(&partition, 0).await;
    let mut rng = fixtures::rng(5);
    let reading = async {
        let mut values = Vec::new();
        let mut at = 0;
        while values.len() < COUNT {
            let patience = Duration::from_micros(rng.random_range(0..3000));
            // Dropped where the time is up first.
            if let Ok(fetched) = tokio::time::timeout(patience, reader.next(GENEROUS)).await {
                let fetched = fetched.expect("the partition can be read");
                check_fetched(&fetched, at);
                at = fetched.next;
                values
                    .extend(fetched.records.into_iter().map(|stored| stored.record.value.expect("a value")));
            }
        }
        values
    };
    let appending = async {
        for batch in (0..COUNT).collect::<Vec<_>>().chunks(10) {
            backend.append_values(&partition, batch.iter().map(ToString::to_string)).await;
        }
    };
    let (values, ()) = within("reading beside appending", async { tokio::join!(reading, appending) }).await;
    let expected: Vec<_> = (0..COUNT).map(|nth| nth.to_string()).collect();
    assert_eq!(values, expected);
}

pub(super) async fn an_append_that_is_dropped_is_never_applied_twice(backend: Backend) {
    let partition = TopicPartition::new(backend.topic(1).await, 0);
    let mut rng = fixtures::rng(6);
    let mut told = HashMap::new();
    for round in 0..100 {
        let values: Vec<_> = (0..4).map(|nth| format!("{round}/{nth}")).collect();
        let records = values.iter().map(|value| (0, fixtures::record(value.clone()))).collect();
        let request = AppendRequest { topic: partition.topic.clone(), records, timeout: PATIENCE };
        let patience = Duration::from_micros(rng.random_range(0..2000));
        if let Ok(result) = tokio::time::timeout(patience, backend.log().append(request)).await {
            for (value, outcome) in values.into_iter().zip(result.outcomes) {
                told.insert(value, outcome.expect("the record is appended").offset);
            }
        }
    }
    let last = backend.append_values(&partition, ["last"]).await[0].offset;
    told.insert("last".to_owned(), last);
    let mut found = HashMap::new();
    for stored in backend.read_all(&partition).await {
        let value = String::from_utf8(stored.record.value.expect("a value").to_vec()).expect("text");
        let before = found.insert(value.clone(), stored.offset);
        assert!(before.is_none(), "{value} is there twice, at {before:?} and {}", stored.offset);
    }
    for (value, offset) in told {
        assert_eq!(found.get(&value), Some(&offset), "{value} is where it was told");
    }
}

pub(super) async fn dropping_calls_leaves_the_log_in_order(backend: Backend) {
    let topic = backend.topic(2).await;
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let (log, topic) = (backend.log().clone(), topic.clone());
        writers.push(tokio::spawn(async move {
            let mut rng = fixtures::rng(writer);
            for round in 0..50 {
                let record = |nth: u32| (nth % 2, fixtures::record(format!("{writer}/{round:03}/{nth:03}")));
                let records = (0..10).map(record).collect();
                let request = AppendRequest { topic: topic.clone(), records, timeout: PATIENCE };
                let patience = Duration::from_micros(rng.random_range(0..5000));
                // Whether it was dropped or not.
                let _ = tokio::time::timeout(patience, log.append(request)).await;
            }
        }));
    }
    for writer in writers {
        within("a writer", writer).await.expect("the writer ends");
    }
    for number in 0..2 {
        let partition = TopicPartition::new(topic.clone(), number);
        backend.append_values(&partition, ["9/last"]).await;
        let mut batches: HashMap<String, Vec<String>> = HashMap::new();
        for stored in backend.read_all(&partition).await {
            let value = String::from_utf8(stored.record.value.expect("a value").to_vec()).expect("text");
            let (batch, nth) = value.rsplit_once('/').expect("a mark");
            batches.entry(batch.to_owned()).or_default().push(nth.to_owned());
        }
        for (batch, records) in batches {
            assert!(
                records.is_sorted_by(|one, next| one < next),
                "the records of {batch} keep their order: {records:?}"
            );
            if backend.log().capabilities().atomic_partition_batches && batch != "9" {
                assert_eq!(records.len(), 5, "batch {batch} is there in whole or not at all");
            }
        }
    }
}
