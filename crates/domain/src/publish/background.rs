//! Work that goes on after a caller was answered, or has gone.

use std::{future::Future, sync::Arc};
use tokio::{sync::watch, task::JoinHandle};

/// Counts the tasks that it started, so that a stop can wait for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Background(Arc<watch::Sender<usize>>);

struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Background {
    /// Runs `work` to its end, whatever becomes of the handle.
    pub(super) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.send_modify(|count| *count += 1);
        let running = Running(self.0.clone());
        tokio::spawn(async move {
            let _running = running;
            work.await
        })
    }

    /// Returns once nothing runs.
    pub(super) async fn idle(&self) {
        // The sender lives in `self`, so that this cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn it_is_idle_once_all_work_has_ended() {
        let background = Background::default();
        background.idle().await;
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let work = background.spawn(async move { ended.await.is_ok() });
        assert!(background.idle().now_or_never().is_none());
        let _ = end.send(());
        background.idle().await;
        assert!(work.await.unwrap());
    }
}
