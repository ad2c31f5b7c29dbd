//! What may be reached although it is not public.

use std::{fmt, net::IpAddr, str::FromStr};

/// Hosts and networks that may be reached although they are not public.
///
/// | entry | allows |
/// | --- | --- |
/// | `10.1.0.0/16`, `fd00::/8` | addresses of the network, whatever name led there |
/// | `10.1.2.3`, `fd00::1`, `10.1.2.3:8080`, `[fd00::1]:8080` | one address, at every port or at one |
/// | `hooks.internal`, `localhost:9000` | the host of that name, wherever it resolves to |
/// | `*.internal` | every host below that name |
/// | `*` | everything: the guard is off |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Entry>);

/// An entry that cannot be read. Its text says what is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowError(String);

impl fmt::Display for AllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AllowError {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: What,
    /// `None` is every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Everything,
    Host(String),
    /// With the dot before it.
    Below(String),
    Network {
        base: IpAddr,
        bits: u8,
    },
}

impl AllowList {
    /// Reads entries.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, AllowError> {
        entries.into_iter().map(|entry| entry.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the host of this name, in lower case, may be reached wherever it resolves to.
    pub fn has_host(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.');
        self.0.iter().filter(|entry| entry.takes(port)).any(|entry| match &entry.what {
            What::Everything => true,
            What::Host(name) => name == host,
            What::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            What::Network { .. } => false,
        })
    }

    /// Whether this address may be reached, whatever name led to it.
    pub fn has_address(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.0.iter().filter(|entry| entry.takes(port)).any(|entry| match entry.what {
            What::Everything => true,
            What::Network { base, bits } => is_within(address, base, bits),
            What::Host(_) | What::Below(_) => false,
        })
    }
}

impl Entry {
    fn takes(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }
}

impl FromStr for Entry {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let shown: String = text.chars().take(80).collect();
        let wrong = |why: &str| {
            AllowError(format!(
                "`{shown}` {why}; write a network (`10.0.0.0/8`), an address, a host (`hooks.internal`, \
                 `*.internal`), the last two with `:port` where only one is meant, or `*`"
            ))
        };
        if text == "*" {
            return Ok(Self { what: What::Everything, port: None });
        }
        if let Some((base, bits)) = text.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| wrong("is no network"))?;
            let most = if base.is_ipv4() { 32 } else { 128 };
            let bits: u8 =
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| wrong("is no network"))?;
            if !is_within(base, base, bits) || masked(base, bits) != base {
                return Err(wrong("names a network by an address that is not its first"));
            }
            return Ok(Self { what: What::Network { base, bits }, port: None });
        }
        let one = |address: IpAddr| {
            let base = address.to_canonical();
            What::Network { base, bits: if base.is_ipv4() { 32 } else { 128 } }
        };
        if let Ok(address) = text.parse() {
            return Ok(Self { what: one(address), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => {
                let port =
                    port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("has no valid port"))?;
                (host, Some(port))
            }
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(Self { what: one(address), port });
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let (name, is_below) = host.strip_prefix("*.").map_or((&*host, false), |below| (below, true));
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(wrong("is no host"));
        }
        // As an address is written in no other way, this is a slip in one.
        if name.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(wrong("is no address"));
        }
        let what = if is_below { What::Below(format!(".{name}")) } else { What::Host(name.to_owned()) };
        Ok(Self { what, port })
    }
}

/// Whether `address` is in the network of `bits` that `base` is in.
pub(crate) fn is_within(address: IpAddr, base: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == base.is_ipv4() && masked(address, bits) == masked(base, bits)
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        AllowList::parse(entries).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        let none = AllowList::default();
        assert!(!none.has_host("localhost", 80) && !none.has_address(address("127.0.0.1"), 80));
    }

    #[test]
    fn a_network_holds_its_addresses_however_they_are_written() {
        let list = list(&["10.1.0.0/16", "fd00::/8", "127.0.0.1", "0.0.0.0/0"]);
        let list = AllowList(list.0[..3].to_vec());
        for (text, expected) in [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("fdff::1", true),
            ("fe00::1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
        ] {
            assert_eq!(list.has_address(address(text), 80), expected, "{text}");
        }
        assert!(!list.has_host("10.1.0.0", 80));
    }

    #[test]
    fn a_host_is_allowed_by_name_and_those_below_it_by_a_star() {
        let list = list(&["Hooks.Internal.", "*.corp"]);
        for (host, expected) in [
            ("hooks.internal", true),
            ("hooks.internal.", true),
            ("a.hooks.internal", false),
            ("a.corp", true),
            ("a.b.corp", true),
            ("corp", false),
            ("xcorp", false),
        ] {
            assert_eq!(list.has_host(host, 443), expected, "{host}");
        }
    }

    #[test]
    fn a_port_narrows_an_entry() {
        let list = list(&["localhost:9000", "10.0.0.1:80", "[fd00::1]:81"]);
        assert!(list.has_host("localhost", 9000) && !list.has_host("localhost", 9001));
        assert!(list.has_address(address("10.0.0.1"), 80) && !list.has_address(address("10.0.0.1"), 81));
        assert!(list.has_address(address("fd00::1"), 81) && !list.has_address(address("fd00::1"), 80));
    }

    #[test]
    fn a_star_allows_everything() {
        let list = list(&["*"]);
        assert!(list.has_host("a", 1) && list.has_address(address("169.254.169.254"), 80));
    }

    #[test]
    fn what_is_no_entry_is_refused_by_name() {
        for entry in [
            "",
            " ",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "fd00::/129",
            "a/8",
            "10.0.0",
            "10.0.0.256",
            "a:0",
            "a:b",
            "a b",
            "http://a",
            "*a.b",
            "a.*.b",
            "*.",
            "..",
            "a..b",
            "/",
        ] {
            let error = AllowList::parse([entry]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{entry}`")) && error.contains("10.0.0.0/8"),
                "{entry}: {error}"
            );
        }
    }
}
