//! What a backend brings to its tests, and how one is run.

use crate::fixtures;
use futures::future::BoxFuture;
use ports::{
    AppendRequest, Appended, ErrorKind, EventLog, Fetched, GroupAdmin, GroupMembership, IdempotencyStore,
    JobStore, LogReader, Offset, OffsetStore, PartitionId, PortError, ReadLimits, Record, SchemaStore,
    StoredRecord, TopicAdmin, TopicName, TopicPartition, TopicSpec,
};
use std::{any::Any, collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

/// How long a test waits for something that must come. Nothing takes so long where all is well; it keeps a
/// failing test from waiting for ever.
pub const PATIENCE: Duration = Duration::from_mins(1);

type Reopen = Box<dyn FnOnce() -> BoxFuture<'static, Backend> + Send + Sync>;
type MakeGap = Box<dyn Fn(TopicPartition) -> BoxFuture<'static, ()> + Send + Sync>;

/// The ports of one backend, as far as it has them.
#[derive(Default)]
pub struct Backend {
    log: Option<Arc<dyn EventLog>>,
    admin: Option<Arc<dyn TopicAdmin>>,
    membership: Option<Arc<dyn GroupMembership>>,
    offsets: Option<Arc<dyn OffsetStore>>,
    groups: Option<Arc<dyn GroupAdmin>>,
    jobs: Option<Arc<dyn JobStore>>,
    idempotency: Option<Arc<dyn IdempotencyStore>>,
    schemas: Option<Arc<dyn SchemaStore>>,
    make_gap: Option<MakeGap>,
    reopen: Option<Reopen>,
    /// Dropped after the ports.
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Backend {
    /// A backend that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this log.
    #[must_use]
    pub fn with_log(mut self, log: Arc<dyn EventLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// With these topics.
    #[must_use]
    pub fn with_admin(mut self, admin: Arc<dyn TopicAdmin>) -> Self {
        self.admin = Some(admin);
        self
    }

    /// With this membership.
    #[must_use]
    pub fn with_membership(mut self, membership: Arc<dyn GroupMembership>) -> Self {
        self.membership = Some(membership);
        self
    }

    /// With these offsets.
    #[must_use]
    pub fn with_offsets(mut self, offsets: Arc<dyn OffsetStore>) -> Self {
        self.offsets = Some(offsets);
        self
    }

    /// With these groups.
    #[must_use]
    pub fn with_groups(mut self, groups: Arc<dyn GroupAdmin>) -> Self {
        self.groups = Some(groups);
        self
    }

    /// With these documents.
    #[must_use]
    pub fn with_jobs(mut self, jobs: Arc<dyn JobStore>) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// With these claims.
    #[must_use]
    pub fn with_idempotency(mut self, idempotency: Arc<dyn IdempotencyStore>) -> Self {
        self.idempotency = Some(idempotency);
        self
    }

    /// With these schemas.
    #[must_use]
    pub fn with_schemas(mut self, schemas: Arc<dyn SchemaStore>) -> Self {
        self.schemas = Some(schemas);
        self
    }

    /// Keeps something (a server, a directory) until the ports are dropped.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    /// With a way to leave a gap in a partition's offsets, as an aborted transaction does. A log whose
    /// offsets are dense needs none.
    #[must_use]
    pub fn with_gaps(
        mut self,
        make_gap: impl Fn(TopicPartition) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.make_gap = Some(Box::new(make_gap));
        self
    }

    /// With a way to open the same data once more, after all ports are dropped, as a restart does.
    #[must_use]
    pub fn with_reopen(
        mut self,
        reopen: impl FnOnce() -> BoxFuture<'static, Self> + Send + Sync + 'static,
    ) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// The log.
    pub fn log(&self) -> &Arc<dyn EventLog> {
        self.log.as_ref().expect("the backend has an EventLog")
    }

    /// The topics.
    pub fn admin(&self) -> &Arc<dyn TopicAdmin> {
        self.admin.as_ref().expect("the backend has a TopicAdmin")
    }

    /// The membership.
    pub fn membership(&self) -> &Arc<dyn GroupMembership> {
        self.membership.as_ref().expect("the backend has a GroupMembership")
    }

    /// The offsets.
    pub fn offsets(&self) -> &Arc<dyn OffsetStore> {
        self.offsets.as_ref().expect("the backend has an OffsetStore")
    }

    /// The groups.
    pub fn groups(&self) -> &Arc<dyn GroupAdmin> {
        self.groups.as_ref().expect("the backend has a GroupAdmin")
    }

    /// The documents.
    pub fn jobs(&self) -> &Arc<dyn JobStore> {
        self.jobs.as_ref().expect("the backend has a JobStore")
    }

    /// The claims.
    pub fn idempotency(&self) -> &Arc<dyn IdempotencyStore> {
        self.idempotency.as_ref().expect("the backend has an IdempotencyStore")
    }

    /// The schemas.
    pub fn schemas(&self) -> &Arc<dyn SchemaStore> {
        self.schemas.as_ref().expect("the backend has a SchemaStore")
    }

    /// Drops all ports and opens the same data again. A backend that keeps nothing stays as it is.
    pub async fn reopened(mut self) -> Self {
        let Some(reopen) = self.reopen.take() else { return self };
        // What the data lies in outlives the ports.
        let kept = std::mem::take(&mut self.kept);
        drop(self);
        let mut again = reopen().await;
        again.kept.extend(kept);
        again
    }

    /// Leaves a gap in a partition's offsets, where that can be; says whether it did.
    pub(super) async fn make_gap(&self, partition: &TopicPartition) -> bool {
        match &self.make_gap {
            Some(make_gap) => {
                make_gap(partition.clone()).await;
                true
            }
            None => false,
        }
    }

    /// A new topic with so many partitions.
    pub(super) async fn topic(&self, partitions: u32) -> TopicName {
        self.topic_with(partitions, &[]).await
    }

    /// A new topic with settings.
    pub(super) async fn topic_with(&self, partitions: u32, config: &[(&str, &str)]) -> TopicName {
        let name = fixtures::topic_name("conformance");
        self.create(&name, partitions, config).await;
        name
    }

    pub(super) async fn create(&self, name: &TopicName, partitions: u32, config: &[(&str, &str)]) {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let spec = spec(name, partitions, config.collect());
        self.admin().create(spec).await.expect("the topic can be created");
    }

    /// Appends all of them, which must succeed.
    pub(super) async fn append(
        &self,
        topic: &TopicName,
        records: Vec<(PartitionId, Record)>,
    ) -> Vec<Appended> {
        let outcomes = self.try_append(topic, records).await;
        outcomes.into_iter().map(|outcome| outcome.expect("the record is appended")).collect()
    }

    /// Appends and gives back what became of each.
    pub(super) async fn try_append(
        &self,
        topic: &TopicName,
        records: Vec<(PartitionId, Record)>,
    ) -> Vec<Result<Appended, PortError>> {
        let count = records.len();
        let request = AppendRequest { topic: topic.clone(), records, timeout: PATIENCE };
        let result = within("an append", self.log().append(request)).await;
        assert_eq!(result.outcomes.len(), count, "one outcome a record");
        result.outcomes
    }

    /// Appends these values to one partition.
    pub(super) async fn append_values<V: AsRef<[u8]>>(
        &self,
        to: &TopicPartition,
        values: impl IntoIterator<Item = V>,
    ) -> Vec<Appended> {
        let record = |value: V| (to.partition, fixtures::record(value.as_ref().to_vec()));
        self.append(&to.topic, values.into_iter().map(record).collect()).await
    }

    /// A cursor.
    pub(super) async fn open(&self, partition: &TopicPartition, from: Offset) -> Box<dyn LogReader> {
        self.log().open(partition, from).await.expect("the partition can be read")
    }

    /// Everything that one partition holds from `from` to its end.
    pub(super) async fn read_from(&self, partition: &TopicPartition, from: Offset) -> Vec<StoredRecord> {
        let at = [(partition.partition, ports::Position::Latest)];
        let end = self.log().locate(&partition.topic, &at).await.expect("the end can be found")[0];
        let mut reader = self.open(partition, from).await;
        read_until(&mut *reader, from, end).await
    }

    /// Everything that one partition holds.
    pub(super) async fn read_all(&self, partition: &TopicPartition) -> Vec<StoredRecord> {
        self.read_from(partition, 0).await
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("log", &self.log).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// What a read may bring, where a test has no opinion on it.
pub(super) const GENEROUS: ReadLimits =
    ReadLimits { records_max: 1000, bytes_max: 8 << 20, wait_max: Duration::from_secs(5) };

/// Reads on until the cursor, which stands at `from`, has come to `end`.
pub(super) async fn read_until(reader: &mut dyn LogReader, from: Offset, end: Offset) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    let mut at = from;
    within("reading to the end", async {
        while at < end {
            let fetched = reader.next(GENEROUS).await.expect("the partition can be read");
            check_fetched(&fetched, at);
            at = fetched.next;
            records.extend(fetched.records);
        }
    })
    .await;
    records
}

/// What holds for every read from `from`.
pub(super) fn check_fetched(fetched: &Fetched, from: Offset) {
    assert!(fetched.next >= from, "the cursor never goes back: {} after {from}", fetched.next);
    let mut at = from;
    for stored in &fetched.records {
        assert!(stored.offset >= at, "offsets grow from where the read began: {} before {at}", stored.offset);
        at = stored.offset + 1;
    }
    assert!(fetched.next >= at, "the cursor goes behind the last record: {} before {at}", fetched.next);
}

/// A topic to create.
pub(super) fn spec(name: &TopicName, partitions: u32, config: BTreeMap<String, String>) -> TopicSpec {
    TopicSpec { name: name.clone(), partitions, replication_factor: None, config }
}

/// The error, which must be of this kind.
pub(super) fn expect_kind<T: fmt::Debug>(result: Result<T, PortError>, kind: ErrorKind) -> PortError {
    let error = result.expect_err("the call is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

/// Waits for `future`, but not for ever.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not come to an end within {PATIENCE:?}"))
}

/// Waits until `condition` gives something, asking again and again.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    within(what, async {
        loop {
            if let Some(it) = condition().await {
                return it;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Runs one test on a backend of its own, on a runtime of its own.
///
/// # Panics
/// When the test does, or when it does not end.
pub fn run<M, T>(make: impl FnOnce() -> M, test: impl FnOnce(Backend) -> T)
where
    M: Future<Output = Backend>,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let whole = async {
            let backend = make().await;
            test(backend).await;
        };
        let ended = tokio::time::timeout(5 * PATIENCE, whole).await;
        assert!(ended.is_ok(), "the test did not come to an end within {:?}", 5 * PATIENCE);
    });
    // A backend's threads that still let go of something do not hold up the next test.
    runtime.shutdown_timeout(Duration::from_secs(5));
}
