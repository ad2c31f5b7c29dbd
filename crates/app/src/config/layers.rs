//! Layers of settings as flat maps from a dotted key to a value, one laid over the other.
//!
//! Flat, because then nested and dotted keys of a file, variables of the environment and `--set` are all
//! the same thing, and each value can say where it was set.

use super::ConfigError;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The defaults.
    Default,
    /// A file, by its name.
    File(String),
    /// A variable of the environment, by its name.
    Environment(String),
    /// `--set`.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) | Self::Environment(name) => f.write_str(name),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// The value of one setting.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Settings by dotted key, the defaults among them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What may be set: every key of the defaults, with its default.
    defaults: BTreeMap<String, Value>,
    /// What is in force.
    settings: BTreeMap<String, Setting>,
}

impl Settings {
    /// The defaults, as nested maps. An empty map there is an open group, which takes any name.
    pub(crate) fn new(defaults: &Value) -> Self {
        let mut flat = Vec::new();
        flatten(String::new(), defaults, &mut flat);
        let settings = flat
            .iter()
            .filter(|(_, value)| !is_open(value))
            .map(|(key, value)| (key.clone(), Setting { value: value.clone(), origin: Origin::Default }))
            .collect();
        Self { defaults: flat.into_iter().collect(), settings }
    }

    /// Lays nested maps over what there is. Null says nothing.
    ///
    /// Gives the keys that are known and have no effect.
    pub(crate) fn lay_tree(&mut self, tree: &Value, origin: &Origin) -> Result<Vec<String>, ConfigError> {
        let mut flat = Vec::new();
        flatten(String::new(), tree, &mut flat);
        let mut without_effect = Vec::new();
        for (key, value) in flat {
            if is_open(&value) || value.is_null() {
                continue;
            }
            let Some(key) = known_elsewhere(key, &mut without_effect) else { continue };
            self.check_key(&key, origin)?;
            self.settings.insert(key, Setting { value, origin: origin.clone() });
        }
        Ok(without_effect)
    }

    /// Sets one key from a text, which is read as what the default value is: text stays text, all else
    /// is read as YAML.
    pub(crate) fn lay_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let key = self.check_key(key, &origin)?;
        let value = match self.defaults.get(&key) {
            Some(Value::String(_)) | None => Value::String(text.to_owned()),
            Some(_) => serde_saphyr::from_str(text).map_err(|_| ConfigError::Value {
                key: key.clone(),
                origin: origin.clone(),
                problem: "cannot be read as YAML".to_owned(),
            })?,
        };
        self.settings.insert(key, Setting { value, origin });
        Ok(())
    }

    /// The value in force, and where it was set.
    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// All that is in force, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// As nested maps, for serde.
    pub(crate) fn tree(&self) -> Value {
        let mut root = Map::new();
        for (key, value) in &self.defaults {
            if is_open(value) {
                insert(&mut root, key, Value::Object(Map::new()));
            }
        }
        for (key, setting) in &self.settings {
            match self.open_group(key) {
                Some(group) => {
                    let name = &key[group.len() + 1..];
                    insert_open(&mut root, group, name, setting.value.clone());
                }
                None => insert(&mut root, key, setting.value.clone()),
            }
        }
        Value::Object(root)
    }

    /// The open group that a key is in.
    fn open_group<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.match_indices('.')
            .map(|(at, _)| &key[..at])
            .find(|group| self.defaults.get(*group).is_some_and(is_open))
    }

    fn check_key(&self, key: &str, origin: &Origin) -> Result<String, ConfigError> {
        let known = self.defaults.get(key).is_some_and(|value| !is_open(value));
        if known || self.open_group(key).is_some_and(|group| key.len() > group.len() + 1) {
            return Ok(key.to_owned());
        }
        let prefix = format!("{key}.");
        let members: Vec<&str> =
            self.defaults.keys().filter(|known| known.starts_with(&prefix)).map(String::as_str).collect();
        let open = self.defaults.get(key).is_some_and(is_open);
        if open || !members.is_empty() {
            let members = members.first().map_or_else(|| format!("{key}.NAME"), |first| (*first).to_owned());
            return Err(ConfigError::Group { key: key.to_owned(), origin: origin.clone(), members });
        }
        Err(ConfigError::Unknown { key: key.to_owned(), origin: origin.clone(), nearest: self.nearest(key) })
    }

    /// The key that was most likely meant: near as a whole, or near in its last part.
    fn nearest(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |known: &str| {
            let whole = strsim::normalized_damerau_levenshtein(key, known);
            let part = strsim::normalized_damerau_levenshtein(&last(key), &last(known));
            whole.max(0.9 * part)
        };
        self.defaults
            .keys()
            .map(|known| (likeness(known), known))
            .filter(|(likeness, _)| *likeness > 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known.clone())
    }
}

/// Keys and groups of a Spring service's file that stand elsewhere here, the more exact ones first.
const MOVED: [(&str, &str); 10] = [
    ("schema.registry.", "schema-registry."),
    ("spring.kafka.properties.schema.registry.", "schema-registry."),
    ("spring.kafka.", "kafka."),
    ("spring.data.redis.ssl.enabled", "redis.tls.enabled"),
    ("spring.data.redis.timeout", "redis.request-timeout"),
    ("spring.data.redis.", "redis."),
    ("spring.redis.ssl.enabled", "redis.tls.enabled"),
    ("spring.redis.ssl", "redis.tls.enabled"),
    ("spring.redis.timeout", "redis.request-timeout"),
    ("spring.redis.", "redis."),
];

/// What such files also hold and this version has nothing for. Said at start, not refused, so that a file
/// can be shared.
const WITHOUT_EFFECT: [&str; 8] = [
    "spring.redis.client-",
    "spring.redis.lettuce.",
    "spring.redis.jedis.",
    "spring.data.redis.client-",
    "spring.data.redis.lettuce.",
    "spring.data.redis.jedis.",
    "spring.data.redis.repositories.",
    "event-streaming.monitoring.",
];

/// The key as it is called here; `None` where it is known and has no effect yet.
fn known_elsewhere(key: String, without_effect: &mut Vec<String>) -> Option<String> {
    if WITHOUT_EFFECT.iter().any(|group| key.starts_with(group)) {
        without_effect.push(key);
        return None;
    }
    match MOVED.iter().find_map(|(from, to)| key.strip_prefix(from).map(|rest| format!("{to}{rest}"))) {
        Some(moved) => Some(moved),
        None => Some(key),
    }
}

fn is_open(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// Leaves by dotted key. Lists are leaves, and so are empty maps.
fn flatten(key: String, value: &Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(key, value, into);
            }
        }
        // A file with nothing in it.
        _ if key.is_empty() => {}
        leaf => into.push((key, leaf.clone())),
    }
}

fn insert(root: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            root.insert(key.to_owned(), value);
        }
        Some((group, rest)) => {
            let group = root.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(group) = group {
                insert(group, rest, value);
            }
        }
    }
}

/// Puts `name`, dots and all, into the open group at `group`.
fn insert_open(root: &mut Map<String, Value>, group: &str, name: &str, value: Value) {
    let (first, rest) = group.split_once('.').map_or((group, None), |(first, rest)| (first, Some(rest)));
    let Value::Object(members) = root.entry(first).or_insert_with(|| Value::Object(Map::new())) else {
        return;
    };
    match rest {
        Some(rest) => insert_open(members, rest, name, value),
        None => {
            members.insert(name.to_owned(), value);
        }
    }
}
