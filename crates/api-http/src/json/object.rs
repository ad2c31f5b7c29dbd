//! An object whose members are taken out one by one: for requests where a few fields are read once.

use super::read::{elements, integer, is_null, members, short, string, unknown_field, wrong_type};
use domain::{Error, Result};
use std::{borrow::Cow, collections::BTreeMap};

/// The members of an object that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    /// What stands before the names of its fields in errors: empty, or ending in a dot.
    prefix: String,
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Object<'a> {
    /// Reads the body of a request, all of whose members must be `known`.
    pub(crate) fn body(text: &'a str, known: &[&str]) -> Result<Self> {
        Self::with_prefix(text, String::new(), Some(known))
    }

    /// Reads the value of `field`, an object all of whose members must be `known`.
    pub(crate) fn at(field: &str, raw: &'a str, known: &[&str]) -> Result<Self> {
        if !raw.starts_with('{') {
            return Err(wrong_type(field, "an object", raw));
        }
        Self::with_prefix(raw, format!("{field}."), Some(known))
    }

    /// Reads the value of `field`, an object with members of any name.
    pub(crate) fn map(field: &str, raw: &'a str) -> Result<Self> {
        if !raw.starts_with('{') {
            return Err(wrong_type(field, "an object", raw));
        }
        Self::with_prefix(raw, format!("{field}."), None)
    }

    fn with_prefix(text: &'a str, prefix: String, known: Option<&[&str]>) -> Result<Self> {
        let mut found: Vec<(Cow<'a, str>, &'a str)> = Vec::new();
        members(text, |name, raw| {
            let field = || format!("{prefix}{}", short(&name));
            match known {
                Some(known) if !known.contains(&&*name) => return Err(unknown_field(field(), &name, known)),
                // Where any name goes there may be many: a map finds its doubles by itself.
                Some(_) if found.iter().any(|(other, _)| *other == name) => {
                    return Err(Error::invalid(field(), "is given twice"));
                }
                _ => {}
            }
            found.push((name, raw));
            Ok(())
        })?;
        Ok(Self { prefix, members: found })
    }

    /// The path of the member `name`.
    pub(crate) fn field(&self, name: &str) -> String {
        format!("{}{}", self.prefix, short(name))
    }

    /// The raw value of `name`; `None` where it is null or not there.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a str> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        let (_, raw) = self.members.swap_remove(at);
        (!is_null(raw)).then_some(raw)
    }

    /// A string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>> {
        let raw = self.raw(name);
        raw.map(|raw| string(&self.field(name), raw).map(Cow::into_owned)).transpose()
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        let raw = self.raw(name);
        raw.map(|raw| integer(&self.field(name), raw)).transpose()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        match self.raw(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(raw) => Err(wrong_type(&self.field(name), "`true` or `false`", raw)),
        }
    }

    /// A number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let number = raw.parse().ok().filter(|_| !raw.starts_with(|c: char| c.is_ascii_alphabetic()));
        number.map(Some).ok_or_else(|| wrong_type(&self.field(name), "a number", raw))
    }

    /// Whether a member is there and null.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.members.iter().any(|(member, raw)| member == name && is_null(raw))
    }

    /// The raw elements of an array, each with its path; empty where it is not there.
    pub(crate) fn array(&mut self, name: &str) -> Result<Vec<(String, &'a str)>> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        let field = self.field(name);
        if !raw.starts_with('[') {
            return Err(wrong_type(&field, "an array", raw));
        }
        let mut found = Vec::new();
        elements(raw, |index, raw| {
            found.push((format!("{field}[{index}]"), raw));
            Ok(())
        })?;
        Ok(found)
    }

    /// The strings of an array; empty where it is not there.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        let field = self.field(name);
        if !raw.starts_with('[') {
            return Err(wrong_type(&field, "an array", raw));
        }
        let mut found = Vec::new();
        elements(raw, |index, raw| {
            // The path is made only where it is needed: there may be thousands.
            let Ok(text) = string("", raw) else {
                return string(&format!("{field}[{index}]"), raw).map(drop);
            };
            found.push(text.into_owned());
            Ok(())
        })?;
        Ok(found)
    }

    /// All members that are left, each read by `read` from its path and raw value.
    pub(crate) fn entries<T>(
        self,
        mut read: impl FnMut(&str, &'a str) -> Result<T>,
    ) -> Result<BTreeMap<String, T>> {
        let mut entries = BTreeMap::new();
        for (name, raw) in self.members {
            let field = format!("{}{}", self.prefix, short(&name));
            let value = read(&field, raw)?;
            if entries.insert(name.into_owned(), value).is_some() {
                return Err(Error::invalid(field, "is given twice"));
            }
        }
        Ok(entries)
    }

    /// The names of the members that are left and not null.
    pub(crate) fn named(&self) -> Vec<String> {
        let named = self.members.iter().filter(|(_, raw)| !is_null(raw));
        named.map(|(name, _)| self.field(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_unknown_and_doubled_members_are_named_by_path() {
        let field = |error: Error| error.fields()[0].field.clone();
        assert_eq!(field(Object::body(r#"{"a":1,"x":2}"#, &["a"]).unwrap_err()), "x");
        assert_eq!(field(Object::body(r#"{"a":1,"a":2}"#, &["a"]).unwrap_err()), "a");
        assert_eq!(field(Object::at("o", r#"{"b":1}"#, &["a"]).unwrap_err()), "o.b");
        assert_eq!(field(Object::at("o", "[]", &["a"]).unwrap_err()), "o");
        let mut object = Object::body(r#"{"s":1,"i":1.5,"l":["x",7]}"#, &["s", "i", "l"]).unwrap();
        assert_eq!(field(object.string("s").unwrap_err()), "s");
        assert_eq!(field(object.integer("i").unwrap_err()), "i");
        assert_eq!(field(object.strings("l").unwrap_err()), "l[1]");
        let map = Object::map("m", r#"{"x":1,"x":2}"#).unwrap();
        assert_eq!(field(map.entries(integer).unwrap_err()), "m.x");
    }

    #[test]
    fn null_is_as_if_left_out() {
        let mut object = Object::body(r#"{"s":null,"l":null,"n":null}"#, &["s", "l", "n"]).unwrap();
        assert_eq!(object.string("s").unwrap(), None);
        assert_eq!(object.strings("l").unwrap(), Vec::<String>::new());
        assert_eq!(object.named(), Vec::<String>::new());
    }
}
