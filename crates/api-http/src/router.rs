//! Which handler answers which request.

use crate::{
    HttpConfig, Services, body, browse,
    connection::Peer,
    dead_letters, groups, health,
    problem::Problem,
    publish, registry, replays,
    request::{self, CORRELATION_ID, path_name},
    respond::{Reply, ReplyBody},
    schemas, subscriptions, topics,
};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{Error, ErrorCode};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Body;
use std::borrow::Cow;
use tokio_util::sync::CancellationToken;

/// Answers requests, one by one and without a network.
#[derive(Debug)]
pub struct Router {
    services: Services,
    config: HttpConfig,
    stop: CancellationToken,
}

/// What handlers are given of a request, beside its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) services: &'a Services,
    pub(crate) config: &'a HttpConfig,
    /// Cancelled when the server is told to stop.
    pub(crate) stop: &'a CancellationToken,
    pub(crate) peer: &'a Peer,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
    pub(crate) correlation_id: &'a ByteString,
}

impl Call<'_> {
    pub(crate) fn bounds(&self) -> body::Bounds<'_> {
        body::Bounds {
            bytes_max: self.services.limits.request_bytes_max,
            config: self.config,
            stop: self.stop,
        }
    }
}

/// A place in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place<'a> {
    Publish,
    Topics,
    Topic(Cow<'a, str>),
    Events(Cow<'a, str>),
    Tail(Cow<'a, str>),
    Purge(Cow<'a, str>),
    Subscriptions,
    Subscription(Cow<'a, str>),
    Pull(Cow<'a, str>),
    Ack(Cow<'a, str>),
    Pause(Cow<'a, str>),
    Resume(Cow<'a, str>),
    Skip(Cow<'a, str>),
    DeadLetters(Cow<'a, str>),
    DeadLetterSummary(Cow<'a, str>),
    /// One of a subscription's, by its id.
    DeadLetter(Cow<'a, str>, Cow<'a, str>),
    Groups,
    Group(Cow<'a, str>),
    GroupLag(Cow<'a, str>),
    GroupOffsets(Cow<'a, str>),
    GroupReset(Cow<'a, str>),
    /// A path within Confluent's API, and what is left of it.
    Registry(&'a str),
    SchemaStatistics,
    Replays,
    Replay(Cow<'a, str>),
    PauseReplay(Cow<'a, str>),
    ResumeReplay(Cow<'a, str>),
    CancelReplay(Cow<'a, str>),
    Redrive(Cow<'a, str>),
    /// A replay in a line.
    ShortReplay,
    Health,
    Liveness,
    Readiness,
    Info,
    /// Known, and not built yet.
    NotBuilt(&'static str),
}

impl<'a> Place<'a> {
    /// The place at a path below the base path.
    fn of(path: &'a str) -> Result<Option<Self>, Error> {
        const DEPTH_MAX: usize = 8;
        const REGISTRY: &str = "/schema-registry";
        if let Some(rest) = path.strip_prefix(REGISTRY)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Ok(Some(Self::Registry(rest)));
        }
        let Some(path) = path.strip_prefix('/') else { return Ok(None) };
        let mut segments = [""; DEPTH_MAX];
        let mut count = 0;
        for segment in path.split('/') {
            if count == DEPTH_MAX {
                return Ok(None);
            }
            segments[count] = segment;
            count += 1;
        }
        let topic = |segment| path_name("topic", segment);
        let name = |segment| path_name("name", segment);
        let group = |segment| path_name("group", segment);
        let id = |segment| path_name("id", segment);
        Ok(Some(match &segments[..count] {
            ["v1", "topics", segment, "events"] => Self::Events(topic(segment)?),
            ["v1", "events"] => Self::Publish,
            ["v1", "topics"] => Self::Topics,
            ["v1", "topics", segment] => Self::Topic(topic(segment)?),
            ["v1", "topics", segment, "events", "tail"] => Self::Tail(topic(segment)?),
            ["v1", "topics", segment, "purge"] => Self::Purge(topic(segment)?),
            ["v1", "subscriptions"] => Self::Subscriptions,
            ["v1", "subscriptions", segment] => Self::Subscription(name(segment)?),
            ["v1", "subscriptions", segment, "pull"] => Self::Pull(name(segment)?),
            ["v1", "subscriptions", segment, "ack"] => Self::Ack(name(segment)?),
            ["v1", "subscriptions", segment, "pause"] => Self::Pause(name(segment)?),
            ["v1", "subscriptions", segment, "resume"] => Self::Resume(name(segment)?),
            ["v1", "subscriptions", segment, "skip"] => Self::Skip(name(segment)?),
            ["v1", "subscriptions", _, "seek" | "snapshots"] => Self::NotBuilt("moving a subscription"),
            ["v1", "subscriptions", segment, "dead-letters"] => Self::DeadLetters(name(segment)?),
            ["v1", "subscriptions", segment, "dead-letters", "summary"] => {
                Self::DeadLetterSummary(name(segment)?)
            }
            ["v1", "subscriptions", segment, "dead-letters", "redrive"] => Self::Redrive(name(segment)?),
            ["v1", "subscriptions", segment, "dead-letters", letter] => {
                Self::DeadLetter(name(segment)?, id(letter)?)
            }
            ["v1", "groups"] => Self::Groups,
            ["v1", "groups", segment] => Self::Group(group(segment)?),
            ["v1", "groups", segment, "lag"] => Self::GroupLag(group(segment)?),
            ["v1", "groups", segment, "offsets"] => Self::GroupOffsets(group(segment)?),
            ["v1", "groups", segment, "offsets", "reset"] => Self::GroupReset(group(segment)?),
            ["v1", "replays"] => Self::Replays,
            ["v1", "replays", segment] => Self::Replay(id(segment)?),
            ["v1", "replays", segment, "pause"] => Self::PauseReplay(id(segment)?),
            ["v1", "replays", segment, "resume"] => Self::ResumeReplay(id(segment)?),
            ["v1", "replays", segment, "cancel"] => Self::CancelReplay(id(segment)?),
            ["replay"] => Self::ShortReplay,
            ["v1", "schemas", "stats"] => Self::SchemaStatistics,
            ["actuator", "health"] => Self::Health,
            ["actuator", "health", "liveness"] => Self::Liveness,
            ["actuator", "health", "readiness"] => Self::Readiness,
            ["actuator", "info"] => Self::Info,
            ["actuator", "metrics" | "prometheus", ..] => Self::NotBuilt("metrics"),
            _ => return Ok(None),
        }))
    }

    /// The methods that the place takes.
    fn allow(&self) -> &'static str {
        match self {
            Self::Publish
            | Self::Purge(_)
            | Self::Pull(_)
            | Self::Ack(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::GroupReset(_)
            | Self::Skip(_)
            | Self::PauseReplay(_)
            | Self::ResumeReplay(_)
            | Self::CancelReplay(_)
            | Self::Redrive(_)
            | Self::ShortReplay => "POST",
            Self::Topics | Self::Events(_) | Self::Subscriptions | Self::Replays => "GET, POST",
            Self::Topic(_) | Self::DeadLetter(..) => "GET, PATCH, DELETE",
            Self::Subscription(_) => "GET, PUT, DELETE",
            Self::Group(_) => "GET, DELETE",
            Self::GroupOffsets(_) => "DELETE",
            Self::Tail(_)
            | Self::Replay(_)
            | Self::DeadLetters(_)
            | Self::DeadLetterSummary(_)
            | Self::SchemaStatistics
            | Self::Groups
            | Self::GroupLag(_)
            | Self::Health
            | Self::Liveness
            | Self::Readiness
            | Self::Info => "GET",
            // Each of its paths says for itself.
            Self::Registry(_) | Self::NotBuilt(_) => "",
        }
    }
}

impl Router {
    /// Answers by `services`; once `stop` is cancelled, waits for nothing any more.
    pub fn new(services: Services, mut config: HttpConfig, stop: CancellationToken) -> Self {
        let base_path = config.base_path.trim_matches('/');
        config.base_path = if base_path.is_empty() { String::new() } else { format!("/{base_path}") };
        Self { services, config, stop }
    }

    pub(crate) fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Answers one request. Whatever goes wrong is an answer too.
    ///
    /// # Cancellation
    /// As that of the use case behind it: what was being published may be appended, what was being pulled
    /// is given back.
    pub async fn handle<B>(&self, request: Request<B>, peer: Peer) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        peer.begin();
        let (head, body) = request.into_parts();
        let correlation_id = request::correlation_id(&head.headers);
        let call = Call {
            services: &self.services,
            config: &self.config,
            stop: &self.stop,
            peer: &peer,
            headers: &head.headers,
            query: head.uri.query(),
            correlation_id: &correlation_id,
        };
        let mut reply = match self.route(&call, &head.method, head.uri.path(), body).await {
            Ok(reply) => {
                tracing::debug!(
                    method = %head.method, path = head.uri.path(), status = reply.status().as_u16(),
                    correlation_id = &*correlation_id, "answered"
                );
                reply
            }
            Err(problem) => refuse(&problem, &head.method, head.uri.path(), &correlation_id),
        };
        reply.headers_mut().insert(CORRELATION_ID, request::header_value(&correlation_id));
        peer.end();
        reply
    }

    async fn route<B>(&self, call: &Call<'_>, method: &Method, path: &str, body: B) -> Result<Reply, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let not_found = || Problem::from(Error::new(ErrorCode::NotFound, "there is nothing at this path"));
        let path = path.strip_prefix(self.config.base_path.as_str()).ok_or_else(not_found)?;
        let place = Place::of(path)?.ok_or_else(not_found)?;
        // The head of an answer is that of GET; hyper leaves its body out.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        match (method, &place) {
            // The hot path alone lives in the connection's own memory; the others are boxed, so that they
            // do not make it larger.
            (&Method::POST, Place::Events(topic)) => publish::publish(call, Some(topic), body).await,
            (&Method::POST, Place::Publish) => Box::pin(publish::publish(call, None, body)).await,
            (&Method::GET, Place::Events(topic)) => Box::pin(browse::page(call, topic)).await,
            (&Method::GET, Place::Tail(topic)) => Box::pin(browse::tail(call, topic)).await,
            (&Method::POST, Place::Topics) => Box::pin(topics::create(call, body)).await,
            (&Method::GET, Place::Topics) => Box::pin(topics::list(call)).await,
            (&Method::GET, Place::Topic(name)) => Box::pin(topics::get(call, name)).await,
            (&Method::PATCH, Place::Topic(name)) => Box::pin(topics::alter(call, name, body)).await,
            (&Method::DELETE, Place::Topic(name)) => Box::pin(topics::delete(call, name)).await,
            (&Method::POST, Place::Purge(name)) => Box::pin(topics::purge(call, name, body)).await,
            (&Method::POST, Place::Subscriptions) => Box::pin(subscriptions::create(call, body)).await,
            (&Method::GET, Place::Subscriptions) => Box::pin(subscriptions::list(call)).await,
            (&Method::GET, Place::Subscription(name)) => Box::pin(subscriptions::get(call, name)).await,
            (&Method::DELETE, Place::Subscription(name)) => Box::pin(subscriptions::delete(call, name)).await,
            (&Method::PUT, Place::Subscription(name)) => {
                Box::pin(subscriptions::replace(call, name, body)).await
            }
            (&Method::POST, Place::Pull(name)) => Box::pin(subscriptions::pull(call, name, body)).await,
            (&Method::POST, Place::Ack(name)) => Box::pin(subscriptions::ack(call, name, body)).await,
            (&Method::POST, Place::Pause(name)) => Box::pin(subscriptions::pause(call, name)).await,
            (&Method::POST, Place::Resume(name)) => Box::pin(subscriptions::resume(call, name)).await,
            (&Method::POST, Place::Skip(name)) => Box::pin(subscriptions::skip(call, name, body)).await,
            (&Method::GET, Place::Groups) => Box::pin(groups::list(call)).await,
            (&Method::GET, Place::Group(name)) => Box::pin(groups::get(call, name)).await,
            (&Method::DELETE, Place::Group(name)) => Box::pin(groups::delete(call, name)).await,
            (&Method::GET, Place::GroupLag(name)) => Box::pin(groups::lag(call, name)).await,
            (&Method::DELETE, Place::GroupOffsets(name)) => {
                Box::pin(groups::delete_offsets(call, name)).await
            }
            (&Method::POST, Place::GroupReset(name)) => Box::pin(groups::reset(call, name, body)).await,
            (method, Place::Registry(rest)) => Ok(Box::pin(registry::answer(call, method, rest, body)).await),
            (&Method::GET, Place::DeadLetters(name)) => Box::pin(dead_letters::list(call, name)).await,
            (&Method::GET, Place::DeadLetterSummary(name)) => {
                Box::pin(dead_letters::summary(call, name)).await
            }
            (&Method::GET, Place::DeadLetter(name, id)) => Box::pin(dead_letters::get(call, name, id)).await,
            (&Method::PATCH, Place::DeadLetter(name, id)) => {
                Box::pin(dead_letters::edit(call, name, id, body)).await
            }
            (&Method::DELETE, Place::DeadLetter(name, id)) => {
                Box::pin(dead_letters::discard(call, name, id)).await
            }
            (&Method::POST, Place::Replays) => Box::pin(replays::create(call, body)).await,
            (&Method::GET, Place::Replays) => Box::pin(replays::list(call)).await,
            (&Method::GET, Place::Replay(id)) => Box::pin(replays::get(call, id)).await,
            (&Method::POST, Place::PauseReplay(id)) => Box::pin(replays::pause(call, id)).await,
            (&Method::POST, Place::ResumeReplay(id)) => Box::pin(replays::resume(call, id)).await,
            (&Method::POST, Place::CancelReplay(id)) => Box::pin(replays::cancel(call, id)).await,
            (&Method::POST, Place::Redrive(name)) => Box::pin(replays::redrive(call, name, body)).await,
            (&Method::POST, Place::ShortReplay) => Box::pin(replays::short_form(call)).await,
            (&Method::GET, Place::SchemaStatistics) => Box::pin(schemas::statistics(call)).await,
            (&Method::GET, Place::Health) => Ok(health::health(call)),
            (&Method::GET, Place::Liveness) => Ok(health::liveness()),
            (&Method::GET, Place::Readiness) => Ok(health::readiness(call)),
            (&Method::GET, Place::Info) => Ok(health::info()),
            (_, Place::NotBuilt(what)) => Err(not_built(what)),
            (_, place) => Err(Problem::method_not_allowed(place.allow())),
        }
    }
}

fn not_built(what: &str) -> Problem {
    Error::new(ErrorCode::NotSupported, format!("{what} is not supported by this version")).into()
}

fn refuse(problem: &Problem, method: &Method, path: &str, correlation_id: &ByteString) -> Reply {
    let reply = problem.reply(correlation_id);
    let code = problem.code().as_str();
    if reply.status().is_server_error() && problem.code() != ErrorCode::NotSupported {
        tracing::warn!(%method, path, code, detail = problem.detail(), correlation_id = &**correlation_id, "failed");
    } else {
        tracing::debug!(%method, path, code, detail = problem.detail(), correlation_id = &**correlation_id, "refused");
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_a_path_are_decoded_and_judged_later() {
        let place = |path| Place::of(path).unwrap();
        assert_eq!(place("/v1/topics/a%2Fb/events"), Some(Place::Events("a/b".into())));
        assert_eq!(place("/v1/topics/%2e%2e"), Some(Place::Topic("..".into())));
        assert_eq!(place("/v1/topics/"), Some(Place::Topic("".into())));
        assert_eq!(place("/v1/nowhere"), None);
        assert_eq!(place("/v1/topics/a/b/c/d/e/f/g/h/i"), None);
        assert_eq!(place("v1/topics"), None);
        let error = Place::of("/v1/topics/%ff%fe").unwrap_err();
        assert_eq!(error.fields()[0].field, "topic");
    }

    proptest! {
        #[test]
        fn any_path_has_a_place_or_none(path in "(/|v1|topics|events|%[0-9a-f]{2}|[a-z.]){0,12}") {
            let _ = Place::of(&path);
        }
    }
}
