//! The topics of a data directory, and what makes, changes and removes them.
//!
//! Invariants:
//! - A directory `topics/<id>` is a topic that was made whole: it is made under another name and renamed.
//!   One that ends in `.new` or `.deleted` is what a crash left, and is removed when the log is opened.
//! - The files change first and the memory after them, under `changing`, which is held by one call at a time.
//! - What is said of a topic's being there holds after a loss of power too: a name whose going is not known
//!   to be durable is remembered, and nothing is made or found missing until it is.

use super::{
    DiskLimits,
    fault::Fault,
    file::{FileSystem, remove_tree},
    meta::{self, Fields},
    partition::{Partition, Surroundings},
    settings::{Explicit, Settings},
    topic::{Topic, TopicMeta, create_partition, open_partition},
};
use parking_lot::{Mutex, RwLock};
use ports::{ErrorKind, TopicName, TopicPartition, TopicSpec};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
};
use uuid::Uuid;

const TOPICS_DIR: &str = "topics";
const NEW: &str = ".new";
const DELETED: &str = ".deleted";
const CLUSTER_FILE: &str = "cluster.meta";
const CLUSTER_KIND: &str = "cluster";

/// Bounds of what one partition keeps in memory of its end.
const TAIL_BYTES_MIN: usize = 64 << 10;
const TAIL_BYTES_MAX: usize = 4 << 20;

/// All topics of a data directory.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) around: Arc<Surroundings>,
    pub(crate) cluster_id: String,
    dir: PathBuf,
    limits: DiskLimits,
    topics: RwLock<HashMap<TopicName, Arc<Topic>>>,
    changing: Mutex<Vec<Leaving>>,
}

/// A topic's directory that is given up, of which the device may not know yet.
#[derive(Debug)]
struct Leaving {
    dir: PathBuf,
    /// What it is called from then on.
    away: PathBuf,
}

