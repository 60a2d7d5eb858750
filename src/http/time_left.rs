//! The time that a call has left, as headers: pure.

use super::content_type::GrpcType;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header that carries a deadline, as the milliseconds that are left: `x-request-timeout-ms`.
///
/// Its value is a decimal integer. It is the time that is left and not the moment itself, because
/// the clocks of two machines may differ by more than such times, while the way from one machine to
/// the other is short beside them.
pub const DEADLINE_HEADER: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The header that carries the deadline of a gRPC call: up to eight digits and a unit.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns how long a request's caller will wait.
pub(super) fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let plain = headers.get(DEADLINE_HEADER).and_then(|value| {
        let millis = digits(value.to_str().ok()?, usize::MAX)?;
        Some(Duration::from_millis(millis))
    });
    let grpc = headers.get(GRPC_TIMEOUT).and_then(parse_grpc);
    match (plain, grpc) {
        (Some(plain), Some(grpc)) => Some(plain.min(grpc)),
        (plain, grpc) => plain.or(grpc),
    }
}

/// Writes how long is left; false if that is nothing.
pub(super) fn write(headers: &mut HeaderMap, left: Duration) -> bool {
    let left = time_left(headers).map_or(left, |given| given.min(left));
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return false;
    }
    headers.insert(DEADLINE_HEADER, HeaderValue::from(millis));
    if GrpcType::of(headers).is_some() {
        headers.insert(GRPC_TIMEOUT, grpc_value(left));
    }
    true
}

/// The units of `grpc-timeout` ("gRPC over HTTP2", Requests), in nanoseconds, finest first.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

fn parse_grpc(value: &HeaderValue) -> Option<Duration> {
    let (unit, number) = value.as_bytes().split_last()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    let number = digits(std::str::from_utf8(number).ok()?, 8)?;
    Some(Duration::from_nanos(number.saturating_mul(*nanos)))
}

/// Returns a time in the finest unit that eight digits are enough for, rounded down.
fn grpc_value(left: Duration) -> HeaderValue {
    let fits = |(_, nanos): &&(u8, u64)| left.as_nanos() / u128::from(*nanos) < 100_000_000;
    let (unit, nanos) = UNITS.iter().find(fits).unwrap_or(&UNITS[5]);
    let number = (left.as_nanos() / u128::from(*nanos)).min(99_999_999);
    let text = format!("{number}{}", char::from(*unit));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

/// Digits only (`parse` takes a sign), no more than so many; too many for a number is the most.
fn digits(text: &str, most: usize) -> Option<u64> {
    let valid = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grpc(text: &'static str) -> Option<Duration> {
        parse_grpc(&HeaderValue::from_static(text))
    }

    #[test]
    fn grpc_timeouts_of_every_unit_are_read_and_malformed_ones_are_not() {
        let s = Duration::from_secs;
        assert_eq!(grpc("2H"), Some(s(7_200)));
        assert_eq!(grpc("3M"), Some(s(180)));
        assert_eq!(grpc("99999999S"), Some(s(99_999_999)));
        assert_eq!(grpc("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc("7u"), Some(Duration::from_micros(7)));
        assert_eq!(grpc("0n"), Some(Duration::ZERO));
        assert!(grpc("99999999H").is_some());
        for malformed in [
            "",
            "S",
            "5",
            "5s",
            "5 S",
            "+5S",
            "-5S",
            "123456789S",
            "1.5S",
        ] {
            assert_eq!(grpc(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_rounded_down_and_in_eight_digits() {
        for nanos in [1, 99_999_999, 100_000_001, 1_234_567_890, 3_600_000_000_001] {
            for scale in [1, 7, 1_003, 900_001] {
                let left = Duration::from_nanos(nanos * scale);
                let value = grpc_value(left);
                assert!(value.len() <= 9, "{value:?}");
                let back = parse_grpc(&value).unwrap();
                assert!(
                    back <= left && left - back <= left / 50_000,
                    "{left:?} {back:?}"
                );
            }
        }
        assert!(parse_grpc(&grpc_value(Duration::MAX)).is_some());
    }

    #[test]
    fn the_shorter_of_two_headers_counts_and_is_never_made_longer() {
        let mut headers = HeaderMap::new();
        assert_eq!(time_left(&headers), None);
        headers.insert(DEADLINE_HEADER, HeaderValue::from_static("1500"));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("2S"));
        assert_eq!(time_left(&headers), Some(Duration::from_millis(1_500)));
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        assert!(write(&mut headers, Duration::from_secs(9)));
        assert_eq!(headers[DEADLINE_HEADER], "1500");
        assert_eq!(headers[GRPC_TIMEOUT], "1500000u");
        assert!(!write(&mut headers, Duration::from_micros(999)));
        headers.insert(DEADLINE_HEADER, HeaderValue::from_static("soon"));
        headers.remove(GRPC_TIMEOUT);
        assert_eq!(time_left(&headers), None);
    }
}
