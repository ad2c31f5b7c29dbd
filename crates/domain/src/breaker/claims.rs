//! A store of claims behind a circuit.

use super::Breaker;
use async_trait::async_trait;
use ports::{Claim, ClaimKey, ClaimRequest, IdempotencyStore, Result, Settled, Settlement, Token};
use std::sync::Arc;

/// A store of claims that is left alone while it does not serve. Otherwise as the store itself.
#[derive(Debug)]
pub struct GuardedClaims {
    store: Arc<dyn IdempotencyStore>,
    breaker: Arc<Breaker>,
}

impl GuardedClaims {
    /// Puts `breaker` before `store`.
    pub fn new(store: Arc<dyn IdempotencyStore>, breaker: Arc<Breaker>) -> Self {
        Self { store, breaker }
    }
}

#[async_trait]
impl IdempotencyStore for GuardedClaims {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        self.breaker.call("idempotency_store.claim", self.store.claim(requests)).await
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        self.breaker.call("idempotency_store.settle", self.store.settle(settlements)).await
    }
}
