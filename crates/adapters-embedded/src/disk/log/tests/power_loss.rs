//! What a loss of power, a kill and failing devices leave, over random schedules.

use super::{
    rig::{self, PARTITIONS, Promises},
    sim::{Keep, SimFs},
};
use ports::{ErrorKind, EventLog, Position, TopicAdmin, TopicName};
use proptest::prelude::*;

/// What happens to a log.
#[derive(Clone, Debug)]
enum Step {
    /// These requests, at once.
    Append(Vec<Vec<(u32, usize)>>),
    /// So many thousandths of what a partition holds.
    Trim(u32, u64),
    Retention,
    /// Everything is read and compared; what was read must stay.
    Read,
    /// The power goes now.
    LosePower(Keep),
    /// The power goes during these requests, after so many calls.
    LosePowerDuring(u32, Vec<Vec<(u32, usize)>>),
    /// The power goes during what follows, after so many calls; it is back at the next loss or kill.
    LosePowerLater(u32),
    Kill,
    FailSyncs(u32),
    FailTruncates(u32),
    /// The disk takes so many bytes more.
    Full(usize),
    Room,
    CreateOther,
    DeleteOther,
}

fn requests() -> impl Strategy<Value = Vec<Vec<(u32, usize)>>> {
    let record = (0..PARTITIONS, prop_oneof![0_usize..50, 0_usize..3000]);
    prop::collection::vec(prop::collection::vec(record, 1..8), 1..6)
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![1 => Just(Keep::Nothing), 4 => Just(Keep::Anything)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => requests().prop_map(Step::Append),
        2 => (0..PARTITIONS, 0..=1000_u64).prop_map(|(partition, part)| Step::Trim(partition, part)),
        1 => Just(Step::Retention),
        2 => Just(Step::Read),
        2 => keep().prop_map(Step::LosePower),
        4 => (0_u32..25, requests()).prop_map(|(calls, requests)| Step::LosePowerDuring(calls, requests)),
        1 => Just(Step::Kill),
        2 => (1_u32..4).prop_map(Step::FailSyncs),
        1 => (1_u32..3).prop_map(Step::FailTruncates),
        2 => (0_usize..4000).prop_map(Step::Full),
        2 => Just(Step::Room),
        1 => Just(Step::CreateOther),
        1 => Just(Step::DeleteOther),
    ]
}

/// What makes and removes topics, and fails at it.
fn topic_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::CreateOther),
        4 => Just(Step::DeleteOther),
        3 => (1_u32..8).prop_map(Step::FailSyncs),
        1 => Just(Step::FailSyncs(0)),
        2 => keep().prop_map(Step::LosePower),
        1 => (0_u32..40).prop_map(Step::LosePowerLater),
        2 => Just(Step::Kill),
    ]
}

async fn append(log: &super::super::DiskLog, promises: &mut Promises, requests: &[Vec<(u32, usize)>]) {
    let attempts: Vec<_> = requests.iter().map(|shape| promises.attempt(shape)).collect();
    let outcomes = futures::future::join_all(attempts.iter().map(|attempt| attempt.run(log))).await;
    for (attempt, outcomes) in attempts.iter().zip(outcomes) {
        promises.note(attempt, Some(outcomes));
    }
}

