//! What is shown of somebody else's text: a piece of it, printable, without our secrets.

use crate::subscriptions::policy::PushTarget;
use std::fmt;

/// The most characters that are shown.
const CHARS_MAX: usize = 256;
/// What stands for a secret.
const HIDDEN: &str = "***";
/// Words of a target that are shorter than this are no secrets worth the name; hiding them would only spoil
/// what is shown.
const SECRET_MIN: usize = 6;
/// The same for parts of the path, most of which are plain words.
const PATH_SECRET_MIN: usize = 16;

/// Shows texts from outside. A receiver may well send back what it was sent.
#[derive(Clone)]
pub(super) struct Excerpts {
    /// Longest first, so that a secret that holds another is hidden as a whole.
    secrets: Vec<String>,
}

impl Excerpts {
    /// For what comes back from `target`.
    pub(super) fn new(target: &PushTarget) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        let signing = target.secret.iter().flat_map(|secret| secret.split_ascii_whitespace());
        // A secret is told with its prefix or without.
        secrets
            .extend(signing.flat_map(|secret| [secret, secret.trim_start_matches("whsec_")]).map(Into::into));
        secrets.extend(target.headers.values().flat_map(|v| v.split_ascii_whitespace()).map(Into::into));
        let (path, query) = target.url.split_once('?').unwrap_or((&target.url, ""));
        let queried = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        secrets.extend(queried.map(Into::into));
        secrets.retain(|secret| secret.len() >= SECRET_MIN);
        let parts = path.split('/').skip(3).filter(|part| part.len() >= PATH_SECRET_MIN);
        secrets.extend(parts.map(Into::into));
        secrets.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        Self { secrets }
    }

    /// The first characters of `text`: runs of what cannot be printed are a blank, secrets are hidden.
    pub(super) fn of(&self, text: &[u8]) -> String {
        // All of it before it is cut, as else a part of a secret might be left at the cut.
        let mut text = String::from_utf8_lossy(text).into_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        let mut shown = String::new();
        let mut chars = 0;
        for character in text.chars() {
            let character = if is_printable(character) { character } else { ' ' };
            if character == ' ' && (shown.is_empty() || shown.ends_with(' ')) {
                continue;
            }
            if chars == CHARS_MAX {
                shown.push('…');
                break;
            }
            shown.push(character);
            chars += 1;
        }
        shown.truncate(shown.trim_end().len());
        shown
    }
}

impl fmt::Debug for Excerpts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Excerpts({} secrets)", self.secrets.len())
    }
}

/// Neither a control character nor one that changes how those around it are shown.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !character.is_whitespace()
        && !matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriptions::policy::PushFormat;
    use proptest::prelude::*;
    use std::time::Duration;

    fn target() -> PushTarget {
        PushTarget {
            url: "https://hooks.example/services/T0AB12CD34EF56GH78?token=querysecret&x=1".to_owned(),
            format: PushFormat::Binary,
            secret: Some("whsec_signingsecret".to_owned()),
            timeout: Duration::from_secs(1),
            headers: [("authorization".to_owned(), "Bearer headersecret".to_owned())].into(),
            concurrency: 1,
        }
    }

    #[test]
    fn what_a_receiver_sends_back_of_ours_is_hidden() {
        let excerpts = Excerpts::new(&target());
        for secret in
            ["signingsecret", "whsec_signingsecret", "headersecret", "querysecret", "T0AB12CD34EF56GH78"]
        {
            let shown = excerpts.of(format!("you sent {secret} and /services/").as_bytes());
            assert_eq!(shown, "you sent *** and /services/");
        }
        assert!(!format!("{excerpts:?}").contains("secret\""));
    }

    #[test]
    fn a_secret_at_the_cut_does_not_show_in_part() {
        for before in CHARS_MAX - 20..=CHARS_MAX {
            let shown = Excerpts::new(&target()).of(format!("{}headersecret", "a".repeat(before)).as_bytes());
            assert!(!shown.contains("head"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_bounded_and_printable(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
            let shown = Excerpts::new(&target()).of(&bytes);
            prop_assert!(shown.chars().count() <= CHARS_MAX + 1);
            prop_assert!(shown.chars().all(|c| c == ' ' || is_printable(c)));
        }
    }
}
