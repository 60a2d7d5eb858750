//! What a response says about being kept (RFC 9111 and 5861): pure.

use crate::cache::Freshness;
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

/// The directives of a `Cache-Control` field that mean something to a shared cache.
#[derive(Debug, Default)]
struct Directives {
    never: bool,
    no_stale: bool,
    max_age: Option<Duration>,
    shared_max_age: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

/// Returns for how long a response of this status and with these fields is good for what, if it may
/// be stored. `default` is for those that do not say; `negative` is for how long it holds that
/// something is not there.
///
/// Whether it may be stored, and whether callers who wait for it together may share it, is one
/// decision: those who wait are others just as those who come later (RFC 9111, 3 and 4).
pub(super) fn kept(
    status: StatusCode,
    headers: &HeaderMap,
    default: Freshness,
    negative: Duration,
    varies_by: &[HeaderName],
    now: SystemTime,
) -> Option<Freshness> {
    let directives = Directives::of(headers);
    if directives.never || headers.contains_key(header::SET_COOKIE) {
        return None;
    }
    if !known_to_vary(headers, varies_by) || status == StatusCode::NOT_MODIFIED {
        return None;
    }
    let default = match status.as_u16() {
        200 | 203 | 204 | 300 | 301 | 308 => default,
        404 | 410 => Freshness::fresh(negative.min(default.fresh)),
        // Others are stored only if they say so, and partial answers and errors not even then.
        _ if status == StatusCode::PARTIAL_CONTENT => return None,
        _ if status.is_server_error() => return None,
        _ if directives.max_age.or(directives.shared_max_age).is_none() => return None,
        _ => Freshness::fresh(Duration::ZERO),
    };
    let lifetime = directives
        .shared_max_age
        .or(directives.max_age)
        .or_else(|| expires(headers, now));
    // How long it may be fresh from now on, and how long it has been stale: its stale times, too,
    // have begun when it went stale, and not when it got here.
    let (fresh, late) = match (lifetime, age(headers)) {
        (Some(lifetime), age) => (lifetime.saturating_sub(age), age.saturating_sub(lifetime)),
        (None, _) => (default.fresh, Duration::ZERO),
    };
    let (swr, sie) = (default.stale_while_revalidate, default.stale_if_error);
    let stale = |said: Option<Duration>, default| match directives.no_stale {
        true => Duration::ZERO,
        false => said.unwrap_or(default).saturating_sub(late),
    };
    let freshness = Freshness {
        fresh,
        stale_while_revalidate: stale(directives.stale_while_revalidate, swr),
        stale_if_error: stale(directives.stale_if_error, sie),
    };
    (!freshness.end().is_zero()).then_some(freshness)
}

/// Whether a response that is good for so long is never the answer to another request, but better
/// than an error.
pub(super) fn is_fallback(freshness: &Freshness) -> bool {
    freshness.fresh.is_zero() && freshness.stale_while_revalidate.is_zero()
}

/// Returns how old the response was when it got here.
pub(super) fn age(headers: &HeaderMap) -> Duration {
    let age = headers.get(header::AGE);
    age.and_then(|age| seconds(age.to_str().ok()?))
        .unwrap_or_default()
}

/// Whether a request asks not to be answered from a cache, nor to leave anything in one.
pub(super) fn forbids_storing(headers: &HeaderMap) -> bool {
    directives(headers).any(|(name, _)| name.eq_ignore_ascii_case("no-store"))
}

impl Directives {
    fn of(headers: &HeaderMap) -> Self {
        let mut of = Self::default();
        for (name, value) in directives(headers) {
            // A time that cannot be read is stale at once (RFC 9111, 4.2.1).
            let time = value.and_then(seconds).unwrap_or_default();
            // Of several, the first counts.
            let first = |of: &mut Option<Duration>| *of = of.or(Some(time));
            match &*name.to_ascii_lowercase() {
                // `no-cache` would have to be asked about every time. That it names fields is not
                // looked at, which RFC 9111 (5.2.2.4) allows: without them it is not the response.
                "no-store" | "private" | "no-cache" => of.never = true,
                "must-revalidate" | "proxy-revalidate" => of.no_stale = true,
                "max-age" => first(&mut of.max_age),
                "s-maxage" => {
                    first(&mut of.shared_max_age);
                    of.no_stale = true;
                }
                "stale-while-revalidate" => first(&mut of.stale_while_revalidate),
                "stale-if-error" => first(&mut of.stale_if_error),
                _ => {}
            }
        }
        of
    }
}

/// Returns the members of all `Cache-Control` fields.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = (&str, Option<&str>)> {
    let fields = headers.get_all(header::CACHE_CONTROL).iter();
    // One member that is no text must not hide the others of its field, a `no-store` among them.
    fields
        .flat_map(|field| members(field.as_bytes(), ','))
        .filter_map(|member| str::from_utf8(member).ok())
        .map(|member| match member.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (member.trim(), None),
        })
}

