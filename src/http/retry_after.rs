//! `Retry-After` (RFC 9110, section 10.2.3).

use crate::clock::wall_clock;
use http::{HeaderMap, header::RETRY_AFTER};
use std::time::Duration;

/// How long a response asks to be left alone: seconds or a date, zero for one that has passed.
/// Anything else is as good as no header.
///
/// Here, and not in `retry.rs`, because the classifier needs it without the `retry` feature.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Digits too many for a number are still a very long time.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall_clock()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn parse(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        retry_after(&headers)
    }

    // case 28
    #[test]
    fn seconds_and_dates_are_understood_and_garbage_is_not() {
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(
            parse("99999999999999999999999"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(
            parse("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO),
            "past"
        );
        let soon = wall_clock() + Duration::from_secs(90);
        let wait = parse(&httpdate::fmt_http_date(soon)).unwrap();
        assert!(wait > Duration::from_secs(85) && wait <= Duration::from_secs(90));
        for garbage in ["", "-1", "1.5", "soon", "+3", "0x10"] {
            assert_eq!(parse(garbage), None, "{garbage}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
