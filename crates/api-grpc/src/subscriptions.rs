//! `Subscriptions`: create, get, list, delete.

use crate::{
    Services, convert,
    error::status,
    proto::{
        Cause, CreateSubscriptionRequest, DeleteSubscriptionRequest, GetSubscriptionRequest,
        ListSubscriptionsRequest, ListSubscriptionsResponse, Start, Subscription, start,
        subscriptions_server,
    },
};
use domain::{
    Error,
    subscriptions::{NewSubscription, StartSpec, SubscriptionView},
};
use std::collections::BTreeMap;
use tonic::{Request, Response, Status};

#[derive(Clone, Debug)]
pub(crate) struct Subscriptions(pub(crate) Services);

#[tonic::async_trait]
impl subscriptions_server::Subscriptions for Subscriptions {
    async fn create_subscription(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let new = new(request.into_inner()).map_err(|e| status(&e))?;
        let view = self.0.subscriptions.create(new).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(view)))
    }

    async fn get_subscription(
        &self,
        request: Request<GetSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let view = self.0.subscriptions.get(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(view)))
    }

    async fn list_subscriptions(
        &self,
        _request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        let views = self.0.subscriptions.list().await.map_err(|e| status(&e))?;
        let subscriptions = views.into_iter().map(shown).collect();
        Ok(Response::new(ListSubscriptionsResponse { subscriptions }))
    }

    async fn delete_subscription(
        &self,
        request: Request<DeleteSubscriptionRequest>,
    ) -> Result<Response<()>, Status> {
        self.0.subscriptions.delete(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(()))
    }
}

fn new(request: CreateSubscriptionRequest) -> domain::Result<NewSubscription> {
    let ack_timeout =
        request.ack_timeout.map(|timeout| convert::duration("ack_timeout", timeout)).transpose()?;
    Ok(NewSubscription {
        name: request.name,
        topics: request.topics,
        ordering: request.ordering,
        max_in_flight: request.max_in_flight,
        ack_timeout: ack_timeout.map(|timeout| format!("{}ms", timeout.as_millis())),
        start: request.start.map(start_spec).transpose()?,
        ..NewSubscription::default()
    })
}

fn start_spec(start: Start) -> domain::Result<StartSpec> {
    match start.at {
        None => Ok(StartSpec::default()),
        Some(start::At::Position(position)) => match position.as_str() {
            "earliest" => Ok(StartSpec::Earliest),
            "latest" => Ok(StartSpec::Latest),
            other => {
                let shown: String = other.chars().take(40).collect();
                let message = format!("must be `earliest` or `latest` (given: {shown:?})");
                Err(Error::invalid("start.position", message))
            }
        },
        Some(start::At::Time(time)) => Ok(StartSpec::Time(convert::timestamp("start.time", time)?.0)),
        Some(start::At::Offsets(offsets)) => {
            let mut places: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
            for place in offsets.offsets {
                places.entry(place.topic).or_default().insert(place.partition.to_string(), place.offset);
            }
            Ok(StartSpec::Offsets(places))
        }
    }
}

fn shown(view: SubscriptionView) -> Subscription {
    let definition = &view.definition;
    let cause = |cause: domain::subscriptions::Cause| Cause {
        code: cause.code.to_owned(),
        since: Some(convert::time(cause.since)),
        detail: cause.detail,
    };
    Subscription {
        name: definition.name.to_string(),
        topics: definition.topics.iter().map(ToString::to_string).collect(),
        ordering: definition.ordering.as_str().to_owned(),
        max_in_flight: i64::from(definition.max_in_flight),
        ack_timeout: Some(convert::to_duration(definition.ack_timeout)),
        state: view.state.as_str().to_owned(),
        causes: view.causes.into_iter().map(cause).collect(),
        lag: view.lag,
        in_flight: view.in_flight,
        held: view.held,
        members: view.members,
    }
}
