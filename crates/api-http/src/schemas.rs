//! What there is of schemas, in the service's own shape.

use crate::{
    problem::Problem,
    respond::{Reply, value},
    router::Call,
};
use domain::{Error, schemas::SchemaType};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// `GET /v1/schemas/stats`.
pub(crate) async fn statistics(call: &Call<'_>) -> Result<Reply, Problem> {
    let registry = &call.services.registry;
    let counted = registry.statistics().await.map_err(Error::from)?;
    let cache = registry.cache_statistics().await;
    let of_type = |(of, count): &(SchemaType, u64)| (of.as_str().to_owned(), Value::from(*count));
    let by_type: Map<String, Value> = counted.by_type.iter().map(of_type).collect();
    let mut shown = json!({
        "subjects": counted.subjects,
        "contexts": counted.contexts,
        "cache": {
            "hits": cache.hits, "misses": cache.misses, "hitRate": cache.hit_rate(), "entries": cache.entries,
        },
    });
    // What is not counted is not told.
    if let (Some(versions), Some(deleted)) = (counted.versions, counted.deleted_versions) {
        shown["versions"] = versions.into();
        shown["deletedVersions"] = deleted.into();
        shown["versionsByType"] = by_type.into();
    }
    Ok(value(StatusCode::OK, &shown))
}
