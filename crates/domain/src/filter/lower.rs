//! From the parser's tree to our own: names resolved, functions checked, patterns compiled, comprehensions
//! recognised by the shapes that the parser's macros give them.

use super::{
    FilterError,
    functions::{self, Function, Style},
    input::Wanted,
    node::{Arithmetic, Comparison, Name, Node, Pattern, Walk},
    parse::at,
};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SourceInfo, operators,
};
use regex::RegexBuilder;

/// How deep the tree may be: evaluating it recurses.
const DEPTH_MAX: usize = 200;
/// A variable of the macros' own; no name of a text looks so.
const RESULT: &str = "@result";

/// Brings a tree into ours, and says which names it refers to.
pub(super) fn lower(tree: &IdedExpr, source: &SourceInfo, text: &str) -> Result<(Node, Wanted), FilterError> {
    let mut lowering = Lowering {
        source,
        text,
        locals: Vec::new(),
        wanted: Wanted::default(),
        depth: 0,
        pattern_bytes: PATTERN_BYTES_MAX,
    };
    let root = lowering.node(tree)?;
    Ok((root, lowering.wanted))
}

struct Lowering<'t> {
    source: &'t SourceInfo,
    text: &'t str,
    /// The variables of the comprehensions around, outermost first.
    locals: Vec<&'t str>,
    wanted: Wanted,
    depth: usize,
    /// What is left for patterns.
    pattern_bytes: usize,
}

type Lowered<T = Node> = Result<T, FilterError>;

