//! The steps that a core and its model are driven through.

use super::*;
use proptest::{prelude::*, sample::Index};

const STEPS_MAX: usize = 100;

/// An event that is appended: how far behind the one before it, and the rest.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) gap: u64,
    pub(super) key: Option<u64>,
    pub(super) size: usize,
    pub(super) passed_over: bool,
    pub(super) delay: Option<u64>,
    pub(super) attempts: u32,
}

/// What comes of a reservation.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// It goes out; with claims, under one, before which others had it so often and failed.
    Deliver {
        others_failed: u32,
    },
    /// It goes out without a claim, whether there are claims or not.
    DeliverUnclaimed,
    DoneAlready,
    HeldElsewhere(u64),
    /// The store did not answer.
    Unreserve,
    Reject,
}

/// The lease that a decision is by.
#[derive(Clone, Debug)]
pub(super) enum By {
    Recent(Index),
    /// The number of one and the offset of another.
    Mixed(Index, Index),
    /// A number at an offset so far from the committable one.
    MadeUp(u64, u64),
    Foreign(Index),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Fetch(Vec<New>),
    Take {
        max: usize,
        lanes_max: usize,
        bytes: usize,
        others: bool,
    },
    /// So many reservations of one take, in their order.
    Resolve(Index, usize, How),
    Decide(By, Decision),
    GiveBack(Index),
    Settle(Index, Outcome),
    Skip(u64),
    SkipTo(u64),
    DoneElsewhere(u64),
    FreedElsewhere(u64, u64),
    Intake(bool),
    Pass(u64),
    Restart,
}

pub(super) fn failure() -> Failure {
    Failure::new("handler", "it says no")
}

fn decisions() -> impl Strategy<Value = Decision> {
    let ms = |range| Strategy::prop_map(range, Duration::from_millis);
    prop_oneof![
        12 => Just(Decision::Ack),
        3 => Just(Decision::Retry { after: None, failure: failure() }),
        2 => ms(0_u64..600).prop_map(|after| Decision::Retry { after: Some(after), failure: failure() }),
        1 => Just(Decision::Retry { after: Some(Duration::ZERO), failure: failure() }),
        2 => Just(Decision::Reject { failure: failure() }),
        2 => Just(Decision::Release { after: Duration::ZERO }),
        1 => ms(1_u64..100).prop_map(|after| Decision::Release { after }),
        3 => ms(0_u64..9_000).prop_map(Decision::Extend),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let new = (
        prop_oneof![8 => Just(1_u64), 1 => 2_u64..5],
        prop::option::weighted(0.8, 0_u64..4),
        0_usize..3,
        prop::bool::weighted(0.1),
        prop::option::weighted(0.1, 1_u64..200),
        prop_oneof![9 => Just(0_u32), 1 => 1_u32..5],
    )
        .prop_map(|(gap, key, size, passed_over, delay, attempts)| New {
            gap,
            key,
            size: 10 * size,
            passed_over,
            delay,
            attempts,
        });
    let how = prop_oneof![
        20 => prop_oneof![9 => Just(0), 1 => 1_u32..6].prop_map(|others_failed| How::Deliver { others_failed }),
        1 => Just(How::DeliverUnclaimed),
        1 => Just(How::DoneAlready),
        1 => (0_u64..150).prop_map(How::HeldElsewhere),
        2 => Just(How::Unreserve),
        1 => Just(How::Reject),
    ];
    let by = prop_oneof![
        30 => index().prop_map(By::Recent),
        1 => (index(), index()).prop_map(|(one, other)| By::Mixed(one, other)),
        1 => (prop_oneof![0_u64..60, Just(u64::MAX)], 0_u64..12).prop_map(|(n, at)| By::MadeUp(n, at)),
        1 => index().prop_map(By::Foreign),
    ];
    let outcome = prop_oneof![6 => Just(Outcome::Done), 1 => Just(Outcome::Fenced)];
    let step = prop_oneof![
        9 => prop::collection::vec(new, 1..12).prop_map(Step::Fetch),
        14 => (1_usize..9, 1_usize..9, 0_usize..12, prop::bool::weighted(0.2)).prop_map(
            |(max, lanes_max, bytes, others)| Step::Take { max, lanes_max, bytes: 40 * bytes, others }
        ),
        22 => (index(), 1_usize..9, how).prop_map(|(which, count, how)| Step::Resolve(which, count, how)),
        35 => (by, decisions()).prop_map(|(by, decision)| Step::Decide(by, decision)),
        2 => index().prop_map(Step::GiveBack),
        16 => (index(), outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
        1 => (0_u64..12).prop_map(Step::Skip),
        1 => (0_u64..8).prop_map(Step::SkipTo),
        1 => (0_u64..40).prop_map(Step::DoneElsewhere),
        1 => (0_u64..20, 0_u64..150).prop_map(|(at, ms)| Step::FreedElsewhere(at, ms)),
        3 => any::<bool>().prop_map(Step::Intake),
        7 => (1_u64..160).prop_map(Step::Pass),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..STEPS_MAX)
}
