//! Bodies of requests.

use super::error::Refusal;
use crate::json::Object;
use domain::{
    Error,
    schemas::{
        SchemaType,
        registry::{Config, Mode, NewReference, NewSchema, Position, VersionSelector, level_from_name},
    },
};
use ports::SchemaId;
use serde_json::{Value, value::RawValue};

/// Members of a schema that clients send and that change nothing.
const IGNORED: [&str; 4] = ["subject", "guid", "ts", "deleted"];
const SCHEMA: [&str; 11] = [
    "schema",
    "schemaType",
    "references",
    "metadata",
    "ruleSet",
    "version",
    "id",
    "subject",
    "guid",
    "ts",
    "deleted",
];

const REFERENCE: [&str; 5] = ["name", "subject", "version", "properties", "tags"];
/// Members of a reference that some clients write with null in every one.
const OF_REFERENCES_ELSEWHERE: [&str; 2] = ["properties", "tags"];

/// A schema, and where it is to be.
pub(super) fn schema(body: &str) -> Result<(NewSchema, Position), Refusal> {
    let mut object = object(body, &SCHEMA)?;
    for ignored in IGNORED {
        object.raw(ignored);
    }
    let schema_type = object.string("schemaType").map_err(|error| Refusal::of_request(&error))?;
    let schema_type = schema_type.filter(|name| !name.is_empty()).map_or(Ok(SchemaType::Avro), |name| {
        SchemaType::from_name(&name).ok_or_else(|| {
            let name = crate::json::short(&name);
            Refusal::new(
                42201,
                format!("Invalid schema type {name:?}. Valid values are AVRO, JSON and PROTOBUF"),
            )
        })
    })?;
    let position =
        Position { id: number(&mut object, "id")?.map(SchemaId), version: number(&mut object, "version")? };
    let text = object.string("schema").map_err(|error| Refusal::of_request(&error))?;
    let references = object.array("references").map_err(|error| Refusal::of_request(&error))?;
    let references = references.iter().map(|(field, raw)| reference(field, raw)).collect::<Result<_, _>>()?;
    let schema = NewSchema {
        schema_type,
        text: text.unwrap_or_default(),
        references,
        metadata: value(&mut object, "metadata")?,
        rule_set: value(&mut object, "ruleSet")?,
    };
    Ok((schema, position))
}

/// A number from 1 on; what is not positive is as if it were left out, as clients send it so.
fn number(object: &mut Object<'_>, name: &str) -> Result<Option<u32>, Refusal> {
    let given = object.integer(name).map_err(|error| Refusal::of_request(&error))?;
    let Some(given) = given.filter(|given| *given > 0) else { return Ok(None) };
    u32::try_from(given)
        .map(Some)
        .map_err(|_| Refusal::new(42202, format!("`{name}` must be from 1 to 2^31-1")))
}

fn reference(field: &str, raw: &str) -> Result<NewReference, Refusal> {
    let refused = |error: Error| Refusal::of_request(&error);
    let mut object = Object::at(field, raw, &REFERENCE).map_err(refused)?;
    for member in OF_REFERENCES_ELSEWHERE {
        if object.raw(member).is_some() {
            let message = format!("`{field}.{member}` must be null, or left out: references have none here");
            return Err(Refusal::new(422, message));
        }
    }
    let missing = |name: &str| Refusal::new(42201, format!("`{field}.{name}` is missing"));
    let name = object.string("name").map_err(refused)?.ok_or_else(|| missing("name"))?;
    let subject = object.string("subject").map_err(refused)?.ok_or_else(|| missing("subject"))?;
    let version = object.integer("version").map_err(refused)?.ok_or_else(|| missing("version"))?;
    let version = VersionSelector::parse(&version.to_string())?;
    Ok(NewReference { name, subject, version })
}

/// A member of any shape.
fn value(object: &mut Object<'_>, name: &str) -> Result<Option<Value>, Refusal> {
    let Some(raw) = object.raw(name) else { return Ok(None) };
    serde_json::from_str(raw)
        .map(Some)
        .map_err(|error| Refusal::new(422, format!("`{name}` cannot be read: {error}")))
}

