//! An expression as it is evaluated: names resolved, functions looked up, patterns compiled.

use super::functions::Function;
use regex::Regex;

/// A name of the language's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Id,
    Source,
    Type,
    Subject,
    TenantId,
    UserId,
    CorrelationId,
    CausationId,
    Time,
    Extensions,
    Headers,
    Key,
    Data,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

impl Name {
    pub(super) const ALL: [(&'static str, Self); 17] = [
        ("id", Self::Id),
        ("source", Self::Source),
        ("type", Self::Type),
        ("subject", Self::Subject),
        ("tenantid", Self::TenantId),
        ("userid", Self::UserId),
        ("correlationid", Self::CorrelationId),
        ("causationid", Self::CausationId),
        ("time", Self::Time),
        ("extensions", Self::Extensions),
        ("headers", Self::Headers),
        ("key", Self::Key),
        ("data", Self::Data),
        ("topic", Self::Topic),
        ("partition", Self::Partition),
        ("offset", Self::Offset),
        ("timestamp", Self::Timestamp),
    ];

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, name)| *name)
    }

    /// A bit of its own.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a comprehension makes of the elements that it walks over.
#[derive(Debug)]
pub(super) enum Walk {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    /// The elements for which the first holds, brought into the second.
    Map(Option<Node>, Node),
}

/// A pattern, and what a byte of text costs with it.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    pub(super) cost_a_byte: u64,
}

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
    Name(Name),
    /// The variable of a comprehension, counted from the outermost.
    Local(usize),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Field(Box<Self>, Box<str>),
    Has(Box<Self>, Box<str>),
    Index(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Conditional(Box<Self>, Box<Self>, Box<Self>),
    Equal(Box<Self>, Box<Self>),
    NotEqual(Box<Self>, Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    In(Box<Self>, Box<Self>),
    Calculate(Arithmetic, Box<Self>, Box<Self>),
    Matches(Box<Self>, Box<Pattern>),
    Call(Function, Vec<Self>),
    Walk(Box<Self>, Box<Walk>),
}

impl Node {
    /// What this always is if it can never be true or false.
    pub(super) fn never_bool(&self) -> Option<&'static str> {
        match self {
            Self::Null => Some("null"),
            Self::Name(Name::Data) => None,
            Self::Int(_) | Self::UInt(_) | Self::Double(_) | Self::Negate(_) => Some("a number"),
            Self::Name(name @ (Name::Partition | Name::Offset | Name::Time | Name::Timestamp)) => {
                Some(if matches!(name, Name::Time | Name::Timestamp) { "a timestamp" } else { "a number" })
            }
            Self::Bytes(_) => Some("bytes"),
            Self::List(_) => Some("a list"),
            Self::Map(_) | Self::Name(Name::Headers | Name::Extensions) => Some("a map"),
            Self::String(_) | Self::Name(_) => Some("a string"),
            Self::Calculate(..) => Some("what is calculated"),
            Self::Walk(_, walk) if matches!(**walk, Walk::Map(..)) => Some("a list"),
            _ => None,
        }
    }
}
