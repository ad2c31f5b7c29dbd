//! Topics: the operator's use cases, and the directory that the data plane looks partitions up in.

use crate::{
    error::{Error, ErrorCode, Result, invalid_name},
    limits::Limits,
};
use parking_lot::RwLock;
use ports::{
    Clock, ClusterInfo, ErrorKind, Monotonic, Offset, PartitionId, PortError, Retry, Timestamp, TopicAdmin,
    TopicInfo, TopicName, TopicSpec, TopicSummary,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// The setting for how many copies must have a record before it is acknowledged.
const MIN_IN_SYNC: &str = "min.insync.replicas";
/// The name of the setting that bounds a topic's records.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// What a record may have where the log does not say: Kafka's default, 1 MiB and a little for the frame.
const MAX_MESSAGE_BYTES_DEFAULT: usize = 1_048_588;
/// How long the directory believes what it knows. A topic that was deleted or grew by another hand is
/// noticed within this.
const FRESH: Duration = Duration::from_secs(10);
/// How long the nodes of a cluster may take to hear of a topic that was made.
const HEARD_OF: Duration = Duration::from_secs(2);

/// How topics are made where a client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Whether publishing to an unknown topic makes it.
    pub auto_create: bool,
    /// How many partitions it gets.
    pub partitions: u32,
    /// How many copies; `None` is the log's own default.
    pub replication_factor: Option<u16>,
}

/// A topic to create, as a client says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: Option<i64>,
    /// How many copies of each.
    pub replication_factor: Option<i64>,
    /// Settings by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// A change to a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// The number of partitions that it is to have.
    pub partitions: Option<i64>,
    /// Settings to change; `None` takes one back to its default.
    pub config: BTreeMap<String, Option<String>>,
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All there is.
    All,
    /// Everything before the first event of this time or later.
    Before(Timestamp),
    /// Everything before these offsets, by partition.
    Offsets(BTreeMap<String, i64>),
}

/// What the data plane needs to know of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMeta {
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// What tells it from another topic that had its name.
    pub id: String,
    /// The most bytes of a record.
    pub max_message_bytes: usize,
}

#[derive(Debug)]
struct Known {
    meta: Arc<TopicMeta>,
    at: Monotonic,
}

/// The topics of one log.
#[derive(Debug)]
pub struct Topics {
    admin: Arc<dyn TopicAdmin>,
    log: Arc<dyn ports::EventLog>,
    clock: Arc<dyn Clock>,
    limits: Arc<Limits>,
    defaults: TopicDefaults,
    known: RwLock<HashMap<TopicName, Known>>,
}

impl Topics {
    /// The topics that `admin` keeps.
    pub fn new(
        admin: Arc<dyn TopicAdmin>,
        log: Arc<dyn ports::EventLog>,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        defaults: TopicDefaults,
    ) -> Arc<Self> {
        Arc::new(Self { admin, log, clock, limits, defaults, known: RwLock::default() })
    }