impl<'t> Lowering<'t> {
    fn node(&mut self, tree: &'t IdedExpr) -> Lowered {
        if self.depth == DEPTH_MAX {
            return Err(self
                .wrong(tree, format!("operators are nested deeper than {DEPTH_MAX}; use `in` and a list")));
        }
        self.depth += 1;
        let node = match &tree.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Null => Node::Null,
                LiteralValue::Boolean(bool) => Node::Bool(*bool.inner()),
                LiteralValue::Int(int) => Node::Int(*int.inner()),
                LiteralValue::UInt(uint) => Node::UInt(*uint.inner()),
                LiteralValue::Double(double) => Node::Double(*double.inner()),
                LiteralValue::String(text) => Node::String(text.inner().into()),
                LiteralValue::Bytes(bytes) => Node::Bytes(bytes.inner().into()),
            }),
            Expr::Ident(name) => self.name(tree, name),
            Expr::Select(select) => self.node(&select.operand).map(|of| {
                let field = select.field.as_str().into();
                if select.test { Node::Has(of.into(), field) } else { Node::Field(of.into(), field) }
            }),
            Expr::List(list) => self.nodes(&list.elements).map(Node::List),
            Expr::Map(map) => self.map(tree, map),
            Expr::Call(call) => self.call(tree, call),
            Expr::Comprehension(comprehension) => self.comprehension(tree, comprehension),
            Expr::Struct(_) => Err(self.wrong(tree, "messages are not known here; a map is {'name': value}")),
            Expr::Unspecified => Err(self.wrong(tree, "something is missing here")),
        };
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, tree: &'t IdedExpr) -> Lowered<Box<Node>> {
        self.node(tree).map(Box::new)
    }

    fn nodes(&mut self, trees: &'t [IdedExpr]) -> Lowered<Vec<Node>> {
        trees.iter().map(|tree| self.node(tree)).collect()
    }

    fn name(&mut self, tree: &IdedExpr, name: &str) -> Lowered {
        if let Some(index) = self.locals.iter().rposition(|local| *local == name) {
            return Ok(Node::Local(index));
        }
        // A dot before a name leads past the variables of comprehensions.
        let global = name.strip_prefix('.').unwrap_or(name);
        match Name::of(global) {
            Some(name) => {
                self.wanted.add(name);
                Ok(Node::Name(name))
            }
            None => {
                let names = Name::ALL.iter().map(|(name, _)| *name).chain(self.locals.iter().copied());
                let hint = match nearest(global, names) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("there are: {}", Name::ALL.map(|(name, _)| name).join(", ")),
                };
                Err(self.wrong(tree, format!("`{}` is not known; {hint}", shown(global))))
            }
        }
    }

    fn map(&mut self, tree: &IdedExpr, map: &'t MapExpr) -> Lowered {
        let mut entries = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(self.wrong(tree, "a map is {'name': value}"));
            };
            entries.push((self.node(&entry.key)?, self.node(&entry.value)?));
        }
        Ok(Node::Map(entries))
    }

    fn call(&mut self, tree: &IdedExpr, call: &'t CallExpr) -> Lowered {
        match (&call.target, call.args.as_slice()) {
            (None, [of]) => match call.func_name.as_str() {
                operators::LOGICAL_NOT => return Ok(Node::Not(self.boxed(of)?)),
                operators::NEGATE => return Ok(Node::Negate(self.boxed(of)?)),
                _ => {}
            },
            (None, [left, right]) => {
                if let Some(make) = binary(&call.func_name) {
                    return Ok(make(self.boxed(left)?, self.boxed(right)?));
                }
            }
            (None, [condition, yes, no]) if call.func_name == operators::CONDITIONAL => {
                return Ok(Node::Conditional(self.boxed(condition)?, self.boxed(yes)?, self.boxed(no)?));
            }
            _ => {}
        }
        self.function(tree, call)
    }

    fn function(&mut self, tree: &IdedExpr, call: &'t CallExpr) -> Lowered {
        let name = call.func_name.as_str();
        let arguments: Vec<&'t IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        if name == "matches" {
            return self.matches(tree, &arguments);
        }
        if matches!(name, "all" | "exists" | "exists_one" | "map" | "filter") {
            let message = format!(
                "{name}() takes a list or a map before the dot, a variable and an expression, as in data.items.{name}(i, i.price > 10)"
            );
            return Err(self.wrong(tree, message));
        }
        let Some((function, style, count)) = functions::find(name) else {
            let hint =
                nearest(name, functions::names()).map(|nearest| format!("; did you mean `{nearest}`?"));
            let message = format!("there is no function `{}`{}", shown(name), hint.unwrap_or_default());
            return Err(self.wrong(tree, message));
        };
        let called_right = match style {
            Style::Global => call.target.is_none(),
            Style::Method => call.target.is_some(),
            Style::Either => true,
        };
        if !called_right || arguments.len() != count {
            let shape = match (style, count) {
                (Style::Method, 2) => format!("x.{name}(y)"),
                (Style::Method, _) => format!("x.{name}()"),
                _ => format!("{name}(x)"),
            };
            return Err(self.wrong(tree, format!("{name}() is called as {shape}")));
        }
        let nodes = arguments.iter().map(|argument| self.node(argument)).collect::<Lowered<Vec<_>>>()?;
        // What is wrong in a literal is said now.
        match (function, nodes.as_slice()) {
            (Function::ToTimestamp, [Node::String(text)]) if functions::timestamp(text).is_none() => {
                Err(self.wrong(tree, functions::BAD_TIMESTAMP))
            }
            (Function::ToDuration, [Node::String(text)]) if functions::duration(text).is_none() => {
                Err(self.wrong(tree, functions::BAD_DURATION))
            }
            _ => Ok(Node::Call(function, nodes)),
        }
    }

    fn matches(&mut self, tree: &IdedExpr, arguments: &[&'t IdedExpr]) -> Lowered {
        let [text, pattern] = arguments else {
            return Err(self.wrong(tree, "matches() is called as x.matches('pattern')"));
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return Err(self.wrong(pattern, "the pattern of matches() must be a literal string"));
        };
        let (compiled, size) = compile_pattern(literal.inner(), self.pattern_bytes)
            .map_err(|message| self.wrong(pattern, message))?;
        self.pattern_bytes -= size;
        Ok(Node::Matches(self.boxed(text)?, compiled.into()))
    }

    fn comprehension(&mut self, tree: &IdedExpr, comprehension: &'t ComprehensionExpr) -> Lowered {
        let over = self.boxed(&comprehension.iter_range)?;
        let Some(shape) = shape(comprehension) else {
            return Err(self.wrong(tree, "this comprehension is not known"));
        };
        self.locals.push(&comprehension.iter_var);
        let walk = match shape {
            Shape::All(body) => self.node(body).map(Walk::All),
            Shape::Exists(body) => self.node(body).map(Walk::Exists),
            Shape::ExistsOne(body) => self.node(body).map(Walk::ExistsOne),
            Shape::Map(condition, body) => {
                match condition.map(|condition| self.node(condition)).transpose() {
                    Ok(condition) => self.node(body).map(|body| Walk::Map(condition, body)),
                    Err(error) => Err(error),
                }
            }
        };
        self.locals.pop();
        Ok(Node::Walk(over, walk?.into()))
    }

    fn wrong(&self, tree: &IdedExpr, message: impl Into<String>) -> FilterError {
        let byte = self.source.offset_for(tree.id).map_or(0, |(start, _)| start as usize);
        at(self.text, byte, message.into())
    }
}

type Binary = fn(Box<Node>, Box<Node>) -> Node;

