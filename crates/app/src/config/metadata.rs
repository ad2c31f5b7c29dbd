//! Where messages say what their events are.

use super::{stores::Wrong, values::Config};
use domain::event_schemas::MetadataFields;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Section {
    pub(crate) metadata_field: String,
    pub(crate) metadata_fields: Fields,
}

/// By what they say, the names of fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Fields {
    pub(crate) id: String,
    pub(crate) r#type: String,
    pub(crate) source: String,
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) correlation: String,
    pub(crate) causation: String,
    pub(crate) time: String,
    pub(crate) retry_count: String,
}

impl Config {
    pub(super) fn check_metadata(&self) -> Result<(), Wrong> {
        let Section { metadata_field, metadata_fields: fields } = &self.schema;
        if !metadata_field.is_empty() {
            check("schema.metadata-field", metadata_field)?;
        }
        for (key, name) in [
            ("schema.metadata-fields.id", &fields.id),
            ("schema.metadata-fields.type", &fields.r#type),
            ("schema.metadata-fields.source", &fields.source),
            ("schema.metadata-fields.tenant", &fields.tenant),
            ("schema.metadata-fields.user", &fields.user),
            ("schema.metadata-fields.correlation", &fields.correlation),
            ("schema.metadata-fields.causation", &fields.causation),
            ("schema.metadata-fields.time", &fields.time),
            ("schema.metadata-fields.retry-count", &fields.retry_count),
        ] {
            check(key, name)?;
        }
        Ok(())
    }

    /// Where messages say what their events are; `None` where nobody looks.
    pub(crate) fn metadata(&self) -> Option<MetadataFields> {
        let Section { metadata_field, metadata_fields: fields } = self.schema.clone();
        (!metadata_field.is_empty()).then_some(MetadataFields {
            field: metadata_field,
            id: fields.id,
            event_type: fields.r#type,
            source: fields.source,
            tenant_id: fields.tenant,
            user_id: fields.user,
            correlation_id: fields.correlation,
            causation_id: fields.causation,
            time: fields.time,
            retry_count: fields.retry_count,
        })
    }
}

/// Whether a name can be one of a field.
fn check(key: &'static str, name: &str) -> Result<(), Wrong> {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit());
    if is_name {
        return Ok(());
    }
    Err((key, format!("`{name}` must be the name of a field as a .proto file has it, such as `event_id`")))
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
        assert_eq!(config.metadata(), Some(MetadataFields::default()));
    }

    #[test]
    fn fields_are_named_or_looked_for_no_more() {
        let of = |setting| read(setting).expect("good").config.metadata();
        assert_eq!(of("schema.metadata-field="), None);
        assert_eq!(of("schema.metadata-field=head").map(|fields| fields.field).as_deref(), Some("head"));
        let renamed = of("schema.metadata-fields.retry-count=tries").map(|fields| fields.retry_count);
        assert_eq!(renamed.as_deref(), Some("tries"));
        for (setting, key) in [
            ("schema.metadata-field=meta.data", "schema.metadata-field"),
            ("schema.metadata-fields.id=", "schema.metadata-fields.id"),
            ("schema.metadata-fields.time=1st", "schema.metadata-fields.time"),
        ] {
            let text = read(setting).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains("event_id"), "{text}");
        }
    }
}
