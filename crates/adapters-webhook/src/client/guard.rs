//! Which addresses are public.

use crate::allow::is_within;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, and what it is.
type Network<A> = (A, u8, &'static str);

/// IPv4 networks that are not public (the IANA registry of special-purpose addresses, and one that a cloud
/// uses as its own although it is not in there).
const V4: [Network<[u8; 4]>; 17] = [
    ([0, 0, 0, 0], 8, "of this host"),
    ([10, 0, 0, 0], 8, "in a private network"),
    ([100, 64, 0, 0], 10, "in a provider's shared network"),
    ([127, 0, 0, 0], 8, "of this host"),
    ([168, 63, 129, 16], 32, "a cloud's own service"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "in a private network"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 88, 99, 0], 24, "reserved"),
    ([192, 168, 0, 0], 16, "in a private network"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "a multicast group"),
    ([240, 0, 0, 0], 4, "reserved"),
    ([255, 255, 255, 255], 32, "broadcast"),
];

/// What of IPv6's public part, `2000::/3`, is not public all the same.
const V6: [Network<Ipv6Addr>; 3] = [
    // Teredo, ORCHID, benchmarks and other protocols' own.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// IPv6 networks outside of the public part, for the sake of what is told.
const V6_NAMED: [Network<Ipv6Addr>; 5] = [
    (Ipv6Addr::UNSPECIFIED, 128, "of this host"),
    (Ipv6Addr::LOCALHOST, 128, "of this host"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "in a private network"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast group"),
];

/// Why an address is not public, as `in a private network`; `None` for one that is.
///
/// An address that stands for an IPv4 address (mapped, NAT64, 6to4) is what that is.
pub(super) fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => why_not_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => why_not_v4(v4),
            None => why_not_v6(v6),
        },
    }
}

fn why_not_v4(address: Ipv4Addr) -> Option<&'static str> {
    V4.iter()
        .find(|(base, bits, _)| is_within(address.into(), IpAddr::from(*base), *bits))
        .map(|(.., why)| *why)
}

fn why_not_v6(address: Ipv6Addr) -> Option<&'static str> {
    let find = |networks: &[Network<Ipv6Addr>]| {
        networks
            .iter()
            .find(|(base, bits, _)| is_within(address.into(), (*base).into(), *bits))
            .map(|(.., why)| *why)
    };
    if is_within(address.into(), Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(), 3) {
        find(&V6)
    } else {
        find(&V6_NAMED).or(Some("reserved"))
    }
}

/// The IPv4 address that packets to this one end at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // ::ffff:0:0/96 (mapped), ::ffff:0:0:0/96 (translated), 64:ff9b::/96 (NAT64).
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => {
            Some(low(a, b))
        }
        // 2002::/16 (6to4).
        [0x2002, a, b, ..] => Some(low(a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_told_from_what_is() {
        for (text, is_public) in [
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.100.100.200", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("168.63.129.16", false),
            ("168.63.129.17", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.192", false),
            ("192.0.2.1", false),
            ("192.167.255.255", true),
            ("192.168.0.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("8.8.8.8", true),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::ffff:0:10.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::808:808", false),
            ("2002:7f00:1::", false),
            ("2002:c0a8:101::1", false),
            ("2002:808:808::1", true),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2001:4860:4860::8888", true),
            ("3fff::1", false),
            ("2606:4700::1", true),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("100::1", false),
            ("5f00::1", false),
            ("4000::1", false),
        ] {
            let why = why_not_public(text.parse().unwrap());
            assert_eq!(why.is_none(), is_public, "{text}: {why:?}");
        }
    }
}
