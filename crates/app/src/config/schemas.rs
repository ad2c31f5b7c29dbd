//! The schema registry: where it is, and how it works.

use super::{
    layers::{Origin, Settings},
    stores::{Wrong, password},
    units::{Bytes, Count, Secret, Time},
    values::Config,
};
use adapters_registry::RegistryConfig as OutsideConfig;
use domain::schemas::{
    CompatibilityLevel,
    registry::{RegistryConfig, level_from_name},
};
use serde::Deserialize;
use std::{fs, path::PathBuf};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SchemaRegistry {
    pub(crate) backend: SchemaBackend,
    pub(crate) url: String,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) password_file: PathBuf,
    pub(crate) tls: Tls,
    pub(crate) connect_timeout: Time,
    pub(crate) request_timeout: Time,
    pub(crate) attempts: Count,
    pub(crate) retry_delay: Time,
    pub(crate) response_bytes_max: Bytes,
    pub(crate) compatibility: String,
    pub(crate) cache_bytes_max: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) ca_file: PathBuf,
}

/// Where schemas are. `Auto` is gone once a configuration is loaded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SchemaBackend {
    Auto,
    State,
    Confluent,
}

impl SchemaBackend {
    /// As the configuration and the log line at start call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::State => "state",
            Self::Confluent => "confluent",
        }
    }
}

const BACKEND: &str = "schema-registry.backend";
const URL: &str = "schema-registry.url";
const COMPATIBILITY: &str = "schema-registry.compatibility";

/// The least memory for schemas: one large one must fit.
const CACHE_BYTES_MIN: usize = 1 << 20;

/// Naming a registry selects it; an explicit backend beats that. Says why, and which setting it leaves without effect.
pub(super) fn choose(config: &mut Config, settings: &Settings, without_effect: &mut Vec<String>) -> String {
    let origin = |key| settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
    let schemas = &mut config.schema_registry;
    let because = if schemas.backend != SchemaBackend::Auto {
        format!("{BACKEND} says so ({})", origin(BACKEND))
    } else if schemas.url.trim().is_empty() {
        schemas.backend = SchemaBackend::State;
        "no registry is named".to_owned()
    } else {
        schemas.backend = SchemaBackend::Confluent;
        format!("{URL} is named ({})", origin(URL))
    };
    // The levels are the other registry's own.
    if schemas.backend == SchemaBackend::Confluent && origin(COMPATIBILITY) != Origin::Default {
        without_effect.push(COMPATIBILITY.to_owned());
    }
    because
}

impl Config {
    pub(super) fn check_schemas(&self) -> Result<(), Wrong> {
        let schemas = &self.schema_registry;
        if let Err(error) = level_from_name(&schemas.compatibility) {
            return Err((COMPATIBILITY, error.to_string()));
        }
        let bytes = schemas.cache_bytes_max.0;
        if bytes < CACHE_BYTES_MIN {
            let problem = format!("{bytes} is less than 1MiB, which one large schema may take");
            return Err(("schema-registry.cache-bytes-max", problem));
        }
        let counts = [
            ("schema-registry.attempts", schemas.attempts.0 as usize, 1, 20),
            ("schema-registry.response-bytes-max", schemas.response_bytes_max.0, 64 << 10, 256 << 20),
        ];
        for (key, value, least, most) in counts {
            if value < least || value > most {
                return Err((key, format!("{value} is not between {least} and {most}")));
            }
        }
        let times = [
            ("schema-registry.connect-timeout", schemas.connect_timeout),
            ("schema-registry.request-timeout", schemas.request_timeout),
            ("schema-registry.retry-delay", schemas.retry_delay),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.0.is_zero()) {
            return Err((key, "must be more than nothing".to_owned()));
        }
        self.check_outside()
    }

