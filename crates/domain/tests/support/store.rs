//! A store of claims that fails where a test scripts it.

use async_trait::async_trait;
use ports::{
    Claim, ClaimKey, ClaimRequest, ErrorKind, IdempotencyStore, PortError, Result, Settled, Settlement, Token,
};
use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
};
use tokio::sync::oneshot;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Pass,
    /// It fails and has no effect.
    FailBefore,
    /// It has its effect and fails.
    FailAfter,
    /// The process dies before it.
    Crash,
}

#[derive(Debug)]
pub(crate) struct ScriptedStore {
    inner: Arc<dyn IdempotencyStore>,
    claims: Mutex<VecDeque<Call>>,
    settles: Mutex<VecDeque<Call>>,
    held: Mutex<Option<oneshot::Receiver<()>>>,
    /// The sizes of the calls.
    pub(crate) claimed: Mutex<Vec<usize>>,
    pub(crate) settled: Mutex<Vec<Vec<Settlement>>>,
}

impl ScriptedStore {
    pub(crate) fn new(inner: Arc<dyn IdempotencyStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            claims: Mutex::default(),
            settles: Mutex::default(),
            held: Mutex::default(),
            claimed: Mutex::default(),
            settled: Mutex::default(),
        })
    }

    pub(crate) fn script_claims(&self, calls: impl IntoIterator<Item = Call>) {
        self.claims.lock().unwrap().extend(calls);
    }

    /// The answer to the next claim waits for this.
    pub(crate) fn hold_next_claim(&self, gate: oneshot::Receiver<()>) {
        *self.held.lock().unwrap() = Some(gate);
    }

    pub(crate) fn script_settles(&self, calls: impl IntoIterator<Item = Call>) {
        self.settles.lock().unwrap().extend(calls);
    }
}

fn failed() -> PortError {
    PortError::new(ErrorKind::Unavailable, "idempotency_store", "the store is away")
}

#[async_trait]
impl IdempotencyStore for ScriptedStore {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        self.claimed.lock().unwrap().push(requests.len());
        let call = self.claims.lock().unwrap().pop_front().unwrap_or(Call::Pass);
        match call {
            Call::Pass => {
                let claims = self.inner.claim(requests).await;
                let held = self.held.lock().unwrap().take();
                if let Some(gate) = held {
                    gate.await.unwrap();
                }
                claims
            }
            Call::FailBefore => Err(failed()),
            Call::FailAfter => {
                self.inner.claim(requests).await?;
                Err(failed().effect_unknown())
            }
            Call::Crash => pending().await,
        }
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        let what = settlements.iter().map(|(_, _, settlement)| settlement.clone()).collect();
        self.settled.lock().unwrap().push(what);
        let call = self.settles.lock().unwrap().pop_front().unwrap_or(Call::Pass);
        match call {
            Call::Pass => self.inner.settle(settlements).await,
            Call::FailBefore => Err(failed()),
            Call::FailAfter => {
                self.inner.settle(settlements).await?;
                Err(failed().effect_unknown())
            }
            Call::Crash => pending().await,
        }
    }
}
