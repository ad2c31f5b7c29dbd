//! Claims on Redis.
//!
//! A batch is split by hash tag, so that each script stays in one slot, and then into calls of a bounded
//! size, as a server does nothing else while a script runs. The calls of a batch go out together and come
//! back in one round trip.
//!
//! Saying the same again, with the same tokens, is right by the port's contract. So what was sent on a
//! connection that broke is sent once more, and a script that the server does not know (any more) is sent
//! whole.

use crate::{
    config::RedisConfig,
    connection::Connection,
    error,
    scripts::{self, CLAIM_OPERATION, SETTLE_OPERATION},
};
use async_trait::async_trait;
use ports::{
    Claim, ClaimKey, ClaimRequest, ErrorKind, IdempotencyStore, PortError, Result, Settled, Settlement, Token,
};
use redis::{Cmd, FromRedisValue, Pipeline, Script, Value};
use std::{fmt, ops::Range, sync::Arc};

/// The most keys of one call: some hundred microseconds of the server's time.
const CALL_KEYS_MAX: usize = 256;
/// A call is full when what it says of its keys has so many bytes.
const CALL_BYTES_FULL: usize = 1 << 20;
/// The bounds of the port, which the stored form relies on.
const NOTE_BYTES_MAX: usize = 1 << 10;
const OUTCOME_BYTES_MAX: usize = 64 << 10;

/// The store.
pub(crate) struct Claims {
    connection: Arc<Connection>,
    /// What stands before the key, by hash tag.
    prefixes: Vec<Box<[u8]>>,
    claim: Script,
    settle: Script,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.prefixes.len();
        f.debug_struct("Claims")
            .field("connection", &self.connection)
            .field("hash_tags", &tags)
            .finish_non_exhaustive()
    }
}

impl Claims {
    pub(crate) fn new(connection: Arc<Connection>, config: &RedisConfig) -> Self {
        let prefix = |tag| format!("{}{{{tag}}}", config.key_prefix).into_bytes().into_boxed_slice();
        Self {
            connection,
            prefixes: (0..config.hash_tags).map(prefix).collect(),
            claim: Script::new(scripts::CLAIM),
            settle: Script::new(scripts::SETTLE),
        }
    }

    /// The calls that items of these keys make; `pack` appends what is said of an item.
    fn calls(&self, keys: impl Iterator<Item = ClaimKey>, pack: impl Fn(usize, &mut Vec<u8>)) -> Vec<Call> {
        let mut full = Vec::new();
        let mut open = vec![Call::default(); self.prefixes.len()];
        for (item, key) in keys.enumerate() {
            // Keys are hashes already.
            let [a, b, c, d, ..] = key.0;
            let tag = u32::from_be_bytes([a, b, c, d]) as usize % self.prefixes.len();
            let call = &mut open[tag];
            if call.is_full() {
                full.push(std::mem::take(call));
            }
            call.items.push(item);
            call.keys.extend_from_slice(&self.prefixes[tag]);
            call.keys.extend_from_slice(&key.0);
            pack(item, &mut call.arguments);
            call.ends.push(call.arguments.len());
        }
        full.extend(open.into_iter().filter(|call| !call.items.is_empty()));
        full
    }

