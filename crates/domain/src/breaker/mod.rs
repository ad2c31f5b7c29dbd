//! A circuit around the calls to an outside system: while that does not serve, calls are refused at once
//! instead of each waiting for a timeout of its own.
//!
//! Invariants:
//! - A call is passed on while the circuit is closed, and as the one probe of a circuit that is open and due.
//!   Any other is refused: `Unavailable`, without effect, with the time after which to come again.
//! - What counts is what says that the system does not serve (`Unavailable`, `Timeout`, `Denied`). What it
//!   answered, a refusal of this call or a push back (`Throttled`) included, says that it does.
//! - Each probe comes to an end, also one whose caller went away: it counts as one that was not answered, so
//!   that the next one is made.
//! - Nothing but calls probes: a circuit that nobody needs stays as it is, and costs nothing.
//!
//! When it opens and how it probes is [`Circuit`]'s, which stands before handlers too.

mod appends;
mod claims;
mod jobs;
mod registry;
mod schemas;

pub use appends::GuardedAppends;
pub use claims::GuardedClaims;
pub use jobs::GuardedJobs;
pub use registry::GuardedRegistry;
pub use schemas::GuardedSchemas;

use crate::subscriptions::circuit::{Allowed, Circuit, CircuitConfig, Seen};
use parking_lot::Mutex;
use ports::{Clock, Effect, ErrorKind, PortError, Result, Retry, Timestamp};
use std::{future::Future, sync::Arc, time::Duration};

/// When the circuit before a store opens: sooner than before a handler, whose outages may be an event's
/// fault, and probing more often, as a probe is a call that somebody waits for.
pub const STORE: CircuitConfig = CircuitConfig {
    window: 10,
    least: 5,
    ratio: 0.8,
    connects: 3,
    probe_first: Duration::from_millis(500),
    probe_max: Duration::from_secs(5),
};

/// When the circuit before a topic opens: only when nothing of what is appended is taken.
pub const LOG: CircuitConfig = CircuitConfig { window: 20, least: 10, ratio: 1.0, connects: 10, ..STORE };

/// When the circuit before a registry outside opens: sooner than before a store, as its calls are few, and have been
/// tried again at each of its addresses by then.
pub const REGISTRY: CircuitConfig = CircuitConfig { least: 3, ..STORE };

/// A circuit around calls to one outside system. Shared by all who call it.
#[derive(Debug)]
pub struct Breaker {
    name: &'static str,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    /// What the last call said that opened it or kept it open.
    reason: String,
}

/// How a circuit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerStatus {
    /// Calls are passed on.
    Closed,
    /// Calls are refused until a probe is answered.
    Open {
        /// Since when.
        since: Timestamp,
        /// What the last call that was made said.
        reason: String,
        /// From when on a call is passed on as the next probe; `None` while one is out.
        next_probe: Option<Timestamp>,
    },
}

impl Breaker {
    /// A closed circuit before what `name` says, as errors, logs and the health call it.
    pub fn new(name: &'static str, config: CircuitConfig, clock: Arc<dyn Clock>) -> Self {
        let state = State { circuit: Circuit::new(config), reason: String::new() };
        Self { name, clock, state: Mutex::new(state) }
    }

    /// As errors, logs and the health call what is behind it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes a call, or refuses it without polling it. `operation` names it in the refusal.
    ///
    /// # Errors
    /// Those of the call; `Unavailable`, transient and without effect, where it was not made.
    ///
    /// # Cancellation
    /// Dropping the future drops the call.
    pub async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut pass = self.admit(operation)?;
        let result = call.await;
        pass.end(result.as_ref().err());
        result
    }

    /// How it is now.
    pub fn status(&self) -> BreakerStatus {
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let state = self.state.lock();
        let Some((since, next_probe)) = state.circuit.open_since() else { return BreakerStatus::Closed };
        let is_out = state.circuit.allowed(now) == Allowed::Wait(None);
        let ahead = next_probe.since(now).as_millis() as i64;
        let next_probe = (!is_out).then_some(Timestamp(wall.0 + ahead));
        BreakerStatus::Open { since, reason: state.reason.clone(), next_probe }
    }

    fn admit(&self, operation: &'static str) -> Result<Pass<'_>> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let after = match state.circuit.allowed(now) {
            Allowed::All => return Ok(Pass { breaker: self, is_probe: false, ended: false }),
            Allowed::Probe => {
                state.circuit.probe();
                return Ok(Pass { breaker: self, is_probe: true, ended: false });
            }
            Allowed::Wait(until) => until.map(|until| until.since(now)),
        };
        let next = match after {
            Some(after) => format!("it is asked again in {} ms", after.as_millis().max(1)),
            None => "it is being asked again".to_owned(),
        };
        let detail =
            format!("{} does not serve, and is left alone for now; {next} ({})", self.name, state.reason);
        Err(PortError::new(ErrorKind::Unavailable, operation, detail).with_retry(Retry::Transient { after }))
    }

    fn note(&self, seen: Seen, is_probe: bool, reason: impl FnOnce() -> String) {
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let (before, after, reason) = {
            let mut state = self.state.lock();
            let before = state.circuit.open_since().is_some();
            let after = state.circuit.note(now, wall, seen, is_probe);
            if after && (is_probe || !before) {
                state.reason = reason();
            }
            let told = if after && !before { state.reason.clone() } else { String::new() };
            (before, after, told)
        };
        match (before, after) {
            (false, true) => {
                tracing::warn!(name = self.name, reason, "the circuit opens: calls are refused");
            }
            (true, false) => tracing::info!(name = self.name, "the circuit closes: calls are made again"),
            _ => {}
        }
    }
}

/// What an error says of the system that was called.
fn seen(error: &PortError) -> Seen {
    match (error.kind(), error.effect()) {
        (ErrorKind::Unavailable, Effect::None) => Seen::NotReached,
        (ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Denied, _) => Seen::Outage,
        _ => Seen::Answered,
    }
}

/// Leave for one call.
struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    ended: bool,
}

impl Pass<'_> {
    fn end(&mut self, error: Option<&PortError>) {
        self.ended = true;
        let reason = || error.map(ToString::to_string).unwrap_or_default();
        self.breaker.note(error.map_or(Seen::Answered, seen), self.is_probe, reason);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // Of other calls that were given up it is not known how they would have ended.
        if self.is_probe && !self.ended {
            let reason = || "it did not answer before its caller went away".to_owned();
            self.breaker.note(Seen::Outage, true, reason);
        }
    }
}

#[cfg(test)]
mod tests;
