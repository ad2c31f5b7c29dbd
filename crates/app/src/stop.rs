//! What ends the service: a signal, or a panic.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// Why the service stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody asked for it.
    Signal(&'static str),
    /// Something that cannot happen has happened; what it left behind cannot be trusted for long.
    Panic,
}

/// Panics of any task or thread, told to whoever waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panics {
    happened: Arc<AtomicBool>,
    news: Arc<Notify>,
}

impl Panics {
    /// From now on panics are logged, and known here. A task that panics would otherwise end alone, and
    /// the service go on without it.
    pub(crate) fn watch() -> Self {
        let panics = Self::default();
        let told = panics.clone();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let message = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let thread = std::thread::current();
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let backtrace = std::backtrace::Backtrace::capture();
            tracing::error!(
                message,
                place,
                thread = thread.name().unwrap_or_default(),
                %backtrace,
                "panicked; the service stops"
            );
            told.tell();
        }));
        panics
    }

    fn tell(&self) {
        self.happened.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// Whether there was one.
    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }

    /// Returns at the first panic, also one that has been.
    async fn first(&self) {
        while !self.happened() {
            self.news.notified().await;
        }
    }
}

/// The signals that ask for the end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on these signals come here, and no longer end the process by themselves.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// The next one, or a panic.
    pub(crate) async fn or_panic(&mut self, panics: &Panics) -> Reason {
        tokio::select! {
            signal = self.next() => Reason::Signal(signal),
            () = panics.first() => Reason::Panic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_reason_to_stop_before_and_while_somebody_waits() {
        let mut signals = Signals::take().expect("signals can be taken");
        let panics = Panics::default();
        assert!(!panics.happened());
        let telling = panics.clone();
        let told = tokio::spawn(async move { telling.tell() });
        assert_eq!(signals.or_panic(&panics).await, Reason::Panic);
        told.await.expect("it told");
        assert_eq!(signals.or_panic(&panics).await, Reason::Panic);
        assert!(panics.happened());
    }
}
