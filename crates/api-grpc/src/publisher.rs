//! `Publisher`: one event, a batch, a stream.

use crate::{
    Services, convert,
    error::status,
    proto::{
        PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishStreamRequest,
        PublishStreamResponse, Receipt, publisher_server,
    },
    publish_stream,
};
use domain::{Error, ErrorCode};
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(crate) services: Services,
    /// So many messages of a stream may wait while earlier ones are appended.
    pub(crate) stream_window: usize,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl publisher_server::Publisher for Publisher {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<Receipt>, Status> {
        let context = convert::context(request.metadata());
        let PublishRequest { topic, event } = request.into_inner();
        let event = event.ok_or_else(|| status(&Error::invalid("event", "must be given")))?;
        let item = convert::item(event).map_err(|rejected| status(&rejected.error))?;
        let publisher = &self.services.publisher;
        let results = publisher.publish(convert::topic(&topic), vec![Ok(item)], &context).await;
        match results.map(|mut results| results.pop()) {
            Ok(Some(Ok(receipt))) => Ok(Response::new(convert::receipt(&receipt))),
            Ok(Some(Err(error))) | Err(error) => Err(status(&error)),
            Ok(None) => Err(status(&Error::new(ErrorCode::Internal, "the event has no result"))),
        }
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        let context = convert::context(request.metadata());
        let PublishBatchRequest { topic, events } = request.into_inner();
        let items = events.into_iter().map(convert::item).collect();
        let publisher = &self.services.publisher;
        let results = publisher.publish(convert::topic(&topic), items, &context).await;
        let results = results.map_err(|error| status(&error))?;
        let published = results.iter().filter(|result| result.is_ok()).count() as u32;
        let failed = results.len() as u32 - published;
        let results = results.into_iter().map(convert::result).collect();
        Ok(Response::new(PublishBatchResponse { published, failed, results }))
    }

    type PublishStreamStream = BoxStream<'static, Result<PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let context = convert::context(request.metadata());
        let answers = publish_stream::start(
            self.services.publisher.clone(),
            context,
            request.into_inner(),
            self.stream_window,
            self.services.limits.batch_events_max,
            self.stop.clone(),
        );
        Ok(Response::new(answers))
    }
}
