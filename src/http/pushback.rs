//! What a server says about being called again: the one reader of its headers.

use http::HeaderMap;
use std::time::Duration;

/// When, or whether, a gRPC server wants the call again (gRPC proposal A6).
pub(crate) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a gRPC server said about calling it again, in its headers or trailers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerPushback {
    /// Not before.
    After(Duration),
    /// Not at all: a negative number, or something that is none.
    Never,
}

impl ServerPushback {
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(PUSHBACK)?;
        // A signed 32-bit number, says A6.
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(match millis.map(|millis: i32| u64::try_from(millis)) {
            Some(Ok(millis)) => Self::After(Duration::from_millis(millis)),
            Some(Err(_)) | None => Self::Never,
        })
    }

    /// Returns what is written for this time, rounded up: no more than a reader takes for a number.
    #[cfg(feature = "grpc")]
    pub(crate) fn millis(after: Duration) -> u64 {
        let millis = after.as_nanos().div_ceil(1_000_000);
        u64::try_from(millis).map_or(i32::MAX as u64, |millis| millis.min(i32::MAX as u64))
    }

    /// Returns the time to come back, if there is to be one.
    #[cfg(feature = "grpc")]
    pub(crate) const fn after(self) -> Option<Duration> {
        match self {
            Self::After(after) => Some(after),
            Self::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<ServerPushback> {
        let mut headers = HeaderMap::new();
        headers.insert(PUSHBACK, value.parse().unwrap());
        ServerPushback::read(&headers)
    }

    #[test]
    fn a_negative_or_unreadable_pushback_means_never() {
        let after = |millis| Some(ServerPushback::After(Duration::from_millis(millis)));
        assert_eq!((read("1500"), read("0")), (after(1_500), after(0)));
        assert_eq!(read("2147483647"), after(2_147_483_647));
        for never in [
            "-1",
            "",
            "soon",
            "1.5",
            "2147483648",
            "99999999999999999999999",
        ] {
            assert_eq!(read(never), Some(ServerPushback::Never), "{never}");
        }
        assert_eq!(ServerPushback::read(&HeaderMap::new()), None);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn what_is_written_is_read_as_a_number_however_long_it_is() {
        for after in [Duration::ZERO, Duration::from_micros(1), Duration::MAX] {
            let written = ServerPushback::millis(after);
            let Some(ServerPushback::After(back)) = read(&written.to_string()) else {
                panic!("{after:?}");
            };
            assert!(back >= after || after == Duration::MAX);
        }
    }
}
