//! Shapes of requests and answers, as Confluent's API has them. Members that are not known are passed over.

use ports::{RegistryCheck, RegistryReference, RegistrySchema, RegistryVersion, SchemaId, VersionKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// The greatest id and version: they travel as signed numbers of 32 bits.
const NUMBER_MAX: i64 = i32::MAX as i64;

/// What makes an answer none to the question.
pub(super) type Wrong = String;

/// A schema that is looked up or registered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    schema: &'a str,
    /// Left out for Avro, which registries that know no other type have no name for.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<GivenReference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_set: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct GivenReference<'a> {
    name: &'a str,
    subject: &'a str,
    version: i64,
}

/// The body that gives a schema.
///
/// # Errors
/// Where metadata or rules are no JSON.
pub(super) fn given(schema: &RegistrySchema) -> Result<Vec<u8>, serde_json::Error> {
    let raw = |text: &Option<String>| text.clone().map(RawValue::from_string).transpose();
    let (metadata, rule_set) = (raw(&schema.metadata)?, raw(&schema.rule_set)?);
    serde_json::to_vec(&Given {
        schema: &schema.text,
        schema_type: (schema.schema_type != "AVRO").then_some(schema.schema_type.as_str()),
        references: schema
            .references
            .iter()
            .map(|to| GivenReference {
                name: &to.name,
                subject: &to.subject,
                version: to.version.map_or(-1, i64::from),
            })
            .collect(),
        metadata: metadata.as_deref(),
        rule_set: rule_set.as_deref(),
    })
}

/// A schema that was answered; what only versions have is optional.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    subject: Option<String>,
    version: Option<i64>,
    id: Option<i64>,
    schema: Option<String>,
    schema_type: Option<String>,
    references: Option<Vec<AnsweredReference>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    rule_set: Option<&'a RawValue>,
    #[serde(borrow)]
    guid: Option<Cow<'a, str>>,
    deleted: Option<bool>,
}

#[derive(Deserialize)]
struct AnsweredReference {
    name: String,
    subject: String,
    version: i64,
}

impl Answered<'_> {
    fn schema(self) -> Result<RegistrySchema, Wrong> {
        let reference = |to: AnsweredReference| -> Result<RegistryReference, Wrong> {
            Ok(RegistryReference {
                version: Some(number("the version of a reference", to.version)?),
                name: to.name,
                subject: to.subject,
            })
        };
        let raw = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned()).filter(|text| text != "null");
        Ok(RegistrySchema {
            text: self.schema.ok_or("`schema` is missing")?,
            schema_type: self.schema_type.unwrap_or_else(|| "AVRO".to_owned()),
            references: self
                .references
                .unwrap_or_default()
                .into_iter()
                .map(reference)
                .collect::<Result<_, _>>()?,
            metadata: raw(self.metadata),
            rule_set: raw(self.rule_set),
            // Who gives something else there gives none.
            guid: self.guid.and_then(|guid| Uuid::try_parse(&guid).ok()).map(Uuid::into_bytes),
        })
    }
}

/// The schema of an id.
pub(super) fn schema(body: &[u8]) -> Result<RegistrySchema, Wrong> {
    read::<Answered<'_>>(body)?.schema()
}

/// A version of a subject.
pub(super) fn version(body: &[u8]) -> Result<RegistryVersion, Wrong> {
    let mut answered: Answered<'_> = read(body)?;
    Ok(RegistryVersion {
        subject: answered.subject.take().ok_or("`subject` is missing")?,
        version: number("`version`", answered.version.ok_or("`version` is missing")?)?,
        id: id(answered.id)?,
        deleted: answered.deleted.unwrap_or(false),
        schema: answered.schema()?,
    })
}

/// The id that a registration gave.
pub(super) fn registered(body: &[u8]) -> Result<SchemaId, Wrong> {
    #[derive(Deserialize)]
    struct Registered {
        id: Option<i64>,
    }
    id(read::<Registered>(body)?.id)
}

/// Versions, ascending, each once.
pub(super) fn versions(body: &[u8]) -> Result<Vec<u32>, Wrong> {
    let mut versions: Vec<u32> =
        read::<Vec<i64>>(body)?.into_iter().map(|it| number("a version", it)).collect::<Result<_, _>>()?;
    versions.sort_unstable();
    versions.dedup();
    Ok(versions)
}

