//! A topic: its metadata file and its partitions.
//!
//! A topic's directory is named by its id, never by its name, so that no name can reach for another path,
//! two names that a file system takes for one do not clash, and a topic that is made again has nothing of
//! the old one.

use super::{
    fault::Fault,
    file::FileSystem,
    meta::{self, Damaged, Fields},
    partition::{Partition, Surroundings},
    recovery,
    settings::{Explicit, Settings},
};
use parking_lot::{Mutex, RwLock};
use ports::{ErrorKind, PartitionId, TopicName, TopicPartition};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const META_FILE: &str = "topic.meta";
const META_KIND: &str = "topic";

/// A partition, or why it cannot be used until the log is opened again.
pub(crate) type Slot = Result<Arc<Partition>, Fault>;

/// A topic that is there.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    /// Those in force, shared with the partitions.
    pub(crate) settings: Arc<RwLock<Settings>>,
    pub(crate) explicit: Mutex<Explicit>,
    pub(crate) partitions: RwLock<Vec<Slot>>,
    /// Why nothing of the topic can be used.
    pub(crate) damage: Option<Fault>,
}

/// What the metadata file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicMeta {
    pub(crate) name: TopicName,
    pub(crate) id: String,
    pub(crate) partitions: u32,
    pub(crate) explicit: Explicit,
}

impl TopicMeta {
    pub(crate) fn write(&self, fs: &dyn FileSystem, dir: &Path) -> Result<(), Fault> {
        let mut fields =
            Fields::new().add("name", &self.name).add("id", &self.id).add("partitions", &self.partitions);
        for (key, value) in &self.explicit {
            fields = fields.add("config", &format!("{key}={value}"));
        }
        meta::write(fs, &dir.join(META_FILE), META_KIND, &fields)
    }

    pub(crate) fn read(fs: &dyn FileSystem, dir: &Path) -> Result<Self, Damaged> {
        let path = dir.join(META_FILE);
        let damaged = |what: &str| Damaged { fault: Fault::corrupt(&path, 0, what), fields: Fields::new() };
        let fields = meta::read(fs, &path, META_KIND)?.ok_or_else(|| damaged("the file is missing"))?;
        Self::parse(&fields).ok_or_else(|| damaged("a field is missing or wrong"))
    }

    fn parse(fields: &Fields) -> Option<Self> {
        let pairs = fields.all("config").map(|pair| pair.split_once('='));
        let explicit = pairs.map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Some(Self {
            name: TopicName::new(fields.get("name")?).ok()?,
            id: fields.get("id")?.to_owned(),
            partitions: fields.get("partitions")?.parse().ok()?,
            explicit: explicit.collect::<Option<_>>()?,
        })
    }
}

impl Topic {
    /// The topic of `dir` as `meta` says, with `partitions`.
    pub(crate) fn new(
        meta: TopicMeta,
        dir: PathBuf,
        settings: Arc<RwLock<Settings>>,
        partitions: Vec<Slot>,
    ) -> Self {
        let TopicMeta { name, id, explicit, .. } = meta;
        let (explicit, partitions) = (Mutex::new(explicit), RwLock::new(partitions));
        Self { name, id, dir, settings, explicit, partitions, damage: None }
    }

    /// The topic of `dir`, of which no more than the name can be read.
    pub(crate) fn damaged(name: TopicName, id: String, dir: PathBuf, fault: Fault) -> Self {
        let meta = TopicMeta { name, id, partitions: 0, explicit: Explicit::new() };
        Self { damage: Some(fault), ..Self::new(meta, dir, Arc::default(), Vec::new()) }
    }

    /// One partition, from a look at all of them.
    pub(crate) fn pick<'a>(
        &self,
        partitions: &'a [Slot],
        number: PartitionId,
    ) -> Result<&'a Arc<Partition>, Fault> {
        if let Some(fault) = &self.damage {
            return Err(fault.clone());
        }
        match partitions.get(number as usize) {
            Some(slot) => slot.as_ref().map_err(Clone::clone),
            None => {
                let detail =
                    format!("topic {} has no partition {number}, it has {}", self.name, partitions.len());
                Err(Fault::new(ErrorKind::NotFound, detail))
            }
        }
    }

    /// One partition.
    pub(crate) fn partition(&self, number: PartitionId) -> Result<Arc<Partition>, Fault> {
        self.pick(&self.partitions.read(), number).cloned()
    }

    /// The metadata file's content for so many partitions and these settings.
    pub(crate) fn meta(&self, partitions: u32, explicit: Explicit) -> TopicMeta {
        TopicMeta { name: self.name.clone(), id: self.id.clone(), partitions, explicit }
    }
}

/// The directory of a partition.
pub(crate) fn partition_dir(topic_dir: &Path, number: PartitionId) -> PathBuf {
    topic_dir.join(format!("partition-{number}"))
}

/// Makes the directory of a new partition under `made_in`, which will be `topic_dir`. The caller syncs it.
pub(crate) fn create_partition(
    around: &Arc<Surroundings>,
    name: TopicPartition,
    made_in: &Path,
    topic_dir: &Path,
    settings: &Arc<RwLock<Settings>>,
) -> Result<Arc<Partition>, Fault> {
    recovery::create(&*around.fs, &partition_dir(made_in, name.partition))?;
    let dir = partition_dir(topic_dir, name.partition);
    let recovered = recovery::empty(&dir);
    Ok(Arc::new(Partition::new(name, dir, around.clone(), settings.clone(), recovered)))
}

/// Opens a partition that is there.
pub(crate) fn open_partition(
    around: &Arc<Surroundings>,
    name: TopicPartition,
    topic_dir: &Path,
    settings: &Arc<RwLock<Settings>>,
) -> Slot {
    let dir = partition_dir(topic_dir, name.partition);
    match recovery::open(&*around.fs, &dir) {
        Ok(recovered) => Ok(Arc::new(Partition::new(name, dir, around.clone(), settings.clone(), recovered))),
        Err(fault) => {
            tracing::error!(partition = %name, detail = fault.detail, "a partition cannot be used");
            Err(fault)
        }
    }
}