impl Catalog {
    /// Reads `data_dir`, which exists, and recovers what a crash left.
    pub(crate) fn open(
        around: Arc<Surroundings>,
        data_dir: &Path,
        limits: DiskLimits,
    ) -> Result<Self, Fault> {
        let fs = around.fs.clone();
        let cluster_id = cluster_id(&*fs, data_dir)?;
        let dir = data_dir.join(TOPICS_DIR);
        let io_fault = |error: io::Error| Fault::io("open", &dir, &error);
        match fs.create_dir(&dir) {
            Ok(()) => fs.sync_dir(data_dir).map_err(io_fault)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_fault(error)),
        }
        let mut topics = HashMap::new();
        let mut entries = fs.list(&dir).map_err(io_fault)?;
        // A topic must not come back because its removal was not durable when the process died.
        fs.sync_dir(&dir).map_err(io_fault)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            let path = dir.join(&entry.name);
            if entry.name.ends_with(NEW) || entry.name.ends_with(DELETED) {
                remove(&*fs, &path);
            } else if let Some(topic) = open_topic(&around, path, entry.name, limits) {
                topics.insert(topic.name.clone(), topic);
            }
        }
        let topics = RwLock::new(topics);
        let catalog = Self { around, cluster_id, dir, limits, topics, changing: Mutex::new(Vec::new()) };
        catalog.share_tail();
        Ok(catalog)
    }

    /// The topic `name`.
    pub(crate) fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, Fault> {
        self.find(name).ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("topic {name} does not exist")))
    }

    /// The topic `name`, where there is one.
    pub(crate) fn find(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = self.topics.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn create(&self, spec: TopicSpec) -> Result<(), Fault> {
        let mut leaving = self.changing.lock();
        settle(&*self.around.fs, &self.dir, &mut leaving)?;
        let TopicSpec { name, partitions, replication_factor, config } = spec;
        if self.find(&name).is_some() {
            return Err(Fault::new(ErrorKind::AlreadyExists, format!("topic {name} exists already")));
        }
        self.check_partitions(partitions)?;
        if let Some(factor) = replication_factor.filter(|factor| *factor != 1) {
            let detail = format!("a replication factor of {factor} needs more nodes; this log keeps 1 copy");
            return Err(Fault::new(ErrorKind::Invalid, detail));
        }
        let settings = Arc::new(RwLock::new(Settings::parse(&config, self.limits.frame_bytes_max)?));
        let id = Uuid::now_v7().simple().to_string();
        let (dir, new) = (self.dir.join(&id), self.dir.join(format!("{id}{NEW}")));
        let meta = TopicMeta { name, id, partitions, explicit: config };
        let made = self.make(&meta, &new, &dir, &settings);
        let made = made.inspect_err(|_| remove(&*self.around.fs, &new))?;
        self.appear(&new, &dir, &mut leaving)?;
        let topic = Topic::new(meta, dir, settings, made);
        self.topics.write().insert(topic.name.clone(), Arc::new(topic));
        self.share_tail();
        Ok(())
    }

    /// Makes the files of a topic in `new`, which will be `dir`.
    fn make(
        &self,
        meta: &TopicMeta,
        new: &Path,
        dir: &Path,
        settings: &Arc<RwLock<Settings>>,
    ) -> Result<Vec<Result<Arc<Partition>, Fault>>, Fault> {
        let fs = &*self.around.fs;
        fs.create_dir(new).map_err(|error| Fault::io("make", new, &error))?;
        let partition = |number| {
            let name = TopicPartition::new(meta.name.clone(), number);
            create_partition(&self.around, name, new, dir, settings).map(Ok)
        };
        let partitions = (0..meta.partitions).map(partition).collect::<Result<Vec<_>, _>>()?;
        // Syncs `new`, and with it the names of the partitions.
        meta.write(fs, new)?;
        Ok(partitions)
    }

    /// Gives what was made in `new` its name.
    fn appear(&self, new: &Path, dir: &Path, leaving: &mut Vec<Leaving>) -> Result<(), Fault> {
        let fs = &*self.around.fs;
        let io_fault = |error: io::Error| Fault::io("make", dir, &error);
        if let Err(error) = fs.rename(new, dir) {
            remove(fs, new);
            return Err(io_fault(error));
        }
        let Err(error) = fs.sync_dir(&self.dir) else { return Ok(()) };
        // It must not appear after a restart when it is said to have failed.
        leaving.push(Leaving { dir: dir.to_owned(), away: new.to_owned() });
        settle(fs, &self.dir, leaving).map_err(Fault::effect_unknown)?;
        Err(io_fault(error))
    }

    pub(crate) fn alter(
        &self,
        name: &TopicName,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Fault> {
        let _changing = self.changing.lock();
        let topic = self.usable(name)?;
        let mut explicit = topic.explicit.lock().clone();
        // A default is checked too: a key that is not known is an error however it is changed.
        let named: Explicit = changes
            .iter()
            .map(|(key, value)| {
                let default = || Settings::default().describe().remove(key).unwrap_or_default();
                (key.clone(), value.clone().unwrap_or_else(default))
            })
            .collect();
        Settings::parse(&named, self.limits.frame_bytes_max)?;
        for (key, value) in changes {
            match value {
                Some(value) => explicit.insert(key.clone(), value.clone()),
                None => explicit.remove(key),
            };
        }
        let settings = Settings::parse(&explicit, self.limits.frame_bytes_max)?;
        let partitions = topic.partitions.read().len() as u32;
        topic.meta(partitions, explicit.clone()).write(&*self.around.fs, &topic.dir)?;
        *topic.explicit.lock() = explicit;
        *topic.settings.write() = settings;
        Ok(())
    }

    pub(crate) fn add_partitions(&self, name: &TopicName, total: u32) -> Result<(), Fault> {
        let _changing = self.changing.lock();
        let topic = self.usable(name)?;
        let have = topic.partitions.read().len() as u32;
        if total <= have {
            let detail = format!("topic {name} has {have} partitions already; {total} is not more");
            return Err(Fault::new(ErrorKind::Invalid, detail));
        }
        self.check_partitions(total)?;
        let partition = |number| {
            let name = TopicPartition::new(topic.name.clone(), number);
            create_partition(&self.around, name, &topic.dir, &topic.dir, &topic.settings).map(Ok)
        };
        let added = (have..total).map(partition).collect::<Result<Vec<_>, _>>()?;
        // Names them, and syncs the directory that holds them.
        topic.meta(total, topic.explicit.lock().clone()).write(&*self.around.fs, &topic.dir)?;
        topic.partitions.write().extend(added);
        self.share_tail();
        Ok(())
    }

    pub(crate) fn delete(&self, name: &TopicName) -> Result<(), Fault> {
        let fs = &*self.around.fs;
        let mut leaving = self.changing.lock();
        settle(fs, &self.dir, &mut leaving)?;
        let topic = self.topic(name)?;
        let mut gone = topic.dir.clone().into_os_string();
        gone.push(DELETED);
        let gone = PathBuf::from(gone);
        fs.rename(&topic.dir, &gone).map_err(|error| Fault::io("remove", &topic.dir, &error))?;
        leaving.push(Leaving { dir: topic.dir.clone(), away: gone });
        self.topics.write().remove(name);
        for partition in topic.partitions.read().iter().flatten() {
            partition.close();
        }
        self.share_tail();
        settle(fs, &self.dir, &mut leaving).map_err(Fault::effect_unknown)
    }

    /// Removes what is too old or too much, everywhere. A failure in one partition does not keep the
    /// others; the first one is given.
    pub(crate) fn enforce_retention(&self) -> Result<(), Fault> {
        let mut first = Ok(());
        for topic in self.all() {
            let partitions = topic.partitions.read().clone();
            for partition in partitions.iter().flatten() {
                let enforced = partition.enforce_retention();
                if let Err(fault) = &enforced
                    && fault.kind != ErrorKind::NotFound
                {
                    tracing::warn!(partition = %partition.name, detail = fault.detail, "could not enforce retention");
                    first = first.and(enforced);
                }
            }
        }
        first
    }

    /// A topic that can be changed.
    fn usable(&self, name: &TopicName) -> Result<Arc<Topic>, Fault> {
        let topic = self.topic(name)?;
        match &topic.damage {
            Some(fault) => Err(fault.clone()),
            None => Ok(topic),
        }
    }

    fn check_partitions(&self, count: u32) -> Result<(), Fault> {
        let max = self.limits.partitions_max;
        if (1..=max).contains(&count) {
            return Ok(());
        }
        let detail = format!("a topic has 1 to {max} partitions, not {count}");
        Err(Fault::new(ErrorKind::Invalid, detail))
    }

    /// Divides the memory for the ends of partitions among them.
    fn share_tail(&self) {
        let partitions: usize = self.topics.read().values().map(|topic| topic.partitions.read().len()).sum();
        let share = self.limits.tail_bytes_max / partitions.max(1);
        let bounded = if share < TAIL_BYTES_MIN { 0 } else { share.min(TAIL_BYTES_MAX) };
        self.around.tail_bytes_max.store(bounded, Ordering::Relaxed);
    }
}

/// Makes durable that what is `leaving` has left `dir`, the directory of topics, and removes it. Where that fails, all of it stays
/// to be done again.
fn settle(fs: &dyn FileSystem, dir: &Path, leaving: &mut Vec<Leaving>) -> Result<(), Fault> {
    if leaving.is_empty() {
        return Ok(());
    }
    for left in &*leaving {
        match fs.rename(&left.dir, &left.away) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Fault::io("remove", &left.dir, &error));
            }
            _ => {}
        }
    }
    fs.sync_dir(dir).map_err(|error| Fault::io("sync", dir, &error))?;
    leaving.drain(..).for_each(|left| remove(fs, &left.away));
    Ok(())
}

