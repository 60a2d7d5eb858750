//! Whom to believe about where a request came from.

use super::forwarded::Syntax;
use crate::error::InvalidConfig;
use http::{
    HeaderMap,
    header::{FORWARDED, HeaderName},
};
use std::{net::IpAddr, sync::Arc};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of the proxies that are believed when they say who the client is.
#[doc(alias = "x-forwarded-for")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies(Arc<[Network]>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Network {
    base: IpAddr,
    prefix: u8,
}

impl TrustedProxies {
    /// Reads a list of addresses and networks (`10.0.0.0/8`), separated by commas. An empty list
    /// trusts nobody.
    ///
    /// List only proxies, and not the networks that clients come from: whatever is listed can claim
    /// any address as its client's.
    ///
    /// # Errors
    /// If an entry is neither an address nor a network. The error names it.
    pub fn parse(list: &str) -> Result<Self, InvalidConfig> {
        let entries = list.split(',').map(str::trim);
        let networks = entries.filter(|entry| !entry.is_empty()).map(|entry| {
            Network::parse(entry).ok_or_else(|| {
                let accepts = "an IP address or a network like 10.0.0.0/8";
                InvalidConfig::new("client address key", "trusted_proxies", entry, accepts)
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether this is the address of a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// Returns who sent a request that came from `peer`.
    ///
    /// Every proxy appends the address it was called from, so the list is read from its end, and
    /// only as long as the one who wrote the entry is trusted: what is left of that, the client may
    /// have made up, and it has no say in how the rest is read. An entry that is no address, or is
    /// malformed, ends the walk at the proxy that wrote it.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap, forwarded: bool) -> IpAddr {
        let mut client = peer;
        if !self.trust(client) {
            return client;
        }
        let (name, syntax) = match forwarded {
            true => (FORWARDED, Syntax::Elements),
            false => (X_FORWARDED_FOR, Syntax::Addresses),
        };
        for line in headers.get_all(name).iter().rev() {
            for element in syntax.elements_from_the_end(line.as_bytes()) {
                let Some(address) = syntax.address(element) else {
                    return client;
                };
                client = address;
                if !self.trust(client) {
                    return client;
                }
            }
        }
        client
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((base, prefix)) => (base, Some(prefix)),
        };
        let given: IpAddr = base.parse().ok()?;
        let bits = if given.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // `parse` would also take "+8".
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
        };
        if prefix > bits {
            return None;
        }
        // Addresses are compared in canonical form, so ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        Some(match given.to_canonical() {
            base if base.is_ipv4() && bits == 128 && prefix >= 96 => {
                let prefix = prefix - 96;
                Self { base, prefix }
            }
            _ => Self {
                base: given,
                prefix,
            },
        })
    }

    fn contains(self, address: IpAddr) -> bool {
        let (differ, bits) = match (self.base, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
            _ => return false,
        };
        let host = bits - u32::from(self.prefix);
        differ.checked_shr(host).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies() -> TrustedProxies {
        TrustedProxies::parse("10.0.0.0/8, 192.0.2.1,, fd00::/8").unwrap()
    }

    fn client(lines: &[&str], forwarded: bool) -> String {
        let name = if forwarded {
            FORWARDED
        } else {
            X_FORWARDED_FOR
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, line.parse().unwrap());
        }
        let peer = "10.0.0.1".parse().unwrap();
        proxies().client(peer, &headers, forwarded).to_string()
    }

