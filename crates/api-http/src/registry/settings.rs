//! Compatibility levels and modes.

use super::{error::Refusal, params::Params, read, show};
use domain::schemas::registry::Registry;
use serde_json::{Value, json};

/// `GET /config[/{subject}]`.
pub(super) async fn config(
    registry: &Registry,
    subject: Option<&str>,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let config = registry.config(subject, params.flag("defaultToGlobal")?).await?;
    Ok(show::config(&config, "compatibilityLevel"))
}

/// `PUT /config[/{subject}]`.
pub(super) async fn set_config(
    registry: &Registry,
    subject: Option<&str>,
    body: &str,
) -> Result<Value, Refusal> {
    let config = read::config(body)?;
    registry.set_config(subject, &config).await?;
    Ok(show::config(&config, "compatibility"))
}

/// `DELETE /config[/{subject}]`: what was set.
pub(super) async fn delete_config(registry: &Registry, subject: Option<&str>) -> Result<Value, Refusal> {
    Ok(show::config(&registry.delete_config(subject).await?, "compatibilityLevel"))
}

/// `GET /mode[/{subject}]`.
pub(super) async fn mode(
    registry: &Registry,
    subject: Option<&str>,
    params: &Params<'_>,
) -> Result<Value, Refusal> {
    let mode = registry.mode(subject, params.flag("defaultToGlobal")?).await?;
    Ok(json!({"mode": mode.as_str()}))
}

/// `PUT /mode[/{subject}]`.
pub(super) async fn set_mode(
    registry: &Registry,
    subject: Option<&str>,
    params: &Params<'_>,
    body: &str,
) -> Result<Value, Refusal> {
    let mode = read::mode(body)?;
    registry.set_mode(subject, mode, params.flag("force")?).await?;
    Ok(json!({"mode": mode.as_str()}))
}

/// `DELETE /mode[/{subject}]`: what was set.
pub(super) async fn delete_mode(registry: &Registry, subject: Option<&str>) -> Result<Value, Refusal> {
    Ok(json!({"mode": registry.delete_mode(subject).await?.as_str()}))
}
