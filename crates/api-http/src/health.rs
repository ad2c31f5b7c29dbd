//! How the service is, as whoever watches its backends says.

/// The state of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether requests should be sent here: false while it starts and once it stops.
    pub ready: bool,
    /// The backends in use.
    pub components: Vec<Component>,
}

impl Health {
    /// Whether every backend in use serves.
    pub fn is_up(&self) -> bool {
        self.components.iter().all(|component| component.up)
    }
}

/// A backend in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name on the wire, as `kafka` or `embedded`.
    pub name: &'static str,
    /// Whether it serves.
    pub up: bool,
    /// What else is to be shown, as `clusterId`; no secrets.
    pub details: Vec<(&'static str, serde_json::Value)>,
}
