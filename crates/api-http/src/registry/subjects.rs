//! Subjects and their versions.

use super::{error::Refusal, params::Params, read, schemas::formatted, show};
use domain::schemas::registry::{Against, Registry, VersionSelector};
use serde_json::{Value, json};

/// `GET /subjects`.
pub(super) async fn list(registry: &Registry, params: &Params<'_>) -> Result<Value, Refusal> {
    Ok(json!(registry.subjects(&params.prefix()?, params.deleted()?, params.page()?).await?))
}

/// `POST /subjects/{subject}`: under which version the subject has a schema.
pub(super) async fn lookup(
    registry: &Registry,
    subject: &str,
    params: &Params<'_>,
    body: &str,
) -> Result<Value, Refusal> {
    let (schema, _) = read::schema(body)?;
    let (normalize, deleted) = (params.flag("normalize")?, params.flag("deleted")?);
    let found = registry.lookup(subject, &schema, normalize, deleted).await?;
    let text = formatted(registry, &found.schema, params).await?;
    Ok(show::registered(&found, &text))
}

/// `DELETE /subjects/{subject}`: the versions that it had.
pub(super) async fn delete(
    registry: &Registry,
    subject: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    Ok(json!(registry.delete_subject(subject, params.flag("permanent")?).await?))
}

/// `GET /subjects/{subject}/versions`.
pub(super) async fn versions(
    registry: &Registry,
    subject: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    Ok(json!(registry.versions(subject, params.deleted()?, params.page()?).await?))
}

/// `POST /subjects/{subject}/versions`: registers a schema.
pub(super) async fn register(
    registry: &Registry,
    subject: &str,
    params: &Params<'_>,
    body: &str,
) -> Result<Value, Refusal> {
    let (schema, position) = read::schema(body)?;
    let registered = registry.register(subject, &schema, position, params.flag("normalize")?).await?;
    let mut shown = json!({"id": registered.schema.id.0, "version": registered.version});
    if let Some(guid) = registered.schema.guid() {
        shown["guid"] = guid.to_string().into();
    }
    Ok(shown)
}

/// `GET /subjects/{subject}/versions/{version}`.
pub(super) async fn version(
    registry: &Registry,
    subject: &str,
    version: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let version = VersionSelector::parse(version)?;
    let found = registry.version(subject, version, params.flag("deleted")?).await?;
    let text = formatted(registry, &found.schema, params).await?;
    Ok(show::registered(&found, &text))
}

/// `GET /subjects/{subject}/versions/{version}/schema`.
pub(super) async fn version_text(
    registry: &Registry,
    subject: &str,
    version: &str,
    params: &Params<'_>,
) -> Result<String, Refusal> {
    let version = VersionSelector::parse(version)?;
    let found = registry.version(subject, version, params.flag("deleted")?).await?;
    formatted(registry, &found.schema, params).await
}

/// `GET /subjects/{subject}/versions/{version}/referencedby`: ids.
pub(super) async fn referenced_by(
    registry: &Registry,
    subject: &str,
    version: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let version = VersionSelector::parse(version)?;
    let ids = registry.referenced_by(subject, version, params.flag("deleted")?, params.page()?).await?;
    Ok(ids.iter().map(|id| id.0).collect())
}

/// `DELETE /subjects/{subject}/versions/{version}`: its number.
pub(super) async fn delete_version(
    registry: &Registry,
    subject: &str,
    version: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let version = VersionSelector::parse(version)?;
    Ok(json!(registry.delete_version(subject, version, params.flag("permanent")?).await?))
}

/// `POST /compatibility/subjects/{subject}/versions[/{version}]`.
pub(super) async fn check(
    registry: &Registry,
    subject: &str,
    version: Option<&str>,
    params: &Params<'_>,
    body: &str,
) -> Result<Value, Refusal> {
    let against = match version {
        Some(version) => Against::Version(VersionSelector::parse(version)?),
        None => Against::Level,
    };
    let (schema, _) = read::schema(body)?;
    let checked = registry.check(subject, &schema, against, params.flag("normalize")?).await?;
    let mut shown = json!({"is_compatible": checked.is_compatible});
    if params.flag("verbose")? {
        shown["messages"] = json!(checked.messages);
    }
    Ok(shown)
}