fn binary(operator: &str) -> Option<Binary> {
    Some(match operator {
        operators::LOGICAL_AND => Node::And,
        operators::LOGICAL_OR => Node::Or,
        operators::EQUALS => Node::Equal,
        operators::NOT_EQUALS => Node::NotEqual,
        operators::INDEX => Node::Index,
        operators::IN => Node::In,
        operators::LESS => |a, b| Node::Compare(Comparison::Less, a, b),
        operators::LESS_EQUALS => |a, b| Node::Compare(Comparison::LessOrEqual, a, b),
        operators::GREATER => |a, b| Node::Compare(Comparison::Greater, a, b),
        operators::GREATER_EQUALS => |a, b| Node::Compare(Comparison::GreaterOrEqual, a, b),
        operators::ADD => |a, b| Node::Calculate(Arithmetic::Add, a, b),
        operators::SUBSTRACT => |a, b| Node::Calculate(Arithmetic::Subtract, a, b),
        operators::MULTIPLY => |a, b| Node::Calculate(Arithmetic::Multiply, a, b),
        operators::DIVIDE => |a, b| Node::Calculate(Arithmetic::Divide, a, b),
        operators::MODULO => |a, b| Node::Calculate(Arithmetic::Remainder, a, b),
        _ => return None,
    })
}

enum Shape<'t> {
    All(&'t IdedExpr),
    Exists(&'t IdedExpr),
    ExistsOne(&'t IdedExpr),
    Map(Option<&'t IdedExpr>, &'t IdedExpr),
}

/// Which macro a comprehension was, by where it begins and what a step does.
fn shape(comprehension: &ComprehensionExpr) -> Option<Shape<'_>> {
    if comprehension.accu_var != RESULT || comprehension.iter_var2.is_some() {
        return None;
    }
    let step = arguments(&comprehension.loop_step)?;
    match (&comprehension.accu_init.expr, step) {
        (Expr::Literal(LiteralValue::Boolean(bool)), (operators::LOGICAL_AND, [_, body]))
            if *bool.inner() =>
        {
            Some(Shape::All(body))
        }
        (Expr::Literal(LiteralValue::Boolean(bool)), (operators::LOGICAL_OR, [_, body]))
            if !*bool.inner() =>
        {
            Some(Shape::Exists(body))
        }
        (Expr::Literal(LiteralValue::Int(_)), (operators::CONDITIONAL, [body, _, _])) => {
            Some(Shape::ExistsOne(body))
        }
        (Expr::List(_), (operators::CONDITIONAL, [condition, append, _])) => {
            Some(Shape::Map(Some(condition), appended(append)?))
        }
        (Expr::List(_), _) => Some(Shape::Map(None, appended(&comprehension.loop_step)?)),
        _ => None,
    }
}

/// What `@result + [x]` appends.
fn appended(tree: &IdedExpr) -> Option<&IdedExpr> {
    match arguments(tree)? {
        (operators::ADD, [_, list]) => match &list.expr {
            Expr::List(list) => list.elements.first(),
            _ => None,
        },
        _ => None,
    }
}

fn arguments(tree: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    match &tree.expr {
        Expr::Call(call) => Some((&call.func_name, &call.args)),
        _ => None,
    }
}

/// Sizes of compiled patterns, with what a byte of text then costs: the slowest way to match goes through
/// all of the pattern for each byte.
const PATTERN_SIZES: [(usize, u64); 4] = [(16 << 10, 1), (64 << 10, 4), (256 << 10, 16), (1 << 20, 64)];

/// The most bytes of all compiled patterns of an expression, each taken for its size's bound.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The most bytes of the table that a pattern's use fills, a thread.
const DFA_BYTES_MAX: usize = 256 << 10;

/// A pattern, and what it takes of what is `left` for patterns.
fn compile_pattern(pattern: &str, left: usize) -> Result<(Pattern, usize), String> {
    for (size, cost_a_byte) in PATTERN_SIZES.into_iter().filter(|(size, _)| *size <= left) {
        match RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(DFA_BYTES_MAX).nest_limit(32).build()
        {
            Ok(regex) => return Ok((Pattern { regex, cost_a_byte }, size)),
            Err(regex::Error::CompiledTooBig(_)) => {}
            // Its message draws the pattern over several lines; the last says what is wrong.
            Err(error) => {
                let message = error.to_string();
                let last = message.lines().last().unwrap_or_default();
                let last = last.strip_prefix("error: ").unwrap_or(last);
                return Err(format!("the pattern of matches() is wrong: {}", shown(last)));
            }
        }
    }
    let what = if left == PATTERN_BYTES_MAX {
        "the pattern of matches() is too large"
    } else {
        "the patterns of matches() are too large together"
    };
    Err(format!("{what}; use smaller repetitions, or fewer classes of characters"))
}

/// The known name that is nearest to another, if it is near at all.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let name: String = name.chars().take(40).collect();
    let distance =
        |known: &'n str| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known);
    known
        .map(distance)
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .map(|(_, known)| known)
}

fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}