    /// Creates a topic and describes it.
    pub async fn create(&self, new: NewTopic) -> Result<TopicInfo> {
        let name = topic_name("name", &new.name)?;
        let partitions = match new.partitions {
            None => self.defaults.partitions,
            Some(given) => in_range("partitions", given, 1, i64::from(self.limits.partitions_max))? as u32,
        };
        let replication_factor = match new.replication_factor {
            None => self.defaults.replication_factor,
            Some(given) => Some(in_range("replicationFactor", given, 1, i64::from(i16::MAX))? as u16),
        };
        check_config_names(new.config.keys())?;
        let spec = TopicSpec { name: name.clone(), partitions, replication_factor, config: new.config };
        let keys: Vec<String> = spec.config.keys().cloned().collect();
        self.admin.create(spec).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(ErrorCode::AlreadyExists, format!("topic `{name}` exists already"))
            }
            _ => admin_error(&error, &keys),
        })?;
        self.forget(&name);
        self.describe_new(&name).await
    }

    /// Describes what was made a moment ago: the node of a cluster that is asked may not have heard of it yet.
    async fn describe_new(&self, name: &TopicName) -> Result<TopicInfo> {
        let until = self.clock.monotonic() + HEARD_OF;
        loop {
            let described = self.describe(name).await;
            let now = self.clock.monotonic();
            match described {
                Err(error) if error.code() == ErrorCode::TopicNotFound && now < until => {
                    self.clock.sleep_until(now + HEARD_OF / 40).await;
                }
                described => return described,
            }
        }
    }

    /// All topics, by name.
    pub async fn list(&self) -> Result<Vec<TopicSummary>> {
        Ok(self.admin.list().await?)
    }

    /// One topic in full.
    pub async fn get(&self, name: &str) -> Result<TopicInfo> {
        self.describe(&topic_name("topic", name)?).await
    }

    /// Changes a topic's settings, adds partitions to it, and describes it.
    ///
    /// Everything is checked before anything is changed; settings are changed first.
    pub async fn alter(&self, name: &str, change: TopicChange) -> Result<TopicInfo> {
        let name = topic_name("topic", name)?;
        check_config_names(change.config.keys())?;
        let there = self.describe(&name).await?;
        let have = there.partitions.len() as i64;
        if let Some(wanted) = change.partitions {
            in_range("partitions", wanted, 1, i64::from(self.limits.partitions_max))?;
            if wanted < have {
                return Err(Error::invalid(
                    "partitions",
                    format!("must be at least {have}, the number there is: partitions cannot be taken away"),
                ));
            }
        }
        if !change.config.is_empty() {
            let keys: Vec<String> = change.config.keys().cloned().collect();
            self.admin
                .alter(&name, &change.config)
                .await
                .map_err(|error| self.of_topic(&name, &error, &keys))?;
        }
        if let Some(wanted) = change.partitions.filter(|wanted| *wanted > have) {
            self.admin
                .add_partitions(&name, wanted as u32)
                .await
                .map_err(|error| self.of_topic(&name, &error, &[]))?;
        }
        self.forget(&name);
        self.describe(&name).await
    }

    /// Deletes a topic and all that it holds.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let name = topic_name("topic", name)?;
        let deleted = self.admin.delete(&name).await;
        self.forget(&name);
        deleted.map_err(|error| self.of_topic(&name, &error, &[]))
    }

    /// Makes events unreadable, and answers each partition's earliest offset afterwards.
    pub async fn purge(&self, name: &str, purge: Purge) -> Result<BTreeMap<PartitionId, Offset>> {
        let name = topic_name("topic", name)?;
        let info = self.describe(&name).await?;
        let before: Vec<(PartitionId, Offset)> = match purge {
            Purge::All => info.partitions.iter().map(|p| (p.partition, p.latest)).collect(),
            Purge::Before(time) => {
                let at: Vec<_> =
                    info.partitions.iter().map(|p| (p.partition, ports::Position::Timestamp(time))).collect();
                let offsets = self.log.locate(&name, &at).await.map_err(|e| self.of_topic(&name, &e, &[]))?;
                at.iter().map(|(partition, _)| *partition).zip(offsets).collect()
            }
            Purge::Offsets(offsets) => {
                let mut before = Vec::with_capacity(offsets.len());
                for (partition, offset) in offsets {
                    before.push(purge_offset(&info, &partition, offset)?);
                }
                before
            }
        };
        let earliest =
            self.admin.trim(&name, &before).await.map_err(|error| self.of_topic(&name, &error, &[]))?;
        Ok(before.iter().map(|(partition, _)| *partition).zip(earliest).collect())
    }

    /// What the data plane needs to know of a topic, remembered for a few seconds; `None` where there is
    /// no such topic. Makes the topic where that is turned on.
    pub async fn meta(&self, topic: &TopicName) -> Result<Option<Arc<TopicMeta>>> {
        self.look_up(topic, self.defaults.auto_create).await
    }

    /// As [`Self::meta`], but never makes a topic: for one that is made otherwise than by default.
    pub async fn meta_if_there(&self, topic: &TopicName) -> Result<Option<Arc<TopicMeta>>> {
        self.look_up(topic, false).await
    }

    async fn look_up(&self, topic: &TopicName, create: bool) -> Result<Option<Arc<TopicMeta>>> {
        let now = self.clock.monotonic();
        if let Some(known) = self.known.read().get(topic)
            && now.since(known.at) < FRESH
        {
            return Ok(Some(known.meta.clone()));
        }
        let mut info = match self.admin.describe(topic).await {
            Ok(info) => info,
            Err(error) => return self.still_known(topic, error).map(Some),
        };
        if info.is_none() && create {
            let spec = TopicSpec {
                name: topic.clone(),
                partitions: self.defaults.partitions,
                replication_factor: self.defaults.replication_factor,
                config: BTreeMap::new(),
            };
            match self.admin.create(spec).await {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                _ => info = self.admin.describe(topic).await?,
            }
        }
        let Some(info) = info else {
            self.forget(topic);
            return Ok(None);
        };
        let meta = Arc::new(TopicMeta {
            partitions: (info.partitions.len() as u32).max(1),
            id: info.id,
            max_message_bytes: info
                .config
                .get(MAX_MESSAGE_BYTES)
                .and_then(|text| text.parse().ok())
                .unwrap_or(MAX_MESSAGE_BYTES_DEFAULT),
        });
        self.known.write().insert(topic.clone(), Known { meta: meta.clone(), at: now });
        Ok(Some(meta))
    }

    /// What was known of a topic goes on to hold while the log does not say what is: events can be appended
    /// while those who would describe the topic are away. It is asked again as if this were its answer, counted
    /// from now: the answer that there was not may have been waited for longer than it would be believed.
    fn still_known(&self, topic: &TopicName, error: PortError) -> Result<Arc<TopicMeta>> {
        match self.known.write().get_mut(topic) {
            Some(known) if matches!(error.retry(), Retry::Transient { .. }) => {
                tracing::warn!(%topic, %error, "not described: what was known of it is believed further");
                known.at = self.clock.monotonic();
                Ok(known.meta.clone())
            }
            _ => Err(error.into()),
        }
    }

    /// Makes a topic that holds what `source` holds, for ever, and whose records may be larger by `headroom`
    /// bytes. It has as many partitions, and as many copies of them, and asks as many to be in sync. One that
    /// is there already stays as it is.
    pub async fn derive(&self, topic: &TopicName, source: &TopicName, headroom: usize) -> Result<()> {
        self.derive_with(topic, source, headroom, None).await
    }

    /// As [`Self::derive`], with so many partitions where that is said.
    pub(crate) async fn derive_with(
        &self,
        topic: &TopicName,
        source: &TopicName,
        headroom: usize,
        partitions: Option<u32>,
    ) -> Result<()> {
        let of = self.describe(source).await?;
        let bytes_max = of
            .config
            .get(MAX_MESSAGE_BYTES)
            .and_then(|text| text.parse().ok())
            .unwrap_or(MAX_MESSAGE_BYTES_DEFAULT);
        let mut config = BTreeMap::from([
            ("retention.ms".to_owned(), "-1".to_owned()),
            (MAX_MESSAGE_BYTES.to_owned(), (bytes_max + headroom).to_string()),
        ]);
        let replicas = of.partitions.first().map_or(0, |partition| partition.replicas.len());
        if let Some(least) = of.config.get(MIN_IN_SYNC).filter(|_| replicas > 1) {
            config.insert(MIN_IN_SYNC.to_owned(), least.clone());
        }
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: partitions.unwrap_or(of.partitions.len() as u32),
            replication_factor: u16::try_from(replicas).ok().filter(|replicas| *replicas > 0),
            config,
        };
        let made = self.admin.create(spec).await;
        self.forget(topic);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Lets the records before these offsets go, of a topic whose readers need them no more.
    pub async fn trim(&self, topic: &TopicName, before: &[(PartitionId, Offset)]) -> Result<()> {
        self.admin.trim(topic, before).await.map_err(|error| self.of_topic(topic, &error, &[]))?;
        Ok(())
    }

    /// Deletes a topic that was made for a subscription, if it is there.
    pub async fn remove(&self, topic: &TopicName) -> Result<()> {
        let deleted = self.admin.delete(topic).await;
        self.forget(topic);
        match deleted {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Looks the topic up anew at the next need: it is not as it was known.
    pub fn forget(&self, topic: &TopicName) {
        self.known.write().remove(topic);
    }

    /// The cluster that keeps the topics, for health.
    pub async fn cluster(&self) -> Result<ClusterInfo> {
        Ok(self.admin.cluster().await?)
    }

    async fn describe(&self, name: &TopicName) -> Result<TopicInfo> {
        self.admin.describe(name).await?.ok_or_else(|| Error::topic_not_found(name))
    }

    fn of_topic(&self, name: &TopicName, error: &PortError, keys: &[String]) -> Error {
        if error.kind() == ErrorKind::NotFound {
            self.forget(name);
            return Error::topic_not_found(name);
        }
        admin_error(error, keys)
    }
}

/// Reads the name of a topic that stood in `field`.
pub(crate) fn topic_name(field: &str, name: &str) -> Result<TopicName> {
    TopicName::new(name).map_err(|error| invalid_name(field, name, &error))
}

fn in_range(field: &str, given: i64, least: i64, most: i64) -> Result<i64> {
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(Error::invalid(field, format!("must lie between {least} and {most} (given: {given})")))
    }
}