    fn check_outside(&self) -> Result<(), Wrong> {
        let schemas = &self.schema_registry;
        let urls = schemas.urls();
        if schemas.backend == SchemaBackend::Confluent && urls.is_empty() {
            let problem = format!("is needed where {BACKEND} is confluent: https://registry:8081");
            return Err((URL, problem));
        }
        // Without its value, which may hold a password.
        let is_url = |url: &String| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !urls.iter().all(is_url) {
            let problem = "must be as https://registry:8081, or several of those, separated by commas";
            return Err((URL, problem.to_owned()));
        }
        if urls.iter().any(|url| url.contains('@')) {
            let problem =
                "must hold no user and no password; say schema-registry.username and .password-file";
            return Err((URL, problem.to_owned()));
        }
        let has_password = !schemas.password.0.is_empty() || !schemas.password_file.as_os_str().is_empty();
        if has_password == schemas.username.is_empty() {
            let problem =
                "and a password, or schema-registry.password-file, are given together or not at all";
            return Err(("schema-registry.username", problem.to_owned()));
        }
        let has_ca = !schemas.tls.ca_file.as_os_str().is_empty();
        if has_ca && !urls.is_empty() && !urls.iter().any(|url| url.starts_with("https://")) {
            let problem = format!("has a meaning where {URL} is https only");
            return Err(("schema-registry.tls.ca-file", problem));
        }
        Ok(())
    }

    /// How the registry works.
    pub(crate) fn schema_registry(&self) -> RegistryConfig {
        let schemas = &self.schema_registry;
        RegistryConfig {
            // It was checked when the configuration was loaded.
            level: CompatibilityLevel::from_name(&schemas.compatibility).unwrap_or_default(),
            cache_bytes_max: schemas.cache_bytes_max.0 as u64,
            ..RegistryConfig::default()
        }
    }

    /// What the adapter of a registry outside is told; `None` where schemas are kept here. Reads the files of the
    /// password and of certificates.
    pub(super) fn outside_registry(&self) -> Result<Option<OutsideConfig>, Wrong> {
        let schemas = &self.schema_registry;
        if schemas.backend == SchemaBackend::Confluent { self.registry_outside().map(Some) } else { Ok(None) }
    }

    fn registry_outside(&self) -> Result<OutsideConfig, Wrong> {
        let schemas = &self.schema_registry;
        let ca_file = &schemas.tls.ca_file;
        let ca = if ca_file.as_os_str().is_empty() {
            None
        } else {
            let unreadable = |e| ("schema-registry.tls.ca-file", format!("{}: {e}", ca_file.display()));
            Some(fs::read(ca_file).map_err(unreadable)?)
        };
        Ok(OutsideConfig {
            urls: schemas.urls(),
            username: (!schemas.username.is_empty()).then(|| schemas.username.clone()),
            password: password(&schemas.password, "schema-registry.password-file", &schemas.password_file)?,
            ca,
            connect_timeout: schemas.connect_timeout.0,
            request_timeout: schemas.request_timeout.0,
            attempts: schemas.attempts.0,
            retry_delay: schemas.retry_delay.0,
            response_bytes_max: schemas.response_bytes_max.0,
        })
    }
}

impl SchemaRegistry {
    fn urls(&self) -> Vec<String> {
        let parts = self.url.split(',').map(str::trim);
        parts.filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, Sources, load};
    use super::*;
    use std::io::Write as _;

    fn read(settings: &[&str]) -> Result<Loaded, ConfigError> {
        let set = settings.iter().map(|&setting| setting.to_owned()).collect();
        load(&Sources { set, ..Sources::default() })
    }

    const NAMED: &str = "schema-registry.url=https://registry:8081";

    #[test]
    fn the_defaults_are_those_of_the_domain_and_of_the_adapter() {
        let config = load(&Sources::default()).expect("good").config;
        assert_eq!(config.schema_registry(), RegistryConfig::default());
        assert_eq!(config.registry_outside(), Ok(OutsideConfig::default()));
    }

