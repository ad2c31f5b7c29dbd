//! Reads the layers: defaults, file, environment, command line.

use super::{
    ConfigError, DEFAULTS,
    layers::{Origin, Settings},
    schemas, show, stores,
    values::{Config, LogBackend},
};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// Where a configuration comes from beside the defaults, in rising precedence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Vec<(String, String)>,
    /// `--set key=value`, in their order.
    pub(crate) set: Vec<String>,
}

/// A configuration that was read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// Why the log is the one that it is.
    pub(crate) log_because: String,
    /// Why claims are kept where they are.
    pub(crate) idempotency_because: String,
    /// Why schemas are where they are.
    pub(crate) schemas_because: String,
    /// Settings that are known and have no effect.
    pub(crate) without_effect: Vec<String>,
    settings: Settings,
}

impl Loaded {
    /// All settings as a file would have them, secrets hidden, each that is not a default with where it
    /// was set.
    pub(crate) fn show(&self) -> String {
        show::show(&self.settings)
    }

    /// A setting that turned out to be wrong only when it was put to use.
    pub(crate) fn wrong(&self, (key, problem): (&str, String)) -> ConfigError {
        wrong(&self.settings, key, problem)
    }
}

/// The prefix of variables that set one key each.
const PREFIX: &str = "EVENT_STREAMING__";

/// The variable that names Kafka's servers, as many tools know it.
const KAFKA_BROKERS: &str = "KAFKA_BROKERS";

/// Reads all layers and checks the result.
///
/// # Errors
/// The first thing that is wrong, by key and place.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::new(
        &parse(DEFAULTS)
            .map_err(|problem| ConfigError::File { file: "config.default.yaml".to_owned(), problem })?,
    );
    let mut without_effect = Vec::new();
    if let Some(file) = &sources.file {
        let name = file.display().to_string();
        let unreadable = |problem| ConfigError::File { file: name.clone(), problem };
        let text = fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
        let tree = parse(&text).map_err(unreadable)?;
        without_effect = settings.lay_tree(&tree, &Origin::File(name))?;
    }
    // The name that is not only ours first, so that the more exact one wins.
    let of =
        |name: &str| sources.environment.iter().find(|(found, value)| found == name && !value.is_empty());
    if let Some((name, value)) = of(KAFKA_BROKERS) {
        settings.lay_text("kafka.bootstrap-servers", value, Origin::Environment(name.clone()))?;
    }
    for (name, value) in &sources.environment {
        if let Some(path) = name.strip_prefix(PREFIX) {
            let key = path.to_lowercase().replace("__", ".").replace('_', "-");
            settings.lay_text(&key, value, Origin::Environment(name.clone()))?;
        }
    }
    for argument in &sources.set {
        let (key, value) = argument
            .split_once('=')
            // What stands there may be a secret without its key.
            .ok_or_else(|| ConfigError::Argument { argument: "…".to_owned() })?;
        settings.lay_text(key.trim(), value, Origin::CommandLine)?;
    }

    let mut config = typed(&settings)?;
    let log_because = choose_log(&mut config, &settings);
    let idempotency_because = stores::choose(&mut config, &settings);
    let schemas_because = schemas::choose(&mut config, &settings, &mut without_effect);
    let at_fault = |(key, problem): (&str, String)| wrong(&settings, key, problem);
    config.check().map_err(at_fault)?;
    config.publish().map_err(at_fault)?;
    Ok(Loaded { config, log_because, idempotency_because, schemas_because, without_effect, settings })
}

fn typed(settings: &Settings) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(settings.tree()).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner().to_string();
        // The path may lead into a list, which is one setting.
        let key = path.split('[').next().unwrap_or_default();
        let problem = if path == key { problem } else { format!("{}: {problem}", &path[key.len()..]) };
        let problem = if show::is_secret(key) { "must be a text".to_owned() } else { problem };
        wrong(settings, key, problem)
    })
}

fn wrong(settings: &Settings, key: &str, problem: String) -> ConfigError {
    let origin = settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
    ConfigError::Value { key: key.to_owned(), origin, problem }
}

/// Naming Kafka's servers selects it; an explicit backend beats that.
fn choose_log(config: &mut Config, settings: &Settings) -> String {
    let origin = |key| settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
    if config.log.backend != LogBackend::Auto {
        return format!("log.backend says so ({})", origin("log.backend"));
    }
    let servers = origin("kafka.bootstrap-servers");
    if servers == Origin::Default {
        config.log.backend = LogBackend::Embedded;
        "no Kafka is named".to_owned()
    } else {
        config.log.backend = LogBackend::Kafka;
        format!("kafka.bootstrap-servers are named ({servers})")
    }
}

fn parse(text: &str) -> Result<Value, String> {
    // Nothing but comments is a file that says nothing.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Value::Null);
    }
    let tree: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    match tree {
        Value::Object(_) | Value::Null => Ok(tree),
        _ => Err("expected settings as `key: value`".to_owned()),
    }
}
