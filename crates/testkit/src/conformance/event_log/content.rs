//! What is appended comes back byte for byte.

use crate::{conformance::Backend, fixtures};
use bytes::Bytes;
use ports::{Header, Record, Timestamp, TopicPartition};
use rand::RngExt;

async fn round_trip(backend: &Backend, config: &[(&str, &str)], records: Vec<Record>) {
    let topic = backend.topic_with(1, config).await;
    let appended = backend.append(&topic, records.iter().map(|record| (0, record.clone())).collect()).await;
    let stored = backend.read_all(&TopicPartition::new(topic, 0)).await;
    assert_eq!(stored.len(), records.len());
    for ((stored, record), appended) in stored.iter().zip(&records).zip(appended) {
        // Not by `assert_eq`, which would print mebibytes.
        assert!(stored.record == *record, "the record at offset {} is not what was appended", stored.offset);
        assert_eq!(stored.offset, appended.offset);
        assert_eq!(stored.record.timestamp, appended.timestamp);
    }
}

pub(super) async fn empty_and_null_keys_and_values_stay_apart(backend: Backend) {
    let forms = [None, Some(Bytes::new()), Some(Bytes::from_static(b"x"))];
    let mut records = Vec::new();
    for key in &forms {
        for value in &forms {
            let timestamp = fixtures::now();
            records.push(Record { key: key.clone(), value: value.clone(), headers: Vec::new(), timestamp });
        }
    }
    round_trip(&backend, &[], records).await;
}

pub(super) async fn headers_keep_their_order_equal_names_and_nulls(backend: Backend) {
    let header = |name: &'static str, value: Option<&'static [u8]>| Header {
        name: name.into(),
        value: value.map(Bytes::from_static),
    };
    let headers = vec![
        header("b", Some(b"1")),
        header("a", Some(b"")),
        header("b", None),
        header("b", Some(b"1")),
        header("", Some(b"no name")),
        header("größe", Some(&[0, 255, 128])),
        header("a", Some(b"last")),
    ];
    let none = fixtures::record("no headers");
    let some = Record { headers, ..fixtures::record("some headers") };
    round_trip(&backend, &[], vec![some.clone(), none, some]).await;
}

pub(super) async fn records_of_one_mebibyte_come_back_as_they_were(backend: Backend) {
    let mut rng = fixtures::rng(2);
    let records = (0..3).map(|_| fixtures::record(fixtures::payload(&mut rng, 1 << 20))).collect();
    round_trip(&backend, &[("max.message.bytes", "2097152")], records).await;
}

pub(super) async fn timestamps_are_the_records_own(backend: Backend) {
    let now = fixtures::now().0;
    let times = [now, now - 1000, now - 1000, now - 86_400_000, now - 1];
    let records = times.map(|time| Record { timestamp: Timestamp(time), ..fixtures::record("x") });
    round_trip(&backend, &[], records.into()).await;
}

pub(super) async fn random_records_come_back_as_they_were(backend: Backend) {
    let mut rng = fixtures::rng(3);
    let mut records = Vec::new();
    for _ in 0..500 {
        let part = |rng: &mut _, length_max| {
            let bytes = fixtures::some_payload(rng, length_max);
            rng.random_bool(0.8).then_some(bytes)
        };
        let key = part(&mut rng, 40);
        let value = part(&mut rng, 3000);
        let count = rng.random_range(0..4);
        let headers =
            (0..count).map(|nth| Header { name: format!("h{nth}").into(), value: part(&mut rng, 50) });
        let headers = headers.collect();
        records.push(Record { key, value, headers, timestamp: fixtures::now() });
    }
    round_trip(&backend, &[], records).await;
}
