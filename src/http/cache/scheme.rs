//! Which scheme the client used, as far as a request says.

use super::control;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Writes what a request says of its scheme; nothing, if it says nothing.
///
/// Who wrote the fields is not known, and need not be: nothing is believed, answers are only kept
/// apart by what the service may go by. So that anybody who makes up values gets to few keys, they
/// are told apart as `http`, `https` and everything else, and of a list only the ends count, which
/// are what services look at. They are compared as they stand: a service that looks for `https` may
/// not take `HTTPS` for it.
pub(super) fn write(uri: &Uri, headers: &HeaderMap, ignores: &[HeaderName], key: &mut String) {
    let begin = key.len();
    if let Some(scheme) = uri.scheme_str() {
        key.extend(['u', class(scheme)]);
    }
    let mut field = |name: &HeaderName, letter, told: fn(&str) -> ToldScheme| {
        if !headers.contains_key(name) || ignores.contains(name) {
            return;
        }
        let lines = headers.get_all(name).iter();
        let all = lines.map(|line| HeaderValue::to_str(line).map_or(ToldScheme::UNKNOWN, told));
        if let Some(ToldScheme { first, last, more }) = all.reduce(ToldScheme::and) {
            key.extend([letter, first, last, if more { '+' } else { '1' }]);
        }
    };
    field(&X_FORWARDED_PROTO, 'x', list);
    field(&header::FORWARDED, 'f', forwarded);
    if key.len() > begin {
        key.push('\0');
    }
}

/// What a line tells: the first and the last scheme, and whether there are more than one.
#[derive(Clone, Copy)]
struct ToldScheme {
    first: char,
    last: char,
    more: bool,
}

impl ToldScheme {
    const UNKNOWN: Self = Self {
        first: OTHER,
        last: OTHER,
        more: false,
    };

    fn and(self, next: Self) -> Self {
        Self {
            first: self.first,
            last: next.last,
            more: true,
        }
    }
}

const OTHER: char = '-';

fn class(scheme: &str) -> char {
    match scheme {
        "http" => 'h',
        "https" => 's',
        _ => OTHER,
    }
}

fn list(line: &str) -> ToldScheme {
    let told = |scheme| ToldScheme {
        first: class(scheme),
        last: class(scheme.trim_start()),
        more: false,
    };
    let all = line.split(',').map(told);
    all.reduce(ToldScheme::and).unwrap_or(ToldScheme::UNKNOWN)
}

/// Reads a line of `Forwarded` (RFC 7239): `for=192.0.2.1;proto=https, for=...`.
fn forwarded(line: &str) -> ToldScheme {
    let elements = control::members(line.as_bytes(), ',');
    let pairs = elements.flat_map(|element| control::members(element, ';'));
    let pairs = pairs.filter_map(|pair| str::from_utf8(pair).ok());
    let schemes = pairs.filter_map(|pair| {
        let (name, scheme) = pair.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("proto");
        let class = class(scheme.trim_end());
        named.then_some(ToldScheme {
            first: class,
            last: class,
            more: false,
        })
    });
    schemes
        .reduce(ToldScheme::and)
        .unwrap_or(ToldScheme::UNKNOWN)
}
