//! What rejections say of themselves between processes.

use crate::error::Kind;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, or gRPC metadata, by which a rejection that was answered tells its kind.
pub(crate) const REJECTED: HeaderName = HeaderName::from_static(REJECTED_NAME);
pub(crate) const REJECTED_NAME: &str = "buttress-rejected";

/// Returns the marker of this kind of rejection.
pub(crate) const fn token(kind: Kind) -> &'static str {
    match kind {
        Kind::CircuitOpen => "circuit-open",
        Kind::RateLimited => "rate-limited",
        Kind::Overloaded => "overloaded",
        Kind::Throttled => "throttled",
        Kind::TimedOut => "timed-out",
        Kind::DeadlineExceeded => "deadline-exceeded",
        Kind::NotReady => "not-ready",
        Kind::LoadFailed => "load-failed",
    }
}

pub(crate) fn mark(headers: &mut HeaderMap, kind: Kind) {
    headers.insert(REJECTED, HeaderValue::from_static(token(kind)));
}

/// Returns the kind of rejection that these headers, or trailers, tell of. `None` if they tell of
/// none, or of one that this version does not know.
pub(crate) fn marked(headers: &HeaderMap) -> Option<Kind> {
    let value = headers.get(REJECTED)?;
    let kinds = Kind::ALL.iter().copied();
    kinds.into_iter().find(|kind| value == token(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart_by_whoever_reads_its_marker() {
        for kind in Kind::ALL.iter().copied() {
            let mut headers = HeaderMap::new();
            assert_eq!(marked(&headers), None);
            mark(&mut headers, kind);
            assert_eq!(marked(&headers), Some(kind));
        }
        let mut headers = HeaderMap::new();
        for unknown in ["", "Overloaded", "overloaded ", "later"] {
            headers.insert(REJECTED, HeaderValue::from_static(unknown));
            assert_eq!(marked(&headers), None, "{unknown}");
        }
    }
}
