//! Evaluation: a walk over the tree that takes from a budget with each step.

use super::{
    functions,
    input::Input,
    node::{Arithmetic, Comparison, Name, Node, Walk},
    value::{List, Map, Octets, Text, Value, equal, order},
};
use std::cmp::Ordering;

/// Why an evaluation gives no value.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It costs too much. No operator swallows this.
    Costs,
    /// What went wrong, in a sentence.
    Error(String),
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self::Error(message.into())
    }
}

/// What an evaluation may still cost.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn take(&mut self, cost: u64) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(cost).ok_or(Fault::Costs)?;
        Ok(())
    }

    /// For bytes that are read or made.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.take(bytes as u64 / 16)
    }
}

pub(super) struct Evaluation<'a> {
    input: &'a Input<'a>,
    cost_max: u64,
    budget: Budget,
    /// The variables of the comprehensions that are under way, outermost first.
    locals: Vec<Value<'a>>,
    /// Maps that are made from the event, once.
    headers: Option<Value<'a>>,
    extensions: Option<Value<'a>>,
}

type Outcome<'a> = Result<Value<'a>, Fault>;

impl<'a> Evaluation<'a> {
    pub(super) fn new(input: &'a Input<'a>, cost_max: u64) -> Self {
        Self {
            input,
            cost_max,
            budget: Budget(cost_max),
            locals: Vec::new(),
            headers: None,
            extensions: None,
        }
    }

    pub(super) fn run(mut self, root: &'a Node) -> Result<Value<'a>, String> {
        self.value(root).map_err(|fault| match fault {
            Fault::Error(message) => message,
            Fault::Costs => format!("evaluating costs more than {}", self.cost_max),
        })
    }

    fn value(&mut self, node: &'a Node) -> Outcome<'a> {
        self.budget.take(1)?;
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(bool) => Value::Bool(*bool),
            Node::Int(int) => Value::Int(*int),
            Node::UInt(uint) => Value::UInt(*uint),
            Node::Double(double) => Value::Double(*double),
            Node::String(text) => Value::String(Text::Borrowed(text)),
            Node::Bytes(bytes) => Value::Bytes(Octets::Borrowed(bytes)),
            Node::Name(name) => return self.name(*name),
            Node::Local(index) => self.locals.get(*index).cloned().unwrap_or(Value::Null),
            Node::List(nodes) => Value::List(List::Made(self.values(nodes)?.into())),
            Node::Map(entries) => return self.map(entries),
            Node::Field(of, name) => return self.field(of, name),
            Node::Has(of, name) => match self.value(of)? {
                Value::Map(map) => Value::Bool(map.field(name, &mut self.budget)?.is_some()),
                other => return Err(no_field(&other, name)),
            },
            Node::Index(of, index) => return self.index(of, index),
            Node::Not(of) => match self.value(of)? {
                Value::Bool(bool) => Value::Bool(!bool),
                other => return Err(Fault::new(format!("`!` takes a bool, not {}", other.kind()))),
            },
            Node::Negate(of) => return negate(&self.value(of)?),
            Node::And(left, right) => return self.decide(left, right, false),
            Node::Or(left, right) => return self.decide(left, right, true),
            Node::Conditional(condition, yes, no) => match self.value(condition)? {
                Value::Bool(true) => return self.value(yes),
                Value::Bool(false) => return self.value(no),
                other => {
                    return Err(Fault::new(format!(
                        "the condition of `?:` must be a bool, not {}",
                        other.kind()
                    )));
                }
            },
            Node::Equal(left, right) => Value::Bool(self.equal(left, right)?),
            Node::NotEqual(left, right) => Value::Bool(!self.equal(left, right)?),
            Node::Compare(comparison, left, right) => return self.compare(*comparison, left, right),
            Node::In(element, container) => return self.is_in(element, container),
            Node::Calculate(arithmetic, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                return functions::calculate(*arithmetic, &left, &right, &mut self.budget);
            }
            Node::Matches(text, pattern) => match self.value(text)? {
                Value::String(text) => {
                    self.budget.take(text.as_str().len() as u64 * pattern.cost_a_byte)?;
                    Value::Bool(pattern.regex.is_match(text.as_str()))
                }
                other => return Err(Fault::new(format!("matches() takes a string, not {}", other.kind()))),
            },
            Node::Call(function, arguments) => {
                let arguments = self.values(arguments)?;
                return functions::call(*function, &arguments, &mut self.budget);
            }
            Node::Walk(over, walk) => return self.walk(over, walk),
        })
    }

