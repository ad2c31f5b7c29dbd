//! Compatibility levels and modes: for everybody, for a context, for a subject; the nearest holds.

use super::{
    Registry,
    error::{Reason, Result, SchemaError},
    subject::Subject,
};
use crate::schemas::CompatibilityLevel;
use bytes::Bytes;
use futures::FutureExt as _;
use ports::{SchemaChange, SchemaSetting};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What may be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Schemas are registered and deleted.
    #[default]
    ReadWrite,
    /// Nothing is changed but modes.
    ReadOnly,
    /// Nothing is changed but modes, whatever modes are nearer.
    ReadOnlyOverride,
    /// Schemas come from another registry with their ids and versions; no compatibility is asked for.
    Import,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::ReadWrite, Self::ReadOnly, Self::ReadOnlyOverride, Self::Import];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
        }
    }

    /// The mode of a name, whatever its case.
    ///
    /// # Errors
    /// `InvalidMode`.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            let message = format!(
                "Invalid mode {shown:?}. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT"
            );
            SchemaError::new(Reason::InvalidMode, message)
        })
    }

    pub(super) fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadOnlyOverride)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The level of a name on the wire.
///
/// # Errors
/// `InvalidLevel`.
pub fn level_from_name(name: &str) -> Result<CompatibilityLevel> {
    CompatibilityLevel::from_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(40).collect();
        let message = format!(
            "Invalid compatibility level {shown:?}. Valid values are NONE, BACKWARD, FORWARD, FULL, \
             BACKWARD_TRANSITIVE, FORWARD_TRANSITIVE and FULL_TRANSITIVE"
        );
        SchemaError::new(Reason::InvalidLevel, message)
    })
}

/// What new versions are judged by. What is not set is taken from what is less near.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How a new version must relate to those before it.
    pub level: Option<CompatibilityLevel>,
    /// Whether schemas are normalized also where a client does not ask for it.
    pub normalize: Option<bool>,
}

/// The layout of stored settings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    normalize: Option<bool>,
}

impl Config {
    fn encode(&self) -> Result<Bytes> {
        let level = self.level.map(|level| level.as_str().to_owned());
        let written = serde_json::to_vec(&StoredConfig { level, normalize: self.normalize });
        written.map(Bytes::from).map_err(|error| damaged("settings cannot be written", error))
    }

    fn decode(value: &[u8]) -> Result<Self> {
        let stored: StoredConfig = serde_json::from_slice(value)
            .map_err(|error| damaged("stored settings cannot be read", error))?;
        let level = stored.level.as_deref().map(level_from_name).transpose();
        let level = level.map_err(|error| damaged("stored settings cannot be read", error))?;
        Ok(Self { level, normalize: stored.normalize })
    }
}

fn damaged(what: &str, error: impl fmt::Display) -> SchemaError {
    SchemaError::new(Reason::Internal, format!("{what}: {error}"))
}

/// The settings that hold for a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) level: CompatibilityLevel,
    pub(super) normalize: bool,
    pub(super) mode: Mode,
}

impl Registry {
    /// What holds for a subject.
    pub(super) async fn in_force(&self, subject: &Subject) -> Result<InForce> {
        let scopes = subject.scopes();
        let store = self.store()?;
        let (configs, modes) = tokio::try_join!(
            store.settings(SchemaSetting::Config, scopes.clone()),
            store.settings(SchemaSetting::Mode, scopes),
        )?;
        let configs: Vec<Config> =
            configs.iter().flatten().map(|value| Config::decode(value)).collect::<Result<_>>()?;
        let modes: Vec<Option<Mode>> =
            modes.iter().map(|value| value.as_deref().map(read_mode).transpose()).collect::<Result<_>>()?;
        let everybody = modes.last().copied().flatten();
        let mode = match everybody {
            Some(Mode::ReadOnlyOverride) => Mode::ReadOnlyOverride,
            _ => modes.iter().flatten().next().copied().unwrap_or_default(),
        };
        Ok(InForce {
            level: configs.iter().find_map(|config| config.level).unwrap_or(self.config.level),
            normalize: configs.iter().find_map(|config| config.normalize).unwrap_or(false),
            mode,
        })
    }

