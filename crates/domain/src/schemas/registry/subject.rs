//! Names: subjects, the contexts that they are in, and how a topic's subject is found.

use super::error::{Reason, Result, SchemaError};
use std::fmt;

/// The context of subjects that name none.
const DEFAULT_CONTEXT: &str = ".";
/// The most bytes of a subject with its context.
const BYTES_MAX: usize = 512;
/// Names that Confluent keeps for itself.
const RESERVED: [&str; 2] = ["__GLOBAL", "__EMPTY"];

/// A subject: a name within a context. On the wire `:.context:name`, or the name alone in the default context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    context: String,
    name: String,
}

impl Subject {
    /// Reads a subject.
    ///
    /// # Errors
    /// `InvalidSubject` for an empty or reserved name, control characters, or more than 512 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let subject = Self::parse_scope(text)?;
        if subject.name.is_empty() {
            return Err(invalid(text, "has no name; a subject is `name` or `:.context:name`"));
        }
        Ok(subject)
    }

    /// Reads what settings are for: a subject, or, as `:.context:`, all of a context.
    pub(super) fn parse_scope(text: &str) -> Result<Self> {
        if text.len() > BYTES_MAX {
            return Err(invalid(text, &format!("has {} bytes; {BYTES_MAX} are the most", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid(text, "has a control character; it must have none"));
        }
        let (context, name) = split(text);
        if RESERVED.contains(&name) {
            return Err(invalid(text, "has a name that is reserved; take another"));
        }
        Ok(Self { context: context.to_owned(), name: name.to_owned() })
    }

    /// The context, as `.` or `.context`.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The name within the context.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same name in another context, unless this one names a context of its own.
    pub(super) fn relative_to(self, context: &str) -> Self {
        if self.context == DEFAULT_CONTEXT { Self { context: context.to_owned(), ..self } } else { self }
    }

    /// As it is kept and shown.
    pub(super) fn qualified(&self) -> String {
        self.to_string()
    }

    /// Whose settings hold, the nearest first: its own, its context's, everybody's.
    pub(super) fn scopes(&self) -> Vec<String> {
        let mut scopes = Vec::with_capacity(3);
        if !self.name.is_empty() {
            scopes.push(self.qualified());
        }
        if self.context != DEFAULT_CONTEXT {
            scopes.push(format!(":{}:", self.context));
        }
        scopes.push(String::new());
        scopes
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.context == DEFAULT_CONTEXT {
            f.write_str(&self.name)
        } else {
            write!(f, ":{}:{}", self.context, self.name)
        }
    }
}

/// Context and name of a text that may be qualified.
fn split(text: &str) -> (&str, &str) {
    match text.strip_prefix(':').filter(|rest| rest.starts_with('.')) {
        Some(rest) => rest.split_once(':').unwrap_or((rest, "")),
        None => (DEFAULT_CONTEXT, text),
    }
}

fn invalid(text: &str, why: &str) -> SchemaError {
    let shown: String = text.chars().take(80).collect();
    SchemaError::new(Reason::InvalidSubject, format!("The specified subject {shown:?} {why}"))
}

/// The context that a client names by a subject or by a context's name; the default one where it names none.
pub(super) fn context_of(text: Option<&str>) -> Result<String> {
    Ok(text.map_or(Ok(Subject::default_context()), Subject::parse_scope)?.context)
}

impl Subject {
    fn default_context() -> Self {
        Self { context: DEFAULT_CONTEXT.to_owned(), name: String::new() }
    }
}

/// Which subjects a list is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPrefix {
    /// `None` is every context.
    context: Option<String>,
    name: String,
}

impl SubjectPrefix {
    /// Subjects of every context.
    pub fn all() -> Self {
        Self { context: None, name: String::new() }
    }

    /// Reads a prefix: `:*:name` in every context, `:.context:name` in one, `name` in the default one.
    ///
    /// # Errors
    /// `InvalidSubject` for control characters and for more than 512 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix(":*:") {
            return Ok(Self { context: None, name: name.to_owned() });
        }
        if text.len() > BYTES_MAX || text.chars().any(char::is_control) {
            return Err(invalid(text, "must have 512 bytes at most and no control characters"));
        }
        let (context, name) = split(text);
        Ok(Self { context: Some(context.to_owned()), name: name.to_owned() })
    }

    /// What all names of such subjects begin with, as they are kept.
    pub(super) fn kept(&self) -> String {
        match &self.context {
            None => String::new(),
            Some(context) => Subject { context: context.clone(), name: self.name.clone() }.qualified(),
        }
    }

    /// Whether a kept name is one of these.
    pub(super) fn matches(&self, kept: &str) -> bool {
        let (context, name) = split(kept);
        self.context.as_ref().is_none_or(|wanted| wanted == context) && name.starts_with(&self.name)
    }
}

