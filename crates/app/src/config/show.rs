//! A configuration as text, without its secrets.

use super::layers::{Origin, Settings};
use serde_json::Value;
use std::fmt::Write as _;

/// What a secret's value is shown as.
const HIDDEN: &str = "(hidden)";

/// Whether the value of this key is never to be shown.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    // Where a secret lies is none.
    let location = ["-file", ".location", ".file"].iter().any(|end| key.ends_with(end));
    let named =
        ["password", "passphrase", "secret", "token", "credential", "jaas", "oauthbearer.config", ".pem"];
    !location && (named.iter().any(|word| key.contains(word)) || key.ends_with("ssl.key"))
}

/// All settings, as nested YAML.
pub(super) fn show(settings: &Settings) -> String {
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for (key, setting) in settings.iter() {
        let parts: Vec<&str> = key.split('.').collect();
        // Settings of an open group have dots in their names, and are written with them.
        let depth = if key.starts_with("kafka.") && !key.starts_with("kafka.sasl.") {
            2.min(parts.len() - 1)
        } else {
            parts.len() - 1
        };
        let groups = &parts[..depth];
        let common = open.iter().zip(groups).take_while(|(a, b)| a == b).count();
        open.truncate(common);
        for group in &groups[common..] {
            let _ = writeln!(text, "{}{group}:", "  ".repeat(open.len()));
            open.push(group);
        }
        let value = if is_secret(key) && setting.value != Value::String(String::new()) {
            HIDDEN.to_owned()
        } else if let ("postgres.url", Value::String(url)) = (key, &setting.value) {
            scalar(&Value::String(without_secrets(url)))
        } else {
            without_userinfo(&scalar(&setting.value))
        };
        let from = match &setting.origin {
            Origin::Default => String::new(),
            origin => format!("   # {origin}"),
        };
        let _ = writeln!(text, "{}{}: {value}{from}", "  ".repeat(depth), parts[depth..].join("."));
    }
    text
}

/// JSON is YAML. Words and numbers with a unit need no quotes.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./,".contains(c) || c == ':';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(inner)
        && !text.ends_with(':')
        && !matches!(
            text.to_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        )
}

/// A URL may carry a password.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) => format!("{scheme}://{HIDDEN}{}", &rest[userinfo.len()..]),
        None => text.to_owned(),
    }
}

/// A database's URL. Its password may be among its parameters, or not be written as a URL wants it.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, parameters) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    if parameters.contains('@') {
        return format!("{scheme}://{HIDDEN}");
    }
    let place = place.rsplit_once('@').map_or(place.to_owned(), |(_, place)| format!("{HIDDEN}@{place}"));
    let parameters = if parameters.contains("password") { "?(hidden)" } else { parameters };
    format!("{scheme}://{place}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised_and_their_files_are_not() {
        for key in ["kafka.sasl.password", "kafka.properties.ssl.key.pem", "kafka.producer.sasl.jaas.config"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["kafka.sasl.password-file", "kafka.properties.ssl.key.location", "limits.key-bytes-max"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn a_urls_password_is_not_shown() {
        assert_eq!(without_userinfo("postgres://me:hunter2@db:5432/x"), "postgres://(hidden)@db:5432/x");
        assert_eq!(without_userinfo("http://db/a@b"), "http://db/a@b");
        for (url, shown) in [
            ("postgres://me:hunter2@db/x", "postgres://(hidden)@db/x"),
            ("postgres://me:hun/ter2@db/x", "postgres://(hidden)@db/x"),
            ("postgres://me:h@nter2@db/x?sslmode=require", "postgres://(hidden)@db/x?sslmode=require"),
            ("postgres://me@db/x?password=hunter2", "postgres://(hidden)@db/x?(hidden)"),
            ("postgres://me@db/x?password=hunter@2", "postgres://(hidden)"),
            ("postgres://me:hunter?2@db/x", "postgres://(hidden)"),
            ("postgres://db/x", "postgres://db/x"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
