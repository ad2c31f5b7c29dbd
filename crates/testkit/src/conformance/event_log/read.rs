//! Reading by cursor.

use crate::{
    conformance::{
        Backend,
        backend::{GENEROUS, check_fetched, expect_kind, read_until, within},
    },
    fixtures,
};
use ports::{ErrorKind, ReadLimits, TopicPartition};
use std::time::Duration;

/// At once, or not at all.
const NO_WAIT: ReadLimits = ReadLimits { wait_max: Duration::ZERO, ..GENEROUS };

async fn partition(backend: &Backend) -> TopicPartition {
    TopicPartition::new(backend.topic(1).await, 0)
}

pub(super) async fn reading_goes_on_while_records_are_appended(backend: Backend) {
    const COUNT: usize = 2000;
    let partition = partition(&backend).await;
    let mut reader = backend.open(&partition, 0).await;
    let reading = async {
        let mut values = Vec::new();
        let mut at = 0;
        while values.len() < COUNT {
            let fetched = reader.next(GENEROUS).await.expect("the partition can be read");
            check_fetched(&fetched, at);
            at = fetched.next;
            values.extend(fetched.records.into_iter().map(|stored| stored.record.value.expect("a value")));
        }
        values
    };
    let appending = async {
        for batch in (0..COUNT).collect::<Vec<_>>().chunks(20) {
            backend.append_values(&partition, batch.iter().map(ToString::to_string)).await;
        }
    };
    let (values, ()) = within("reading beside appending", async { tokio::join!(reading, appending) }).await;
    for (nth, value) in values.iter().enumerate() {
        assert_eq!(&**value, nth.to_string().as_bytes());
    }
}

pub(super) async fn a_reader_at_the_end_wakes_up_for_a_record(backend: Backend) {
    let partition = partition(&backend).await;
    let mut reader = backend.open(&partition, 0).await;
    let mut at = 0;
    for round in 0..3 {
        // Longer than the test's patience: what brings the record is its append, not the wait's end.
        let limits = ReadLimits { wait_max: Duration::from_hours(1), ..GENEROUS };
        let reading = async {
            // A read may come back with a gap that it passed.
            loop {
                let fetched = reader.next(limits).await.expect("the partition can be read");
                check_fetched(&fetched, at);
                at = fetched.next;
                if !fetched.records.is_empty() {
                    return fetched;
                }
            }
        };
        let appending = async {
            // Lets the reader come to its wait first; correct either way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            backend.append_values(&partition, [round.to_string()]).await
        };
        let (fetched, appended) = within("waking up", async { tokio::join!(reading, appending) }).await;
        assert_eq!(fetched.records.len(), 1);
        assert_eq!(fetched.records[0].offset, appended[0].offset);
    }
}

pub(super) async fn a_reader_waits_no_longer_than_it_was_told(backend: Backend) {
    let partition = partition(&backend).await;
    backend.append_values(&partition, ["a", "b"]).await;
    let mut reader = backend.open(&partition, 0).await;
    let last = read_until(&mut *reader, 0, 2).await.pop().expect("two records").offset;
    for wait_ms in [0, 1, 100] {
        let limits = ReadLimits { wait_max: Duration::from_millis(wait_ms), ..GENEROUS };
        let fetched =
            within("a read at the end", reader.next(limits)).await.expect("the partition can be read");
        assert!(fetched.records.is_empty());
        assert!(fetched.next > last);
        assert!(fetched.end > last, "the end that is known is behind what was read");
    }
}

pub(super) async fn a_read_brings_no_more_records_than_asked_for(backend: Backend) {
    let partition = partition(&backend).await;
    backend.append_values(&partition, (0..50).map(|nth| nth.to_string())).await;
    for records_max in [1, 7, 50] {
        let mut reader = backend.open(&partition, 0).await;
        let limits = ReadLimits { records_max, ..GENEROUS };
        let mut values = Vec::new();
        let mut at = 0;
        while values.len() < 50 {
            let fetched = within("a read", reader.next(limits)).await.expect("the partition can be read");
            check_fetched(&fetched, at);
            at = fetched.next;
            assert!(fetched.records.len() <= records_max);
            values.extend(fetched.records.into_iter().map(|stored| stored.record.value.expect("a value")));
        }
        let expected: Vec<_> = (0..50).map(|nth| nth.to_string()).collect();
        assert_eq!(values, expected);
    }
}