async fn run(seed: u64, steps: Vec<Step>) {
    let mut fs = SimFs::new(seed);
    let mut log = rig::open(&fs);
    let mut promises = Promises::default();
    let small = [("segment.bytes", "4000"), ("retention.bytes", "60000")];
    rig::create(&log, &rig::topic(), &small).await.unwrap();
    let other = TopicName::new("Orders").unwrap();
    // Whether the other topic is there; `None` is not known.
    let mut other_there = Some(false);
    let mut uncut = false;
    // A cut may have failed too, and what was to be cut off may be found after a restart.
    let mut unrepaired = false;
    for step in steps {
        let restarts = matches!(step, Step::LosePower(_) | Step::LosePowerDuring(..) | Step::Kill);
        match step {
            Step::Append(requests) => append(&log, &mut promises, &requests).await,
            Step::Trim(partition, part) => {
                let ends = [(partition, Position::Earliest), (partition, Position::Latest)];
                let ends = log.locate(&rig::topic(), &ends).await.unwrap();
                let to = ends[0] + (ends[1] - ends[0]) * part / 1000;
                let asked = &mut promises.trim_asked[partition as usize];
                *asked = to.max(*asked);
                if let Ok(starts) = log.trim(&rig::topic(), &[(partition, to)]).await {
                    promises.trimmed[partition as usize] = starts[0];
                }
            }
            Step::Retention => {
                for partition in 0..PARTITIONS {
                    let end = log.locate(&rig::topic(), &[(partition, Position::Latest)]).await.unwrap()[0];
                    let asked = &mut promises.trim_asked[partition as usize];
                    *asked = end.max(*asked);
                }
                let _ = log.enforce_retention().await;
            }
            Step::Read if unrepaired => promises.compare(&log).await,
            Step::Read => promises.check(&log).await,
            Step::LosePower(keep) => fs = fs.lose_power(keep),
            Step::LosePowerDuring(calls, requests) => {
                fs.cut_power_after(calls);
                append(&log, &mut promises, &requests).await;
                fs = fs.lose_power(Keep::Anything);
            }
            Step::LosePowerLater(calls) => fs.cut_power_after(calls),
            // After a failed sync that could not be cut off, the page cache shows what the device has not:
            // only what drops the cache too (a remount, a restart of the machine) makes the files true.
            Step::Kill if uncut => fs = fs.lose_power(Keep::Anything),
            Step::Kill => fs = fs.kill(),
            Step::FailSyncs(count) => {
                unrepaired = true;
                fs.fail_syncs(count);
            }
            Step::FailTruncates(count) => {
                (uncut, unrepaired) = (true, true);
                fs.fail_truncates(count);
            }
            Step::Full(bytes) => fs.leave_room(bytes),
            Step::Room => fs.unlimited_room(),
            Step::CreateOther => {
                other_there = match rig::create(&log, &other, &[]).await {
                    Ok(()) => Some(true),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        assert_ne!(other_there, Some(false));
                        Some(true)
                    }
                    Err(_) => None,
                };
            }
            Step::DeleteOther => {
                other_there = match log.delete(&other).await {
                    Ok(()) => Some(false),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        assert_ne!(other_there, Some(true));
                        Some(false)
                    }
                    Err(_) => None,
                };
            }
        }
        if restarts {
            (uncut, unrepaired) = (false, false);
            log = rig::open(&fs);
            promises.check(&log).await;
            let there = log.describe(&other).await.unwrap().is_some();
            assert!(other_there.is_none_or(|promised| promised == there), "{other_there:?} was promised");
            other_there = Some(there);
        }
    }
    // Whatever failed, the log goes on when the cause is gone.
    fs.unlimited_room();
    fs.fail_syncs(0);
    fs.fail_truncates(0);
    let attempt = promises.attempt(&[(0, 10), (1, 10), (2, 10)]);
    let outcomes = attempt.run(&log).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    promises.note(&attempt, Some(outcomes));
    let log = rig::open(&fs.lose_power(Keep::Anything));
    promises.check(&log).await;
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_else_appears(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        block_on(run(seed, steps));
    }

    // A topic that is said to be gone, or never to have been made, must not come back, and one that was
    // made must stay, whatever the directory that holds their names forgets when its sync fails.
    #[test]
    fn a_topic_is_there_as_was_last_said(
        seed in any::<u64>(),
        mut steps in prop::collection::vec(topic_step(), 1..30),
    ) {
        // What was cut off comes back.
        steps.push(Step::LosePower(Keep::Anything));
        block_on(run(seed, steps));
    }
}

#[test]
fn what_was_acknowledged_needs_nothing_that_was_not_synced() {
    block_on(async {
        let fs = SimFs::new(0);
        let log = rig::open(&fs);
        rig::create(&log, &rig::topic(), &[]).await.unwrap();
        let mut promises = Promises::default();
        append(&log, &mut promises, &[vec![(0, 100), (1, 2000)], vec![(2, 5)]]).await;
        let log = rig::open(&fs.lose_power(Keep::Nothing));
        promises.check(&log).await;
        assert_eq!(rig::read_all(&log, 1).await.unwrap().1.len(), 1);
    });
}

#[test]
fn what_a_killed_process_wrote_is_durable_before_it_can_be_read() {
    block_on(async {
        let fs = SimFs::new(0);
        let log = rig::open(&fs);
        rig::create(&log, &rig::topic(), &[]).await.unwrap();
        let mut promises = Promises::default();
        // The second call of an append is its sync.
        fs.cut_power_after(1);
        append(&log, &mut promises, &[vec![(0, 100)]]).await;
        let fs = fs.kill();
        let log = rig::open(&fs);
        promises.check(&log).await;
        assert_eq!(rig::read_all(&log, 0).await.unwrap().1.len(), 1, "the write was whole");
        let log = rig::open(&fs.lose_power(Keep::Nothing));
        promises.check(&log).await;
        assert_eq!(rig::read_all(&log, 0).await.unwrap().1.len(), 1, "it was readable, so it stays");
    });
}

#[test]
fn a_cut_whose_sync_failed_is_made_durable_by_the_next_process() {
    block_on(async {
        // What a failed sync keeps is left to chance, and with it whether the end that was cut off lies on
        // the device.
        for seed in 0..100 {
            let fs = SimFs::new(seed);
            let log = rig::open(&fs);
            rig::create(&log, &rig::topic(), &[]).await.unwrap();
            let mut promises = Promises::default();
            append(&log, &mut promises, &[vec![(0, 100)]]).await;
            // That of the append, and that of the cut after it.
            fs.fail_syncs(2);
            append(&log, &mut promises, &[vec![(0, 100)]]).await;
            let fs = fs.kill();
            let log = rig::open(&fs);
            promises.check(&log).await;
            let log = rig::open(&fs.lose_power(Keep::Nothing));
            promises.check(&log).await;
        }
    });
}
