//! The settings of webhooks, and as the adapter takes them.

use super::{
    units::{Bytes, Count, Time},
    values::Config,
};
use adapters_webhook::{AllowList, WebhookConfig};
use serde::Deserialize;
use std::path::PathBuf;

/// `webhooks`. The comments stand in `config.default.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Section {
    allow: Vec<String>,
    response_bytes_max: Bytes,
    connect_timeout: Time,
    requests_max: Count,
    idle_per_host_max: Count,
    idle_timeout: Time,
    ca_file: PathBuf,
}

impl Config {
    /// How webhooks are reached.
    ///
    /// # Errors
    /// The key at fault, and what is wrong with it. The file of certificates is not read yet.
    pub(crate) fn webhooks(&self) -> Result<WebhookConfig, (&'static str, String)> {
        let webhooks = &self.webhooks;
        let allow =
            AllowList::parse(&webhooks.allow).map_err(|error| ("webhooks.allow", error.to_string()))?;
        let counts = [
            ("webhooks.response-bytes-max", webhooks.response_bytes_max.0, 1, 16 << 20),
            ("webhooks.requests-max", webhooks.requests_max.0 as usize, 1, 100_000),
            ("webhooks.idle-per-host-max", webhooks.idle_per_host_max.0 as usize, 0, 10_000),
        ];
        for (key, value, least, most) in counts {
            if value < least || value > most {
                return Err((key, format!("{value} is not between {least} and {most}")));
            }
        }
        let times = [
            ("webhooks.connect-timeout", webhooks.connect_timeout),
            ("webhooks.idle-timeout", webhooks.idle_timeout),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.0.is_zero()) {
            return Err((key, "must be more than nothing".to_owned()));
        }
        Ok(WebhookConfig {
            allow,
            response_bytes_max: webhooks.response_bytes_max.0,
            connect_timeout: webhooks.connect_timeout.0,
            requests_max: webhooks.requests_max.0 as usize,
            idle_per_host_max: webhooks.idle_per_host_max.0 as usize,
            idle_timeout: webhooks.idle_timeout.0,
            ca_file: (!webhooks.ca_file.as_os_str().is_empty()).then(|| webhooks.ca_file.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn set(setting: &str) -> Sources {
        Sources { set: vec![setting.to_owned()], ..Sources::default() }
    }

    #[test]
    fn the_defaults_are_those_of_the_adapter() {
        let config = load(&Sources::default()).expect("good").config;
        assert_eq!(config.webhooks(), Ok(WebhookConfig::default()));
    }

    #[test]
    fn what_is_allowed_is_read() {
        let config = load(&set("webhooks.allow=['localhost:9000', 10.0.0.0/8]")).expect("good").config;
        let allow = config.webhooks().expect("good").allow;
        assert!(allow.has_host("localhost", 9000) && !allow.has_host("localhost", 9001));
        assert!(allow.has_address([10, 1, 2, 3].into(), 80));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (setting, key, word) in [
            ("webhooks.allow=[localhost, 10.0.0.1/8]", "webhooks.allow", "10.0.0.1/8"),
            ("webhooks.response-bytes-max=0", "webhooks.response-bytes-max", "between"),
            ("webhooks.requests-max=0", "webhooks.requests-max", "between"),
            ("webhooks.connect-timeout=0s", "webhooks.connect-timeout", "nothing"),
        ] {
            let text = load(&set(setting)).expect_err("it is wrong").to_string();
            assert!(text.contains(key) && text.contains(word), "{text}");
        }
    }
}
