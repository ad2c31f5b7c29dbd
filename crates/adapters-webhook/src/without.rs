//! What stands here when no client was built in.

use crate::config::WebhookConfig;
use async_trait::async_trait;
use ports::{ErrorKind, PortError, Result, WebhookRequest, WebhookResponse, Webhooks};

/// Webhooks, which this build has no client for.
#[derive(Debug)]
pub struct HttpWebhooks(());

impl HttpWebhooks {
    /// Takes every configuration: only who wants to push needs the client.
    ///
    /// # Errors
    /// None.
    pub fn open(_config: WebhookConfig) -> Result<Self> {
        Ok(Self(()))
    }
}

#[async_trait]
impl Webhooks for HttpWebhooks {
    fn check(&self, _url: &str) -> Result<()> {
        Err(missing("webhooks.check"))
    }

    async fn post(&self, _request: WebhookRequest) -> Result<WebhookResponse> {
        Err(missing("webhooks.post"))
    }
}

fn missing(operation: &'static str) -> PortError {
    PortError::new(
        ErrorKind::Unsupported,
        operation,
        "this program was built without `webhook`; build it with that feature to push events",
    )
}
