//! Webhooks: a run of events becomes requests, and answers become outcomes. No I/O of its own: requests go
//! out through [`ports::Webhooks`].
//!
//! What a receiver can rely on:
//!
//! - **Formats** are those of CloudEvents 1.0 over HTTP: `binary` (the value is the body, byte for byte;
//!   attributes stand in `ce-…` headers, percent-encoded as the binding says), `structured`
//!   (`application/cloudevents+json`) and `batch` (`application/cloudevents-batch+json`, a run a request).
//!   What a foreign producer left out and the standard demands is filled in, the same each time: `id` from the
//!   record's place, `source` `/event-streaming`, `type` `event`. A key is `partitionkey`; one that is not
//!   UTF-8 is `keybase64`. Headers of the record that are no attributes are not sent.
//! - **`es-…` headers** say the subscription, and the topic, partition, offset and attempt. In a batch each
//!   event says its own, as extensions without the dash, and its delivery as `esdeliveryid`.
//! - **Standard Webhooks**: `webhook-id` is the delivery's and stable over attempts (a batch's stands for the
//!   events in it), `webhook-timestamp` is the attempt's, and with a secret `webhook-signature` signs both and
//!   the body, once a secret, so that secrets can be rotated.
//!
//! What the engine can rely on:
//!
//! 1. With `binary` and `structured` no event of a run is sent before the one ahead of it was acknowledged;
//!    a run ends at the first answer that is no `Ack`, and what is behind it was not sent.
//! 2. `NotReached` is said only where nothing of the request can have reached the receiver.
//! 3. What cannot be understood is never an `Ack`, and never a `Reject`.
//! 4. A [`Failure`](ports::Failure) holds no secret of the target, is printable, and has a bound.
//!
//! The dispatcher holds back what goes beyond the target's `concurrency`; a handler sends what it is given.

mod answer;
mod batch_results;
mod cloudevents;
mod excerpt;
mod handler;
mod new;
mod request;
mod retry_after;
mod signature;
mod target;

pub use handler::{WebhookHandler, handler};
pub use new::NewPush;
pub use target::validate_target;
