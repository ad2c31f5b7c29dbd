//! Who hands over when: appends that come while others are on their way wait, and go together as one group.
//!
//! librdkafka sends what it is given at once (`linger.ms` 0), one request a record when many callers each
//! have one, and its thread polls without a pause while records wait for a free request. A fixed
//! linger would make the single caller wait for nothing. So the batches form here, as in a group commit:
//! a group is let through when one before it has been answered.
//!
//! Invariants:
//! 1. What entered is taken once: by a group, or back by its owner ([`Ticket`]); in the order of entering.
//! 2. Somebody waiting is woken whenever there is room for a group: nothing waits for longer than [`HOLD_MAX`].

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, futures::Notified};

/// So many groups are on their way before others wait.
const GROUPS_MAX: usize = 1;
/// So many records do not wait for more.
pub(super) const ENOUGH: usize = 1_000;
/// The longest that an append waits for others: a broker that stalls holds up those of the others by that.
pub(super) const HOLD_MAX: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Gate<T> {
    state: Mutex<State<T>>,
    room: Notify,
}

#[derive(Debug)]
struct State<T> {
    groups: usize,
    waiting: VecDeque<Arc<Entry<T>>>,
    /// The records of those who wait.
    records: usize,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    value: T,
    records: usize,
    taken: AtomicBool,
}

/// A group on its way. It has been answered when the last clone is dropped.
pub(super) type Group = Arc<dyn Send + Sync>;

struct OnItsWay<T>(Arc<Gate<T>>);

impl<T> Drop for OnItsWay<T> {
    fn drop(&mut self) {
        self.0.state.lock().groups -= 1;
        self.0.room.notify_one();
    }
}

impl<T: Send + Sync + 'static> Gate<T> {
    pub(super) fn new() -> Arc<Self> {
        let state = State { groups: 0, waiting: VecDeque::new(), records: 0 };
        Arc::new(Self { state: Mutex::new(state), room: Notify::new() })
    }

    /// Waits from now on. Dropping the ticket takes it back where no group took it.
    pub(super) fn enter(self: &Arc<Self>, value: T, records: usize) -> Ticket<T> {
        let entry = Arc::new(Entry { value, records, taken: AtomicBool::new(false) });
        let mut state = self.state.lock();
        state.records += records;
        state.waiting.push_back(entry.clone());
        Ticket { gate: self.clone(), entry }
    }

    /// Takes a group where there is room for one, or where somebody has waited long enough (`due`): all who
    /// wait, up to [`ENOUGH`] records. The group is on its way until its last clone is dropped.
    pub(super) fn lead(self: &Arc<Self>, due: bool) -> Option<(Vec<Arc<Entry<T>>>, Group)> {
        let mut state = self.state.lock();
        let room = state.groups < GROUPS_MAX || state.records >= ENOUGH;
        if state.waiting.is_empty() || !(room || due) {
            return None;
        }
        let (mut count, mut records) = (0, 0);
        while let Some(next) = state.waiting.get(count)
            && records < ENOUGH
        {
            records += next.records;
            count += 1;
        }
        let group: Vec<_> = state.waiting.drain(..count).collect();
        for entry in &group {
            entry.taken.store(true, Ordering::Release);
        }
        state.records -= records;
        state.groups += 1;
        if !state.waiting.is_empty() {
            self.room.notify_one();
        }
        Some((group, Arc::new(OnItsWay(self.clone()))))
    }

    /// Until a group was answered, for one of those who wait.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub(super) struct Ticket<T> {
    gate: Arc<Gate<T>>,
    entry: Arc<Entry<T>>,
}

impl<T> Ticket<T> {
    /// No group has taken it yet.
    pub(super) fn waits(&self) -> bool {
        !self.entry.taken.load(Ordering::Acquire)
    }

    pub(super) fn value(&self) -> &T {
        &self.entry.value
    }

    /// Takes it back: false where a group was faster.
    pub(super) fn take_back(&self) -> bool {
        let mut state = self.gate.state.lock();
        if !self.waits() {
            return false;
        }
        state.waiting.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        state.records -= self.entry.records;
        self.entry.taken.store(true, Ordering::Release);
        true
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        if self.waits() {
            self.take_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(group: &[Arc<Entry<&'static str>>]) -> Vec<&'static str> {
        group.iter().map(|entry| entry.value).collect()
    }

    /// As many groups on their way as may be, each of one that went at once.
    fn busy(gate: &Arc<Gate<&'static str>>) -> Vec<Group> {
        let lead = |_| {
            let _ticket = gate.enter("busy", 1);
            let (group, token) = gate.lead(false).expect("there is room");
            assert_eq!(names(&group), ["busy"]);
            token
        };
        (0..GROUPS_MAX).map(lead).collect()
    }

    /// A single caller would wait for nothing.
    #[test]
    fn the_first_goes_at_once_and_those_behind_go_together() {
        let gate = Gate::new();
        let (mut tickets, busy) = (vec![], busy(&gate));
        for name in ["c", "d", "e"] {
            tickets.push(gate.enter(name, 1));
            assert!(gate.lead(false).is_none(), "as many groups as may be are on their way");
        }
        drop(busy);
        let (group, _token) = gate.lead(false).expect("there is room again");
        assert_eq!(names(&group), ["c", "d", "e"], "in the order in which they came");
        assert!(tickets.iter().all(|ticket| !ticket.waits()));
    }

    /// A broker that does not answer holds up nobody for longer than that.
    #[test]
    fn who_has_waited_long_enough_goes_whatever_is_on_its_way() {
        let gate = Gate::new();
        let busy = busy(&gate);
        let _ticket = gate.enter("late", 1);
        assert!(gate.lead(false).is_none());
        assert_eq!(names(&gate.lead(true).expect("it is due").0), ["late"]);
        drop(busy);
    }

    /// Large batches gain nothing by waiting.
    #[test]
    fn enough_records_wait_for_nobody() {
        let gate = Gate::new();
        let mut on_their_way = vec![];
        for _ in 0..10 {
            let _ticket = gate.enter("large", ENOUGH);
            on_their_way.push(gate.lead(false).expect("it is enough by itself").1);
        }
        let small = gate.enter("small", 1);
        assert!(gate.lead(false).is_none());
        let _large = gate.enter("large", ENOUGH);
        assert_eq!(names(&gate.lead(false).expect("it is enough").0), ["small", "large"]);
        assert!(!small.waits());
    }

    /// What its caller has been told is not in the log must never get there.
    #[test]
    fn what_was_taken_back_is_in_no_group() {
        let gate = Gate::new();
        let stays = gate.enter("stays", 1);
        drop(gate.enter("dropped", 1));
        let back = gate.enter("back", 1);
        assert!(back.take_back());
        let (group, _token) = gate.lead(false).expect("one waits");
        assert_eq!(names(&group), ["stays"]);
        assert!(!stays.take_back(), "it is on its way");
        assert!(gate.lead(true).is_none(), "nobody waits");
        assert_eq!(gate.state.lock().records, 0);
    }

    /// Nobody would hand over what waits.
    #[tokio::test]
    async fn an_answered_group_wakes_one_who_waits_also_when_the_first_of_them_has_gone() {
        let gate = Gate::new();
        let mut busy = busy(&gate);
        let first = (gate.enter("first", 1), Box::pin(gate.room()));
        let (_second, mut woken) = (gate.enter("second", 1), Box::pin(gate.room()));
        let mut first = first;
        first.1.as_mut().enable();
        woken.as_mut().enable();
        busy.pop();
        drop(first);
        woken.await;
        assert_eq!(names(&gate.lead(false).expect("there is room").0), ["second"]);
    }
}
