//! `Subscriber`: pull and acknowledge, and both on one stream.

use crate::{
    Services, convert,
    error::status,
    proto::{
        AcknowledgeRequest, AcknowledgeResponse, AcknowledgeResult, Delivery, PullRequest, PullResponse,
        Reject, Retry, SubscribeRequest, subscriber_server,
    },
    subscribe,
};
use domain::{
    Error,
    subscriptions::{AckRequest, PulledDelivery, RejectItem, RetryItem},
};
use futures::stream::BoxStream;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) services: Services,
    /// Ends the pulls that wait, and the streams.
    pub(crate) stop: CancellationToken,
    /// How long streams may go on after that.
    pub(crate) drain_timeout: Duration,
}

#[tonic::async_trait]
impl subscriber_server::Subscriber for Subscriber {
    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        let PullRequest { subscription, max, wait } = request.into_inner();
        let wait = wait.map(|wait| convert::duration("wait", wait)).transpose().map_err(|e| status(&e))?;
        let pulled = tokio::select! {
            biased;
            pulled = self.services.subscriptions.pull(&subscription, max, wait) => pulled.map_err(|e| status(&e))?,
            // Dropping the pull gives back what it would have been given.
            () = self.stop.cancelled() => return Ok(Response::new(PullResponse::default())),
        };
        Ok(Response::new(PullResponse { deliveries: pulled.deliveries.into_iter().map(delivery).collect() }))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        let AcknowledgeRequest { subscription, ack, retry, reject, extend, release } = request.into_inner();
        let mut again = Vec::with_capacity(retry.len());
        for (index, Retry { ack_id, after, reason }) in retry.into_iter().enumerate() {
            let field = format!("retry[{index}].after");
            let after = after.map(|after| convert::duration(&field, after)).transpose();
            let after = after.map_err(|e| status(&e))?;
            again.push(RetryItem { ack_id, after, reason: said(reason) });
        }
        let reject =
            reject.into_iter().map(|Reject { ack_id, reason }| RejectItem { ack_id, reason: said(reason) });
        let mut extensions = Vec::with_capacity(extend.len());
        for (index, extend) in extend.into_iter().enumerate() {
            let field = format!("extend[{index}].by");
            let by = extend.by.ok_or_else(|| Error::invalid(&field, "must be given"));
            let by = by.and_then(|by| convert::duration(&field, by)).map_err(|e| status(&e))?;
            extensions.push((extend.ack_id, by));
        }
        let request = AckRequest { ack, retry: again, reject: reject.collect(), extend: extensions, release };
        let answered =
            self.services.subscriptions.acknowledge(&subscription, request).await.map_err(|e| status(&e))?;
        let result = |(ack_id, status): (String, domain::delivery::Status)| AcknowledgeResult {
            ack_id,
            status: status.as_str().to_owned(),
        };
        Ok(Response::new(AcknowledgeResponse { results: answered.into_iter().map(result).collect() }))
    }

    type SubscribeStream = BoxStream<'static, subscribe::Answer>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let Services { subscriptions, clock, limits, draining, .. } = self.services.clone();
        let context = subscribe::Context {
            subscriptions,
            clock,
            decisions_max: limits.batch_events_max,
            draining,
            stop: self.stop.clone(),
            drain_within: self.drain_timeout,
        };
        Ok(Response::new(subscribe::start(context, request.into_inner())))
    }
}

/// A text that was given; proto3 does not tell an empty one from none.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A delivery on its way out.
pub(crate) fn delivery(pulled: PulledDelivery) -> Delivery {
    Delivery {
        ack_id: pulled.ack_id,
        attempt: pulled.attempt,
        deadline: Some(convert::time(pulled.deadline)),
        run: String::from(&*pulled.run),
        event: Some(convert::outgoing(&pulled.topic, pulled.partition, &pulled.record, &pulled.value)),
    }
}