fn check_config_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    for name in names {
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        {
            let shown: String = name.chars().take(80).collect();
            return Err(Error::invalid(
                format!("config.{shown}"),
                "is not the name of a setting; they look like `retention.ms`",
            ));
        }
    }
    Ok(())
}

/// A refusal that speaks of a setting names its field.
fn admin_error(error: &PortError, keys: &[String]) -> Error {
    let mapped = Error::from(error);
    if !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) {
        return mapped;
    }
    match keys.iter().find(|key| error.detail().contains(key.as_str())) {
        Some(key) => mapped.with_field(format!("config.{key}"), error.detail()),
        None if error.detail().to_ascii_lowercase().contains("replication") => {
            mapped.with_field("replicationFactor", error.detail())
        }
        None => mapped,
    }
}

fn purge_offset(info: &TopicInfo, partition: &str, offset: i64) -> Result<(PartitionId, Offset)> {
    let field = || format!("before.{}", partition.chars().take(40).collect::<String>());
    let found = partition
        .parse::<PartitionId>()
        .ok()
        .and_then(|number| info.partitions.iter().find(|p| p.partition == number))
        .ok_or_else(|| {
            Error::invalid(
                field(),
                format!("is not a partition of the topic; it has 0 to {}", info.partitions.len() - 1),
            )
        })?;
    if offset < 0 || offset as u64 > found.latest {
        return Err(Error::invalid(
            field(),
            format!("must lie between 0 and the partition's end {} (given: {offset})", found.latest),
        ));
    }
    Ok((found.partition, offset as u64))
}
