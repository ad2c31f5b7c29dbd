//! What publishers and consumers saw, and what must be true of it whatever failed meanwhile.
//!
//! Every request's going out and every answer's coming in is given a number of one sequence. A decision
//! holds from some moment between the two of its own, a delivery was made at some moment between those of
//! its pull; only what these numbers prove is held against the service.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Where an event lies: partition and offset.
type Place = (u64, u64);

/// All that was seen of one subscription to one topic, whose events carry a number each as their data.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// The number of the last thing that was seen.
    moment: u64,
    /// Answered with a 2xx.
    published: BTreeSet<u64>,
    events: BTreeMap<u64, Seen>,
    /// The events that each answer of a pull brought.
    answers: Vec<BTreeSet<u64>>,
    /// Answers that there must never be.
    wrong: Vec<String>,
    /// Decisions by lease, when they were first said.
    said: BTreeMap<String, u64>,
}

/// One event, as the consumers saw it.
#[derive(Debug, Default)]
struct Seen {
    key: String,
    places: BTreeSet<Place>,
    deliveries: Vec<Delivered>,
    /// Acknowledgements that were answered `ok`: the lease, when first said and when answered.
    done: Vec<(String, u64, u64)>,
}

#[derive(Debug)]
struct Delivered {
    moment: u64,
    /// Which answer brought it.
    answer: usize,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that were answered with a 2xx.
    pub(crate) fn published(&self, numbers: impl IntoIterator<Item = u64>) {
        self.book().published.extend(numbers);
    }

    /// How many were.
    pub(crate) fn published_count(&self) -> usize {
        self.book().published.len()
    }

    /// The deliveries of one answer.
    pub(crate) fn delivered(&self, deliveries: &[Value]) {
        let mut book = self.book();
        book.moment += 1;
        let (moment, answer) = (book.moment, book.answers.len());
        book.answers.push(deliveries.iter().map(number).collect());
        for delivery in deliveries {
            let seen = book.events.entry(number(delivery)).or_default();
            let event = &delivery["event"];
            event["key"].as_str().expect("a key").clone_into(&mut seen.key);
            seen.places.insert((count(&event["partition"]), count(&event["offset"])));
            seen.deliveries.push(Delivered { moment, answer });
        }
    }

    /// How many deliveries there were, of whatever events.
    pub(crate) fn deliveries_count(&self) -> usize {
        self.book().answers.iter().map(BTreeSet::len).sum()
    }

    /// Decisions go out, for the first time or again.
    pub(crate) fn says<'a>(&self, leases: impl IntoIterator<Item = &'a str>) {
        let mut book = self.book();
        book.moment += 1;
        let moment = book.moment;
        for lease in leases {
            book.said.entry(lease.to_owned()).or_insert(moment);
        }
    }

    /// An acknowledgement of an event was answered.
    pub(crate) fn answered(&self, lease: &str, event: u64, status: &str) {
        let mut book = self.book();
        book.moment += 1;
        let answered = book.moment;
        match status {
            "ok" => {
                let said = book.said[lease];
                let seen = book.events.entry(event).or_default();
                seen.done.push((lease.to_owned(), said, answered));
            }
            "expired" | "superseded" => {}
            _ => book.wrong.push(format!("event {event}: an acknowledgement was answered {status:?}")),
        }
    }

    /// How many events were acknowledged.
    pub(crate) fn done_count(&self) -> usize {
        self.book().events.values().filter(|seen| !seen.done.is_empty()).count()
    }

    /// What was published and is not acknowledged.
    pub(crate) fn undone(&self) -> BTreeSet<u64> {
        let book = self.book();
        let is_done = |number: &u64| book.events.get(number).is_some_and(|seen| !seen.done.is_empty());
        book.published.iter().copied().filter(|number| !is_done(number)).collect()
    }

    /// Holds all that was seen against what is promised; `dead` are the numbers of the dead letters. The
    /// first faults found, none when all is well.
    pub(crate) fn faults(&self, dead: &BTreeSet<u64>) -> Vec<String> {
        let lost: Vec<_> = self.undone().difference(dead).copied().collect();
        let book = self.book();
        let mut faults = book.wrong.clone();
        if !lost.is_empty() {
            faults.push(format!("published, and neither acknowledged nor a dead letter: {lost:?}"));
        }
        let mut keys: BTreeMap<&str, Vec<(Place, u64, &Seen)>> = BTreeMap::new();
        for (number, seen) in &book.events {
            faults.extend(seen.faults(*number, dead.contains(number)));
            for place in &seen.places {
                keys.entry(&seen.key).or_default().push((*place, *number, seen));
            }
        }
        for (key, mut events) in keys {
            events.sort_unstable_by_key(|(place, number, _)| (*place, *number));
            for (index, (_, later, seen)) in events.iter().enumerate() {
                for (_, earlier, before) in &events[..index] {
                    let overtook = seen.deliveries.iter().find(|delivered| {
                        before.was_open_at(delivered.moment)
                            && !book.answers[delivered.answer].contains(earlier)
                    });
                    if overtook.is_some() {
                        faults.push(format!(
                            "of key {key} event {later} {seen:?} was given out while {earlier} {before:?} was \
                             undecided"
                        ));
                    }
                }
            }
        }
        faults.truncate(5);
        faults
    }
}

