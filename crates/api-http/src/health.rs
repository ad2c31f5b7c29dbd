//! How the service is, as whoever watches its backends says.

use crate::{
    respond::{Reply, value},
    router::Call,
};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// The state of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether requests should be sent here: false while it starts and once it stops.
    pub ready: bool,
    /// The backends in use.
    pub components: Vec<Component>,
}

impl Health {
    /// Whether every backend serves that is needed.
    pub fn is_up(&self) -> bool {
        self.components.iter().all(|component| component.up || !component.needed)
    }
}

/// A backend in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name on the wire, as `kafka` or `embedded`.
    pub name: &'static str,
    /// Whether it serves.
    pub up: bool,
    /// Whether the service is down without it.
    pub needed: bool,
    /// What else is to be shown, as `clusterId`; no secrets.
    pub details: Vec<(&'static str, Value)>,
}

/// `GET /actuator/health`.
pub(crate) fn health(call: &Call<'_>) -> Reply {
    let health = call.services.health.borrow();
    let components: Map<String, Value> = health
        .components
        .iter()
        .map(|component| {
            let mut shown = json!({"status": word(component.up)});
            if !component.details.is_empty() {
                let details =
                    component.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
                shown["details"] = Value::Object(details.collect());
            }
            (component.name.to_owned(), shown)
        })
        .collect();
    answer(health.is_up(), &json!({"status": word(health.is_up()), "components": components}))
}

/// `GET /actuator/health/liveness`: the process answers, whatever its backends do.
pub(crate) fn liveness() -> Reply {
    answer(true, &json!({"status": word(true)}))
}

/// `GET /actuator/health/readiness`: requests should be sent here.
pub(crate) fn readiness(call: &Call<'_>) -> Reply {
    let health = call.services.health.borrow();
    let ready = health.ready && health.is_up() && !call.stop.is_cancelled();
    answer(ready, &json!({"status": word(ready)}))
}

/// `GET /actuator/info`.
pub(crate) fn info() -> Reply {
    answer(true, &json!({"app": {"name": "event-streaming", "version": env!("CARGO_PKG_VERSION")}}))
}

fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn answer(up: bool, body: &Value) -> Reply {
    value(if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}