/// Settings: `{"compatibility": "FULL", "normalize": true}`.
pub(super) fn config(body: &str) -> Result<Config, Refusal> {
    // What Confluent's clients may set beside these has no meaning here, and is not passed over in silence.
    let mut object = object(body, &["compatibility", "compatibilityLevel", "normalize"])?;
    let refused = |error: Error| Refusal::of_request(&error);
    let level = match object.string("compatibility").map_err(refused)? {
        Some(level) => Some(level),
        None => object.string("compatibilityLevel").map_err(refused)?,
    };
    let level = level.map(|name| level_from_name(&name)).transpose()?;
    let normalize = object.boolean("normalize").map_err(refused)?;
    if level.is_none() && normalize.is_none() {
        return Err(Refusal::new(42203, "`compatibility` is missing: give a compatibility level"));
    }
    Ok(Config { level, normalize })
}

/// A mode: `{"mode": "READONLY"}`.
pub(super) fn mode(body: &str) -> Result<Mode, Refusal> {
    let mut object = object(body, &["mode"])?;
    let name = object.string("mode").map_err(|error| Refusal::of_request(&error))?;
    Ok(Mode::from_name(&name.unwrap_or_default())?)
}

fn object<'a>(body: &'a str, known: &[&str]) -> Result<Object<'a>, Refusal> {
    if let Err(error) = serde_json::from_str::<&RawValue>(body) {
        return Err(Refusal::new(400, format!("the body is no JSON: {error}")));
    }
    Object::body(body, known).map_err(|error| Refusal::of_request(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::schemas::CompatibilityLevel;
    use proptest::prelude::*;

    #[test]
    fn a_schema_is_read_with_all_that_goes_with_it() {
        let body = r#"{"schema": "text", "schemaType": "PROTOBUF", "id": 7, "version": -1, "subject": null,
            "references": [{"name": "a.proto", "subject": "a", "version": -1}], "metadata": {"x": 1}}"#;
        let (read, position) = schema(body).unwrap();
        assert_eq!((read.schema_type, read.text.as_str()), (SchemaType::Protobuf, "text"));
        assert_eq!(read.references[0].version, VersionSelector::Latest);
        assert_eq!(position, Position { id: Some(SchemaId(7)), version: None });
        assert!(read.metadata.is_some() && read.rule_set.is_none());
        let body = r#"{"schema": "", "references":
            [{"name": "a", "subject": "b", "version": 1, "properties": null, "tags": null}]}"#;
        assert_eq!(schema(body).unwrap().0.references.len(), 1);
        assert_eq!(schema(r#"{"schema": "{}"}"#).unwrap().0.schema_type, SchemaType::Avro);
    }

    #[test]
    fn what_cannot_be_read_has_its_code() {
        for (body, code) in [
            ("", 400),
            ("{", 400),
            ("[]", 422),
            (r#"{"schem": ""}"#, 422),
            (r#"{"schema": 1}"#, 422),
            (r#"{"schema": "", "schemaType": "XML"}"#, 42201),
            (r#"{"schema": "", "version": 5000000000}"#, 42202),
            (r#"{"schema": "", "references": [{}]}"#, 42201),
            (r#"{"schema": "", "references": [{"name": "a", "subject": "b", "version": 0}]}"#, 42202),
            (
                r#"{"schema": "", "references": [{"name": "a", "subject": "b", "version": 1, "tags": {}}]}"#,
                422,
            ),
        ] {
            assert_eq!(schema(body).unwrap_err().code, code, "{body}");
        }
        for (body, code) in
            [("{}", 42203), (r#"{"compatibility": "ALL"}"#, 42203), (r#"{"alias": "a"}"#, 422)]
        {
            assert_eq!(config(body).unwrap_err().code, code, "{body}");
        }
        let full = config(r#"{"compatibility": "full", "normalize": true}"#).unwrap();
        assert_eq!(full, Config { level: Some(CompatibilityLevel::Full), normalize: Some(true) });
        assert_eq!(mode("{}").unwrap_err().code, 42204);
        assert_eq!(mode(r#"{"mode": "import"}"#).unwrap(), Mode::Import);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "\\PC{0,60}|\\{(\"(schema|id|references|metadata)\":[^,]{0,12},?){0,3}\\}") {
            for refused in [schema(&body).err(), config(&body).err(), mode(&body).err()].into_iter().flatten() {
                prop_assert!(refused.status().is_client_error());
            }
        }
    }
}