    fn values(&mut self, nodes: &'a [Node]) -> Result<Vec<Value<'a>>, Fault> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn name(&mut self, name: Name) -> Outcome<'a> {
        let made = match name {
            Name::Headers => &mut self.headers,
            Name::Extensions => &mut self.extensions,
            _ => return self.input.get(name, &mut self.budget),
        };
        if let Some(made) = made {
            return Ok(made.clone());
        }
        let value = self.input.get(name, &mut self.budget)?;
        *made = Some(value.clone());
        Ok(value)
    }

    fn map(&mut self, nodes: &'a [(Node, Node)]) -> Outcome<'a> {
        let mut entries: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(nodes.len());
        for (key, value) in nodes {
            let key = self.value(key)?;
            if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::String(_)) {
                return Err(Fault::new(format!("{} cannot be the key of a map", key.kind())));
            }
            for (other, _) in &entries {
                if equal(other, &key, &mut self.budget)? {
                    return Err(Fault::new("a map names a key twice"));
                }
            }
            entries.push((key, self.value(value)?));
        }
        Ok(Value::Map(Map::Made(entries.into())))
    }

    fn field(&mut self, of: &'a Node, name: &str) -> Outcome<'a> {
        match self.value(of)? {
            Value::Map(map) => {
                let value = map.field(name, &mut self.budget)?;
                value
                    .ok_or_else(|| Fault::new(format!("there is no field `{}`; ask with has()", brief(name))))
            }
            other => Err(no_field(&other, name)),
        }
    }

    fn index(&mut self, of: &'a Node, index: &'a Node) -> Outcome<'a> {
        let (of, index) = (self.value(of)?, self.value(index)?);
        match &of {
            Value::Map(map) => map.get(&index, &mut self.budget)?.ok_or_else(|| {
                let key = index.to_text().unwrap_or_default();
                Fault::new(format!("there is no key `{}`; ask with `in`", brief(&key)))
            }),
            Value::List(list) => {
                let place = match index {
                    Value::Int(int) => usize::try_from(int).ok(),
                    Value::UInt(uint) => usize::try_from(uint).ok(),
                    Value::Double(double) if double.fract() == 0.0 && double >= 0.0 => Some(double as usize),
                    other => return Err(Fault::new(format!("{} is no index of a list", other.kind()))),
                };
                let value = place.and_then(|place| list.get(place));
                value.ok_or_else(|| {
                    Fault::new(format!("the index is beyond the list, which has {}", list.len()))
                })
            }
            other => Err(Fault::new(format!("{} has no elements", other.kind()))),
        }
    }

