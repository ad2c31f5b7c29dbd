//! Schemas by id and by GUID.

use super::{error::Refusal, params::Params, show};
use domain::schemas::registry::{Registry, Schema};
use ports::SchemaId;
use serde_json::{Value, json};
use uuid::Uuid;

/// `GET /schemas`.
pub(super) async fn list(registry: &Registry, params: &Params<'_>) -> Result<Value, Refusal> {
    let latest_only = params.flag("latestOnly")?;
    let found = registry.list(&params.prefix()?, params.deleted()?, latest_only, params.page()?).await?;
    Ok(found.iter().map(|it| show::registered(it, &it.schema.content().text)).collect())
}

/// `GET /schemas/ids/{id}`.
pub(super) async fn by_id(registry: &Registry, id: &str, params: &Params<'_>) -> Result<Value, Refusal> {
    let schema = registry.by_id(read_id(id)?, params.text("subject")).await?;
    let text = formatted(registry, &schema, params).await?;
    let mut shown = show::schema(&schema, &text);
    if params.flag("fetchMaxId")? {
        let max = registry.max_id(params.text("subject")).await?;
        shown.insert("maxId".to_owned(), json!(max.map(|id| id.0)));
    }
    Ok(shown.into())
}

/// `GET /schemas/ids/{id}/schema`.
pub(super) async fn text_of_id(
    registry: &Registry,
    id: &str,
    params: &Params<'_>,
) -> Result<String, Refusal> {
    let schema = registry.by_id(read_id(id)?, params.text("subject")).await?;
    formatted(registry, &schema, params).await
}

/// `GET /schemas/ids/{id}/subjects`.
pub(super) async fn subjects_of_id(
    registry: &Registry,
    id: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let (deleted, page) = (params.flag("deleted")?, params.page()?);
    Ok(json!(registry.subjects_of_id(read_id(id)?, params.text("subject"), deleted, page).await?))
}

/// `GET /schemas/ids/{id}/versions`.
pub(super) async fn versions_of_id(
    registry: &Registry,
    id: &str,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let (deleted, page) = (params.flag("deleted")?, params.page()?);
    let found = registry.versions_of_id(read_id(id)?, params.text("subject"), deleted, page).await?;
    Ok(found.iter().map(|it| json!({"subject": it.subject, "version": it.version})).collect())
}

/// `GET /schemas/guids/{guid}`.
pub(super) async fn by_guid(registry: &Registry, guid: &str, params: &Params<'_>) -> Result<Value, Refusal> {
    let schema = registry.by_guid(read_guid(guid)?).await?;
    let text = formatted(registry, &schema, params).await?;
    Ok(show::schema(&schema, &text).into())
}

/// `GET /schemas/guids/{guid}/ids`.
pub(super) async fn ids_of_guid(registry: &Registry, guid: &str) -> Result<Value, Refusal> {
    let found = registry.ids_of_guid(read_guid(guid)?).await?;
    if found.is_empty() {
        return Err(Refusal::new(40403, format!("Schema {guid} not found")));
    }
    Ok(found.iter().map(|key| json!({"context": key.context, "id": key.id.0})).collect())
}

/// A schema's text, in the form that `format` asks for.
pub(super) async fn formatted(
    registry: &Registry,
    schema: &Schema,
    params: &Params<'_>,
) -> Result<String, Refusal> {
    Ok(registry.text(schema, params.text("format").unwrap_or_default()).await?)
}

fn read_id(text: &str) -> Result<SchemaId, Refusal> {
    let shown = crate::json::short(text);
    let id: i64 = text.parse().map_err(|_| {
        Refusal::new(404, format!("HTTP 404 Not Found: {shown:?} is no id; an id is a whole number"))
    })?;
    // A number beyond those is no schema's.
    u32::try_from(id)
        .ok()
        .filter(|id| *id > 0)
        .map(SchemaId)
        .ok_or_else(|| Refusal::new(40403, format!("Schema {id} not found")))
}

fn read_guid(text: &str) -> Result<Uuid, Refusal> {
    let shown = crate::json::short(text);
    Uuid::try_parse(text).map_err(|_| Refusal::new(40403, format!("Schema {shown} not found: it is no GUID")))
}
