//! Addresses as users write them.

use super::{
    connector::why_denied,
    error::{denied, invalid},
};
use crate::allow::AllowList;
use http::Uri;
use ports::Result;
use url::{Host, Url};

/// The most bytes of an address.
const BYTES_MAX: usize = 8192;

/// An address, read.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) uri: Uri,
    /// For messages.
    pub(super) host: String,
    port: u16,
}

impl Address {
    /// Reads an address by the rules of browsers, so that a host that is an address in disguise
    /// (`0x7f.1`, `2130706433`) is seen for what it is.
    ///
    /// # Errors
    /// `Invalid`, with a detail to be put after the field's name; it does not repeat the address.
    pub(super) fn read(operation: &'static str, text: &str) -> Result<(Self, Url)> {
        if text.len() > BYTES_MAX {
            let length = text.len();
            return Err(invalid(operation, format!("must have at most {BYTES_MAX} bytes, has {length}")));
        }
        let url = Url::parse(text).map_err(|error| invalid(operation, format!("is no address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(operation, "must be of the scheme `https` or `http`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(operation, "must not hold a user or a password"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(invalid(operation, "names no host"));
        };
        if port == 0 {
            return Err(invalid(operation, "must not name the port 0"));
        }
        let host = host.to_owned();
        let uri = url.as_str().split('#').next().unwrap_or_default();
        let uri = uri.parse().map_err(|error| invalid(operation, format!("cannot be requested: {error}")))?;
        Ok((Self { uri, host, port }, url))
    }

    /// Whether it can be seen without a lookup that the address must not be reached.
    ///
    /// # Errors
    /// `Denied`, with a detail to be put after the field's name.
    pub(super) fn check(operation: &'static str, text: &str, allow: &AllowList) -> Result<()> {
        let (address, url) = Self::read(operation, text)?;
        let (host, port) = (&*address.host, address.port);
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            // RFC 6761: such names are this host, whatever a name server says.
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let is_local = name == "localhost" || name.ends_with(".localhost");
                is_local.then_some(std::net::Ipv4Addr::LOCALHOST.into())
            }
            None => None,
        };
        match literal.and_then(|address| why_denied(allow, host, address, port)) {
            Some(why) => Err(denied(operation, host, why)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::ErrorKind;

    fn kind(text: &str, allow: &[&str]) -> Option<ErrorKind> {
        let allow = AllowList::parse(allow).unwrap();
        Address::check("webhooks.check", text, &allow).err().map(|error| error.kind())
    }

    #[test]
    fn addresses_in_disguise_are_seen_for_what_they_are() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://%31%32%37.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:a9fe:a9fe]/latest/meta-data",
            "http://169.254.169.254/latest/meta-data",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://0/",
            "http:\\\\10.0.0.1/",
        ] {
            assert_eq!(kind(text, &[]), Some(ErrorKind::Denied), "{text}");
            assert_eq!(kind(text, &["*"]), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_requested_is_invalid() {
        for text in [
            "",
            "example.com",
            "ftp://example.com/",
            "https://",
            "https://a:0/",
            "https://u@example.com/",
            "https://a:b@c/",
            "https://a b/",
            "file:///etc/passwd",
        ] {
            assert_eq!(kind(text, &["*"]), Some(ErrorKind::Invalid), "{text}");
        }
        assert_eq!(kind(&format!("https://a/{}", "a".repeat(9000)), &[]), Some(ErrorKind::Invalid));
    }

    #[test]
    fn public_names_and_addresses_pass() {
        for text in [
            "https://example.com/hook?a=1",
            "http://8.8.8.8:8080",
            "https://[2606:4700::1]/",
            "https://bücher.example/",
        ] {
            assert_eq!(kind(text, &[]), None, "{text}");
        }
    }

    #[test]
    fn the_allow_list_is_narrow() {
        assert_eq!(kind("http://localhost:9000/", &["localhost:9000"]), None);
        assert_eq!(kind("http://localhost:9001/", &["localhost:9000"]), Some(ErrorKind::Denied));
        assert_eq!(kind("http://10.0.0.1/", &["10.0.0.0/30"]), None);
        assert_eq!(kind("http://10.0.0.4/", &["10.0.0.0/30"]), Some(ErrorKind::Denied));
    }
}
