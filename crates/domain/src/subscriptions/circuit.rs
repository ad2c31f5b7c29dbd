//! The circuit before a handler: an outage of the handler is not the events' fault.
//!
//! Sans I/O: outcomes and the time come in, whether to deliver goes out.
//!
//! Invariants:
//! - It opens when of the last `window` deliveries there are at least `least`, of which a share of `ratio` were
//!   outages, or when no connection could be made `connects` times in a row. Rejections are no outage: the
//!   handler answered.
//! - While it is open nothing is delivered but one probe at a time, the first after `probe_first`, each later
//!   one after twice the time before, `probe_max` at most. A probe that is answered closes it.
//! - What else comes back while it is open (sent before it opened) neither closes nor opens it.
//!
//! Written here, as it is driven by the time of [`ports::Clock`] and its rules are the wire specification's;
//! libraries that break circuits read a clock of their own.

use ports::{Monotonic, Timestamp};
use std::{collections::VecDeque, time::Duration};

/// When a circuit opens and how it probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitConfig {
    /// So many last deliveries are looked at.
    pub window: usize,
    /// So many of them must be known.
    pub least: usize,
    /// The share of outages that opens it.
    pub ratio: f64,
    /// So many connections in a row that could not be made open it too.
    pub connects: u32,
    /// How long after it opened the first probe is made.
    pub probe_first: Duration,
    /// The longest time between probes.
    pub probe_max: Duration,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self {
            window: 20,
            least: 10,
            ratio: 0.8,
            connects: 3,
            probe_first: Duration::from_secs(1),
            probe_max: Duration::from_secs(30),
        }
    }
}

/// What a delivery said of its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answered.
    Answered,
    /// It may be out of order.
    Outage,
    /// No connection could be made.
    NotReached,
}

/// What may be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everything.
    All,
    /// One delivery.
    Probe,
    /// Nothing before a time; `None`: before the probe that is out is back.
    Wait(Option<Monotonic>),
}

/// A circuit.
#[derive(Debug)]
pub struct Circuit {
    config: CircuitConfig,
    last: VecDeque<bool>,
    outages: usize,
    connects: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Timestamp,
    next_probe: Monotonic,
    pause: Duration,
    probing: bool,
}

impl Circuit {
    /// A closed one.
    pub fn new(config: CircuitConfig) -> Self {
        Self { config, last: VecDeque::new(), outages: 0, connects: 0, open: None }
    }

    /// Since when it is open, and when it probes next.
    pub fn open_since(&self) -> Option<(Timestamp, Monotonic)> {
        self.open.as_ref().map(|open| (open.since, open.next_probe))
    }

    /// What may be delivered now.
    pub fn allowed(&self, now: Monotonic) -> Allowed {
        match &self.open {
            None => Allowed::All,
            Some(open) if open.probing => Allowed::Wait(None),
            Some(open) if open.next_probe > now => Allowed::Wait(Some(open.next_probe)),
            Some(_) => Allowed::Probe,
        }
    }

    /// A probe goes out.
    pub fn probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// Notes what a delivery said. Answers whether the circuit is open now.
    pub fn note(&mut self, now: Monotonic, wall: Timestamp, seen: Seen, was_probe: bool) -> bool {
        if let Some(open) = &mut self.open {
            if !was_probe {
                return true;
            }
            if seen == Seen::Answered {
                self.close();
                return false;
            }
            open.pause = (open.pause * 2).min(self.config.probe_max);
            open.next_probe = now + open.pause;
            open.probing = false;
            return true;
        }
        self.connects = if seen == Seen::NotReached { self.connects + 1 } else { 0 };
        let outage = seen != Seen::Answered;
        self.last.push_back(outage);
        self.outages += usize::from(outage);
        if self.last.len() > self.config.window {
            self.outages -= usize::from(self.last.pop_front() == Some(true));
        }
        let share = self.outages as f64 / self.last.len() as f64;
        let opens = outage
            && (self.connects >= self.config.connects
                || (self.last.len() >= self.config.least && share >= self.config.ratio));
        if opens {
            let pause = self.config.probe_first;
            self.open = Some(Open { since: wall, next_probe: now + pause, pause, probing: false });
        }
        opens
    }