/// How the subject of a topic's values, or of its keys, is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectNameStrategy {
    /// `topic-value`, `topic-key`.
    #[default]
    Topic,
    /// The full name of the record.
    Record,
    /// `topic-record`.
    TopicRecord,
}

/// Which part of an event a schema is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Its key.
    Key,
    /// Its value.
    #[default]
    Value,
}

impl SubjectNameStrategy {
    /// The subject of a topic. `record` is the full name of the record, as
    /// [`ParsedSchema::record_name`](crate::schemas::ParsedSchema::record_name) gives it.
    ///
    /// # Errors
    /// `InvalidSchema` where the strategy wants the name of a record and there is none.
    pub fn subject(self, topic: &str, part: Part, record: Option<&str>) -> Result<String> {
        let record = || {
            record.ok_or_else(|| {
                let message = format!(
                    "the subject of `{topic}` is named after the record, and the schema names none; give it a name \
                     (in JSON Schema a `title`), or name subjects after the topic"
                );
                SchemaError::new(Reason::InvalidSchema, message)
            })
        };
        Ok(match self {
            Self::Topic => format!("{topic}-{}", if part == Part::Key { "key" } else { "value" }),
            Self::Record => record()?.to_owned(),
            Self::TopicRecord => format!("{topic}-{}", record()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_may_name_its_context() {
        for (text, context, name, shown) in [
            ("a", ".", "a", "a"),
            (":.x:a", ".x", "a", ":.x:a"),
            (":.:a", ".", "a", "a"),
            (":.x:a:b", ".x", "a:b", ":.x:a:b"),
            ("a:b", ".", "a:b", "a:b"),
            (":a:b", ".", ":a:b", ":a:b"),
        ] {
            let subject = Subject::parse(text).unwrap();
            assert_eq!((subject.context(), subject.name()), (context, name), "{text}");
            assert_eq!(subject.to_string(), shown);
        }
        for text in ["", ":.x:", ":.x", "__GLOBAL", ":.x:__EMPTY", "a\nb", &"x".repeat(513)] {
            assert_eq!(Subject::parse(text).unwrap_err().reason(), Reason::InvalidSubject, "{text:?}");
        }
    }

    #[test]
    fn the_nearest_settings_come_first() {
        assert_eq!(Subject::parse("a").unwrap().scopes(), ["a", ""]);
        assert_eq!(Subject::parse(":.x:a").unwrap().scopes(), [":.x:a", ":.x:", ""]);
        assert_eq!(Subject::parse_scope(":.x:").unwrap().scopes(), [":.x:", ""]);
    }

    #[test]
    fn a_prefix_is_of_one_context_or_of_all() {
        let matching = |prefix: &str| {
            let prefix = SubjectPrefix::parse(prefix).unwrap();
            let names = ["a", "ab", ":.x:a", ":.xy:ab"];
            names.into_iter().filter(|name| prefix.matches(name)).collect::<Vec<_>>()
        };
        assert_eq!(matching(""), ["a", "ab"]);
        assert_eq!(matching("ab"), ["ab"]);
        assert_eq!(matching(":*:"), ["a", "ab", ":.x:a", ":.xy:ab"]);
        assert_eq!(matching(":*:ab"), ["ab", ":.xy:ab"]);
        assert_eq!(matching(":.x:"), [":.x:a"]);
    }

    #[test]
    fn a_strategy_names_the_subject_of_a_topic() {
        let of = |strategy: SubjectNameStrategy, part, record| strategy.subject("t", part, record);
        assert_eq!(of(SubjectNameStrategy::Topic, Part::Value, None).unwrap(), "t-value");
        assert_eq!(of(SubjectNameStrategy::Topic, Part::Key, None).unwrap(), "t-key");
        assert_eq!(of(SubjectNameStrategy::Record, Part::Value, Some("a.B")).unwrap(), "a.B");
        assert_eq!(of(SubjectNameStrategy::TopicRecord, Part::Value, Some("a.B")).unwrap(), "t-a.B");
        let error = of(SubjectNameStrategy::Record, Part::Value, None).unwrap_err();
        assert!(error.message().contains("title"), "{error}");
    }
}