/// Removes what nothing names any more; what cannot be removed is tried again when the log is opened.
fn remove(fs: &dyn FileSystem, left: &Path) {
    if let Err(error) = remove_tree(fs, left) {
        tracing::warn!(dir = %left.display(), %error, "could not remove what is left of a topic yet");
    }
}

/// The id of the data directory, made where there is none.
fn cluster_id(fs: &dyn FileSystem, data_dir: &Path) -> Result<String, Fault> {
    let path = data_dir.join(CLUSTER_FILE);
    if let Some(fields) = meta::read(fs, &path, CLUSTER_KIND).map_err(|damaged| damaged.fault)? {
        let id = fields.get("id").map(str::to_owned);
        return id.ok_or_else(|| Fault::corrupt(&path, 0, "it holds no id"));
    }
    let id = Uuid::now_v7().simple().to_string();
    meta::write(fs, &path, CLUSTER_KIND, &Fields::new().add("id", &id))?;
    Ok(id)
}

/// Opens the topic of a directory. One that cannot be used is kept as such, so that what asks for it is
/// told; of one that does not even give its name there is only the log line.
fn open_topic(
    around: &Arc<Surroundings>,
    dir: PathBuf,
    id: String,
    limits: DiskLimits,
) -> Option<Arc<Topic>> {
    let read = TopicMeta::read(&*around.fs, &dir).and_then(|meta| {
        let damaged = |fault| meta::Damaged { fault, fields: Fields::new().add("name", &meta.name) };
        let settings = Settings::parse(&meta.explicit, limits.frame_bytes_max).map_err(damaged)?;
        around.fs.sync_dir(&dir).map_err(|error| damaged(Fault::io("sync", &dir, &error)))?;
        Ok((meta, settings))
    });
    let (meta, settings) = match read {
        Ok(read) => read,
        Err(damaged) => {
            let name = damaged.fields.get("name").and_then(|name| TopicName::new(name).ok());
            let shown = name.as_ref().map_or("?", TopicName::as_str);
            tracing::error!(topic = shown, detail = damaged.fault.detail, "a topic cannot be used");
            return name.map(|name| Arc::new(Topic::damaged(name, id, dir, damaged.fault)));
        }
    };
    let settings = Arc::new(RwLock::new(settings));
    let open =
        |number| open_partition(around, TopicPartition::new(meta.name.clone(), number), &dir, &settings);
    let partitions = in_parallel(meta.partitions, open);
    Some(Arc::new(Topic::new(meta, dir, settings, partitions)))
}

/// `make` for each number below `count`, by as many threads as there are processors.
fn in_parallel<T: Send>(count: u32, make: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(count as usize) as u32;
    if threads < 2 {
        return (0..count).map(make).collect();
    }
    let make = &make;
    let mut made: Vec<(u32, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let numbers = (first..count).step_by(threads as usize);
                scope.spawn(move || numbers.map(|number| (number, make(number))).collect::<Vec<_>>())
            })
            .collect();
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        joined.flat_map(|made| made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    made.sort_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, made)| made).collect()
}
