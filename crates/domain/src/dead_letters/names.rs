//! Words that many dead letters share, each kept once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// So many different words are told apart; those beyond are counted together.
pub(super) const NAMES_MAX: usize = 10_000;
/// The most bytes of a word; the rest is cut off.
const NAME_BYTES_MAX: usize = 200;

/// A word, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(u16);

impl Name {
    /// Nothing was said.
    pub(super) const NONE: Self = Self(u16::MAX);
    /// One of those that are not told apart.
    pub(super) const OTHER: Self = Self(u16::MAX - 1);
}

/// The words of one index. None is forgotten before the index is.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, Name>,
    words: Vec<Arc<str>>,
}

impl Names {
    /// The number of a word, which is given one where it has none.
    pub(super) fn intern(&mut self, word: &str) -> Name {
        let word = cut(word);
        if let Some(name) = self.numbers.get(word) {
            return *name;
        }
        if self.words.len() >= NAMES_MAX {
            return Name::OTHER;
        }
        let (name, word) = (Name(self.words.len() as u16), Arc::<str>::from(word));
        self.numbers.insert(word.clone(), name);
        self.words.push(word);
        name
    }

    /// The number of a word that has one.
    pub(super) fn find(&self, word: &str) -> Option<Name> {
        self.numbers.get(cut(word)).copied()
    }

    /// The word; `None` for nothing and for those that are not told apart.
    pub(super) fn word(&self, name: Name) -> Option<&str> {
        self.words.get(usize::from(name.0)).map(|word| &**word)
    }
}

/// How often words come.
#[derive(Debug)]
pub(super) struct Tally(Vec<u64>);

impl Tally {
    pub(super) fn new() -> Self {
        Self(vec![0; usize::from(u16::MAX) + 1])
    }

    pub(super) fn add(&mut self, name: Name) {
        self.0[usize::from(name.0)] += 1;
    }

    /// What was counted, by word.
    pub(super) fn by_word(&self, names: &Names) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (number, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let name = Name(number as u16);
            let word = if name == Name::NONE { "(none)" } else { names.word(name).unwrap_or("(other)") };
            *counts.entry(word.to_owned()).or_default() += count;
        }
        counts
    }
}

fn cut(word: &str) -> &str {
    let mut end = word.len().min(NAME_BYTES_MAX);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_number_and_too_many_are_counted_together() {
        let mut names = Names::default();
        let first = names.intern("timeout");
        assert_eq!((names.intern("timeout"), names.find("timeout")), (first, Some(first)));
        assert_eq!(names.word(first), Some("timeout"));
        for n in 1..NAMES_MAX {
            names.intern(&n.to_string());
        }
        assert_eq!(names.intern("one more"), Name::OTHER);
        assert_eq!(
            (names.find("one more"), names.word(Name::OTHER), names.word(Name::NONE)),
            (None, None, None)
        );
        assert_eq!(names.intern("timeout"), first);
    }

    #[test]
    fn a_long_word_is_cut_at_a_character() {
        let mut names = Names::default();
        let name = names.intern(&"ä".repeat(150));
        assert_eq!(names.word(name), Some("ä".repeat(100).as_str()));
    }
}