pub(super) async fn a_read_brings_no_more_bytes_than_asked_for_but_one_record_always(backend: Backend) {
    let partition = partition(&backend).await;
    let mut rng = fixtures::rng(4);
    let records: Vec<_> = (0..20).map(|_| fixtures::record(fixtures::payload(&mut rng, 1000))).collect();
    let size = records[0].size();
    backend.append(&partition.topic, records.into_iter().map(|record| (0, record)).collect()).await;
    for (bytes_max, most) in [(1, 1), (size - 1, 1), (size, 1), (3 * size, 3), (3 * size + 1, 3)] {
        let mut reader = backend.open(&partition, 0).await;
        let limits = ReadLimits { bytes_max, ..GENEROUS };
        let mut seen = 0;
        let mut at = 0;
        while seen < 20 {
            let fetched = within("a read", reader.next(limits)).await.expect("the partition can be read");
            check_fetched(&fetched, at);
            at = fetched.next;
            assert!(fetched.records.len() <= most, "{} records for {bytes_max} bytes", fetched.records.len());
            seen += fetched.records.len();
        }
    }
}

pub(super) async fn reading_goes_on_at_next_over_gaps(backend: Backend) {
    let partition = partition(&backend).await;
    let mut values = Vec::new();
    let mut gaps = false;
    for round in 0..3 {
        let batch: Vec<_> = (0..3).map(|nth| format!("{round}/{nth}")).collect();
        backend.append_values(&partition, &batch).await;
        values.extend(batch);
        gaps |= backend.make_gap(&partition).await;
    }
    let stored = backend.read_all(&partition).await;
    let found: Vec<_> = stored.iter().map(|it| it.record.value.clone().expect("a value")).collect();
    assert_eq!(found, values);
    let dense = stored.iter().enumerate().all(|(nth, it)| it.offset == nth as u64);
    assert_eq!(dense, !gaps, "the fixture's gaps are there");
    assert!(dense || !backend.log().capabilities().dense_offsets, "offsets have gaps against the promise");
    // A cursor that goes on at each `next`, a record at a time, meets every record once.
    let mut at = 0;
    let mut one_by_one = Vec::new();
    while one_by_one.len() < values.len() {
        let mut reader = backend.open(&partition, at).await;
        let limits = ReadLimits { records_max: 1, ..GENEROUS };
        let fetched = within("a read", reader.next(limits)).await.expect("the partition can be read");
        check_fetched(&fetched, at);
        at = fetched.next;
        one_by_one.extend(fetched.records);
    }
    assert_eq!(one_by_one, stored);
}

pub(super) async fn cursors_are_independent(backend: Backend) {
    let partition = partition(&backend).await;
    backend.append_values(&partition, (0..10).map(|nth| nth.to_string())).await;
    let mut first = backend.open(&partition, 0).await;
    let mut second = backend.open(&partition, 5).await;
    let ahead = read_until(&mut *first, 0, 10).await;
    assert_eq!(ahead.len(), 10);
    assert_eq!(read_until(&mut *second, 5, 10).await, ahead[5..]);
}

pub(super) async fn a_cursor_goes_where_it_is_sent(backend: Backend) {
    let partition = partition(&backend).await;
    backend.append_values(&partition, (0..30).map(|nth| nth.to_string())).await;
    let mut reader = backend.open(&partition, 0).await;
    let all = read_until(&mut *reader, 0, 30).await;
    for to in [0, 17, 29, 3, 3, 30] {
        reader.seek(to).await.expect("the cursor can be moved");
        assert_eq!(read_until(&mut *reader, to, 30).await, all[to as usize..], "after a seek to {to}");
    }
    // In the middle of what was fetched ahead.
    reader.seek(0).await.expect("the cursor can be moved");
    let one = ReadLimits { records_max: 1, ..GENEROUS };
    within("a read", reader.next(one)).await.expect("the partition can be read");
    reader.seek(20).await.expect("the cursor can be moved");
    assert_eq!(read_until(&mut *reader, 20, 30).await, all[20..]);
}

pub(super) async fn a_cursor_beyond_the_end_is_out_of_range_and_can_seek(backend: Backend) {
    let partition = partition(&backend).await;
    backend.append_values(&partition, ["a", "b"]).await;
    let mut reader = backend.open(&partition, 12).await;
    for _ in 0..2 {
        expect_kind(within("a read", reader.next(GENEROUS)).await, ErrorKind::OutOfRange);
    }
    reader.seek(0).await.expect("the cursor can be moved");
    assert_eq!(read_until(&mut *reader, 0, 2).await.len(), 2);
    reader.seek(12).await.expect("the cursor can be moved");
    expect_kind(within("a read", reader.next(GENEROUS)).await, ErrorKind::OutOfRange);
    // The end itself is a place to wait at.
    reader.seek(2).await.expect("the cursor can be moved");
    let fetched = within("a read at the end", reader.next(NO_WAIT)).await.expect("the partition can be read");
    assert!(fetched.records.is_empty());
    assert_eq!(fetched.next, 2);
}

pub(super) async fn an_unknown_partition_cannot_be_opened(backend: Backend) {
    let known = backend.topic(1).await;
    let beyond = TopicPartition::new(known, 1);
    let nowhere = TopicPartition::new(fixtures::topic_name("nowhere"), 0);
    for unknown in [beyond, nowhere] {
        expect_kind(within("an open", backend.log().open(&unknown, 0)).await, ErrorKind::NotFound);
    }
}
