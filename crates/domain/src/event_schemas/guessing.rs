//! What reading values can do without: whether a value that says nothing of itself is in a frame, and which version
//! of which subject a schema is.
//!
//! 1. Neither is waited for longer than a moment. Where the registry does not answer within it, or does not serve, it
//!    is left alone with such questions for a while, and what is in memory counts alone. So topics whose values follow
//!    no schema do not hang on a registry that hangs, whatever their values begin with.
//! 2. A batch asks for few ids that are not known: values that happen to begin with a zero hold a new one each.
//! 3. What was asked is asked to its end, so that the answer is there for the next who wants it, and an outage is
//!    seen by whoever counts them.

use super::{
    EventSchemas,
    reading::{Found, found},
};
use crate::schemas::registry::{Page, Reason, Registry, Result, SchemaError, Subject};
use futures::{FutureExt as _, future::BoxFuture};
use moka::future::Cache;
use parking_lot::Mutex;
use ports::{Monotonic, SchemaId};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// How long the registry may take.
const MOMENT: Duration = Duration::from_secs(1);
/// How long it is left alone where that was not enough.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(5);
/// So much is asked at a time; more waits, within its moment.
const ASKED_AT_ONCE: usize = 32;
/// So many ids that are not known a batch asks for at most.
pub(super) const GUESSES_MAX: usize = 16;
/// The greatest id of a schema: it travels as a signed number.
const ID_MAX: u32 = i32::MAX as u32;
/// How long it is remembered which version an id is.
const NAMED_FOR: Duration = Duration::from_secs(60);
/// So many of them are remembered.
const NAMED_MAX: u64 = 10_000;

/// Which version of which subject.
pub(super) type Version = (String, u32);

/// What is remembered of what was asked.
pub(super) struct Guessing {
    places: Arc<Semaphore>,
    /// Until when the registry is left alone.
    left_alone: Mutex<Option<Monotonic>>,
    /// Which version an id is, as seen from a topic's subject.
    named: Cache<(String, SchemaId), Arc<Named>>,
}

impl Default for Guessing {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        Self { places, left_alone: Mutex::default(), named: Cache::new(NAMED_MAX) }
    }
}

/// Which version an id is.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) of: Option<Version>,
    /// When it is asked for again.
    until: Monotonic,
}

impl EventSchemas {
    /// Looks for the schema of an id that may be none. `asked` counts what the registry was asked.
    pub(super) async fn guess(&self, subject: &str, id: SchemaId, asked: &mut usize) -> Found {
        if let Some(schema) = self.registry.parsed_in_memory(id, Some(subject)).await {
            return Found::Schema(schema, self.named(subject, id).await);
        }
        if !(1..=ID_MAX).contains(&id.0) || self.is_missing(subject, id) || *asked >= GUESSES_MAX {
            return Found::Missing;
        }
        *asked += 1;
        let (registry, name) = (self.registry.clone(), subject.to_owned());
        let asking = async move { registry.parsed_by_id(id, Some(&name)).await }.boxed();
        match self.in_a_moment(asking).await {
            Some(Ok(schema)) => Found::Schema(schema, self.named(subject, id).await),
            Some(Err(error)) => {
                // Remembers what is not there.
                let _ = found(self, subject, id, &error);
                Found::Missing
            }
            None => Found::Missing,
        }
    }

    /// Which version an id is: of this subject, else of another one. Of one that cannot be had at the moment what was
    /// known before.
    pub(super) async fn named(&self, subject: &str, id: SchemaId) -> Arc<Named> {
        let key = (subject.to_owned(), id);
        let known = self.guessing.named.get(&key).await;
        if let Some(known) = &known
            && self.clock.monotonic() < known.until
        {
            return known.clone();
        }
        let (registry, name) = (self.registry.clone(), subject.to_owned());
        let asking = async move { version_of(&registry, &name, id).await }.boxed();
        let asked = self.in_a_moment(asking).await;
        let now = self.clock.monotonic();
        let named = match asked {
            Some(Ok(of)) => Named { of, until: now + NAMED_FOR },
            _ => Named { of: known.and_then(|known| known.of.clone()), until: now + LEFT_ALONE_FOR },
        };
        let named = Arc::new(named);
        self.guessing.named.insert(key, named.clone()).await;
        named
    }

    /// What the registry answers, if it does so soon.
    async fn in_a_moment<T: Send + 'static>(
        &self,
        asking: BoxFuture<'static, Result<T>>,
    ) -> Option<Result<T>> {
        let Guessing { places, left_alone, .. } = &self.guessing;
        let now = self.clock.monotonic();
        if left_alone.lock().is_some_and(|until| now < until) {
            return None;
        }
        let answered = async {
            // It is never closed.
            let place = places.clone().acquire_owned().await.ok()?;
            let working = tokio::spawn(async move {
                let answer = asking.await;
                drop(place);
                answer
            });
            working.await.ok()
        };
        let answer = tokio::select! {
            biased;
            answer = answered => answer,
            () = self.clock.sleep_until(now + MOMENT) => None,
        };
        if answer.as_ref().is_none_or(|answer| answer.as_ref().is_err_and(is_away)) {
            *left_alone.lock() = Some(self.clock.monotonic() + LEFT_ALONE_FOR);
        }
        answer
    }
}

fn is_away(error: &SchemaError) -> bool {
    matches!(error.reason(), Reason::Store | Reason::Timeout)
}

/// Which version an id is; `None` where none is left.
async fn version_of(registry: &Registry, subject: &str, id: SchemaId) -> Result<Option<Version>> {
    match registry.current(subject).await {
        Ok(found) => {
            if let Some(here) = found.versions.iter().rfind(|version| version.id == id) {
                return Ok(Some((subject.to_owned(), here.version)));
            }
        }
        Err(error) if is_away(&error) => return Err(error),
        Err(_) => {}
    }
    let page = Page { offset: 0, limit: Some(1) };
    let uses = registry.versions_of_id(id, context_alone(subject).as_deref(), true, page).await?;
    Ok(uses.into_iter().next().map(|used| (used.subject, used.version)))
}

/// The context of a subject, as it stands where a subject may; `None` for the default one.
fn context_alone(subject: &str) -> Option<String> {
    let subject = Subject::parse(subject).ok()?;
    (subject.context() != ".").then(|| format!(":{}:", subject.context()))
}
