//! Drops clients off the runtime's threads: closing one blocks, for seconds where brokers hang.

use std::{
    sync::{OnceLock, mpsc},
    thread,
};

type Work = Box<dyn FnOnce() + Send>;

/// Runs `work`, in order after what was given before, on a thread of its own.
pub(super) fn later(work: impl FnOnce() + Send + 'static) {
    static JANITOR: OnceLock<mpsc::Sender<Work>> = OnceLock::new();
    let janitor = JANITOR.get_or_init(|| {
        let (give, take) = mpsc::channel::<Work>();
        let spawned = thread::Builder::new().name("kafka-janitor".to_owned()).spawn(move || {
            for work in take {
                work();
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for closing kafka clients; they close where they are dropped");
        }
        give
    });
    if let Err(mpsc::SendError(work)) = janitor.send(Box::new(work)) {
        work();
    }
}
