//! The elements of `X-Forwarded-For` and `Forwarded` (RFC 7239), read from their end.
//!
//! Whoever passes a request on appends to what it was sent, so the beginning of a line is the
//! client's and only the end is known to be a proxy's. Nothing of what stands before an element may
//! have a say in how it is read: not an open quote, not a byte that is no text.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The syntax of a list of hops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Syntax {
    /// `X-Forwarded-For`: addresses between commas.
    Addresses,
    /// `Forwarded`: pairs between semicolons, elements between commas; both may be in quotes.
    Elements,
}

impl Syntax {
    /// Returns the address that an element says a request came from, if it says one.
    pub(super) fn address(self, element: &[u8]) -> Option<IpAddr> {
        match self {
            Self::Addresses => address(element),
            Self::Elements => address(for_node(element)?),
        }
    }

    /// Returns the elements of a line, the last one first, and none that is empty.
    pub(super) fn elements_from_the_end(self, line: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let (before, element) = self.cut_last(rest?);
            rest = before;
            Some(element.trim_ascii())
        })
        .filter(|element| !element.is_empty())
    }

    /// Cuts a line before its last element.
    fn cut_last(self, line: &[u8]) -> (Option<&[u8]>, &[u8]) {
        let mut quoted = false;
        for (at, byte) in line.iter().enumerate().rev() {
            match byte {
                // Backwards, a quote that is not escaped opens or closes; outside of a quoted
                // string there is no escape.
                b'"' if self == Self::Elements && !(quoted && is_escaped(line, at)) => {
                    quoted = !quoted;
                }
                b',' if !quoted => return (Some(&line[..at]), &line[at + 1..]),
                _ => {}
            }
        }
        (None, line)
    }
}

/// Whether an odd number of backslashes stands before this byte.
fn is_escaped(line: &[u8], at: usize) -> bool {
    let slashes = line[..at].iter().rev().take_while(|b| **b == b'\\');
    slashes.count() % 2 == 1
}

/// Returns the node in `for=node;proto=http` (RFC 7239, section 4).
///
/// An element that is not one, or names two nodes, was not written by a proxy that can be believed.
fn for_node(element: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    let mut rest = element;
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            None => return found,
            Some(b';') => {
                rest = &rest[1..];
                continue;
            }
            Some(_) => {}
        }
        let equals = rest.iter().position(|b| *b == b'=')?;
        let name = rest[..equals].trim_ascii();
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return None;
        }
        let (value, after) = value(rest[equals + 1..].trim_ascii_start())?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
        rest = after.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b';')) {
            return None;
        }
    }
}

/// Returns a pair's value and what follows it. Ports and brackets are taken without quotes as well,
/// which many proxies forget.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = text.strip_prefix(b"\"") {
        let end = (0..quoted.len()).find(|at| quoted[*at] == b'"' && !is_escaped(quoted, *at))?;
        return Some((&quoted[..end], &quoted[end + 1..]));
    }
    let end = text.iter().position(|b| *b == b';').unwrap_or(text.len());
    let value = text[..end].trim_ascii_end();
    let plain = !value.iter().any(|b| matches!(b, b'"' | b',' | b'='));
    plain.then_some((value, &text[end..]))
}

/// Whether a parameter's name may hold this byte (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns an address given with or without a port, in brackets or not.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = str::from_utf8(node).ok()?;
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = node.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bare = node.strip_prefix('[')?.strip_suffix(']')?;
    let address: Ipv6Addr = bare.parse().ok()?;
    Some(IpAddr::V6(address).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn last(line: &[u8]) -> Option<IpAddr> {
        let element = Syntax::Elements.elements_from_the_end(line).next()?;
        Syntax::Elements.address(element)
    }

    #[test]
    fn an_element_is_read_as_the_proxy_wrote_it() {
        for (line, node) in [
            (
                &b"proto=http;host=\"a;for=6.6.6.6;b\";for=203.0.113.7"[..],
                Some("203.0.113.7"),
            ),
            (
                b"host=\"a,for=6.6.6.6\";for=203.0.113.7",
                Some("203.0.113.7"),
            ),
            (
                b"host=\"a\\\",for=6.6.6.6\";for=203.0.113.7",
                Some("203.0.113.7"),
            ),
            (b"host=\"a\\\\\", for=203.0.113.7", Some("203.0.113.7")),
            (b"for=203.0.113.7;", Some("203.0.113.7")),
            (b"FOR = \"203.0.113.7:80\" ; by=x", Some("203.0.113.7")),
            (b"for=[2001:db8::7]:47", Some("2001:db8::7")),
            (
                b"by=203.0.113.1;xfor=6.6.6.6;for=203.0.113.7",
                Some("203.0.113.7"),
            ),
            // Two nodes, or no element at all.
            (b"for=6.6.6.6;for=203.0.113.7", None),
            (b"for=\"203.0.113.7", None),
            (b"for=203.0.113.7\"", None),
            (b"for=\"203.0.113.7\"x", None),
            (b"for=203.0.113.7 for=6.6.6.6", None),
            (b"for=unknown", None),
            (b"for=_hidden", None),
            (b"for=", None),
            (b"=203.0.113.7", None),
            (b"203.0.113.7", None),
        ] {
            let expected = node.map(|node| node.parse().unwrap());
            assert_eq!(last(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        /// Whatever a header's value may hold.
        #[test]
        fn what_the_client_began_does_not_change_what_the_proxy_appended(
            begun in prop::collection::vec(prop_oneof![
                Just(b'"'), Just(b'\\'), Just(b','), Just(b';'), Just(b'='), Just(b'\t'), 0x20_u8..0x7f, 0x80_u8..,
            ], 0..40),
            host in prop::collection::vec(prop_oneof![Just(b','), Just(b';'), Just(b'='), 0x23_u8..0x5c], 0..20),
            node: [u8; 4],
        ) {
            let node = IpAddr::from(node);
            let plain = [&begun[..], format!(", {node}").as_bytes()].concat();
            let element = Syntax::Addresses.elements_from_the_end(&plain).next();
            prop_assert_eq!(element.and_then(|element| Syntax::Addresses.address(element)), Some(node));
            let host = String::from_utf8(host).unwrap();
            for element in [format!("for={node}"), format!("host=\"{host}\";for=\"{node}\""), format!("for={node};host=\"{host}\"")] {
                let line = [&begun[..], b", ", element.as_bytes()].concat();
                prop_assert_eq!(last(&line), Some(node), "{}", element);
            }
        }
    }
}
