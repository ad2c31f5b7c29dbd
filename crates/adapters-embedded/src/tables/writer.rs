//! The one thread that writes: all changes that wait become one transaction.
//!
//! Invariants: a change is answered after the transaction that holds it is on disk, or certainly is not; the
//! changes of one transaction are made one after another, so each sees those before it; a change that is
//! refused writes nothing.

use super::{Tables, fault, store::Store};
use ports::{ErrorKind, PortError, Result};
use redb::{Error, WriteTransaction};
use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};
use tokio::sync::{mpsc, oneshot};

/// So many changes wait at most; who brings more waits before the queue.
const QUEUE_MAX: usize = 1024;

/// A change, with whoever waits for it.
trait Change: Send {
    /// Makes it. An error is the database's: nothing of the transaction is kept.
    fn make(&mut self, transaction: &WriteTransaction) -> Result<(), Error>;

    /// Tells what became of it.
    fn answer(self: Box<Self>, failure: Option<PortError>);
}

struct Waiting<T, F> {
    operation: &'static str,
    change: Option<F>,
    made: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Change for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&WriteTransaction) -> Result<Result<T>, Error> + Send,
{
    fn make(&mut self, transaction: &WriteTransaction) -> Result<(), Error> {
        if let Some(change) = self.change.take() {
            self.made = Some(change(transaction)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<PortError>) {
        let result = match (self.made, failure) {
            // What was refused wrote nothing, whatever became of the others.
            (Some(Err(refused)), _) => Err(refused),
            (_, Some(failure)) => Err(failure),
            (Some(made), None) => made,
            (None, None) => Err(ended(self.operation)),
        };
        // Whoever does not wait any more does not want to know.
        let _ = self.reply.send(result);
    }
}

fn ended(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Unavailable, operation, "state database: its writer has ended").effect_unknown()
}

impl Tables {
    /// Makes a change in the next transaction and answers once that is on disk.
    ///
    /// # Cancellation
    /// Dropping the future may leave the change to be made.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&WriteTransaction) -> Result<Result<T>, Error> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let waiting = Box::new(Waiting { operation, change: Some(change), made: None, reply });
        let Some(queue) = &self.0.writer.queue else { return Err(ended(operation)) };
        if queue.send(waiting).await.is_err() {
            return Err(ended(operation));
        }
        answer.await.unwrap_or_else(|_| Err(ended(operation)))
    }
}

/// The thread. Dropping it writes what waits and ends it.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Change>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<Store>) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let thread =
            thread::Builder::new().name("state-writer".to_owned()).spawn(move || run(&store, waiting));
        let thread = thread.map_err(|error| fault::port_error("tables.open", Error::Io(error)))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn run(store: &Store, mut waiting: mpsc::Receiver<Box<dyn Change>>) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, QUEUE_MAX) > 0 {
        let written = write(store, &mut batch);
        let failure = written.err().map(|Failure { error, certain }| {
            store.failed(&error);
            let error = fault::port_error("state.write", error);
            if certain { error } else { error.effect_unknown() }
        });
        for change in batch.drain(..) {
            change.answer(failure.as_ref().map(PortError::duplicate));
        }
    }
}

struct Failure {
    error: Error,
    /// Nothing was written for certain.
    certain: bool,
}

fn write(store: &Store, batch: &mut [Box<dyn Change>]) -> Result<(), Failure> {
    let certain = |error| Failure { error, certain: true };
    // A read, or the last write, may have met an error that the database does not work after.
    let begun = begin(store).or_else(|error| {
        store.failed(&error);
        begin(store)
    });
    let transaction = begun.map_err(certain)?;
    for change in batch {
        change.make(&transaction).map_err(certain)?;
    }
    transaction.commit().map_err(|error| Failure { error: error.into(), certain: false })
}

fn begin(store: &Store) -> Result<WriteTransaction, Error> {
    Ok(store.writable()?.begin_write()?)
}