    /// `&&` and `||`: the side that is `decisive` decides, though the other be an error.
    fn decide(&mut self, left: &'a Node, right: &'a Node, decisive: bool) -> Outcome<'a> {
        let operator = if decisive { "`||`" } else { "`&&`" };
        let left = self.value(left).and_then(|value| bool_for(operator, &value));
        match left {
            Ok(bool) if bool == decisive => return Ok(Value::Bool(decisive)),
            Err(Fault::Costs) => return Err(Fault::Costs),
            _ => {}
        }
        let right = self.value(right).and_then(|value| bool_for(operator, &value))?;
        if right == decisive { Ok(Value::Bool(decisive)) } else { left.map(|_| Value::Bool(!decisive)) }
    }

    fn equal(&mut self, left: &'a Node, right: &'a Node) -> Result<bool, Fault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        equal(&left, &right, &mut self.budget)
    }

    fn compare(&mut self, comparison: Comparison, left: &'a Node, right: &'a Node) -> Outcome<'a> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let nan = |value: &Value<'_>| matches!(value, Value::Double(double) if double.is_nan());
        let Some(order) = order(&left, &right, &mut self.budget)? else {
            if nan(&left) || nan(&right) {
                return Ok(Value::Bool(false));
            }
            return Err(Fault::new(format!("{} and {} have no order", left.kind(), right.kind())));
        };
        Ok(Value::Bool(match comparison {
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterOrEqual => order != Ordering::Less,
        }))
    }

    fn is_in(&mut self, element: &'a Node, container: &'a Node) -> Outcome<'a> {
        let element = self.value(element)?;
        // A list in the expression is walked over in place, and no further than it is needed.
        if let Node::List(nodes) = container {
            for node in nodes {
                let value = self.value(node)?;
                if equal(&value, &element, &mut self.budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            return Ok(Value::Bool(false));
        }
        match self.value(container)? {
            Value::List(list) => {
                for index in 0..list.len() {
                    if let Some(value) = list.get(index)
                        && equal(&value, &element, &mut self.budget)?
                    {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(map) => Ok(Value::Bool(map.get(&element, &mut self.budget)?.is_some())),
            other => Err(Fault::new(format!("`in` takes a list or a map, not {}", other.kind()))),
        }
    }

    fn walk(&mut self, over: &'a Node, walk: &'a Walk) -> Outcome<'a> {
        let elements = match self.value(over)? {
            Value::List(list) => list,
            Value::Map(map) => map.keys(&mut self.budget)?,
            other => {
                return Err(Fault::new(format!("{} has no elements to go through", other.kind())));
            }
        };
        let depth = self.locals.len();
        let outcome = self.walked(&elements, walk);
        self.locals.truncate(depth);
        outcome
    }

    fn walked(&mut self, elements: &List<'a>, walk: &'a Walk) -> Outcome<'a> {
        let depth = self.locals.len();
        let mut fault = None;
        let mut found = 0_usize;
        let mut made = Vec::new();
        for index in 0..elements.len() {
            self.budget.take(1)?;
            self.locals.truncate(depth);
            let Some(element) = elements.get(index) else { break };
            self.locals.push(element);
            match walk {
                Walk::All(body) | Walk::Exists(body) => {
                    let decisive = matches!(walk, Walk::Exists(_));
                    match self.value(body).and_then(|value| bool_for("a condition", &value)) {
                        Ok(bool) if bool == decisive => return Ok(Value::Bool(decisive)),
                        Ok(_) => {}
                        Err(Fault::Costs) => return Err(Fault::Costs),
                        Err(error) => fault = Some(error),
                    }
                }
                Walk::ExistsOne(body) => {
                    let value = self.value(body)?;
                    found += usize::from(bool_for("a condition", &value)?);
                }
                Walk::Map(condition, body) => {
                    let wanted = match condition {
                        Some(condition) => {
                            let value = self.value(condition)?;
                            bool_for("a condition", &value)?
                        }
                        None => true,
                    };
                    if wanted {
                        made.push(self.value(body)?);
                    }
                }
            }
        }
        match (walk, fault) {
            (_, Some(fault)) => Err(fault),
            (Walk::All(_), None) => Ok(Value::Bool(true)),
            (Walk::Exists(_), None) => Ok(Value::Bool(false)),
            (Walk::ExistsOne(_), None) => Ok(Value::Bool(found == 1)),
            (Walk::Map(..), None) => Ok(Value::List(List::Made(made.into()))),
        }
    }
}

fn bool_for(taker: &str, value: &Value<'_>) -> Result<bool, Fault> {
    match value {
        Value::Bool(bool) => Ok(*bool),
        other => Err(Fault::new(format!("{taker} takes a bool, not {}", other.kind()))),
    }
}

fn negate(value: &Value<'_>) -> Outcome<'static> {
    match value {
        Value::Int(int) => {
            int.checked_neg().map(Value::Int).ok_or_else(|| functions::overflow(Arithmetic::Subtract))
        }
        Value::Double(double) => Ok(Value::Double(-double)),
        other => Err(Fault::new(format!("`-` takes a number with a sign, not {}", other.kind()))),
    }
}

fn no_field(value: &Value<'_>, name: &str) -> Fault {
    Fault::new(format!("{} has no field `{}`", value.kind(), brief(name)))
}

/// Enough of a name to know it by.
fn brief(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
