//! Replays over the reference model: nothing of the range is missed, at most a batch is written twice, and whoever
//! watches is told the truth.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use domain::{
    ErrorCode, Event,
    dead_letters::{DeadLetters, EditData, EditLetter, LetterStatus, ListLetters, Selection},
    jobs::{Bound, Job, JobPorts, Jobs, JobsConfig, Kind, NewRedrive, NewReplay, State, header},
    subscriptions::{AckRequest, NewSubscription, RejectItem, Subscriptions},
    topics::NewTopic,
};
use ports::{
    AppendRequest, Clock, EventLog, Expected, JobKind, JobStore, PortError, Record, Stored, StoredRecord,
    Timestamp, TopicName,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use support::{PARTITIONS, TOPIC, World, header as header_of};
use testkit::{
    clock::TestClock,
    fault::{Faults, FaultyLog},
};

const TARGET: &str = "orders.again";
const SECOND: Duration = Duration::from_secs(1);

async fn world() -> World {
    let world = World::new().await;
    world
        .topics()
        .create(NewTopic { name: TARGET.into(), partitions: Some(3), ..NewTopic::default() })
        .await
        .unwrap();
    world
}

/// Jobs as a process has them; dropped, it has died.
fn process(world: &World, log: Arc<dyn EventLog>, jobs: Arc<dyn JobStore>, shared: bool) -> Arc<Jobs> {
    let ports = JobPorts { log, jobs, clock: world.clock.clone() };
    let limits = Arc::new(world.limits.clone());
    let services = world.job_services(world.subscriptions());
    Jobs::new(ports, services, limits, JobsConfig { shared, ..JobsConfig::default() })
}

fn alone(world: &World) -> Arc<Jobs> {
    process(world, world.memory.log(), world.memory.jobs(), false)
}

/// Appends events of these times, the n-th with the id `n`, to a partition.
async fn append(world: &World, partition: u32, times: impl IntoIterator<Item = i64>, first: usize) {
    let records = times.into_iter().enumerate().map(|(n, time)| {
        let id = first + n;
        let record = Record {
            key: Some(Bytes::from(format!("key-{}", id % 7))),
            value: Some(Bytes::from(format!("{{\"n\":{id}}}"))),
            headers: vec![
                ports::Header::new("ce_id", id.to_string()),
                ports::Header::new("ce_type", if id.is_multiple_of(2) { "even" } else { "odd" }),
            ],
            timestamp: Timestamp(time),
        };
        (partition, record)
    });
    let request =
        AppendRequest { topic: TopicName::new(TOPIC).unwrap(), records: records.collect(), timeout: SECOND };
    let result = world.memory.log().append(request).await;
    assert!(result.outcomes.iter().all(Result::is_ok));
}

/// So many events a partition.
async fn fill(world: &World, each: usize) {
    for partition in 0..PARTITIONS {
        append(world, partition, 0..each as i64, partition as usize * each).await;
    }
}

fn to_target() -> NewReplay {
    NewReplay { topic: TOPIC.into(), target_topic: Some(TARGET.into()), ..NewReplay::default() }
}

async fn done(jobs: &Jobs, job: &Job) -> Job {
    jobs.wait(&job.id.to_string(), Duration::from_secs(3600)).await.unwrap()
}

fn ids(records: &[(u32, StoredRecord)]) -> Vec<usize> {
    records.iter().map(|(_, of)| header_of(&of.record, "ce_id").unwrap().parse().unwrap()).collect()
}

/// Where each record of the target says that it lay.
fn origins(records: &[(u32, StoredRecord)]) -> Vec<(u32, u64)> {
    let number = |of: &StoredRecord, name| header_of(&of.record, name).unwrap().parse::<u64>().unwrap();
    let origin = |of| (number(of, header::PARTITION) as u32, number(of, header::OFFSET));
    records.iter().map(|(_, of)| origin(of)).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_written_as_they_were_and_say_where_they_lay() {
    let world = world().await;
    fill(&world, 50).await;
    let jobs = alone(&world);
    let job = done(&jobs, &jobs.replay(to_target()).await.unwrap()).await;
    assert_eq!(job.state, State::Completed);
    let progress = &job.progress;
    assert_eq!((progress.read, progress.matched, progress.written, progress.total()), (200, 200, 200, 200));
    assert!(job.finished_at().is_some());
    let there: HashMap<(u32, u64), Record> = world
        .records(TOPIC)
        .await
        .into_iter()
        .map(|(partition, of)| ((partition, of.offset), of.record))
        .collect();
    let written = world.records(TARGET).await;
    assert_eq!(written.len(), 200);
    for ((_, of), origin) in written.iter().zip(origins(&written)) {
        let was = &there[&origin];
        assert_eq!((&of.record.key, &of.record.value), (&was.key, &was.value));
        assert!(of.record.headers.starts_with(&was.headers));
        assert_eq!(header_of(&of.record, header::REPLAY_ID).unwrap(), job.id.to_string());
        assert_eq!(header_of(&of.record, header::TOPIC).unwrap(), TOPIC);
        assert_eq!(header_of(&of.record, header::TIMESTAMP).unwrap(), was.timestamp.0.to_string());
    }
    // A key lies in one partition, in the order in which it lay within each partition of the source.
    let mut last: HashMap<(Bytes, u32), (u32, u64)> = HashMap::new();
    for ((to, of), (from, offset)) in written.iter().zip(origins(&written)) {
        let key = of.record.key.clone().unwrap();
        assert_eq!(*to, domain::partition::by_hash(&key, 3));
        if let Some(before) = last.insert((key, from), (*to, offset)) {
            assert!(before.0 == *to && before.1 < offset);
        }
    }
}

/// A replay that fed on what it writes would never end.
#[tokio::test(start_paused = true)]
async fn a_topic_can_be_replayed_into_itself_and_keeps_its_partitions() {
    let world = world().await;
    fill(&world, 30).await;
    let jobs = alone(&world);
    let into_itself =
        NewReplay { target_topic: Some(TOPIC.into()), filter: Some("type == 'odd'".into()), ..to_target() };
    let job = done(&jobs, &jobs.replay(into_itself).await.unwrap()).await;
    assert_eq!((job.state, job.progress.written), (State::Completed, 60));
    let all = world.records(TOPIC).await;
    let written: Vec<_> = all.iter().filter(|(_, of)| of.offset >= 30).cloned().collect();
    assert_eq!(written.len(), 60);
    for ((to, of), (from, _)) in written.iter().zip(origins(&written)) {
        assert_eq!(*to, from);
        assert_eq!(header_of(&of.record, "ce_type").unwrap(), "odd");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Producers set timestamps as they like: an event of the range may lie behind one that is later than its end.
    #[test]
    fn no_event_of_a_range_of_time_is_missed_however_timestamps_are_shuffled(
        times in proptest::collection::vec(0_i64..100, 1..200), from in 0_i64..100, length in 1_i64..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = world().await;
            append(&world, 1, times.iter().copied(), 0).await;
            let jobs = alone(&world);
            let new = NewReplay {
                from: Some(Bound::Time(Timestamp(from))), to: Some(Bound::Time(Timestamp(from + length))),
                batch_size: Some(7), ..to_target()
            };
            let job = done(&jobs, &jobs.replay(new).await.unwrap()).await;
            assert_eq!(job.state, State::Completed);
            let wanted: BTreeSet<usize> =
                (0..times.len()).filter(|n| (from..from + length).contains(&times[*n])).collect();
            let written = ids(&world.records(TARGET).await);
            assert_eq!(written.len(), wanted.len());
            assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), wanted);
        });
    }

    /// The promise of jobs: whatever dies and whenever, the range is complete in the end, and what a death costs is one
    /// batch at most.
    #[test]
    fn a_job_whose_process_dies_is_completed_by_the_next_and_repeats_one_batch_at_most(
        seed: u64, deaths in proptest::collection::vec(0_u64..400, 0..6), batch in 1_i64..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = world().await;
            fill(&world, 60).await;
            // Calls take their time, so that a death falls within them.
            let slow = Faults { delay: 0.8, delay_max: Duration::from_millis(20), ..Faults::default() };
            let log: Arc<dyn EventLog> =
                Arc::new(FaultyLog::new(world.memory.log(), world.clock.clone(), seed, slow));
            let mut jobs = process(&world, log.clone(), world.memory.jobs(), false);
            let job = jobs.replay(NewReplay { batch_size: Some(batch), ..to_target() }).await.unwrap();
            for after in &deaths {
                world.clock.sleep_until(world.clock.monotonic() + Duration::from_millis(*after)).await;
                drop(jobs);
                jobs = process(&world, log.clone(), world.memory.jobs(), false);
                jobs.start().await.unwrap();
            }
            let job = done(&jobs, &job).await;
            assert_eq!(job.state, State::Completed);
            let written = world.records(TARGET).await;
            let places: BTreeSet<_> = origins(&written).into_iter().collect();
            assert_eq!(places.len(), 240, "all of it");
            assert!(written.len() <= 240 + deaths.len() * batch as usize, "{} of {batch}", written.len());
            assert_eq!(job.progress.written, 240);
        });
    }

    /// What passes is waited out: a job fails for what lasts alone.
    #[test]
    fn a_log_that_fails_now_and_then_costs_time_and_no_event(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = world().await;
            fill(&world, 40).await;
            let faults = Faults { error_before: 0.2, error_after: 0.1, delay: 0.2, delay_max: SECOND };
            let log = FaultyLog::new(world.memory.log(), world.clock.clone(), seed, Faults::default());
            let jobs = process(&world, Arc::new(log.clone()), world.memory.jobs(), false);
            let job = jobs.replay(NewReplay { batch_size: Some(20), ..to_target() }).await.unwrap();
            log.set(faults);
            let job = done(&jobs, &job).await;
            assert_eq!((job.state, job.error.clone()), (State::Completed, None));
            let places: BTreeSet<_> = origins(&world.records(TARGET).await).into_iter().collect();
            assert_eq!(places.len(), 160);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn ranges_are_taken_by_offset_and_by_what_was_last() {
    let world = world().await;
    fill(&world, 20).await;
    let jobs = alone(&world);
    let offsets = |of: &[(&str, i64)]| {
        Some(Bound::Offsets(
            of.iter().map(|(partition, offset)| ((*partition).to_owned(), *offset)).collect(),
        ))
    };
    let spans = |job: &Job| -> Vec<_> {
        job.progress.partitions.iter().map(|(partition, span)| (*partition, span.from, span.to)).collect()
    };
    let new = NewReplay {
        from: offsets(&[("0", 5), ("2", 20)]),
        to: offsets(&[("0", 8), ("2", 20), ("3", 1)]),
        ..to_target()
    };
    let job = done(&jobs, &jobs.replay(new).await.unwrap()).await;
    assert_eq!(spans(&job), [(0, 5, 8), (2, 20, 20)]);
    assert_eq!((job.state, job.progress.written), (State::Completed, 3));
    let job = jobs.replay(NewReplay { from: Some(Bound::Last(4)), ..to_target() }).await.unwrap();
    assert_eq!(spans(&job), [(0, 16, 20), (1, 16, 20), (2, 16, 20), (3, 16, 20)]);
    assert_eq!(done(&jobs, &job).await.progress.written, 16);
}

/// Whoever replays what retention took half of must not believe that it was all.
#[tokio::test(start_paused = true)]
async fn what_retention_took_of_a_range_is_counted() {
    let world = world().await;
    fill(&world, 20).await;
    let topic = TopicName::new(TOPIC).unwrap();
    world.memory.admin().trim(&topic, &[(1, 15)]).await.unwrap();
    let jobs = alone(&world);
    let from = Bound::Offsets([("1".to_owned(), 3)].into());
    let job = done(&jobs, &jobs.replay(NewReplay { from: Some(from), ..to_target() }).await.unwrap()).await;
    let span = job.progress.partitions[&1];
    assert_eq!((job.state, job.progress.written, span.from, span.gone), (State::Completed, 5, 15, 12));
    // And what it takes while the job runs.
    let from = Bound::Offsets([("2".to_owned(), 0)].into());
    let slow = NewReplay { from: Some(from), rate_per_second: Some(10), batch_size: Some(1), ..to_target() };
    let job = jobs.replay(slow).await.unwrap();
    let log_says = || world.memory.admin();
    log_says().trim(&topic, &[(2, 20)]).await.unwrap();
    let job = done(&jobs, &job).await;
    let span = job.progress.partitions[&2];
    assert_eq!((job.state, span.next), (State::Completed, 20));
    assert_eq!(job.progress.written + span.gone, 20);
}

#[tokio::test(start_paused = true)]
async fn a_job_keeps_to_its_rate_and_to_the_original_pace() {
    let world = world().await;
    append(&world, 0, (0..100).map(|n| n * 1_000), 0).await;
    let jobs = alone(&world);
    let began = world.clock.monotonic();
    let job = jobs.replay(NewReplay { rate_per_second: Some(10), ..to_target() }).await.unwrap();
    assert_eq!(done(&jobs, &job).await.progress.written, 100);
    let took = world.clock.monotonic().since(began);
    assert!((Duration::from_millis(9_800)..11 * SECOND).contains(&took), "{took:?}");
    // 99 seconds of events, ten times as fast.
    let began = world.clock.monotonic();
    let job = jobs.replay(NewReplay { speed: Some(10.0), ..to_target() }).await.unwrap();
    assert_eq!(done(&jobs, &job).await.progress.written, 100);
    let took = world.clock.monotonic().since(began);
    assert!((Duration::from_millis(9_900)..11 * SECOND).contains(&took), "{took:?}");
}

/// The original pace is that of the topic, not of one partition after the other.
#[tokio::test(start_paused = true)]
async fn at_the_original_pace_partitions_go_beside_each_other_in_the_order_of_time() {
    let world = world().await;
    for partition in 0..PARTITIONS {
        let times = (0..50).map(|n| n * 400 + i64::from(partition) * 100);
        append(&world, partition, times, partition as usize * 50).await;
    }
    let one = NewTopic { name: "one".into(), partitions: Some(1), ..NewTopic::default() };
    world.topics().create(one).await.unwrap();
    let jobs = alone(&world);
    let new = NewReplay {
        target_topic: Some("one".into()),
        speed: Some(100.0),
        batch_size: Some(16),
        ..to_target()
    };
    let job = done(&jobs, &jobs.replay(new).await.unwrap()).await;
    assert_eq!((job.state, job.progress.written), (State::Completed, 200));
    let written = world.records("one").await;
    let times: Vec<i64> = written
        .iter()
        .map(|(_, of)| header_of(&of.record, header::TIMESTAMP).unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_rests_when_it_is_told_goes_on_where_it_was_and_ends_when_it_is_told() {
    let world = world().await;
    fill(&world, 100).await;
    let jobs = alone(&world);
    let slow = NewReplay { rate_per_second: Some(20), ..to_target() };
    let job = jobs.replay(slow.clone()).await.unwrap();
    let id = job.id.to_string();
    world.clock.sleep_until(world.clock.monotonic() + 5 * SECOND).await;
    assert_eq!(jobs.pause(&id).await.unwrap().state, State::Paused);
    world.clock.sleep_until(world.clock.monotonic() + SECOND).await;
    let resting = jobs.get(&id).await.unwrap();
    let so_far = world.records(TARGET).await.len() as u64;
    assert_eq!((resting.state, resting.progress.written), (State::Paused, so_far));
    assert!((90..=110).contains(&so_far), "{so_far}");
    world.clock.sleep_until(world.clock.monotonic() + 60 * SECOND).await;
    assert_eq!(world.records(TARGET).await.len() as u64, so_far);
    // Paused jobs are open: the same one is not begun beside it.
    assert_eq!(jobs.replay(slow).await.unwrap_err().code(), ErrorCode::Conflict);
    assert_eq!(jobs.resume(&id).await.unwrap().state, State::Running);
    world.clock.sleep_until(world.clock.monotonic() + 5 * SECOND).await;
    assert_eq!(jobs.cancel(&id).await.unwrap().state, State::Cancelled);
    world.clock.sleep_until(world.clock.monotonic() + SECOND).await;
    let written = world.records(TARGET).await;
    assert_eq!(jobs.get(&id).await.unwrap().progress.written, written.len() as u64);
    assert_eq!(origins(&written).into_iter().collect::<BTreeSet<_>>().len(), written.len(), "nothing twice");
    for refused in [jobs.resume(&id).await, jobs.pause(&id).await] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::Conflict);
    }
    assert_eq!(jobs.cancel(&id).await.unwrap().state, State::Cancelled);
}

/// A log that has appended long before it says so.
#[derive(Debug)]
struct SlowToAnswer {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
}

#[async_trait::async_trait]
impl EventLog for SlowToAnswer {
    fn capabilities(&self) -> ports::Capabilities {
        self.log.capabilities()
    }

    async fn append(&self, request: AppendRequest) -> ports::AppendResult {
        let result = self.log.append(request).await;
        self.clock.sleep_until(self.clock.monotonic() + 2 * SECOND).await;
        result
    }

    async fn open(
        &self,
        partition: &ports::TopicPartition,
        from: u64,
    ) -> Result<Box<dyn ports::LogReader>, PortError> {
        self.log.open(partition, from).await
    }

    async fn locate(&self, topic: &TopicName, at: &[(u32, ports::Position)]) -> Result<Vec<u64>, PortError> {
        self.log.locate(topic, at).await
    }
}

/// Whatever is on its way when somebody says stop must be known before it is stopped: it would be written twice else.
#[tokio::test(start_paused = true)]
async fn what_is_being_written_is_written_to_its_end_before_a_job_rests_or_its_service_stops() {
    for stops in [false, true] {
        let world = world().await;
        fill(&world, 20).await;
        let log: Arc<dyn EventLog> =
            Arc::new(SlowToAnswer { log: world.memory.log(), clock: world.clock.clone() });
        let mut repeated = 0;
        for seed in 0..20 {
            let mut jobs = process(&world, log.clone(), world.memory.jobs(), false);
            let new = NewReplay { batch_size: Some(7), filter: Some(format!("{seed} >= 0")), ..to_target() };
            let before = world.records(TARGET).await.len();
            let job = jobs.replay(new).await.unwrap();
            let id = job.id.to_string();
            // Somewhere within an append.
            for _ in 0..3 {
                let later = Duration::from_millis(1_700 + 370 * seed);
                world.clock.sleep_until(world.clock.monotonic() + later).await;
                if stops {
                    jobs.shutdown(world.clock.monotonic() + 60 * SECOND).await;
                    jobs = process(&world, log.clone(), world.memory.jobs(), false);
                    jobs.start().await.unwrap();
                } else if jobs.get(&id).await.unwrap().state == State::Running {
                    jobs.pause(&id).await.unwrap();
                    world.clock.sleep_until(world.clock.monotonic() + 10 * SECOND).await;
                    jobs.resume(&id).await.unwrap();
                }
            }
            assert_eq!(done(&jobs, &job).await.progress.written, 80);
            repeated += world.records(TARGET).await.len() - before - 80;
        }
        assert_eq!(repeated, 0, "stops: {stops}");
    }
}

/// A store of documents that a replica cannot reach while it is away, as after a long pause of its machine.
#[derive(Debug)]
struct Away {
    jobs: Arc<dyn JobStore>,
    away: tokio::sync::watch::Receiver<bool>,
}

impl Away {
    async fn back(&self) {
        let _ = self.away.clone().wait_for(|away| !away).await;
    }
}

#[async_trait::async_trait]
impl JobStore for Away {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>, PortError> {
        self.back().await;
        self.jobs.get(kind, name).await
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>, PortError> {
        self.back().await;
        self.jobs.list(kind).await
    }

    async fn put(
        &self,
        kind: JobKind,
        name: &str,
        expected: Expected,
        value: Bytes,
    ) -> Result<u64, PortError> {
        self.back().await;
        self.jobs.put(kind, name, expected, value).await
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<(), PortError> {
        self.back().await;
        self.jobs.delete(kind, name, version).await
    }
}

/// Two that ran one job would write all of it twice.
#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_longer_than_its_lease_is_fenced_at_its_next_batch() {
    let world = world().await;
    fill(&world, 100).await;
    let (away, is_away) = tokio::sync::watch::channel(false);
    let first_store = Arc::new(Away { jobs: world.memory.jobs(), away: is_away });
    let first = process(&world, world.memory.log(), first_store, true);
    let second = process(&world, world.memory.log(), world.memory.jobs(), true);
    first.start().await.unwrap();
    second.start().await.unwrap();
    let slow = NewReplay { rate_per_second: Some(20), batch_size: Some(2), ..to_target() };
    let job = first.replay(slow).await.unwrap();
    // Both look for jobs meanwhile: one that is run is left alone.
    world.clock.sleep_until(world.clock.monotonic() + 8 * SECOND).await;
    away.send(true).unwrap();
    world.clock.sleep_until(world.clock.monotonic() + 24 * SECOND).await;
    let taken = second.get(&job.id.to_string()).await.unwrap();
    assert!(taken.progress.written > 160, "the second goes on: {}", taken.progress.written);
    away.send(false).unwrap();
    let job = done(&second, &job).await;
    assert_eq!((job.state, job.progress.written), (State::Completed, 400));
    let written = world.records(TARGET).await;
    assert_eq!(origins(&written).into_iter().collect::<BTreeSet<_>>().len(), 400);
    assert!(written.len() <= 402, "{}", written.len());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stops_leaves_its_jobs_for_the_next_and_repeats_nothing() {
    let world = world().await;
    fill(&world, 100).await;
    let first = alone(&world);
    let slow = NewReplay { rate_per_second: Some(50), batch_size: Some(5), ..to_target() };
    let job = first.replay(slow.clone()).await.unwrap();
    world.clock.sleep_until(world.clock.monotonic() + 3 * SECOND).await;
    first.shutdown(world.clock.monotonic() + 10 * SECOND).await;
    let left = first.get(&job.id.to_string()).await.unwrap();
    assert_eq!(
        (left.state, left.progress.written),
        (State::Running, world.records(TARGET).await.len() as u64)
    );
    assert_eq!(first.replay(slow).await.unwrap_err().code(), ErrorCode::Unavailable);
    // Among replicas too it is taken at once.
    let second = process(&world, world.memory.log(), world.memory.jobs(), true);
    second.start().await.unwrap();
    let job = done(&second, &job).await;
    assert_eq!(job.state, State::Completed);
    assert_eq!(world.records(TARGET).await.len(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_topic_goes_fails_with_its_reason_and_keeps_its_place() {
    for made_anew in [false, true] {
        let world = world().await;
        fill(&world, 100).await;
        let jobs = alone(&world);
        let job = jobs
            .replay(NewReplay { rate_per_second: Some(50), batch_size: Some(5), ..to_target() })
            .await
            .unwrap();
        world.clock.sleep_until(world.clock.monotonic() + 3 * SECOND).await;
        world.topics().delete(TOPIC).await.unwrap();
        if made_anew {
            let new =
                NewTopic { name: TOPIC.into(), partitions: Some(PARTITIONS.into()), ..NewTopic::default() };
            world.topics().create(new).await.unwrap();
        }
        // The process that comes next learns of it, too.
        drop(jobs);
        let jobs = alone(&world);
        jobs.start().await.unwrap();
        let job = done(&jobs, &job).await;
        assert_eq!(job.state, State::Failed, "{:?}", job.error);
        let reason = job.error.clone().unwrap();
        assert!(reason.contains(TOPIC) && (reason.contains("anew") == made_anew), "{reason}");
        assert_eq!(job.progress.written, world.records(TARGET).await.len() as u64);
        assert!(job.progress.written > 100);
    }
}

/// One that is too large for the target, say: passing over it would be a loss that nobody sees.
#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_fails_the_job_which_goes_on_once_that_is_mended() {
    let world = world().await;
    fill(&world, 10).await;
    let small = BTreeMap::from([("max.message.bytes".to_owned(), "100".to_owned())]);
    let new = NewTopic { name: "small".into(), partitions: Some(1), config: small, ..NewTopic::default() };
    world.topics().create(new).await.unwrap();
    let jobs = alone(&world);
    let new = NewReplay { target_topic: Some("small".into()), ..to_target() };
    let job = done(&jobs, &jobs.replay(new).await.unwrap()).await;
    let reason = job.error.clone().unwrap_or_default();
    assert_eq!(job.state, State::Failed);
    assert!(reason.contains("offset 0") && reason.contains("small"), "{reason}");
    let change = domain::topics::TopicChange {
        config: [("max.message.bytes".to_owned(), None)].into(),
        ..Default::default()
    };
    world.topics().alter("small", change).await.unwrap();
    jobs.resume(&job.id.to_string()).await.unwrap();
    let job = done(&jobs, &job).await;
    assert_eq!((job.state, job.progress.written, job.error), (State::Completed, 40, None));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_writes_nothing() {
    let world = world().await;
    fill(&world, 25).await;
    let jobs = alone(&world);
    let new = NewReplay { filter: Some("data.n < 30".into()), ..to_target() };
    let trial = jobs.try_replay(new).await.unwrap();
    assert!(trial.complete);
    assert_eq!((trial.progress.read, trial.progress.matched, trial.progress.total()), (100, 30, 100));
    assert_eq!(trial.by_partition, [(0, 25), (1, 5)].into());
    assert_eq!(trial.by_type, [(Some("even".to_owned()), 15), (Some("odd".to_owned()), 15)].into());
    assert_eq!(trial.sample.len(), 10);
    assert!(world.records(TARGET).await.is_empty());
    assert!(jobs.list().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn bad_input_names_its_field_and_makes_no_job() {
    let world = world().await;
    fill(&world, 10).await;
    let jobs = alone(&world);
    let now = TestClock::EPOCH.0;
    let time = |at| Some(Bound::Time(Timestamp(at)));
    let offsets = |partition: &str, offset| Some(Bound::Offsets([(partition.to_owned(), offset)].into()));
    let cases = [
        (NewReplay { topic: "no/name".into(), ..to_target() }, "topic"),
        (NewReplay { target_topic: None, ..to_target() }, "target"),
        (NewReplay { target_topic: Some(String::new()), ..to_target() }, "target.topic"),
        (NewReplay { from: time(10), to: time(10), ..to_target() }, "to.timestamp"),
        (NewReplay { from: time(now + 3_600_000), ..to_target() }, "from.timestamp"),
        (NewReplay { to: time(now + 3_600_000), ..to_target() }, "to.timestamp"),
        (NewReplay { from: Some(Bound::Last(0)), ..to_target() }, "from.last"),
        (NewReplay { to: Some(Bound::Last(5)), ..to_target() }, "to.last"),
        (NewReplay { from: offsets("0", 11), ..to_target() }, "from.offsets.0"),
        (NewReplay { from: offsets("0", -1), ..to_target() }, "from.offsets.0"),
        (NewReplay { from: offsets("4", 0), ..to_target() }, "from.offsets.4"),
        (NewReplay { from: offsets("x", 0), ..to_target() }, "from.offsets.x"),
        (NewReplay { from: Some(Bound::Offsets(BTreeMap::new())), ..to_target() }, "from.offsets"),
        (NewReplay { to: offsets("0", 11), ..to_target() }, "to.offsets.0"),
        (NewReplay { from: offsets("0", 5), to: offsets("0", 4), ..to_target() }, "to.offsets.0"),
        (NewReplay { filter: Some("type ==".into()), ..to_target() }, "filter"),
        (NewReplay { filter: Some("'no bool'".into()), ..to_target() }, "filter"),
        (NewReplay { rate_per_second: Some(0), ..to_target() }, "ratePerSecond"),
        (NewReplay { bytes_per_second: Some(-1), ..to_target() }, "bytesPerSecond"),
        (NewReplay { speed: Some(0.0), ..to_target() }, "speed"),
        (NewReplay { speed: Some(f64::NAN), ..to_target() }, "speed"),
        (NewReplay { speed: Some(1.0), rate_per_second: Some(5), ..to_target() }, "speed"),
        (NewReplay { batch_size: Some(0), ..to_target() }, "batchSize"),
        (NewReplay { batch_size: Some(10_001), ..to_target() }, "batchSize"),
    ];
    for (new, field) in cases {
        for error in
            [jobs.replay(new.clone()).await.unwrap_err(), jobs.try_replay(new.clone()).await.unwrap_err()]
        {
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{new:?}: {error}");
            assert_eq!(error.fields()[0].field, field, "{new:?}");
        }
    }
    for new in [
        NewReplay { topic: "nowhere".into(), ..to_target() },
        NewReplay { target_topic: Some("nowhere".into()), ..to_target() },
    ] {
        assert_eq!(jobs.replay(new).await.unwrap_err().code(), ErrorCode::TopicNotFound);
    }
    for id in ["", "x", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(jobs.get(id).await.unwrap_err().code(), ErrorCode::ReplayNotFound);
        assert_eq!(jobs.cancel(id).await.unwrap_err().code(), ErrorCode::ReplayNotFound);
    }
    assert!(jobs.list().await.unwrap().is_empty());
}

/// Two operators who start the same at once would write everything twice.
#[tokio::test(start_paused = true)]
async fn the_same_replay_is_not_begun_while_it_is_under_way_and_its_id_is_told() {
    let world = world().await;
    fill(&world, 10).await;
    let jobs = alone(&world);
    let slow = NewReplay { rate_per_second: Some(1), ..to_target() };
    let job = jobs.replay(slow.clone()).await.unwrap();
    let error = jobs.replay(slow.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.detail().contains(&job.id.to_string()));
    jobs.replay(NewReplay { filter: Some("true".into()), ..slow.clone() }).await.unwrap();
    jobs.cancel(&job.id.to_string()).await.unwrap();
    jobs.replay(slow).await.unwrap();
    assert_eq!(jobs.list().await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_forgotten_after_its_time_and_what_is_not_is_kept() {
    let world = world().await;
    fill(&world, 10).await;
    let jobs = alone(&world);
    jobs.start().await.unwrap();
    let over = done(&jobs, &jobs.replay(to_target()).await.unwrap()).await;
    let resting = jobs.replay(NewReplay { rate_per_second: Some(1), ..to_target() }).await.unwrap();
    jobs.pause(&resting.id.to_string()).await.unwrap();
    let day = 24 * 3600 * SECOND;
    world.clock.sleep_until(world.clock.monotonic() + 6 * day).await;
    assert_eq!(jobs.list().await.unwrap().len(), 2);
    world.clock.sleep_until(world.clock.monotonic() + 2 * day).await;
    let left: Vec<_> = jobs.list().await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(left, [resting.id]);
    assert_eq!(jobs.get(&over.id.to_string()).await.unwrap_err().code(), ErrorCode::ReplayNotFound);
}

/// A consumer that remembers an event must be given it again when it is replayed, and what a replay wrote twice once.
#[tokio::test(start_paused = true)]
async fn an_earlier_replay_leaves_no_trace_in_the_headers_of_a_later_one() {
    let world = world().await;
    append(&world, 0, [5], 0).await;
    let jobs = alone(&world);
    let first = done(&jobs, &jobs.replay(to_target()).await.unwrap()).await;
    let back = NewReplay { topic: TARGET.into(), target_topic: Some(TOPIC.into()), ..NewReplay::default() };
    let second = done(&jobs, &jobs.replay(back).await.unwrap()).await;
    assert_ne!(first.id, second.id);
    let records = world.records(TOPIC).await;
    let (_, again) = records.last().unwrap();
    let of = |name: &str| again.record.headers.iter().filter(|header| *header.name == *name).count();
    assert_eq!(header::ALL.map(of), [1; 5]);
    assert_eq!(header_of(&again.record, header::REPLAY_ID).unwrap(), second.id.to_string());
    assert_eq!(header_of(&again.record, header::TOPIC).unwrap(), TARGET);
    assert_eq!(Event::from_record(&again.record).id.as_deref(), Some("0"));
}

/// A process with a subscription, its jobs, and a client.
struct Consumer {
    world: World,
    subscriptions: Arc<Subscriptions>,
    jobs: Arc<Jobs>,
    letters: Arc<DeadLetters>,
}

impl Consumer {
    async fn new(world: World, new: NewSubscription) -> Self {
        let subscriptions = world.subscriptions();
        subscriptions.start().await.unwrap();
        subscriptions.create(new).await.unwrap();
        let ports =
            JobPorts { log: world.memory.log(), jobs: world.memory.jobs(), clock: world.clock.clone() };
        let services = world.job_services(subscriptions.clone());
        let letters = services.dead_letters.clone();
        let jobs = Jobs::new(ports, services, Arc::new(world.limits.clone()), JobsConfig::default());
        Self { world, subscriptions, jobs, letters }
    }

    /// Acknowledges what comes until nothing comes any more; each as its partition and offset.
    async fn handle(&self) -> Vec<(u32, u64)> {
        let mut handled = Vec::new();
        loop {
            let pulled =
                self.subscriptions.pull(MAIL, Some(100), Some(Duration::from_secs(5))).await.unwrap();
            if pulled.deliveries.is_empty() {
                return handled;
            }
            let ack = pulled.deliveries.iter().map(|of| of.ack_id.clone()).collect();
            handled.extend(pulled.deliveries.iter().map(|of| {
                assert_eq!(of.topic.as_str(), TOPIC);
                (of.partition, of.record.offset)
            }));
            let request = AckRequest { ack, ..AckRequest::default() };
            for (_, status) in self.subscriptions.acknowledge(MAIL, request).await.unwrap() {
                assert_eq!(status.as_str(), "ok");
            }
        }
    }
}

const MAIL: &str = "mail";

fn mail() -> NewSubscription {
    NewSubscription { name: MAIL.into(), topics: vec![TOPIC.into()], ..NewSubscription::default() }
}

fn to_mail() -> NewReplay {
    NewReplay { topic: TOPIC.into(), target_subscription: Some(MAIL.into()), ..NewReplay::default() }
}

/// What an operator wants who has mended a handler: the same events, for it alone, once each.
#[tokio::test(start_paused = true)]
async fn a_subscription_is_given_a_range_again_that_it_has_handled_and_its_own_progress_stays() {
    let world = world().await;
    fill(&world, 30).await;
    let it = Consumer::new(world, mail()).await;
    let all: BTreeSet<(u32, u64)> = (0..PARTITIONS).flat_map(|p| (0..30).map(move |o| (p, o))).collect();
    assert_eq!(it.handle().await.into_iter().collect::<BTreeSet<_>>(), all);
    let new = NewReplay { filter: Some("type == 'odd'".into()), ..to_mail() };
    let job = done(&it.jobs, &it.jobs.replay(new.clone()).await.unwrap()).await;
    assert_eq!((job.state, job.progress.written), (State::Completed, 60), "{:?}", job.error);
    append(&it.world, 0, [0], 1_000).await;
    let mut again = it.handle().await;
    again.sort_unstable();
    let odd = (0..PARTITIONS)
        .flat_map(|p| (0..30).map(move |o| (p, o)))
        .filter(|(p, o)| (30 * u64::from(*p) + o) % 2 == 1);
    let expected: Vec<_> = odd.chain([(0, 30)]).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(again, expected, "each of the range once, where it first lay, and the live one");
    let view = it.subscriptions.get(MAIL).await.unwrap();
    assert_eq!(view.lag, 0);
    // Another replay of it is another delivery.
    done(&it.jobs, &it.jobs.replay(new).await.unwrap()).await;
    assert_eq!(it.handle().await.len(), 60);
}

/// Each key of what is replayed keeps its order, although it waits in another topic by then.
#[tokio::test(start_paused = true)]
async fn what_is_replayed_into_a_subscription_keeps_the_order_of_its_keys_and_its_filter() {
    let world = world().await;
    append(&world, 2, (0..80).map(|_| 0), 0).await;
    let it = Consumer::new(world, NewSubscription { filter: Some("type == 'even'".into()), ..mail() }).await;
    assert_eq!(it.handle().await.len(), 40);
    let job = done(&it.jobs, &it.jobs.replay(to_mail()).await.unwrap()).await;
    assert_eq!((job.progress.read, job.progress.matched), (80, 40), "what it does not want is not queued");
    let again = it.handle().await;
    let mut by_key: HashMap<u64, Vec<u64>> = HashMap::new();
    for (_, offset) in &again {
        by_key.entry(offset % 7).or_default().push(*offset);
    }
    assert_eq!(again.len(), 40);
    assert!(by_key.values().all(|offsets| offsets.is_sorted()), "{by_key:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_into_a_subscription_is_refused_where_it_would_go_round_and_fails_when_that_goes() {
    let world = world().await;
    fill(&world, 30).await;
    let it = Consumer::new(world, mail()).await;
    let letters = NewTopic { name: "mail.dlq".into(), partitions: Some(1), ..NewTopic::default() };
    it.world.topics().create(letters).await.unwrap();
    let round = NewReplay { topic: "mail.dlq".into(), ..to_mail() };
    let error = it.jobs.replay(round).await.unwrap_err();
    assert_eq!((error.code(), error.fields()[0].field.as_str()), (ErrorCode::InvalidRequest, "topic"));
    let both = NewReplay { target_topic: Some(TARGET.into()), ..to_mail() };
    assert_eq!(it.jobs.replay(both).await.unwrap_err().fields()[0].field, "target.subscription");
    let nobody = NewReplay { target_subscription: Some("nobody".into()), ..to_mail() };
    assert_eq!(it.jobs.replay(nobody).await.unwrap_err().code(), ErrorCode::SubscriptionNotFound);
    let job = it.jobs.replay(NewReplay { rate_per_second: Some(10), ..to_mail() }).await.unwrap();
    it.world.clock.sleep_until(it.world.clock.monotonic() + 3 * SECOND).await;
    it.subscriptions.delete(MAIL).await.unwrap();
    it.subscriptions.create(mail()).await.unwrap();
    let job = done(&it.jobs, &job).await;
    assert_eq!(job.state, State::Failed);
    assert!(job.error.clone().unwrap().contains("mail"), "{:?}", job.error);
    let topics: Vec<_> =
        it.world.topics().list().await.unwrap().into_iter().map(|of| of.name.to_string()).collect();
    assert!(!topics.contains(&"mail.queue".to_owned()), "the queue goes with its subscription: {topics:?}");
}

impl Consumer {
    /// Rejects what comes until nothing comes any more, so that all of it becomes dead letters.
    async fn reject(&self, reason: &str) -> usize {
        let mut rejected = 0;
        loop {
            let pulled =
                self.subscriptions.pull(MAIL, Some(100), Some(Duration::from_secs(5))).await.unwrap();
            if pulled.deliveries.is_empty() {
                return rejected;
            }
            rejected += pulled.deliveries.len();
            let item = |ack_id: String| RejectItem { ack_id, reason: Some(reason.to_owned()) };
            let reject = pulled.deliveries.into_iter().map(|of| item(of.ack_id)).collect();
            let request = AckRequest { reject, ..AckRequest::default() };
            for (_, status) in self.subscriptions.acknowledge(MAIL, request).await.unwrap() {
                assert_eq!(status.as_str(), "ok");
            }
        }
    }

    async fn statuses(&self) -> BTreeMap<LetterStatus, u64> {
        self.letters.summary(MAIL, None).await.unwrap().statuses
    }
}

fn redrive(selection: Selection) -> NewRedrive {
    NewRedrive { selection, rate_per_second: None }
}

/// What storms are told by is off here: everything is rejected on purpose.
fn calm() -> NewSubscription {
    let mut new = mail();
    new.dead_letter.storm_guard = Some(None);
    new
}

/// The way back of what failed: to its own subscription, once, and marked so that it is not taken again.
#[tokio::test(start_paused = true)]
async fn dead_letters_are_given_back_to_their_subscription_once_and_are_redriven_then() {
    let world = world().await;
    fill(&world, 10).await;
    let it = Consumer::new(world, calm()).await;
    assert_eq!(it.reject("it is wrong").await, 40);
    let new = redrive(Selection::Filter("type == 'odd'".into()));
    let trial = it.jobs.try_redrive(MAIL, new.clone()).await.unwrap();
    assert_eq!((trial.progress.matched, trial.complete), (20, true));
    assert_eq!(trial.by_type, [(Some("odd".to_owned()), 20)].into());
    assert_eq!(it.statuses().await, [(LetterStatus::Parked, 40)].into());
    let job = done(&it.jobs, &it.jobs.redrive(MAIL, new.clone()).await.unwrap()).await;
    assert_eq!(
        (job.kind, job.state, job.progress.written),
        (Kind::Redrive, State::Completed, 20),
        "{:?}",
        job.error
    );
    assert_eq!(it.statuses().await, [(LetterStatus::Parked, 20), (LetterStatus::Redriven, 20)].into());
    let handled = it.handle().await;
    assert_eq!(handled.len(), 20);
    assert!(handled.iter().all(|(partition, offset)| (10 * u64::from(*partition) + offset) % 2 == 1));
    // Said again it does nothing: they are redriven already.
    let again = done(&it.jobs, &it.jobs.redrive(MAIL, new).await.unwrap()).await;
    assert_eq!((again.state, again.progress.written), (State::Completed, 0));
    assert!(it.handle().await.is_empty());
    let rest = done(&it.jobs, &it.jobs.redrive(MAIL, redrive(Selection::All)).await.unwrap()).await;
    assert_eq!(rest.progress.written, 20);
    assert_eq!(it.handle().await.len(), 20);
    assert_eq!(it.statuses().await, [(LetterStatus::Redriven, 40)].into());
}

#[tokio::test(start_paused = true)]
async fn a_redriven_one_that_fails_again_is_a_new_dead_letter_with_its_history() {
    let world = world().await;
    append(&world, 1, [5], 1).await;
    let it = Consumer::new(world, calm()).await;
    assert_eq!(it.reject("first").await, 1);
    let first = it.letters.list(MAIL, ListLetters::default()).await.unwrap().letters.remove(0);
    let ids = Selection::Ids(vec![first.id.to_string()]);
    done(&it.jobs, &it.jobs.redrive(MAIL, redrive(ids.clone())).await.unwrap()).await;
    assert_eq!(it.reject("second").await, 1);
    let letters = it.letters.list(MAIL, ListLetters::default()).await.unwrap().letters;
    assert_eq!(letters.len(), 2);
    let second = letters.iter().find(|letter| letter.id != first.id).unwrap();
    assert_eq!(second.previous, Some(first.id.to_string()));
    assert_eq!(
        (second.error.message.as_str(), second.attempts, second.status),
        ("second", Some(1), LetterStatus::Parked)
    );
    assert_eq!(second.original, first.original, "where it first lay");
    let job = done(&it.jobs, &it.jobs.redrive(MAIL, redrive(ids)).await.unwrap()).await;
    assert_eq!(job.progress.written, 0, "the first one is redriven already");
}

/// What was mended by hand must arrive as it was mended.
#[tokio::test(start_paused = true)]
async fn an_edited_dead_letter_is_redriven_as_it_was_edited_and_a_discarded_one_is_not() {
    let world = world().await;
    fill(&world, 1).await;
    let it = Consumer::new(world, calm()).await;
    assert_eq!(it.reject("no").await, 4);
    let letters = it.letters.list(MAIL, ListLetters::default()).await.unwrap().letters;
    let data = EditData::Json(Bytes::from_static(b"{\"mended\":true}"));
    let edit = EditLetter { data: Some(data), ..EditLetter::default() };
    it.letters.edit(MAIL, &letters[0].id.to_string(), edit).await.unwrap();
    it.letters.discard(MAIL, &letters[1].id.to_string(), Some("a test".into())).await.unwrap();
    done(&it.jobs, &it.jobs.redrive(MAIL, redrive(Selection::All)).await.unwrap()).await;
    let pulled = it.subscriptions.pull(MAIL, Some(100), Some(5 * SECOND)).await.unwrap();
    assert_eq!(pulled.deliveries.len(), 3);
    let mended =
        pulled.deliveries.iter().filter(|of| of.record.record.value.as_deref() == Some(b"{\"mended\":true}"));
    assert_eq!(mended.count(), 1);
}

/// A redrive whose process dies is completed by the next, and nobody is given one twice.
#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_cut_off_is_completed_and_gives_nothing_twice() {
    let world = world().await;
    fill(&world, 50).await;
    let it = Consumer::new(world, calm()).await;
    assert_eq!(it.reject("no").await, 200);
    let slow = NewRedrive { selection: Selection::All, rate_per_second: Some(40) };
    let job = it.jobs.redrive(MAIL, slow).await.unwrap();
    let Consumer { world, subscriptions, mut jobs, letters } = it;
    for after in [700, 1_300, 650] {
        world.clock.sleep_until(world.clock.monotonic() + Duration::from_millis(after)).await;
        drop(jobs);
        let ports =
            JobPorts { log: world.memory.log(), jobs: world.memory.jobs(), clock: world.clock.clone() };
        let services = world.job_services(subscriptions.clone());
        jobs = Jobs::new(ports, services, Arc::new(world.limits.clone()), JobsConfig::default());
        jobs.start().await.unwrap();
    }
    let job = done(&jobs, &job).await;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    let it = Consumer { world, subscriptions, jobs, letters };
    let handled = it.handle().await;
    assert_eq!((handled.len(), handled.into_iter().collect::<BTreeSet<_>>().len()), (200, 200));
    assert_eq!(it.statuses().await, [(LetterStatus::Redriven, 200)].into());
}

#[tokio::test(start_paused = true)]
async fn a_bad_redrive_names_its_field() {
    let world = world().await;
    fill(&world, 1).await;
    let it = Consumer::new(world, calm()).await;
    assert_eq!(it.reject("no").await, 4);
    for (new, code, field) in [
        (redrive(Selection::Ids(Vec::new())), ErrorCode::InvalidRequest, "ids"),
        (redrive(Selection::Ids(vec!["nobody".into()])), ErrorCode::DeadLetterNotFound, "ids[0]"),
        (redrive(Selection::Filter("type ==".into())), ErrorCode::InvalidRequest, "filter"),
        (
            NewRedrive { selection: Selection::All, rate_per_second: Some(0) },
            ErrorCode::InvalidRequest,
            "ratePerSecond",
        ),
    ] {
        let error = it.jobs.redrive(MAIL, new.clone()).await.unwrap_err();
        assert_eq!((error.code(), error.fields()[0].field.as_str()), (code, field), "{new:?}");
    }
    let nobody = it.jobs.redrive("nobody", redrive(Selection::All)).await.unwrap_err();
    assert_eq!(nobody.code(), ErrorCode::SubscriptionNotFound);
    assert!(it.jobs.list().await.unwrap().is_empty());
}
