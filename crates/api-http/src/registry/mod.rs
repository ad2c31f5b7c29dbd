//! Confluent's Schema Registry API, under `/schema-registry`: its paths, parameters, shapes and error codes, so that
//! its clients work unchanged.
//!
//! Answers are `application/vnd.schemaregistry.v1+json`, or `application/json` to who asks for that. What went wrong
//! is `{"error_code", "message"}`, the first three digits of the code being the status. Parameters of a query that
//! are not known are passed over, as clients send some of later versions; members of a body are not.

mod error;
mod params;
mod read;
mod schemas;
mod settings;
mod show;
mod subjects;

use crate::{
    body,
    request::{media_type, path_name},
    respond::{Reply, reply},
    router::Call,
};
use bytes::Bytes;
use bytestring::ByteString;
use error::Refusal;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Body;
use params::Params;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The type of answers, unless JSON alone is asked for.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The types that a body may have.
const MEDIA_TYPES: [&str; 4] =
    [MEDIA_TYPE, "application/vnd.schemaregistry+json", "application/json", "application/octet-stream"];

/// The version of Confluent's registry whose API this is.
const API_VERSION: &str = "8.0.0";

/// A place in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place<'a> {
    Root,
    Subjects,
    Subject(Cow<'a, str>),
    Versions(Cow<'a, str>),
    Version(Cow<'a, str>, &'a str),
    VersionSchema(Cow<'a, str>, &'a str),
    ReferencedBy(Cow<'a, str>, &'a str),
    Schemas,
    Types,
    Id(&'a str),
    IdSchema(&'a str),
    IdSubjects(&'a str),
    IdVersions(&'a str),
    Guid(&'a str),
    GuidIds(&'a str),
    Check(Cow<'a, str>, Option<&'a str>),
    Config(Option<Cow<'a, str>>),
    Mode(Option<Cow<'a, str>>),
    Contexts,
    ClusterId,
    ServerVersion,
}

impl<'a> Place<'a> {
    /// The place at a path below `/schema-registry`.
    fn of(path: &'a str) -> Result<Option<Self>, Refusal> {
        const DEPTH_MAX: usize = 6;
        let mut segments = [""; DEPTH_MAX];
        let mut count = 0;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if count == DEPTH_MAX {
                return Ok(None);
            }
            segments[count] = segment;
            count += 1;
        }
        let name = |segment| path_name("subject", segment).map_err(|error| Refusal::of_request(&error));
        Ok(Some(match &segments[..count] {
            [] => Self::Root,
            ["subjects"] => Self::Subjects,
            ["subjects", subject] => Self::Subject(name(subject)?),
            ["subjects", subject, "versions"] => Self::Versions(name(subject)?),
            ["subjects", subject, "versions", version] => Self::Version(name(subject)?, version),
            ["subjects", subject, "versions", version, "schema"] => {
                Self::VersionSchema(name(subject)?, version)
            }
            ["subjects", subject, "versions", version, "referencedby"] => {
                Self::ReferencedBy(name(subject)?, version)
            }
            ["schemas"] => Self::Schemas,
            ["schemas", "types"] => Self::Types,
            ["schemas", "ids", id] => Self::Id(id),
            ["schemas", "ids", id, "schema"] => Self::IdSchema(id),
            ["schemas", "ids", id, "subjects"] => Self::IdSubjects(id),
            ["schemas", "ids", id, "versions"] => Self::IdVersions(id),
            ["schemas", "guids", guid] => Self::Guid(guid),
            ["schemas", "guids", guid, "ids"] => Self::GuidIds(guid),
            ["compatibility", "subjects", subject, "versions"] => Self::Check(name(subject)?, None),
            ["compatibility", "subjects", subject, "versions", version] => {
                Self::Check(name(subject)?, Some(version))
            }
            ["config"] => Self::Config(None),
            ["config", subject] => Self::Config(Some(name(subject)?)),
            ["mode"] => Self::Mode(None),
            ["mode", subject] => Self::Mode(Some(name(subject)?)),
            ["contexts"] => Self::Contexts,
            ["v1", "metadata", "id"] => Self::ClusterId,
            ["v1", "metadata", "version"] => Self::ServerVersion,
            _ => return Ok(None),
        }))
    }

    /// The methods that the place takes.
    fn allow(&self) -> &'static str {
        match self {
            Self::Subject(_) => "POST, DELETE",
            Self::Versions(_) => "GET, POST",
            Self::Version(..) => "GET, DELETE",
            Self::Check(..) => "POST",
            Self::Config(_) | Self::Mode(_) => "GET, PUT, DELETE",
            _ => "GET",
        }
    }
}

/// What an endpoint answers with 200.
enum Shown {
    Json(Value),
    /// A schema's own text.
    Text(String),
}

/// Answers a request at a path below `/schema-registry`.
pub(crate) async fn answer<B>(call: &Call<'_>, method: &Method, path: &str, body: B) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let answered = route(call, method, path, body).await;
    let media_type = answers_with(call.headers);
    match answered {
        Ok(Shown::Json(value)) => reply(StatusCode::OK, media_type, value.to_string().into_bytes()),
        Ok(Shown::Text(text)) => reply(StatusCode::OK, media_type, text.into_bytes()),
        Err(refusal) => {
            let (code, message, id) = (refusal.code, refusal.message.as_str(), &**call.correlation_id);
            if refusal.status().is_server_error() {
                tracing::warn!(%method, path, code, message, correlation_id = id, "the schema registry failed");
            } else {
                tracing::debug!(%method, path, code, message, correlation_id = id, "the schema registry refused");
            }
            refusal.reply(media_type)
        }
    }
}

async fn route<B>(call: &Call<'_>, method: &Method, path: &str, body: B) -> Result<Shown, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let place = Place::of(path)?.ok_or_else(Refusal::not_found)?;
    let params = &Params::read(call.query)?;
    let registry = &*call.services.registry;
    let shown = match (method, &place) {
        (&Method::GET, Place::Root) => json!({}),
        (&Method::GET, Place::Subjects) => subjects::list(registry, params).await?,
        (&Method::POST, Place::Subject(subject)) => {
            let body = read_body(call, body).await?;
            subjects::lookup(registry, subject, params, &body).await?
        }
        (&Method::DELETE, Place::Subject(subject)) => subjects::delete(registry, subject, params).await?,
        (&Method::GET, Place::Versions(subject)) => subjects::versions(registry, subject, params).await?,
        (&Method::POST, Place::Versions(subject)) => {
            let body = read_body(call, body).await?;
            subjects::register(registry, subject, params, &body).await?
        }
        (&Method::GET, Place::Version(subject, version)) => {
            subjects::version(registry, subject, version, params).await?
        }
        (&Method::DELETE, Place::Version(subject, version)) => {
            subjects::delete_version(registry, subject, version, params).await?
        }
        (&Method::GET, Place::VersionSchema(subject, version)) => {
            return subjects::version_text(registry, subject, version, params).await.map(Shown::Text);
        }
        (&Method::GET, Place::ReferencedBy(subject, version)) => {
            subjects::referenced_by(registry, subject, version, params).await?
        }
        (&Method::GET, Place::Schemas) => schemas::list(registry, params).await?,
        (&Method::GET, Place::Types) => show::types(),
        (&Method::GET, Place::Id(id)) => schemas::by_id(registry, id, params).await?,
        (&Method::GET, Place::IdSchema(id)) => {
            return schemas::text_of_id(registry, id, params).await.map(Shown::Text);
        }
        (&Method::GET, Place::IdSubjects(id)) => schemas::subjects_of_id(registry, id, params).await?,
        (&Method::GET, Place::IdVersions(id)) => schemas::versions_of_id(registry, id, params).await?,
        (&Method::GET, Place::Guid(guid)) => schemas::by_guid(registry, guid, params).await?,
        (&Method::GET, Place::GuidIds(guid)) => schemas::ids_of_guid(registry, guid).await?,
        (&Method::POST, Place::Check(subject, version)) => {
            let body = read_body(call, body).await?;
            subjects::check(registry, subject, *version, params, &body).await?
        }
        (&Method::GET, Place::Config(subject)) => {
            settings::config(registry, subject.as_deref(), params).await?
        }
        (&Method::PUT, Place::Config(subject)) => {
            let body = read_body(call, body).await?;
            settings::set_config(registry, subject.as_deref(), &body).await?
        }
        (&Method::DELETE, Place::Config(subject)) => {
            settings::delete_config(registry, subject.as_deref()).await?
        }
        (&Method::GET, Place::Mode(subject)) => settings::mode(registry, subject.as_deref(), params).await?,
        (&Method::PUT, Place::Mode(subject)) => {
            let body = read_body(call, body).await?;
            settings::set_mode(registry, subject.as_deref(), params, &body).await?
        }
        (&Method::DELETE, Place::Mode(subject)) => {
            settings::delete_mode(registry, subject.as_deref()).await?
        }
        (&Method::GET, Place::Contexts) => json!(registry.contexts(params.page()?).await?),
        (&Method::GET, Place::ClusterId) => {
            let clusters =
                json!({"kafka-cluster": "event-streaming", "schema-registry-cluster": "schema-registry"});
            json!({"id": "", "scope": {"path": [], "clusters": clusters}})
        }
        (&Method::GET, Place::ServerVersion) => json!({"version": API_VERSION, "commitId": ""}),
        (_, place) => return Err(Refusal::method_not_allowed(place.allow())),
    };
    Ok(Shown::Json(shown))
}

async fn read_body<B>(call: &Call<'_>, body: B) -> Result<ByteString, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if let Some(given) = media_type(call.headers)
        && !MEDIA_TYPES.iter().any(|known| known.eq_ignore_ascii_case(given))
    {
        return Err(Refusal::unsupported_media_type(given));
    }
    let body = body::read(body, &call.bounds()).await.map_err(|problem| Refusal::of_body(&problem))?;
    ByteString::try_from(body).map_err(|_| Refusal::new(400, "the body is not UTF-8, which JSON must be"))
}

/// The type of the answer.
fn answers_with(headers: &HeaderMap) -> HeaderValue {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants = |name: &str| accepted.split([',', ';']).any(|it| it.trim().eq_ignore_ascii_case(name));
    let json_alone = wants("application/json") && !accepted.to_ascii_lowercase().contains("schemaregistry");
    HeaderValue::from_static(if json_alone { "application/json" } else { MEDIA_TYPE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subject_in_a_path_is_decoded() {
        assert_eq!(Place::of("/subjects/a%2Fb").unwrap(), Some(Place::Subject("a/b".into())));
        let version = Place::Version(":.x:a".into(), "latest");
        assert_eq!(Place::of("/subjects/%3A.x%3Aa/versions/latest").unwrap(), Some(version));
        assert_eq!(Place::of("/config/").unwrap(), Some(Place::Config(None)));
        assert_eq!(Place::of("").unwrap(), Some(Place::Root));
        assert_eq!(Place::of("/associations/subjects/a").unwrap(), None);
        assert_eq!(Place::of("/subjects/%ff").unwrap_err().code, 422);
    }

    #[test]
    fn json_is_answered_to_who_asks_for_that_alone() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            answers_with(&headers)
        };
        assert_eq!(of("application/json"), "application/json");
        assert_eq!(of("*/*"), MEDIA_TYPE);
        assert_eq!(of("application/vnd.schemaregistry+json, application/json; q=0.5"), MEDIA_TYPE);
        assert_eq!(answers_with(&HeaderMap::new()), MEDIA_TYPE);
    }

    proptest! {
        #[test]
        fn any_path_has_a_place_or_none(path in "(/|subjects|versions|schemas|ids|config|%[0-9a-f]{2}|[a-z.:]){0,12}") {
            let _ = Place::of(&path);
        }
    }
}