/// Names, in their order, each once.
pub(super) fn names(body: &[u8]) -> Result<Vec<String>, Wrong> {
    let mut names: Vec<String> = read(body)?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Versions of subjects, by subject and version, each once.
pub(super) fn uses(body: &[u8]) -> Result<Vec<VersionKey>, Wrong> {
    #[derive(Deserialize)]
    struct Use {
        subject: String,
        version: i64,
    }
    let key =
        |used: Use| Ok(VersionKey { subject: used.subject, version: number("a version", used.version)? });
    let mut uses: Vec<VersionKey> =
        read::<Vec<Use>>(body)?.into_iter().map(key).collect::<Result<_, Wrong>>()?;
    uses.sort();
    uses.dedup();
    Ok(uses)
}

/// What a check found.
pub(super) fn checked(body: &[u8]) -> Result<RegistryCheck, Wrong> {
    #[derive(Deserialize)]
    struct Checked {
        is_compatible: Option<bool>,
        messages: Option<Vec<String>>,
    }
    let checked: Checked = read(body)?;
    Ok(RegistryCheck {
        is_compatible: checked.is_compatible.ok_or("`is_compatible` is missing")?,
        messages: checked.messages.unwrap_or_default(),
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Wrong> {
    // Serde's own text may hold what it read; where is enough.
    serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "JSON of another shape" } else { "no JSON" };
        format!("the answer is {what} (line {}, column {})", error.line(), error.column())
    })
}

fn id(id: Option<i64>) -> Result<SchemaId, Wrong> {
    number("`id`", id.ok_or("`id` is missing")?).map(SchemaId)
}

fn number(what: &str, number: i64) -> Result<u32, Wrong> {
    if (1..=NUMBER_MAX).contains(&number) { Ok(number as u32) } else { Err(format!("{what} is {number}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_has_no_meaning_is_left_out_of_what_is_given() {
        let mut schema = RegistrySchema {
            schema_type: "AVRO".to_owned(),
            text: "\"string\"".to_owned(),
            references: Vec::new(),
            metadata: None,
            rule_set: None,
            guid: None,
        };
        let body =
            |schema: &RegistrySchema| serde_json::from_slice::<Value>(&given(schema).unwrap()).unwrap();
        assert_eq!(body(&schema), json!({"schema": "\"string\""}));
        schema.schema_type = "PROTOBUF".to_owned();
        let to = |version| RegistryReference { name: "n".to_owned(), subject: "s".to_owned(), version };
        schema.references = vec![to(Some(2)), to(None)];
        schema.metadata = Some(r#"{"owner":"me"}"#.to_owned());
        assert_eq!(
            body(&schema),
            json!({
                "schema": "\"string\"", "schemaType": "PROTOBUF", "metadata": {"owner": "me"},
                "references": [{"name": "n", "subject": "s", "version": 2}, {"name": "n", "subject": "s", "version": -1}],
            })
        );
        schema.metadata = Some("{".to_owned());
        assert!(given(&schema).is_err());
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_told_by_what_is_wrong() {
        let found = version(
            br#"{"subject":"a","version":2,"id":7,"schema":"x","schemaType":"JSON","guid":null,"ruleSet":null,
                "references":[{"name":"n","subject":"s","version":1}],"metadata":{"k":1},"new":[]}"#,
        )
        .unwrap();
        assert_eq!((found.version, found.id, found.deleted), (2, SchemaId(7), false));
        assert_eq!((found.schema.metadata.as_deref(), found.schema.rule_set), (Some("{\"k\":1}"), None));
        assert_eq!(found.schema.references[0].version, Some(1));
        assert_eq!(schema(br#"{"schema":"x"}"#).unwrap().schema_type, "AVRO");
        assert_eq!(versions(b"[3,1,2,1]").unwrap(), [1, 2, 3]);
        for (wrong, word) in [
            (version(br#"{"subject":"a","version":2,"schema":"x"}"#).map(drop), "`id` is missing"),
            (version(br#"{"subject":"a","version":0,"id":1,"schema":"x"}"#).map(drop), "`version` is 0"),
            (registered(br#"{"id":4294967296}"#).map(drop), "4294967296"),
            (registered(br#"{"id":-1}"#).map(drop), "-1"),
            (schema(b"{}").map(drop), "`schema` is missing"),
            (schema(b"<html>").map(drop), "no JSON"),
            (versions(br#"["a"]"#).map(drop), "another shape"),
            (checked(b"{}").map(drop), "`is_compatible`"),
            (uses(br#"[{"subject":"a","version":-2}]"#).map(drop), "-2"),
        ] {
            let error = wrong.unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