impl Seen {
    fn faults(&self, number: u64, is_dead: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.places.len() > 1 {
            faults.push(format!("event {number} was appended more than once: {self:?}"));
        }
        let leases: BTreeSet<_> = self.done.iter().map(|(lease, ..)| lease).collect();
        if leases.len() > 1 {
            faults.push(format!("event {number} was acknowledged by two leases: {self:?}"));
        }
        let done = self.done.iter().map(|(_, _, answered)| *answered).min();
        if done.is_some_and(|done| self.deliveries.iter().any(|delivered| delivered.moment > done)) {
            faults.push(format!("event {number} was acknowledged and came again: {self:?}"));
        }
        if is_dead && done.is_some() {
            faults.push(format!("event {number} was acknowledged and is a dead letter: {self:?}"));
        }
        faults
    }

    /// Whether it was certainly undecided then: it came, or was acknowledged for good, only afterwards.
    fn was_open_at(&self, moment: u64) -> bool {
        let acknowledged_later =
            self.done.iter().map(|(_, said, _)| *said).min().is_some_and(|said| said > moment);
        acknowledged_later || self.deliveries.iter().any(|delivered| delivered.moment > moment)
    }
}

/// The number that an event carries.
pub(crate) fn number(delivery: &Value) -> u64 {
    count(&delivery["event"]["data"])
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

mod finds {
    use super::{Ledger, Value};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn delivery(n: u64) -> Value {
        json!({"ackId": format!("lease {n}"), "event": {"key": "a", "data": n, "partition": 0, "offset": n}})
    }

    fn done(ledger: &Ledger, n: u64, lease: &str) {
        ledger.says([lease]);
        ledger.answered(lease, n, "ok");
    }

    fn only_fault(ledger: &Ledger, dead: &[u64]) -> String {
        let mut faults = ledger.faults(&dead.iter().copied().collect());
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn nothing_wrong_with_a_run_and_with_what_follows_it() {
        let ledger = Ledger::default();
        ledger.published([1, 2, 3, 4]);
        ledger.delivered(&[delivery(1), delivery(2)]);
        done(&ledger, 2, "lease 2");
        done(&ledger, 1, "lease 1");
        ledger.delivered(&[delivery(3)]);
        ledger.delivered(&[delivery(3)]);
        done(&ledger, 3, "lease 3");
        assert_eq!(ledger.faults(&BTreeSet::from([4])), Vec::<String>::new());
    }

    #[test]
    fn what_is_lost() {
        let ledger = Ledger::default();
        ledger.published([1]);
        assert!(only_fault(&ledger, &[]).contains("neither"));
    }

    #[test]
    fn what_comes_again_or_is_acknowledged_twice_or_is_a_dead_letter_too() {
        for (again, fault) in [(0, "came again"), (1, "two leases"), (2, "is a dead letter")] {
            let ledger = Ledger::default();
            ledger.delivered(&[delivery(1)]);
            done(&ledger, 1, "lease 1");
            match again {
                0 => ledger.delivered(&[delivery(1)]),
                1 => done(&ledger, 1, "another"),
                _ => {}
            }
            let dead: &[u64] = if again == 2 { &[1] } else { &[] };
            assert!(only_fault(&ledger, dead).contains(fault), "{fault}");
        }
    }

    #[test]
    fn what_overtakes_an_undecided_one() {
        let ledger = Ledger::default();
        ledger.delivered(&[delivery(1)]);
        ledger.delivered(&[delivery(2)]);
        done(&ledger, 1, "lease 1");
        assert!(only_fault(&ledger, &[]).contains("undecided"));
    }

    #[test]
    fn an_answer_that_there_must_never_be() {
        let ledger = Ledger::default();
        ledger.delivered(&[delivery(1)]);
        ledger.answered("lease 1", 1, "unknown");
        assert!(only_fault(&ledger, &[]).contains("unknown"));
    }
}
