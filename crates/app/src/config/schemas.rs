//! The schema registry.

use super::{stores::Wrong, units::Bytes, values::Config};
use domain::schemas::{
    CompatibilityLevel,
    registry::{RegistryConfig, level_from_name},
};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SchemaRegistry {
    pub(crate) backend: SchemaBackend,
    pub(crate) compatibility: String,
    pub(crate) cache_bytes_max: Bytes,
}

/// Where schemas are kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SchemaBackend {
    Auto,
    State,
    Confluent,
}

/// The least memory for schemas: one large one must fit.
const CACHE_BYTES_MIN: usize = 1 << 20;

impl Config {
    pub(super) fn check_schemas(&self) -> Result<(), Wrong> {
        let schemas = &self.schema_registry;
        if schemas.backend == SchemaBackend::Confluent {
            let problem = "`confluent` is not supported by this version; say `state`, or leave it at `auto`";
            return Err(("schema-registry.backend", problem.to_owned()));
        }
        if let Err(error) = level_from_name(&schemas.compatibility) {
            return Err(("schema-registry.compatibility", error.to_string()));
        }
        let bytes = schemas.cache_bytes_max.0;
        if bytes < CACHE_BYTES_MIN {
            let problem = format!("{bytes} is less than 1MiB, which one large schema may take");
            return Err(("schema-registry.cache-bytes-max", problem));
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
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, Sources, load};
    use super::*;

    fn read(setting: &str) -> Result<Loaded, ConfigError> {
        load(&Sources { set: vec![setting.to_owned()], ..Sources::default() })
    }

    #[test]
    fn the_defaults_are_those_of_the_domain() {
        let config = load(&Sources::default()).expect("good").config;
        assert_eq!(config.schema_registry(), RegistryConfig::default());
    }

    #[test]
    fn a_level_is_set_or_its_names_are_told() {
        let level = |setting| read(setting).expect("good").config.schema_registry().level;
        assert_eq!(level("schema-registry.compatibility=BACKWARD"), CompatibilityLevel::Backward);
        assert_eq!(level("schema-registry.compatibility=none"), CompatibilityLevel::None);
        for (setting, key, word) in [
            ("schema-registry.compatibility=ALL", "schema-registry.compatibility", "FULL_TRANSITIVE"),
            ("schema-registry.backend=confluent", "schema-registry.backend", "`state`"),
            ("schema-registry.cache-bytes-max=1KiB", "schema-registry.cache-bytes-max", "1MiB"),
        ] {
            let text = read(setting).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains(word), "{text}");
        }
    }
}
