//! What is out at one stream, and how much more may be.
//!
//! A state machine without I/O; the time is an argument.
//!
//! Invariants (checked by the property test below):
//! 1. *Bounded.* Where no more than [`Window::room`] deliveries are added at a time, no more than the credits
//!    are out whose time is not up.
//! 2. *Nothing is stuck.* What is decided makes room at once, what lapses within [`LAPSE_EVERY`].
//! 3. *Never early.* A delivery's time is not taken to be up while the delivery core may still wait for it. In a
//!    run the clock of an event starts when the one before it is decided, so that more time for one moves all
//!    the others of its run.
//!
//! A delivery costs one insertion and one removal in a hash map. Lapses are looked for in all of them, but
//! only when the earliest may be up, and not more often than each [`LAPSE_EVERY`].

use ports::Monotonic;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The most credits of a stream.
pub(super) const CREDITS_MAX: u32 = 1_000_000;
/// How long a delivery that has lapsed may still count as out.
pub(super) const LAPSE_EVERY: Duration = Duration::from_millis(100);

/// A delivery that is out.
#[derive(Debug)]
struct Out {
    /// When it lapses, but for what its run is given from then on.
    lapses: Monotonic,
    /// Its run, hashed.
    run: u64,
    /// What the run had been given before.
    given: Duration,
    /// What decides it, where that is to be known at the end.
    ack_id: Option<Box<str>>,
}

/// The deliveries that are out at one stream.
#[derive(Debug)]
pub(super) struct Window {
    credits: u32,
    /// By the hash of their `ackId`. Two that have one hash are one here; with a key that no client knows
    /// that is once in thousands of years.
    out: HashMap<u64, Out>,
    /// How much more time the runs were given that were given some.
    extended: HashMap<u64, Duration>,
    hash: RandomState,
    keeps_ids: bool,
    /// Nothing lapses before.
    earliest: Option<Monotonic>,
    swept: Monotonic,
}

impl Out {
    /// When it lapses, where its run was given so much in all.
    fn lapses(&self, given: Duration) -> Monotonic {
        self.lapses + given.saturating_sub(self.given)
    }
}

impl Window {
    /// Nothing is out. `keeps_ids` says whether [`Self::into_ack_ids`] is to give them.
    pub(super) fn new(credits: u32, keeps_ids: bool) -> Self {
        Self {
            credits,
            out: HashMap::new(),
            extended: HashMap::new(),
            hash: RandomState::new(),
            keeps_ids,
            earliest: None,
            swept: Monotonic::default(),
        }
    }

    /// Gives further credit; `Err` says what the credits would be where that is too much.
    pub(super) fn grant(&mut self, add: u32) -> Result<(), u64> {
        let credits = u64::from(self.credits) + u64::from(add);
        if credits > u64::from(CREDITS_MAX) {
            return Err(credits);
        }
        self.credits = credits as u32;
        Ok(())
    }

    /// How many deliveries may be added.
    pub(super) fn room(&self) -> usize {
        (self.credits as usize).saturating_sub(self.out.len())
    }

    /// Whether a good part of the credits is free, so that waiting for more would win little.
    pub(super) fn has_good_room(&self) -> bool {
        self.room() > 0 && self.room() >= self.credits as usize / 4
    }

    /// Whether nothing is out.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// A delivery goes out, with the time at which it lapses at the latest.
    pub(super) fn delivered(&mut self, ack_id: &str, run: &str, lapses: Monotonic) {
        let run = self.hash.hash_one(run);
        let given = self.given(run);
        self.earliest = Some(self.earliest.map_or(lapses, |earliest| earliest.min(lapses)));
        let kept = self.keeps_ids.then(|| ack_id.into());
        self.out.insert(self.hash.hash_one(ack_id), Out { lapses, run, given, ack_id: kept });
    }

    /// A delivery is over, if it is one of this stream's.
    pub(super) fn decided(&mut self, ack_id: &str) {
        self.out.remove(&self.hash.hash_one(ack_id));
    }

    /// A delivery was given time, at least until then.
    pub(super) fn extended(&mut self, ack_id: &str, until: Monotonic) {
        let Some(out) = self.out.get(&self.hash.hash_one(ack_id)) else { return };
        let (run, given) = (out.run, self.given(out.run));
        let more = until.since(out.lapses(given));
        if !more.is_zero() {
            self.extended.insert(run, given.saturating_add(more));
        }
    }

    /// When [`Self::lapse`] has something to do, at the earliest.
    pub(super) fn next_lapse(&self) -> Option<Monotonic> {
        let earliest = self.earliest.filter(|_| !self.out.is_empty())?;
        Some(earliest.max(self.swept + LAPSE_EVERY))
    }