    fn close(&mut self) {
        self.open = None;
        self.last.clear();
        (self.outages, self.connects) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WALL: Timestamp = Timestamp(7);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn note_all(circuit: &mut Circuit, seen: Seen, count: usize) -> bool {
        (0..count).fold(false, |_, _| circuit.note(at(0), WALL, seen, false))
    }

    #[test]
    fn it_opens_at_the_share_of_outages_and_not_for_what_was_answered() {
        let mut circuit = Circuit::new(CircuitConfig::default());
        assert!(!note_all(&mut circuit, Seen::Answered, 2));
        assert!(!note_all(&mut circuit, Seen::Outage, 7), "seven of nine, and nine are too few");
        assert!(note_all(&mut circuit, Seen::Outage, 1), "eight of ten");
        assert_eq!(circuit.open_since(), Some((WALL, at(1))));
    }

    #[test]
    fn it_opens_when_no_connection_could_be_made_three_times_in_a_row() {
        let mut circuit = Circuit::new(CircuitConfig::default());
        assert!(!note_all(&mut circuit, Seen::NotReached, 2));
        assert!(!note_all(&mut circuit, Seen::Answered, 1));
        assert!(!note_all(&mut circuit, Seen::NotReached, 2));
        assert!(note_all(&mut circuit, Seen::NotReached, 1));
    }

    #[test]
    fn it_probes_one_at_a_time_ever_later_and_closes_on_an_answer() {
        let mut circuit = Circuit::new(CircuitConfig::default());
        note_all(&mut circuit, Seen::NotReached, 3);
        let mut now = 1;
        for pause in [2, 4, 8, 16, 30, 30] {
            assert_eq!(circuit.allowed(at(now - 1)), Allowed::Wait(Some(at(now))));
            assert_eq!(circuit.allowed(at(now)), Allowed::Probe);
            circuit.probe();
            assert_eq!(circuit.allowed(at(now)), Allowed::Wait(None), "one at a time");
            assert!(circuit.note(at(now), WALL, Seen::Answered, false), "it was sent before it opened");
            assert!(circuit.note(at(now), WALL, Seen::Outage, true));
            now += pause;
        }
        circuit.probe();
        assert!(!circuit.note(at(now), WALL, Seen::Answered, true));
        assert_eq!(circuit.allowed(at(now)), Allowed::All);
        assert!(!note_all(&mut circuit, Seen::Outage, 9), "it begins anew");
    }

    proptest! {
        #[test]
        fn it_never_waits_for_ever_and_is_open_only_after_outages(
            steps in prop::collection::vec((0_u8..3, any::<bool>(), 0_u64..5), 0..200),
        ) {
            let mut circuit = Circuit::new(CircuitConfig::default());
            let mut now = 0;
            let mut probing = false;
            for (seen, was_probe, pass) in steps {
                now += pass;
                let seen = [Seen::Answered, Seen::Outage, Seen::NotReached][usize::from(seen)];
                let was_probe = was_probe && probing;
                let was_open = circuit.open_since().is_some();
                let open = circuit.note(at(now), WALL, seen, was_probe);
                if was_probe {
                    probing = false;
                }
                prop_assert_eq!(open, circuit.open_since().is_some());
                prop_assert!(open || !was_open || (was_probe && seen == Seen::Answered));
                prop_assert!(was_open || !open || seen != Seen::Answered);
                match circuit.allowed(at(now)) {
                    Allowed::Probe => {
                        circuit.probe();
                        probing = true;
                    }
                    Allowed::Wait(None) => prop_assert!(probing),
                    Allowed::Wait(Some(until)) => {
                        prop_assert!(until > at(now) && until <= at(now + 30));
                    }
                    Allowed::All => prop_assert!(!open),
                }
            }
        }
    }
}