    /// Makes the calls with a script; gives the answers in their order.
    async fn run<A: FromRedisValue>(
        &self,
        calls: &[Call],
        (script, code): (&Script, &'static str),
        operation: &'static str,
    ) -> Result<Vec<A>> {
        let commands = |calls: &mut dyn Iterator<Item = &Call>, name: &str, script: &str| {
            let mut commands = Pipeline::new();
            calls.for_each(|call| {
                commands.add_command(call.command(name, script));
            });
            commands
        };
        // Where one call is refused, others of the batch may have had their effect.
        let alone = calls.len() == 1;
        let widen = |error: PortError| if alone { error } else { error.effect_unknown() };
        let known = commands(&mut calls.iter(), "EVALSHA", script.get_hash());
        let mut answers = self.connection.send(&known, operation).await.map_err(widen)?;
        // The server was restarted, or another one answers by now.
        let unknown: Vec<usize> =
            (0..calls.len()).filter(|&nth| error::is_unknown_script(&answers[nth])).collect();
        if !unknown.is_empty() {
            let whole = commands(&mut unknown.iter().map(|&nth| &calls[nth]), "EVAL", code);
            let again = self.connection.send(&whole, operation).await.map_err(widen)?;
            for (nth, answer) in unknown.into_iter().zip(again) {
                answers[nth] = answer;
            }
        }
        answers
            .into_iter()
            .map(|answer| match answer {
                Value::ServerError(error) => Err(widen(self.connection.refusal(error, operation))),
                answer => A::from_redis_value(answer)
                    .map_err(|_| error::corrupt(operation, "an answer of another shape than the script's")),
            })
            .collect()
    }
}

#[async_trait]
impl IdempotencyStore for Claims {
    async fn claim(&self, requests: Vec<ClaimRequest>) -> Result<Vec<Claim>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(request) = requests.iter().find(|request| request.note.len() > NOTE_BYTES_MAX) {
            return Err(too_large(CLAIM_OPERATION, "note", request.note.len(), NOTE_BYTES_MAX));
        }
        let keys = requests.iter().map(|request| request.key);
        let calls = self.calls(keys, |item, into| scripts::pack_claim(&requests[item], into));
        let answers: Vec<Vec<Vec<u8>>> =
            self.run(&calls, (&self.claim, scripts::CLAIM), CLAIM_OPERATION).await?;
        // Every item is in one call.
        let mut claims = vec![Claim::Done { outcome: bytes::Bytes::new() }; requests.len()];
        for (call, answers) in calls.iter().zip(answers) {
            if call.items.len() != answers.len() {
                return Err(error::corrupt(CLAIM_OPERATION, "another number of answers than of claims"));
            }
            for (item, answer) in call.items.iter().zip(answers) {
                claims[*item] = scripts::unpack_claim(answer)?;
            }
        }
        Ok(claims)
    }

    async fn settle(&self, settlements: Vec<(ClaimKey, Token, Settlement)>) -> Result<Vec<Settled>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        for (.., settlement) in &settlements {
            if let Settlement::Complete { outcome, .. } = settlement
                && outcome.len() > OUTCOME_BYTES_MAX
            {
                return Err(too_large(SETTLE_OPERATION, "outcome", outcome.len(), OUTCOME_BYTES_MAX));
            }
        }
        let calls = self.calls(settlements.iter().map(|(key, ..)| *key), |item, into| {
            let (_, token, settlement) = &settlements[item];
            scripts::pack_settlement(*token, settlement, into);
        });
        let answers: Vec<Vec<u8>> =
            self.run(&calls, (&self.settle, scripts::SETTLE), SETTLE_OPERATION).await?;
        // Every item is in one call.
        let mut settled = vec![Settled::Fenced; settlements.len()];
        for (call, answers) in calls.iter().zip(answers) {
            if call.items.len() != answers.len() {
                return Err(error::corrupt(
                    SETTLE_OPERATION,
                    "another number of answers than of settlements",
                ));
            }
            for (item, answer) in call.items.iter().zip(answers) {
                settled[*item] = scripts::unpack_settled(answer)?;
            }
        }
        Ok(settled)
    }
}

/// One call of a script: the items that it is about, their keys, and what is said of them.
#[derive(Clone, Debug, Default)]
struct Call {
    items: Vec<usize>,
    /// One behind the other, all of one length.
    keys: Vec<u8>,
    /// One behind the other…
    arguments: Vec<u8>,
    /// …and where each ends.
    ends: Vec<usize>,
}

impl Call {
    fn is_full(&self) -> bool {
        self.items.len() >= CALL_KEYS_MAX || self.arguments.len() >= CALL_BYTES_FULL
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let count = self.items.len();
        let bytes = name.len() + script.len() + self.keys.len() + self.arguments.len() + 20;
        let mut command = Cmd::with_capacity(3 + 2 * count, bytes);
        command.arg(name).arg(script).arg(count);
        for key in self.keys.chunks_exact(self.keys.len() / count) {
            command.arg(key);
        }
        for nth in 0..count {
            command.arg(&self.arguments[self.argument(nth)]);
        }
        command
    }

    fn argument(&self, nth: usize) -> Range<usize> {
        let start = if nth == 0 { 0 } else { self.ends[nth - 1] };
        start..self.ends[nth]
    }
}

fn too_large(operation: &'static str, what: &str, bytes: usize, bytes_max: usize) -> PortError {
    let text = format!("the {what} has {bytes} bytes; it may have {bytes_max}");
    PortError::new(ErrorKind::TooLarge, operation, text)
}