    /// What has lapsed is not out any more.
    pub(super) fn lapse(&mut self, now: Monotonic) {
        if self.next_lapse().is_none_or(|at| at > now) {
            return;
        }
        self.swept = now;
        let mut earliest: Option<Monotonic> = None;
        let extended = &mut self.extended;
        let mut runs = HashSet::new();
        self.out.retain(|_, out| {
            let given = if extended.is_empty() { None } else { extended.get(&out.run).copied() };
            let lapses = out.lapses(given.unwrap_or_default());
            let stays = lapses > now;
            if stays {
                earliest = Some(earliest.map_or(lapses, |earliest| earliest.min(lapses)));
                if given.is_some() {
                    runs.insert(out.run);
                }
            }
            stays
        });
        extended.retain(|run, _| runs.contains(run));
        self.earliest = earliest;
    }

    /// How much more time a run was given.
    fn given(&self, run: u64) -> Duration {
        if self.extended.is_empty() {
            Duration::ZERO
        } else {
            self.extended.get(&run).copied().unwrap_or_default()
        }
    }

    /// The `ackId`s of what is out, where they were kept.
    pub(super) fn into_ack_ids(self) -> Vec<String> {
        self.out.into_values().filter_map(|out| out.ack_id.map(Into::into)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    #[test]
    fn credit_is_bounded_and_what_is_too_much_changes_nothing() {
        let mut window = Window::new(CREDITS_MAX - 1, false);
        window.grant(1).unwrap();
        assert_eq!(window.grant(u32::MAX), Err(u64::from(CREDITS_MAX) + u64::from(u32::MAX)));
        assert_eq!(window.room(), CREDITS_MAX as usize);
    }

    #[test]
    fn more_time_for_one_moves_its_whole_run_and_no_other() {
        let mut window = Window::new(9, false);
        window.delivered("a1", "a", at(1000));
        window.delivered("a2", "a", at(2000));
        window.delivered("b1", "b", at(1000));
        window.extended("a1", at(5000));
        // Time that it had already is none.
        window.extended("a1", at(3000));
        window.lapse(at(1000));
        assert_eq!(window.room(), 7, "b1 has lapsed alone");
        window.decided("a1");
        window.lapse(at(5999));
        assert_eq!(window.room(), 8, "a2 has a second after what a1 had");
        window.lapse(at(6099));
        assert_eq!(window.room(), 9);
        assert!(window.extended.is_empty());
    }

    #[test]
    fn the_ids_of_what_is_out_are_known_at_the_end_where_they_are_asked_for() {
        for keeps in [true, false] {
            let mut window = Window::new(9, keeps);
            window.delivered("a", "", at(1));
            window.delivered("b", "", at(1));
            window.decided("a");
            assert_eq!(window.into_ack_ids(), if keeps { vec!["b".to_owned()] } else { Vec::new() });
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver { count: usize, run: u8, lives: u64 },
        Decide(usize),
        Extend(usize, u64),
        Wait(u64),
        Grant(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..5_usize, 0..4_u8, 1..2000_u64).prop_map(|(count, run, lives)| Step::Deliver {
                count,
                run,
                lives
            }),
            any::<usize>().prop_map(Step::Decide),
            (any::<usize>(), 1..3000_u64).prop_map(|(which, by)| Step::Extend(which, by)),
            (0..1500_u64).prop_map(Step::Wait),
            (0..3_u32).prop_map(Step::Grant),
        ]
    }

    proptest! {
        /// The model keeps the times of every run in a list, and moves each of them by hand.
        #[test]
        fn no_more_is_out_than_credit_allows_and_room_comes_back(
            credits in 0..10_u32,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut window = Window::new(credits, true);
            let (mut credits, mut now, mut names) = (credits as usize, 0, 0);
            let mut model: Vec<(String, u8, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Deliver { count, run, lives } => {
                        for _ in 0..count.min(window.room()) {
                            names += 1;
                            let (id, lapses) = (format!("d{names}"), now + lives);
                            window.delivered(&id, &run.to_string(), at(lapses));
                            model.push((id, run, lapses));
                        }
                    }
                    Step::Decide(which) if !model.is_empty() => {
                        let (id, ..) = model.swap_remove(which % model.len());
                        window.decided(&id);
                    }
                    Step::Extend(which, by) if !model.is_empty() => {
                        let (id, run, lapses) = model[which % model.len()].clone();
                        window.extended(&id, at(now + by));
                        let more = (now + by).saturating_sub(lapses);
                        model.iter_mut().filter(|(_, of, _)| *of == run).for_each(|(.., at)| *at += more);
                    }
                    Step::Wait(ms) => {
                        now += ms;
                        let due = window.next_lapse().is_some_and(|next| next <= at(now));
                        window.lapse(at(now));
                        if due {
                            model.retain(|(.., lapses)| *lapses > now);
                        }
                        let late = model.iter().filter(|(.., lapses)| lapses + 100 <= now).count();
                        prop_assert_eq!(late, 0, "nothing that has lapsed is kept for long");
                    }
                    Step::Grant(add) => {
                        window.grant(add).unwrap();
                        credits += add as usize;
                    }
                    Step::Decide(_) | Step::Extend(..) => {}
                }
                prop_assert_eq!(window.room(), credits.saturating_sub(model.len()));
            }
            // When all time is up, everything is free.
            window.lapse(at(now + 1_000_000));
            prop_assert_eq!(window.room(), credits);
        }
    }
}
