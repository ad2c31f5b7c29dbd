//! From a text to a tree, within bounds.
//!
//! The parser of `cel` recurses: some hundred kilobytes of stack for each level of brackets or conditionals,
//! which it counts and ends at our bound, and some kilobytes for each operator in a row, which only the length
//! of the text bounds. So it runs on a thread whose stack holds twice what may come. If it panics, the thread
//! ends with it, and the expression is refused.

use super::{FilterError, FilterLimits, input::Wanted, lower, node::Node};
use cel::parser::{ParseError, ParseErrors, Parser};
use std::thread;

/// The most bytes of a text, and the most levels, whatever is configured: what the stack holds.
pub(super) const TEXT_BYTES_MAX: usize = 8192;
pub(super) const NESTING_MAX: usize = 48;
/// Touched only as far as it is used.
const STACK_BYTES: usize = 64 << 20;

/// Compiles a text. Blocks for some milliseconds.
pub(super) fn compile(text: &str, limits: &FilterLimits) -> Result<(Node, Wanted), FilterError> {
    let bytes_max = limits.text_bytes_max.min(TEXT_BYTES_MAX);
    if text.len() > bytes_max {
        let message = format!("the expression has {} bytes, and at most {bytes_max} are taken", text.len());
        return Err(FilterError { line: 1, column: 1, message });
    }
    if text.trim().is_empty() {
        return Err(FilterError { line: 1, column: 1, message: "the expression is empty".to_owned() });
    }
    let nesting_max = limits.nesting_max.min(NESTING_MAX);
    let compiled = thread::scope(|scope| {
        let compile = || parse(text, nesting_max);
        let thread = thread::Builder::new().name("filter-compile".into()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, compile).map(thread::ScopedJoinHandle::join)
    });
    match compiled {
        Ok(Ok(compiled)) => compiled,
        Ok(Err(_panic)) => {
            Err(FilterError { line: 1, column: 1, message: "the expression cannot be understood".to_owned() })
        }
        Err(error) => Err(FilterError {
            line: 1,
            column: 1,
            message: format!("the expression cannot be compiled now, for want of a thread: {error}"),
        }),
    }
}

fn parse(text: &str, nesting_max: usize) -> Result<(Node, Wanted), FilterError> {
    let parser = Parser::new()
        .max_recursion_depth(nesting_max as u16 + 1)
        .error_recovery_limit(8)
        .enable_ident_escape_syntax(true);
    let (tree, source) = parser.parse_with_source_info(text).map_err(|errors| first(errors, nesting_max))?;
    lower::lower(&tree, &source, text)
}

/// An error at a byte of the text.
pub(super) fn at(text: &str, byte: usize, message: String) -> FilterError {
    let before = &text[..text.floor_char_boundary(byte)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    FilterError { line, column, message }
}

/// The error to show: the first, unless a later one says that the nesting is too deep, of which the others
/// are consequences.
fn first(errors: ParseErrors, nesting_max: usize) -> FilterError {
    let errors = errors.errors;
    let too_deep = errors.iter().find(|error| error.msg.contains("Recursion limit"));
    // What the parser says of holes in its own tree follows from what it could not read.
    let is_cause =
        |error: &&ParseError| !error.msg.starts_with("Incomplete `") && !error.msg.starts_with("No `");
    let Some(error) = too_deep.or_else(|| errors.iter().find(is_cause)).or(errors.first()) else {
        return FilterError { line: 1, column: 1, message: "the expression cannot be understood".to_owned() };
    };
    let message = if too_deep.is_some() {
        format!("it is nested deeper than {nesting_max}; write the levels side by side")
    } else {
        said(error)
    };
    let from_one = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    FilterError { line: from_one(error.pos.0), column: from_one(error.pos.1), message }
}

/// The parser's message as a sentence: what it expected is a list of all the tokens there are.
fn said(error: &ParseError) -> String {
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let message = message.split_once(" expecting ").map_or(message, |(message, _)| message);
    let quoted = |after: &str| {
        let quoted = message.strip_prefix(after)?.trim().trim_start_matches('\'').trim_end_matches('\'');
        Some(quoted.chars().take(40).flat_map(char::escape_debug).collect::<String>())
    };
    for after in ["mismatched input", "extraneous input", "no viable alternative at input"] {
        match quoted(after).as_deref() {
            Some("<EOF>") => return "the expression ends where something is still missing".to_owned(),
            Some(token) => return format!("`{token}` is not expected here"),
            None => {}
        }
    }
    if let Some(token) = quoted("token recognition error at:") {
        return format!(
            "`{token}` cannot be read; a string begins and ends with the same quotes, on one line"
        );
    }
    if let Some(token) = message.strip_prefix("missing '").and_then(|rest| rest.split('\'').next()) {
        return format!("`{token}` is missing here");
    }
    if message.contains("invalid argument to has() macro") {
        return "has() takes a field, as in has(headers.trace); an attribute that is missing is null"
            .to_owned();
    }
    message.chars().take(200).flat_map(char::escape_debug).collect()
}
