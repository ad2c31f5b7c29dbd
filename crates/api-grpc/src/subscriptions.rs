//! `Subscriptions`: create, get, list, delete, pause, resume, and pass over an event.

use crate::{
    Services, convert,
    error::status,
    proto::{
        Cause, CreateSubscriptionRequest, DeadLetterPolicy, DedupPolicy, DeleteSubscriptionRequest,
        ExpressionError, ExpressionErrors, GetSubscriptionRequest, ListSubscriptionsRequest,
        ListSubscriptionsResponse, PauseSubscriptionRequest, PushTarget, ReplaceSubscriptionRequest,
        ResumeSubscriptionRequest, RetryPolicy, SkipEventRequest, Start, StormGuard, Subscription, start,
        subscriptions_server,
    },
};
use domain::{
    Error,
    push::NewPush,
    subscriptions::{
        DeliveryMode, NewSubscription, Skip, StartSpec, SubscriptionView,
        policy::{NewDeadLetter, NewDedup, NewRetry, NewStormGuard},
    },
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

    async fn replace_subscription(
        &self,
        request: Request<ReplaceSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let ReplaceSubscriptionRequest { subscription, revision } = request.into_inner();
        let missing = || Error::invalid("subscription", "is missing");
        let subscription = subscription.ok_or_else(missing).map_err(|e| status(&e))?;
        let name = subscription.name.clone();
        let new = new(subscription).map_err(|e| status(&e))?;
        let view = self.0.subscriptions.replace(&name, new, revision).await.map_err(|e| status(&e))?;
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

    async fn pause_subscription(
        &self,
        request: Request<PauseSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let view = self.0.subscriptions.pause(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(view)))
    }

    async fn resume_subscription(
        &self,
        request: Request<ResumeSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let view = self.0.subscriptions.resume(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(view)))
    }

    async fn skip_event(&self, request: Request<SkipEventRequest>) -> Result<Response<()>, Status> {
        let SkipEventRequest { name, topic, partition, offset, reason } = request.into_inner();
        let skip = Skip { topic, partition: i64::from(partition), offset, reason };
        self.0.subscriptions.skip(&name, skip).await.map_err(|e| status(&e))?;
        Ok(Response::new(()))
    }
}

fn new(request: CreateSubscriptionRequest) -> domain::Result<NewSubscription> {
    let ack_timeout =
        request.ack_timeout.map(|timeout| convert::duration("ack_timeout", timeout)).transpose()?;
    let dead_letter = request.dead_letter.unwrap_or_default();
    let dedup = request.dedup.unwrap_or_default();
    let storm_guard = match dead_letter.storm_guard {
        _ if dead_letter.storm_guard_off => Some(None),
        None => None,
        Some(guard) => Some(Some(NewStormGuard { ratio: guard.ratio, window: guard.window })),
    };
    Ok(NewSubscription {
        retry: retry(request.retry.unwrap_or_default())?,
        dead_letter: NewDeadLetter { enabled: dead_letter.enabled, topic: dead_letter.topic, storm_guard },
        dedup: NewDedup {
            enabled: dedup.enabled,
            ttl: text("dedup.ttl", dedup.ttl)?,
            on_store_failure: dedup.on_store_failure,
            key: dedup.key,
        },
        filter: request.filter,
        delivery_mode: request.mode,
        push: request.push.map(push).transpose()?.unwrap_or_default(),
        adopt_group: request.adopt_group,
        name: request.name,
        topics: request.topics,
        ordering: request.ordering,
        max_in_flight: request.max_in_flight,
        ack_timeout: ack_timeout.map(|timeout| format!("{}ms", timeout.as_millis())),
        start: request.start.map(start_spec).transpose()?,
        ..NewSubscription::default()
    })
}

fn push(target: PushTarget) -> domain::Result<NewPush> {
    let PushTarget { url, format, secret, timeout, headers, concurrency } = target;
    // A message has no member that is left out but in these ways.
    Ok(NewPush {
        url: (!url.is_empty()).then_some(url),
        format,
        secret,
        timeout: text("push.timeout", timeout)?,
        headers: (!headers.is_empty()).then(|| headers.into_iter().collect()),
        concurrency,
    })
}

fn shown_push(mode: &DeliveryMode) -> Option<PushTarget> {
    let DeliveryMode::Push(target) = mode else { return None };
    Some(PushTarget {
        url: target.shown_url(),
        format: Some(target.format.as_str().to_owned()),
        secret: target.shown_secret().map(str::to_owned),
        timeout: Some(convert::to_duration(target.timeout)),
        headers: target.shown_headers().map(|(name, mask)| (name.to_owned(), mask.to_owned())).collect(),
        concurrency: Some(i64::from(target.concurrency)),
    })
}

fn retry(retry: RetryPolicy) -> domain::Result<NewRetry> {
    Ok(NewRetry {
        strategy: retry.strategy,
        max_retries: retry.max_retries,
        initial_delay: text("retry.initial_delay", retry.initial_delay)?,
        max_delay: text("retry.max_delay", retry.max_delay)?,
        multiplier: retry.multiplier,
        jitter: retry.jitter,
    })
}

/// A duration as the domain reads it.
fn text(field: &str, duration: Option<prost_types::Duration>) -> domain::Result<Option<String>> {
    let duration = duration.map(|duration| convert::duration(field, duration)).transpose()?;
    Ok(duration.map(|duration| format!("{}ms", duration.as_millis())))
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
    let (retry, dedup, dead_letter) = (&definition.retry, &definition.dedup, definition.dead_letter_policy());
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
        retry: Some(RetryPolicy {
            max_retries: Some(retry.max_retries.map_or(-1, i64::from)),
            initial_delay: Some(convert::to_duration(retry.initial_delay)),
            max_delay: Some(convert::to_duration(retry.max_delay)),
            multiplier: Some(retry.multiplier),
            jitter: Some(retry.jitter.as_str().to_owned()),
            strategy: Some(retry.strategy.as_str().to_owned()),
        }),
        dead_letter: Some(DeadLetterPolicy {
            enabled: Some(dead_letter.enabled),
            topic: Some(dead_letter.topic.to_string()),
            storm_guard: dead_letter
                .storm_guard
                .map(|guard| StormGuard { ratio: Some(guard.ratio), window: Some(i64::from(guard.window)) }),
            storm_guard_off: dead_letter.storm_guard.is_none(),
        }),
        dedup: Some(DedupPolicy {
            enabled: Some(dedup.enabled),
            ttl: Some(convert::to_duration(dedup.ttl)),
            on_store_failure: Some(dedup.on_store_failure.as_str().to_owned()),
            key: dedup.key.clone(),
        }),
        mode: definition.mode.as_str().to_owned(),
        filter: definition.filter.clone(),
        filtered: view.filtered,
        filter_errors: Some(errors(view.filter_errors)),
        dedup_key_errors: Some(errors(view.dedup_key_errors)),
        revision: definition.revision,
        push: shown_push(&definition.mode),
    }
}

fn errors(errors: domain::subscriptions::ExpressionErrors) -> ExpressionErrors {
    let last = errors.last.map(|last| ExpressionError {
        topic: last.topic.to_string(),
        partition: last.partition,
        offset: i64::try_from(last.offset).unwrap_or(i64::MAX),
        at: Some(convert::time(last.at)),
        reason: last.reason,
    });
    ExpressionErrors { count: errors.count, last }
}