    #[test]
    fn the_list_is_read_from_its_end_to_the_first_address_that_is_not_trusted() {
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&["203.0.113.7"], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7, 10.2.3.4"], "203.0.113.7"),
            (
                &["1.1.1.1", "203.0.113.7", "192.0.2.1,10.2.3.4"],
                "203.0.113.7",
            ),
            // All of them ours: the farthest.
            (&["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
            (&["203.0.113.7:1234"], "203.0.113.7"),
            (&["[2001:db8::7]:1234"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["2001:db8::7, fd00::1"], "2001:db8::7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, ::ffff:10.0.0.9, "], "203.0.113.7"),
            (&["203.0.113.7, unknown, 10.2.3.4"], "10.2.3.4"),
            (&["203.0.113.7, é"], "10.0.0.1"),
            (&["203.0.113.7, 999.1.1.1"], "10.0.0.1"),
            (&["é, 203.0.113.7, 10.2.3.4"], "203.0.113.7"),
            (&["é", "203.0.113.7"], "203.0.113.7"),
            (&["\", 203.0.113.7"], "203.0.113.7"),
        ] {
            assert_eq!(client(lines, false), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_forwarded_header_is_understood_where_it_is_asked_for() {
        for (lines, expected) in [
            (
                &["for=203.0.113.7;proto=http, for=10.2.3.4"][..],
                "203.0.113.7",
            ),
            (&["proto=http; For=\"[2001:db8::7]:47\""], "2001:db8::7"),
            (&["for=203.0.113.7;by=\"a, for=1.1.1.1\""], "203.0.113.7"),
            // An open quote of the client's does not swallow what the proxy wrote.
            (&["for=\"1.1.1.1, for=203.0.113.7"], "203.0.113.7"),
            (
                &["for=\"é, for=203.0.113.7;host=\"a;for=6.6.6.6,b\""],
                "203.0.113.7",
            ),
            (&["for=1.1.1.1;for=203.0.113.7"], "10.0.0.1"),
            (&["for=203.0.113.7, for=_hidden"], "10.0.0.1"),
            (&["for=203.0.113.7, proto=http"], "10.0.0.1"),
            (&["203.0.113.7"], "10.0.0.1"),
        ] {
            assert_eq!(client(lines, true), expected, "{lines:?}");
        }
    }

    #[test]
    fn networks_are_what_they_say_and_nonsense_is_named() {
        let trusts = |list: &str, address: &str| {
            let proxies = TrustedProxies::parse(list).unwrap();
            proxies.trust(address.parse().unwrap())
        };
        assert!(trusts("10.1.0.0/16", "10.1.255.255") && !trusts("10.1.0.0/16", "10.2.0.0"));
        // The host's bits of a network do not count.
        assert!(trusts("10.1.2.3/16", "10.1.9.9") && trusts("0.0.0.0/0", "255.1.1.1"));
        assert!(!trusts("0.0.0.0/0", "::1") && trusts("::/0", "::1"));
        assert!(trusts("::ffff:10.0.0.0/104", "10.9.9.9") && trusts("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!trusts("", "::1") && !trusts(" , ", "::1"));
        for nonsense in [
            "10.0.0.0/33",
            "::/129",
            "ten",
            "10.0.0.1/",
            "10.0.0.0/+8",
            "::1/64/2",
        ] {
            let error = TrustedProxies::parse(&format!("::1, {nonsense}")).unwrap_err();
            assert!(error.to_string().contains(nonsense), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_a_search_from_the_right(
            addresses in prop::collection::vec((any::<[u8; 4]>(), any::<bool>(), any::<bool>()), 0..8),
        ) {
            let mut headers = HeaderMap::new();
            let mut line = String::new();
            let mut hops = vec![IpAddr::from([10, 0, 0, 1])];
            for ([a, b, c, d], ours, new_line) in addresses {
                let hop = IpAddr::from([if ours { 10 } else { a }, b, c, d]);
                hops.push(hop);
                if new_line {
                    headers.append(X_FORWARDED_FOR, line.parse().unwrap());
                    line.clear();
                }
                line = if line.is_empty() { hop.to_string() } else { format!("{line}, {hop}") };
            }
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
            let proxies = proxies();
            let listed = &hops[1..];
            let expected = listed.iter().rev().find(|hop| !proxies.trust(**hop));
            let expected = *expected.or_else(|| listed.first()).unwrap_or(&hops[0]);
            prop_assert_eq!(proxies.client(hops[0], &headers, false), expected);
        }
    }
}
