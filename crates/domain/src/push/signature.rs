//! Signatures of requests, as Standard Webhooks 1.0 has them (symmetric, `v1`).

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// What private and public asymmetric keys begin with.
const ASYMMETRIC: [&str; 2] = ["whsk_", "whpk_"];
/// The bytes that a secret may have.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The most secrets of one target; two are enough to rotate.
const SECRETS_MAX: usize = 8;

/// Base64 with or without its padding, as the libraries of Standard Webhooks take it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The keys of a target, each of which signs every request. None is a target that wants no signature.
#[derive(Clone, Default)]
pub(super) struct SigningKeys(Vec<Hmac<Sha256>>);

impl SigningKeys {
    /// Reads secrets that are separated by spaces.
    ///
    /// # Errors
    /// What is wrong and what would be right, to be put after the field's name; never the secret.
    pub(super) fn parse(secrets: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (index, secret) in secrets.split_ascii_whitespace().enumerate() {
            if index == SECRETS_MAX {
                return Err(format!("must hold at most {SECRETS_MAX} secrets, separated by spaces"));
            }
            let key = key_of(secret).map_err(|problem| match index {
                0 => problem,
                _ => format!("{problem} (secret {} of several)", index + 1),
            })?;
            keys.push(mac(&key)?);
        }
        if keys.is_empty() {
            return Err("must not be empty; leave it out where requests are not to be signed".to_owned());
        }
        Ok(Self(keys))
    }

    /// The value of `webhook-signature`; `None` without a key.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let timestamp = timestamp.to_string();
        let mut signatures = String::with_capacity(self.0.len() * 48);
        for key in &self.0 {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            signatures.push_str("v1,");
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut signatures);
        }
        Some(signatures)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} hidden)", self.0.len())
    }
}

fn key_of(secret: &str) -> Result<Vec<u8>, String> {
    if ASYMMETRIC.iter().any(|prefix| secret.starts_with(prefix)) {
        return Err(format!("must be a symmetric secret, `{PREFIX}…`; asymmetric keys are not supported"));
    }
    let text = secret
        .strip_prefix(PREFIX)
        .ok_or_else(|| format!("must begin with `{PREFIX}`, followed by 24 to 64 random bytes in base64"))?;
    let key = LENIENT.decode(text).map_err(|_| format!("must be base64 behind `{PREFIX}`"))?;
    if !BYTES.contains(&key.len()) {
        let (least, most) = (BYTES.start(), BYTES.end());
        return Err(format!("must decode to {least} to {most} bytes, has {}", key.len()));
    }
    Ok(key)
}

fn mac(key: &[u8]) -> Result<Hmac<Sha256>, String> {
    // HMAC takes keys of every length, so that this does not happen.
    Hmac::new_from_slice(key).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        sign: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        secret: String,
        id: String,
        timestamp: i64,
        body: String,
        signature: String,
    }

    const GOOD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn requests_are_signed_as_the_standards_own_libraries_do() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../tests/vectors/standard_webhooks.json")).unwrap();
        assert_eq!(vectors.sign.len(), 2);
        for vector in vectors.sign {
            // One of the vectors has fewer bytes than the standard asks of a secret.
            let key = LENIENT.decode(&vector.secret[PREFIX.len()..]).unwrap();
            let keys = SigningKeys(vec![mac(&key).unwrap()]);
            let signed = keys.sign(&vector.id, vector.timestamp, vector.body.as_bytes());
            assert_eq!(signed.as_deref(), Some(&*vector.signature));
        }
    }

    #[test]
    fn each_of_several_secrets_signs() {
        let other = format!("{PREFIX}{}", BASE64_STANDARD.encode([7; 64]));
        let both = SigningKeys::parse(&format!("{GOOD}  {other}")).unwrap().sign("a", 1, b"b").unwrap();
        let alone = |secret: &str| SigningKeys::parse(secret).unwrap().sign("a", 1, b"b").unwrap();
        assert_eq!(both, format!("{} {}", alone(GOOD), alone(&other)));
        assert_ne!(alone(GOOD), alone(&other));
    }

    #[test]
    fn padding_may_be_left_out() {
        let bytes = [9; 25];
        let padded = format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes));
        let bare = padded.trim_end_matches('=');
        assert_ne!(padded, bare);
        let sign = |secret: &str| SigningKeys::parse(secret).unwrap().sign("a", 1, b"");
        assert_eq!(sign(&padded), sign(bare));
    }

    #[test]
    fn without_a_secret_there_is_no_signature() {
        assert_eq!(SigningKeys::default().sign("a", 1, b""), None);
    }

    #[test]
    fn a_malformed_secret_is_refused_and_not_repeated() {
        let of = |bytes: usize| format!("{PREFIX}{}", BASE64_STANDARD.encode(vec![1; bytes]));
        for (secret, word) in [
            (String::new(), "empty"),
            ("   ".to_owned(), "empty"),
            ("hunter2hunter2hunter2hunter2".to_owned(), "begin with"),
            ("whsk_hunter2".to_owned(), "asymmetric"),
            (format!("{PREFIX}hunter2?hunter2"), "base64"),
            (of(23), "24 to 64"),
            (of(65), "24 to 64"),
            (format!("{GOOD} {PREFIX}hunter2?"), "secret 2"),
            ([GOOD; 9].join(" "), "at most 8"),
        ] {
            let problem = SigningKeys::parse(&secret).unwrap_err();
            assert!(problem.contains(word), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(SigningKeys::parse(&of(24)).is_ok() && SigningKeys::parse(&of(64)).is_ok());
        assert!(!format!("{:?}", SigningKeys::parse(GOOD).unwrap()).contains("MfKQ"));
    }
}
