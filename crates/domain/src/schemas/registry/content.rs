//! What is kept of a schema, and what tells one content from another.
//!
//! A content is one schema with another when type, canonical text, references, metadata and rules are: then it has
//! the same fingerprint, which is its GUID too. The fingerprint is 122 bits of a SHA-256, so that nobody makes a
//! content that passes for another.

use super::error::{Reason, Result, SchemaError};
use crate::schemas::{ParsedSchema, SchemaType};
use bytes::Bytes;
use ports::{Fingerprint, VersionKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A reference to a version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which the schema refers to it.
    pub name: String,
    /// The subject, with its context where that is not the default one.
    pub subject: String,
    /// The version.
    pub version: u32,
}

/// A schema as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Its format.
    pub schema_type: SchemaType,
    /// Its text, as it was registered.
    pub text: String,
    /// What it refers to.
    pub references: Vec<Reference>,
    /// What its writer says of it, an object; kept and given back.
    pub metadata: Option<Value>,
    /// Rules for clients, an object; kept and given back.
    pub rule_set: Option<Value>,
}

/// The layout of a stored content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored<'a> {
    /// The version of this layout.
    v: u32,
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule_set: Option<Value>,
}

const LAYOUT: u32 = 1;

impl Content {
    /// What is handed to the store.
    pub(super) fn encode(&self) -> Result<Bytes> {
        let stored = Stored {
            v: LAYOUT,
            r#type: self.schema_type.as_str().into(),
            text: self.text.clone(),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            rule_set: self.rule_set.clone(),
        };
        let written = serde_json::to_vec(&stored);
        written.map(Bytes::from).map_err(|error| damaged(&format!("cannot be written: {error}")))
    }

    /// What the store gave back.
    pub(super) fn decode(value: &[u8]) -> Result<Self> {
        let stored: Stored<'_> =
            serde_json::from_slice(value).map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        if stored.v != LAYOUT {
            return Err(damaged(&format!("is of layout {}, this version knows {LAYOUT}", stored.v)));
        }
        let schema_type = SchemaType::from_name(&stored.r#type);
        Ok(Self {
            schema_type: schema_type
                .ok_or_else(|| damaged("is of a type that this version does not know"))?,
            text: stored.text,
            references: stored.references,
            metadata: stored.metadata,
            rule_set: stored.rule_set,
        })
    }

    /// The fingerprint of this content, whose canonical text is `canonical`.
    pub(super) fn fingerprint(&self, canonical: &str) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // With its length before it, no part runs into the next.
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(self.schema_type.as_str().as_bytes());
        part(canonical.as_bytes());
        // Their order has no meaning.
        let mut references: Vec<&Reference> = self.references.iter().collect();
        references.sort_by_key(|reference| (&reference.name, &reference.subject, reference.version));
        part(&(references.len() as u64).to_be_bytes());
        for Reference { name, subject, version } in references {
            part(name.as_bytes());
            part(subject.as_bytes());
            part(&version.to_be_bytes());
        }
        for extra in [&self.metadata, &self.rule_set] {
            part(extra.as_ref().map(Value::to_string).unwrap_or_default().as_bytes());
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // Shown as a UUID, of the version for those of one's own making.
        Fingerprint(uuid::Builder::from_custom_bytes(bytes).into_uuid().into_bytes())
    }

    /// The versions that it refers to, each once.
    pub(super) fn refers_to(&self) -> Vec<VersionKey> {
        let mut keys: Vec<VersionKey> = self
            .references
            .iter()
            .map(|to| VersionKey { subject: to.subject.clone(), version: to.version })
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Bytes that a cache counts it as.
    pub(super) fn weight(&self) -> u32 {
        let references: usize = self.references.iter().map(|to| to.name.len() + to.subject.len() + 64).sum();
        let extra = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.to_string().len());
        let bytes = self.text.len() + references + extra(&self.metadata) + extra(&self.rule_set) + 256;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The GUID of a content.
pub(super) fn guid(fingerprint: Fingerprint) -> Uuid {
    Uuid::from_bytes(fingerprint.0)
}

/// The mark of a version by the type of its schema.
pub(super) fn tag(schema_type: SchemaType) -> u8 {
    match schema_type {
        SchemaType::Avro => 0,
        SchemaType::Json => 1,
        SchemaType::Protobuf => 2,
    }
}

/// The text that decides what is the same schema.
pub(super) fn canonical(parsed: &ParsedSchema, normalize: bool) -> &str {
    if normalize { parsed.normalized() } else { parsed.canonical() }
}

fn damaged(what: &str) -> SchemaError {
    SchemaError::new(Reason::Internal, format!("a stored schema {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content() -> Content {
        Content {
            schema_type: SchemaType::Protobuf,
            text: "text".to_owned(),
            references: vec![reference("a.proto", "a", 1), reference("b.proto", "b", 2)],
            metadata: Some(json!({"owner": "me"})),
            rule_set: None,
        }
    }

    fn reference(name: &str, subject: &str, version: u32) -> Reference {
        Reference { name: name.to_owned(), subject: subject.to_owned(), version }
    }

    #[test]
    fn a_content_reads_back_as_it_was_written() {
        let content = content();
        assert_eq!(Content::decode(&content.encode().unwrap()).unwrap(), content);
        for damaged in ["", "{}", r#"{"v":2,"type":"AVRO","text":""}"#, r#"{"v":1,"type":"XML","text":""}"#] {
            assert_eq!(Content::decode(damaged.as_bytes()).unwrap_err().reason(), Reason::Internal);
        }
    }

    #[test]
    fn whatever_makes_another_schema_makes_another_fingerprint() {
        let base = content().fingerprint("canonical");
        let mut turned = content();
        turned.references.reverse();
        turned.text = "text // with a comment".to_owned();
        assert_eq!(turned.fingerprint("canonical"), base);
        assert_eq!(guid(base).get_version_num(), 8);
        let mut others = vec![content().fingerprint("canonical ")];
        let mut change = |make: fn(&mut Content)| {
            let mut content = content();
            make(&mut content);
            others.push(content.fingerprint("canonical"));
        };
        change(|content| content.schema_type = SchemaType::Json);
        change(|content| content.references[0].version = 2);
        change(|content| content.references[0].name = "a".to_owned());
        change(|content| _ = content.references.pop());
        change(|content| content.metadata = None);
        change(|content| content.rule_set = content.metadata.take());
        for other in others {
            assert_ne!(other, base);
        }
    }
}
