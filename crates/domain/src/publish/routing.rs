//! Which topic takes an event that names none, and how a topic's events are treated.

use crate::{event::Event, partition::PartitionStrategy};
use bytestring::ByteString;
use ports::TopicName;

/// A text in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether all of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// What an event must have for a [`Route`] to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// Its type fits.
    Type(Pattern),
    /// It has this attribute (`source`, `subject`, `tenantid`, `userid`, or an extension) and it fits.
    Attribute {
        /// The attribute.
        name: String,
        /// What its value must fit.
        value: Pattern,
    },
}

impl RouteMatch {
    pub(super) fn takes(&self, event: &Event) -> bool {
        let (value, pattern) = match self {
            Self::Type(pattern) => (event.event_type.as_ref(), pattern),
            Self::Attribute { name, value } => (attribute(event, name), value),
        };
        value.is_some_and(|value| pattern.matches(value))
    }
}

fn attribute<'a>(event: &'a Event, name: &str) -> Option<&'a ByteString> {
    match name {
        "type" => event.event_type.as_ref(),
        "source" => event.source.as_ref(),
        "subject" => event.subject.as_ref(),
        "tenantid" => event.tenant_id.as_ref(),
        "userid" => event.user_id.as_ref(),
        name => event.extensions.iter().find(|(extension, _)| *extension == *name).map(|(_, value)| value),
    }
}

/// Sends an event that names no topic to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What the event must have.
    pub when: RouteMatch,
    /// Where it goes.
    pub topic: TopicName,
}

/// How the events of some topics are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// The topics.
    pub topics: Pattern,
    /// How their events are spread over partitions.
    pub strategy: PartitionStrategy,
    /// The type of an event that has none.
    pub event_type: Option<ByteString>,
}