    #[test]
    fn naming_a_registry_selects_it_unless_a_backend_is_said() {
        let chosen = |settings: &[&str]| {
            let loaded = read(settings).expect("good");
            (loaded.config.schema_registry.backend.name(), loaded.schemas_because, loaded.without_effect)
        };
        let none = Vec::<String>::new();
        assert_eq!(chosen(&[]), ("state", "no registry is named".to_owned(), none.clone()));
        let (backend, because, without_effect) = chosen(&[NAMED]);
        assert_eq!((backend, without_effect), ("confluent", none.clone()));
        assert!(because.contains(URL) && because.contains("--set"), "{because}");
        assert_eq!(chosen(&[NAMED, "schema-registry.backend=state"]).0, "state");
        let level = "schema-registry.compatibility=FULL";
        assert_eq!(chosen(&[NAMED, level]).2, [COMPATIBILITY], "the registry has levels of its own");
        assert_eq!(chosen(&[level]).2, none);
    }

    #[test]
    fn a_level_is_set_or_its_names_are_told() {
        let level = |setting| read(&[setting]).expect("good").config.schema_registry().level;
        assert_eq!(level("schema-registry.compatibility=BACKWARD"), CompatibilityLevel::Backward);
        assert_eq!(level("schema-registry.compatibility=none"), CompatibilityLevel::None);
    }

    #[test]
    fn what_is_wrong_names_its_key_and_what_would_be_right() {
        for (settings, key, word) in [
            (&["schema-registry.compatibility=ALL"][..], COMPATIBILITY, "FULL_TRANSITIVE"),
            (&["schema-registry.backend=confluent"], URL, "https://registry:8081"),
            (&["schema-registry.backend=apicurio"], BACKEND, "`confluent`"),
            (&["schema-registry.url=registry:8081"], URL, "https://registry:8081"),
            (&["schema-registry.url=https://a,me:hunter2@b"], URL, "separated by commas"),
            (&["schema-registry.url=https://me:hunter2@b"], URL, "password-file"),
            (&[NAMED, "schema-registry.username=me"], "schema-registry.username", "password-file"),
            (&[NAMED, "schema-registry.password=hunter2"], "schema-registry.username", "together"),
            (
                &["schema-registry.url=http://a", "schema-registry.tls.ca-file=/ca.pem"],
                "schema-registry.tls.ca-file",
                "https",
            ),
            (&["schema-registry.attempts=0"], "schema-registry.attempts", "between 1 and 20"),
            (&["schema-registry.request-timeout=0s"], "schema-registry.request-timeout", "more than"),
            (&["schema-registry.cache-bytes-max=1KiB"], "schema-registry.cache-bytes-max", "1MiB"),
        ] {
            let text = read(settings).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains(word), "{settings:?}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn secrets_are_taken_from_where_they_are_and_never_shown() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "hunter2").expect("it can be written");
        let path = format!("schema-registry.password-file={}", file.path().display());
        let both = "schema-registry.url= https://a:8081 , https://b/sr";
        let loaded = read(&[both, "schema-registry.username=me", &path]).expect("good");
        let outside = loaded.config.servers().expect("good").registry.expect("a registry is named");
        assert_eq!(outside.urls, ["https://a:8081", "https://b/sr"]);
        assert_eq!(outside.password.as_deref(), Some("hunter2"));
        let said = read(&[NAMED, "schema-registry.username=me", "schema-registry.password=hunter2"]);
        let said = said.expect("good");
        let shown = format!("{outside:?}{}{:?}", said.show(), said.config);
        assert!(shown.contains("(hidden)") && !shown.contains("hunter2"), "{shown}");
        let missing = [NAMED, "schema-registry.tls.ca-file=/nowhere/at/all"];
        let wrong = read(&missing).expect("good").config.servers().expect_err("no such file");
        assert!(wrong.0 == "schema-registry.tls.ca-file" && wrong.1.contains("/nowhere/at/all"), "{wrong:?}");
    }
}