    /// The settings of a subject, or, for `None`, those of everybody, with what is configured in place of what
    /// is not set. With `default_to_global` what holds for the subject, wherever that is set.
    ///
    /// # Errors
    /// `ConfigNotSet` where the subject has none of its own, and those only are asked for.
    pub async fn config(&self, subject: Option<&str>, default_to_global: bool) -> Result<Config> {
        let scope = Self::scope(subject)?;
        let own = self.own_config(&scope).await?;
        if subject.is_some() && !default_to_global {
            return own.ok_or_else(|| {
                let message =
                    format!("Subject '{scope}' does not have subject-level compatibility configured");
                SchemaError::new(Reason::ConfigNotSet, message)
            });
        }
        let held = self.in_force(&scope).await?;
        let normalize = own.and_then(|own| own.normalize).or(held.normalize.then_some(true));
        Ok(Config { level: Some(held.level), normalize })
    }

    /// Sets what is given, for a subject or for everybody, and leaves the rest as it is.
    ///
    /// # Errors
    /// `NotPermitted` where the mode is read-only.
    pub async fn set_config(&self, subject: Option<&str>, change: &Config) -> Result<()> {
        let scope = &Self::scope(subject)?;
        self.change(|| {
            async move {
                let revision = self.store()?.revision().await?;
                self.check_writable(scope).await?;
                let mut config = self.own_config(scope).await?.unwrap_or_default();
                config.level = change.level.or(config.level);
                config.normalize = change.normalize.or(config.normalize);
                let value = Some(config.encode()?);
                let set = SchemaChange::Set { setting: SchemaSetting::Config, scope: key(scope), value };
                self.store()?.change(revision, set).await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Takes the settings of a subject, or of everybody, back; gives what they were.
    ///
    /// # Errors
    /// `SubjectNotFound` where the subject has none of its own; `NotPermitted` where the mode is read-only.
    pub async fn delete_config(&self, subject: Option<&str>) -> Result<Config> {
        let scope = &Self::scope(subject)?;
        self.change(|| {
            async move {
                let revision = self.store()?.revision().await?;
                self.check_writable(scope).await?;
                let was = match self.own_config(scope).await? {
                    Some(was) => was,
                    None if subject.is_some() => return Err(SchemaError::subject_not_found(scope)),
                    None => return self.config(None, false).await,
                };
                let set =
                    SchemaChange::Set { setting: SchemaSetting::Config, scope: key(scope), value: None };
                self.store()?.change(revision, set).await?;
                Ok(was)
            }
            .boxed()
        })
        .await
    }

    /// The mode of a subject, or, for `None`, that of everybody. With `default_to_global` the one that holds for
    /// the subject, wherever that is set.
    ///
    /// # Errors
    /// `ModeNotSet` where the subject has none of its own, and that only is asked for.
    pub async fn mode(&self, subject: Option<&str>, default_to_global: bool) -> Result<Mode> {
        let scope = Self::scope(subject)?;
        if subject.is_some() && !default_to_global {
            return self.own_mode(&scope).await?.ok_or_else(|| {
                let message = format!("Subject '{scope}' does not have subject-level mode configured");
                SchemaError::new(Reason::ModeNotSet, message)
            });
        }
        Ok(self.in_force(&scope).await?.mode)
    }

    /// Sets the mode of a subject, or of everybody.
    ///
    /// # Errors
    /// `NotPermitted` for `IMPORT` where schemas are there already, unless `force`.
    pub async fn set_mode(&self, subject: Option<&str>, mode: Mode, force: bool) -> Result<()> {
        let scope = &Self::scope(subject)?;
        self.change(|| {
            async move {
                let revision = self.store()?.revision().await?;
                if mode == Mode::Import && !force && self.has_versions(scope).await? {
                    let message =
                        "Cannot import since found existing subjects; delete them, or say force=true";
                    return Err(SchemaError::not_permitted(message));
                }
                let value = Some(Bytes::from_static(mode.as_str().as_bytes()));
                let set = SchemaChange::Set { setting: SchemaSetting::Mode, scope: key(scope), value };
                self.store()?.change(revision, set).await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Takes the mode of a subject, or of everybody, back; gives what it was.
    ///
    /// # Errors
    /// `SubjectNotFound` where the subject has none of its own.
    pub async fn delete_mode(&self, subject: Option<&str>) -> Result<Mode> {
        let scope = &Self::scope(subject)?;
        self.change(|| {
            async move {
                let revision = self.store()?.revision().await?;
                let was = match self.own_mode(scope).await? {
                    Some(was) => was,
                    None if subject.is_some() => return Err(SchemaError::subject_not_found(scope)),
                    None => return Ok(Mode::default()),
                };
                let set = SchemaChange::Set { setting: SchemaSetting::Mode, scope: key(scope), value: None };
                self.store()?.change(revision, set).await?;
                Ok(was)
            }
            .boxed()
        })
        .await
    }

    /// Forgets what is set for a subject that is gone.
    pub(super) async fn forget_settings(&self, subject: &Subject) -> Result<()> {
        for setting in [SchemaSetting::Config, SchemaSetting::Mode] {
            let scope = &key(subject);
            self.change(|| {
                async move {
                    let revision = self.store()?.revision().await?;
                    let found = self.store()?.settings(setting, vec![scope.clone()]).await?;
                    if found.iter().any(Option::is_some) {
                        let set = SchemaChange::Set { setting, scope: scope.clone(), value: None };
                        self.store()?.change(revision, set).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await?;
        }
        Ok(())
    }

    fn scope(subject: Option<&str>) -> Result<Subject> {
        Subject::parse_scope(subject.unwrap_or_default())
    }

    async fn check_writable(&self, scope: &Subject) -> Result<()> {
        if self.in_force(scope).await?.mode.is_read_only() {
            return Err(read_only(scope));
        }
        Ok(())
    }

    /// Whether there is a live version under what a scope names.
    async fn has_versions(&self, scope: &Subject) -> Result<bool> {
        if !scope.name().is_empty() {
            let found = self.store()?.subjects(vec![scope.qualified()]).await?;
            return Ok(found.iter().flatten().any(super::is_live));
        }
        let prefix = if scope.context() == "." { String::new() } else { scope.qualified() };
        let mut after = None;
        loop {
            let page = self.store()?.list(&prefix, after, super::PAGE).await?;
            if page.iter().any(super::is_live) {
                return Ok(true);
            }
            let Some(last) = page.last().filter(|_| page.len() == super::PAGE) else { return Ok(false) };
            after = Some(last.name.clone());
        }
    }

    async fn own_config(&self, scope: &Subject) -> Result<Option<Config>> {
        let found = self.store()?.settings(SchemaSetting::Config, vec![key(scope)]).await?;
        found.first().and_then(Option::as_ref).map(|value| Config::decode(value)).transpose()
    }

    async fn own_mode(&self, scope: &Subject) -> Result<Option<Mode>> {
        let found = self.store()?.settings(SchemaSetting::Mode, vec![key(scope)]).await?;
        found.first().and_then(Option::as_ref).map(|value| read_mode(value)).transpose()
    }
}

/// The scope as it is kept; that of the default context is everybody's.
fn key(scope: &Subject) -> String {
    scope.scopes().swap_remove(0)
}

fn read_mode(value: &[u8]) -> Result<Mode> {
    let name = std::str::from_utf8(value).map_err(|error| damaged("a stored mode cannot be read", error))?;
    Mode::from_name(name).map_err(|error| damaged("a stored mode cannot be read", error))
}

pub(super) fn read_only(subject: &Subject) -> SchemaError {
    let (name, context) = (subject.name(), subject.context());
    let what = if name.is_empty() { format!("Context {context}") } else { format!("Subject {subject}") };
    SchemaError::not_permitted(format!("{what} is in read-only mode"))
}
