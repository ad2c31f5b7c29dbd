mod comparing;
mod hostile;
mod printing;
mod random;
mod valued;

use super::*;
use crate::schemas::{Incompatibility, ParsedSchema, SchemaType, parse};

fn schema(text: &str) -> ParsedSchema {
    with(text, &[])
}

fn with(text: &str, references: &[(&str, &str)]) -> ParsedSchema {
    parse(SchemaType::Protobuf, text, &resolved(references))
        .unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn resolved(references: &[(&str, &str)]) -> Vec<Resolved> {
    references
        .iter()
        .map(|(name, text)| Resolved { name: (*name).to_owned(), text: (*text).to_owned() })
        .collect()
}

fn problem(text: &str, references: &[(&str, &str)]) -> SchemaProblem {
    parse(SchemaType::Protobuf, text, &resolved(references)).map(|_| ()).expect_err(text)
}

fn kinds(found: &[Incompatibility]) -> Vec<String> {
    found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect()
}