/// Returns the members of a list. A separator in a quoted text is not one between two of them.
pub(super) fn members(field: &[u8], separator: char) -> impl Iterator<Item = &[u8]> {
    let mut quoted = quotes();
    // A text that does not end is none: better one directive too many than a `no-store` overlooked.
    let broken = field.iter().fold(false, |_, c| quoted(char::from(*c)));
    let mut quoted = quotes();
    field.split(move |c| {
        let inside = quoted(char::from(*c)) && !broken;
        char::from(*c) == separator && !inside
    })
}

/// Whether what comes after this character is quoted.
fn quotes() -> impl FnMut(char) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        quoted
    }
}

/// What RFC 9111 (1.2.2) has recipients take for longer than they can count.
const FOR_EVER: u64 = 1 << 31;

/// Reads a number of seconds; more than can be told is for ever.
fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(FOR_EVER)))
}

fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| -> Option<Result<SystemTime, ()>> {
        let text = headers.get(name)?.to_str().map_err(|_| ());
        Some(text.and_then(|text| httpdate::parse_http_date(text).map_err(|_| ())))
    };
    let since = date(header::DATE).and_then(Result::ok).unwrap_or(now);
    match date(header::EXPIRES)? {
        Ok(expires) => Some(expires.duration_since(since).unwrap_or_default()),
        // "0", among others, means that it has expired.
        Err(()) => Some(Duration::ZERO),
    }
}

