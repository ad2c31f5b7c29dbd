//! A log over a [`SimFs`], and the bookkeeping of what it promised.

use super::{
    super::{DiskLimits, DiskLog},
    sim::SimFs,
};
use ports::{
    AppendRequest, Effect, EventLog, Offset, PartitionId, PortError, Position, ReadLimits, Record, Timestamp,
    TopicAdmin, TopicName, TopicPartition, TopicSpec,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use testkit::SystemLikeClock;

pub(super) const PARTITIONS: u32 = 3;

pub(super) fn limits() -> DiskLimits {
    DiskLimits {
        committers: 2,
        queue_bytes_max: 1 << 20,
        frame_bytes_max: 1 << 20,
        retention_interval: Duration::from_hours(24),
        ..DiskLimits::default()
    }
}

pub(super) fn try_open(fs: &SimFs) -> Result<DiskLog, PortError> {
    let clock = Arc::new(SystemLikeClock::new());
    DiskLog::start(Arc::new(fs.clone()), PathBuf::from("/"), limits(), clock, None)
}

pub(super) fn open(fs: &SimFs) -> DiskLog {
    try_open(fs).unwrap()
}

pub(super) fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

pub(super) fn at(partition: PartitionId) -> TopicPartition {
    TopicPartition::new(topic(), partition)
}

pub(super) async fn create(
    log: &DiskLog,
    name: &TopicName,
    config: &[(&str, &str)],
) -> Result<(), PortError> {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    log.create(TopicSpec { name: name.clone(), partitions: PARTITIONS, replication_factor: None, config })
        .await
}

/// A value that no other number has, so that whatever is read says what it is.
pub(super) fn value(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend((0..len as u64).map(|n| (id.wrapping_mul(31).wrapping_add(n * 7)) as u8));
    bytes
}

pub(super) fn record(id: u64, len: usize) -> Record {
    Record { value: Some(value(id, len).into()), timestamp: Timestamp(id as i64), ..Record::default() }
}

/// Everything that can be read from one partition, which must be in order and without a gap.
pub(super) async fn read_all(
    log: &DiskLog,
    partition: PartitionId,
) -> Result<(Offset, Vec<Vec<u8>>), PortError> {
    let at_ends = [(partition, Position::Earliest), (partition, Position::Latest)];
    let ends = log.locate(&topic(), &at_ends).await?;
    let mut reader = log.open(&at(partition), ends[0]).await?;
    let (mut offset, mut values) = (ends[0], Vec::new());
    while offset < ends[1] {
        let limits = ReadLimits { records_max: 7, bytes_max: 900, wait_max: Duration::ZERO };
        let fetched = reader.next(limits).await?;
        assert!(!fetched.records.is_empty(), "there is more up to {}", ends[1]);
        for stored in fetched.records {
            assert_eq!(stored.offset, offset, "offsets are dense");
            offset += 1;
            values.push(stored.record.value.unwrap().to_vec());
        }
        assert_eq!(fetched.next, offset);
    }
    Ok((ends[0], values))
}

/// What a log has promised to one who uses it.
#[derive(Debug, Default)]
pub(super) struct Promises {
    next_id: u64,
    len_of: HashMap<u64, usize>,
    /// By partition and offset: what was acknowledged, or has been read.
    certain: [BTreeMap<Offset, u64>; PARTITIONS as usize],
    /// Of these it is not known whether they are in the log, a set a frame.
    open: Vec<(PartitionId, Vec<u64>)>,
    /// These are certainly not in the log.
    never: HashSet<u64>,
    /// By partition: the first offset, as far as a trim was answered; and as far as one was asked for.
    pub(super) trimmed: [Offset; PARTITIONS as usize],
    pub(super) trim_asked: [Offset; PARTITIONS as usize],
}

/// An append that can be awaited beside others.
#[derive(Debug)]
pub(super) struct Attempt {
    records: Vec<(PartitionId, u64, usize)>,
}

impl Promises {
    pub(super) fn attempt(&mut self, shape: &[(PartitionId, usize)]) -> Attempt {
        let id = |(partition, len): &(PartitionId, usize)| {
            self.next_id += 1;
            self.len_of.insert(self.next_id, *len);
            (*partition, self.next_id, *len)
        };
        Attempt { records: shape.iter().map(id).collect() }
    }

    /// Notes what became of an attempt; `None` where nobody waited for it.
    #[allow(clippy::needless_pass_by_value, reason = "an attempt has one outcome")]
    pub(super) fn note(
        &mut self,
        attempt: &Attempt,
        outcomes: Option<Vec<Result<ports::Appended, PortError>>>,
    ) {
        let mut open: BTreeMap<PartitionId, Vec<u64>> = BTreeMap::new();
        for (at, (partition, id, _)) in attempt.records.iter().enumerate() {
            match outcomes.as_ref().map(|outcomes| &outcomes[at]) {
                Some(Ok(appended)) => {
                    let before = self.certain[*partition as usize].insert(appended.offset, *id);
                    assert_eq!(before, None, "offset {} is given once", appended.offset);
                }
                Some(Err(error)) if error.effect() == Effect::None => {
                    self.never.insert(*id);
                }
                _ => open.entry(*partition).or_default().push(*id),
            }
        }
        self.open.extend(open);
    }

    /// Compares what can be read with what was promised. Each record must have been brought, unharmed.
    /// What is not there now must not come later.
    pub(super) async fn check(&mut self, log: &DiskLog) {
        self.compare(log).await;
        for (partition, ids) in std::mem::take(&mut self.open) {
            let certain = &self.certain[partition as usize];
            let absent = ids.into_iter().filter(|id| !certain.values().any(|there| there == id));
            self.never.extend(absent);
        }
    }

    /// Compares while a failed write may still wait to be cut off: what nobody was promised is not shown,
    /// and may be found after a restart all the same.
    pub(super) async fn compare(&mut self, log: &DiskLog) {
        for partition in 0..PARTITIONS {
            let p = partition as usize;
            let (start, values) = read_all(log, partition).await.unwrap();
            assert!(
                (self.trimmed[p]..=self.trim_asked[p].max(self.trimmed[p])).contains(&start),
                "{partition} begins with {start}, trimmed to {}, asked for {}",
                self.trimmed[p],
                self.trim_asked[p],
            );
            self.trimmed[p] = start;
            let end = start + values.len() as u64;
            let mut found = BTreeMap::new();
            for (offset, bytes) in (start..).zip(values) {
                let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let len = *self.len_of.get(&id).expect("what is read was brought");
                assert_eq!(bytes, value(id, len), "what is read is what was brought");
                assert!(!self.never.contains(&id), "{id} was said not to be in the log");
                assert_eq!(found.insert(id, offset), None, "{id} is there once");
            }
            for (offset, id) in self.certain[p].range(start..) {
                assert_eq!(
                    found.remove(id),
                    Some(*offset),
                    "{id} was promised at {offset} of {partition}, end {end}"
                );
            }
            let mut frames =
                self.open.iter().filter(|(of, _)| *of == partition).map(|(_, ids)| ids).collect::<Vec<_>>();
            frames.retain(|ids| ids.iter().any(|id| found.contains_key(id)));
            for ids in frames {
                for id in ids {
                    if let Some(offset) = found.remove(id) {
                        self.certain[p].insert(offset, *id);
                    } else {
                        assert!(start > 0, "a batch is there whole or not at all");
                    }
                }
            }
            assert!(found.is_empty(), "{found:?} was never brought to {partition}");
        }
    }
}

impl Attempt {
    pub(super) async fn run(&self, log: &DiskLog) -> Vec<Result<ports::Appended, PortError>> {
        let records =
            self.records.iter().map(|(partition, id, len)| (*partition, record(*id, *len))).collect();
        let request = AppendRequest { topic: topic(), records, timeout: Duration::from_mins(1) };
        let result = log.append(request).await;
        assert!(result.late.is_none(), "a minute is enough");
        result.outcomes
    }
}
