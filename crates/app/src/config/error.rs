//! What can be wrong with a configuration.

use super::layers::Origin;
use std::fmt;

/// A configuration that cannot be taken. Its text names the setting and where it was set, and never the
/// value of a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A setting that there is none of.
    #[error("{origin}: there is no setting `{key}`{}", hint(nearest.as_deref()))]
    Unknown { key: String, origin: Origin, nearest: Option<String> },
    /// A value where a group of settings is.
    #[error("{origin}: `{key}` is a group of settings, as {members}")]
    Group { key: String, origin: Origin, members: String },
    /// A value that the setting cannot have.
    #[error("{}`{key}`: {problem}", place(origin))]
    Value { key: String, origin: Origin, problem: String },
    /// A file that cannot be read.
    #[error("the configuration file {file}: {problem}")]
    File { file: String, problem: String },
    /// An argument that is not `key=value`.
    #[error("--set {argument}: expected key=value")]
    Argument { argument: String },
}

fn hint(nearest: Option<&str>) -> impl fmt::Display {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

/// What is missing was set nowhere.
fn place(origin: &Origin) -> impl fmt::Display {
    if *origin == Origin::Default { String::new() } else { format!("{origin}: ") }
}