/// Whether everything that the response depends on is in the key.
fn known_to_vary(headers: &HeaderMap, varies_by: &[HeaderName]) -> bool {
    headers.get_all(header::VARY).iter().all(|field| {
        let names = field.to_str().unwrap_or("*").split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .all(|name| HeaderName::from_str(name).is_ok_and(|name| varies_by.contains(&name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    const DEFAULT: Freshness = Freshness {
        fresh: secs(60),
        stale_while_revalidate: secs(5),
        stale_if_error: secs(600),
    };

    fn of(status: u16, fields: &[(&'static str, &'static str)]) -> Option<Freshness> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        kept(status, &headers, DEFAULT, secs(3), &[header::ACCEPT], now)
    }

    fn times(fresh: u64, swr: u64, sie: u64) -> Option<Freshness> {
        Some(Freshness {
            fresh: secs(fresh),
            stale_while_revalidate: secs(swr),
            stale_if_error: secs(sie),
        })
    }

    #[test]
    fn what_says_nothing_is_kept_as_configured_and_not_found_for_a_shorter_time() {
        assert_eq!(of(200, &[]), times(60, 5, 600));
        assert_eq!(of(404, &[]), times(3, 0, 0));
        for status in [201, 302, 400, 401, 500, 503] {
            assert_eq!(of(status, &[]), None, "{status}");
        }
        for status in [500, 503] {
            let said = [("cache-control", "max-age=9, stale-if-error=9")];
            assert_eq!(of(status, &said), None, "{status}");
        }
        assert_eq!(of(206, &[("cache-control", "max-age=9")]), None);
        assert_eq!(of(304, &[]), None);
    }

    #[test]
    fn cache_control_is_kept_to() {
        let cc = |value| of(200, &[("cache-control", value)]);
        assert_eq!(cc("max-age=7"), times(7, 5, 600));
        assert_eq!(
            cc("public, Max-Age=\"7\", stale-while-revalidate=2 , stale-if-error=3"),
            times(7, 2, 3)
        );
        assert_eq!(cc("max-age=7, s-maxage=9"), times(9, 0, 0));
        assert_eq!(cc("max-age=7, must-revalidate"), times(7, 0, 0));
        assert_eq!(cc("max-age=0, must-revalidate"), None);
        assert_eq!(cc("max-age=-1, stale-if-error=9"), times(0, 5, 9));
        assert_eq!(
            cc("max-age=99999999999999999999, must-revalidate"),
            times(1 << 31, 0, 0)
        );
        for never in [
            "no-store",
            "private",
            "no-cache",
            "max-age=9, private=\"x\"",
            "max-age=9, no-cache=\"x\"",
        ] {
            assert_eq!(cc(never), None, "{never}");
        }
        assert_eq!(
            cc(r#"max-age=7, ext="\", max-age=9, no-store""#),
            times(7, 5, 600)
        );
        assert_eq!(cc(r#"max-age=7, ext="no-store"#), times(7, 5, 600));
        assert_eq!(cc(r#"max-age=7, ext=", no-store"#), None);
        // A member that is no text hides none beside it.
        let mut headers = HeaderMap::new();
        let field = HeaderValue::from_bytes(b"ext=\"\xff\", no-store").unwrap();
        headers.insert(header::CACHE_CONTROL, field);
        assert!(forbids_storing(&headers));
        // Of two the first counts (RFC 9111, 4.2.1).
        assert_eq!(cc("max-age=7, max-age=9"), times(7, 5, 600));
        assert_eq!(cc("s-maxage=7, s-maxage=9"), times(7, 0, 0));
        assert_eq!(of(302, &[("cache-control", "max-age=7")]), times(7, 0, 0));
        assert_eq!(
            of(200, &[("cache-control", "max-age=7"), ("age", "3")]),
            times(4, 5, 600)
        );
        // It was stale for 3 s when it came.
        assert_eq!(
            of(200, &[("cache-control", "max-age=7"), ("age", "10")]),
            times(0, 2, 597)
        );
        // It is not good for anybody but to be better than an error.
        for (kept, fallback) in [
            (cc("max-age=0, stale-while-revalidate=0"), true),
            (
                of(200, &[("cache-control", "max-age=7"), ("age", "20")]),
                true,
            ),
            (cc("max-age=0, stale-while-revalidate=1"), false),
            (cc("max-age=1, stale-while-revalidate=0"), false),
        ] {
            assert_eq!(
                kept.map(|kept| is_fallback(&kept)),
                Some(fallback),
                "{kept:?}"
            );
        }
        assert_eq!(of(200, &[("set-cookie", "a=b")]), None);
    }

    #[test]
    fn expires_counts_from_the_responses_own_date() {
        let at = |s| ("expires", s);
        assert_eq!(
            of(200, &[at("Sun, 06 Nov 1994 08:49:47 GMT")]),
            times(10, 5, 600)
        );
        let date = ("date", "Sun, 06 Nov 1994 08:49:27 GMT");
        assert_eq!(
            of(200, &[at("Sun, 06 Nov 1994 08:49:47 GMT"), date]),
            times(20, 5, 600)
        );
        assert_eq!(of(200, &[at("0")]), times(0, 5, 600));
        assert_eq!(
            of(200, &[at("Sun, 06 Nov 1994 08:49:00 GMT")]),
            times(0, 5, 600)
        );
    }

    #[test]
    fn what_varies_by_something_that_is_not_in_the_key_is_not_kept() {
        assert_eq!(of(200, &[("vary", "Accept")]), times(60, 5, 600));
        for vary in ["*", "accept, accept-language", "\u{7f}"] {
            let Ok(value) = HeaderValue::from_bytes(vary.as_bytes()) else {
                continue;
            };
            let mut headers = HeaderMap::new();
            headers.insert("vary", value);
            let kept = kept(
                StatusCode::OK,
                &headers,
                DEFAULT,
                secs(3),
                &[header::ACCEPT],
                SystemTime::UNIX_EPOCH,
            );
            assert_eq!(kept, None, "{vary}");
        }
    }
}
