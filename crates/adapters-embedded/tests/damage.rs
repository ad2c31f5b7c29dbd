//! What a damaged disk does to the log: it says which file and where, cuts off a tail that was never whole,
//! and serves all that is not damaged.
#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use adapters_embedded::disk::{DiskConfig, DiskLog};
use ports::{
    AppendRequest, ErrorKind, EventLog, Offset, PortError, Position, ReadLimits, Record, TopicAdmin,
    TopicName, TopicPartition, TopicSpec,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use testkit::SystemLikeClock;

fn open(dir: &Path) -> DiskLog {
    DiskLog::open(DiskConfig::new(dir), Arc::new(SystemLikeClock::new())).expect("the log opens")
}

fn place(name: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(name).expect("a name"), 0)
}

/// Makes a topic of several segments: `count` records of 200 bytes, ten a frame.
async fn fill(log: &DiskLog, name: &str, count: usize) {
    let topic = place(name).topic;
    let config = BTreeMap::from([("segment.bytes".to_owned(), "16384".to_owned())]);
    let spec = TopicSpec { name: topic.clone(), partitions: 1, replication_factor: None, config };
    log.create(spec).await.expect("a topic");
    for batch in 0..count / 10 {
        let record =
            |n: usize| (0, Record { value: Some(value(batch * 10 + n).into()), ..Record::default() });
        let request = AppendRequest {
            topic: topic.clone(),
            records: (0..10).map(record).collect(),
            timeout: Duration::from_secs(10),
        };
        assert!(log.append(request).await.outcomes.iter().all(Result::is_ok));
    }
}

fn value(n: usize) -> Vec<u8> {
    format!("{n:0200}").into_bytes()
}

/// What can be read from `from` on, and the error that ended it.
async fn read(log: &DiskLog, name: &str, from: Offset) -> (Vec<Vec<u8>>, Option<PortError>) {
    let place = place(name);
    let mut values = Vec::new();
    let end = match log.locate(&place.topic, &[(0, Position::Latest)]).await {
        Ok(end) => end[0],
        Err(error) => return (values, Some(error)),
    };
    let mut reader = match log.open(&place, from).await {
        Ok(reader) => reader,
        Err(error) => return (values, Some(error)),
    };
    let mut at = from;
    while at < end {
        let limits = ReadLimits { records_max: 100, bytes_max: 1 << 20, wait_max: Duration::from_secs(1) };
        match reader.next(limits).await {
            Ok(fetched) => {
                values.extend(
                    fetched.records.iter().map(|it| it.record.value.clone().expect("a value").to_vec()),
                );
                at = fetched.next;
            }
            Err(error) => return (values, Some(error)),
        }
    }
    (values, None)
}

/// The segments of the only partition of the topic that was made first (or second, …).
fn segments(dir: &Path, name: &str) -> Vec<PathBuf> {
    let topics = fs::read_dir(dir.join("topics")).expect("the topics");
    let mine = topics.map(|entry| entry.expect("an entry").path()).find(|path| {
        let files = fs::read_dir(path).expect("its files").map(|entry| entry.expect("an entry").path());
        files.filter(|file| file.is_file()).any(|file| {
            fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == format!("name {name}")))
        })
    });
    let partition = mine.expect("the topic's directory").join("partition-0");
    let mut found: Vec<_> = fs::read_dir(partition)
        .expect("its segments")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("the segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("a byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_middle_segment_is_named_and_the_rest_serves() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    fill(&log, "whole", 500).await;
    fill(&log, "damaged", 500).await;
    drop(log);
    let files = segments(dir.path(), "damaged");
    assert!(files.len() >= 5, "{files:?}");
    flip(&files[2], 5_000);
    let log = open(dir.path());
    let (values, error) = read(&log, "damaged", 0).await;
    let error = error.expect("what is damaged is not passed over");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let file = files[2].file_name().expect("a name").to_string_lossy();
    assert!(error.detail().contains(&*file) && error.detail().chars().any(|c| c.is_ascii_digit()), "{error}");
    assert!(values.iter().enumerate().all(|(n, read)| *read == value(n)), "what lies before is right");
    let last: Offset = files
        .last()
        .expect("a segment")
        .file_stem()
        .expect("a stem")
        .to_string_lossy()
        .parse()
        .expect("an offset");
    let (behind, none) = read(&log, "damaged", last).await;
    assert!(none.is_none() && behind.last() == Some(&value(499)), "what lies behind can be read");
    let (whole, none) = read(&log, "whole", 0).await;
    assert!(none.is_none() && whole.len() == 500, "the other topic serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_or_a_hole_in_the_tail_costs_what_lies_behind_it_and_the_log_goes_on() {
    for seed in 0..30_u64 {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path());
        fill(&log, "tail", 200).await;
        drop(log);
        let last = segments(dir.path(), "tail").pop().expect("a segment");
        let len = fs::metadata(&last).expect("its length").len();
        let at = seed * 997 % len;
        if seed % 2 == 0 {
            flip(&last, at);
        } else {
            let file = fs::File::options().write(true).open(&last).expect("the segment");
            file.write_all_at(&vec![0; 300.min((len - at) as usize)], at).expect("a hole");
        }
        let log = open(dir.path());
        let (values, error) = read(&log, "tail", 0).await;
        assert!(error.is_none(), "{error:?}");
        assert!(
            values.len() < 200 && values.len() % 10 == 0,
            "whole frames before the damage: {}",
            values.len()
        );
        assert!(values.iter().enumerate().all(|(n, read)| *read == value(n)));
        let request = AppendRequest {
            topic: place("tail").topic,
            records: vec![(0, Record { value: Some("next".into()), ..Record::default() })],
            timeout: Duration::from_secs(10),
        };
        let appended = log.append(request).await.outcomes.remove(0).expect("the log goes on");
        assert_eq!(appended.offset as usize, values.len());
        drop(log);
        let (again, _) = read(&open(dir.path()), "tail", 0).await;
        assert_eq!(again.last().map(Vec::as_slice), Some(b"next".as_slice()), "and is whole again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_description_is_damaged_does_not_keep_the_others_from_serving() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    fill(&log, "whole", 20).await;
    fill(&log, "damaged", 20).await;
    drop(log);
    let partition = segments(dir.path(), "damaged").pop().expect("a segment");
    let topic_dir = partition.parent().and_then(Path::parent).expect("the topic's directory");
    let meta = fs::read_dir(topic_dir)
        .expect("files")
        .map(|it| it.expect("an entry").path())
        .find(|it| it.is_file());
    let meta = meta.expect("the description");
    let text = fs::read_to_string(&meta).expect("text").replace("segment.bytes=16384", "segment.bytes=99999");
    fs::write(&meta, text).expect("it is written");
    let log = open(dir.path());
    let (_, error) = read(&log, "damaged", 0).await;
    assert_eq!(error.expect("it is told").kind(), ErrorKind::Corrupt);
    assert_eq!(read(&log, "whole", 0).await.0.len(), 20);
}
