//! A webhook that answers as it is told to.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use ports::{Result, WebhookRequest, WebhookResponse, Webhooks};
use std::{collections::VecDeque, sync::Arc};

/// A webhook that answers with a status, or, without one, not at all.
#[derive(Debug, Default)]
pub(crate) struct Hook {
    /// Answered once each, before `status`.
    first: Mutex<VecDeque<Option<u16>>>,
    pub(crate) status: Mutex<Option<u16>>,
    retry_after: Option<String>,
    /// The id, the attempt and the body of each request.
    requests: Mutex<Vec<(String, String, Bytes)>>,
}

#[async_trait]
impl Webhooks for Hook {
    fn check(&self, _url: &str) -> Result<()> {
        Ok(())
    }

    async fn post(&self, request: WebhookRequest) -> Result<WebhookResponse> {
        let header = |name: &str| {
            let found = request.headers.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.requests.lock().push((header("ce-id"), header("es-attempt"), request.body.clone()));
        let first = self.first.lock().pop_front();
        let status = first.unwrap_or_else(|| *self.status.lock());
        let Some(status) = status else { return std::future::pending().await };
        Ok(WebhookResponse { status, retry_after: self.retry_after.clone(), body: Bytes::new() })
    }
}

impl Hook {
    pub(crate) fn answering(status: Option<u16>) -> Arc<Self> {
        Arc::new(Self { status: Mutex::new(status), ..Self::default() })
    }

    /// Answers with a status, and how long to wait.
    pub(crate) fn asking_to_wait(status: u16, retry_after: &str) -> Arc<Self> {
        let (status, retry_after) = (Mutex::new(Some(status)), Some(retry_after.to_owned()));
        Arc::new(Self { status, retry_after, ..Self::default() })
    }

    /// Answers so once each, and 200 from then on.
    pub(crate) fn answering_first(first: impl IntoIterator<Item = Option<u16>>) -> Arc<Self> {
        let first = Mutex::new(first.into_iter().collect());
        Arc::new(Self { first, status: Mutex::new(Some(200)), ..Self::default() })
    }

    /// The id and the attempt of each request, sorted.
    pub(crate) fn posts(&self) -> Vec<(String, String)> {
        let mut posts: Vec<_> =
            self.requests.lock().iter().map(|(id, attempt, _)| (id.clone(), attempt.clone())).collect();
        posts.sort();
        posts
    }

    /// The bodies, in the order in which they came.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.requests.lock().iter().map(|(_, _, body)| body.clone()).collect()
    }
}
