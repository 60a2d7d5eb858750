//! Reading one environment variable: its value, its default, or what it accepts.

use std::{env, fmt, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

/// A variable holds what it does not accept.
#[derive(Debug)]
pub struct Invalid {
    name: &'static str,
    given: String,
    accepts: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            given,
            accepts,
        } = self;
        // Debug, so that a line break or a quote in the value cannot break the one line.
        write!(f, "{name} is {given:?}, but must be {accepts}")
    }
}

/// The variable's value as `parse` understands it, or the default if it is not set.
pub fn parsed<T>(
    name: &'static str,
    default: T,
    accepts: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Invalid> {
    let Some(given) = env::var_os(name) else {
        return Ok(default);
    };
    given
        .to_str()
        .and_then(|text| parse(text.trim()))
        .ok_or_else(|| Invalid {
            name,
            given: given.to_string_lossy().into_owned(),
            accepts,
        })
}

/// A number in this range.
pub fn number<T: FromStr + PartialOrd>(
    name: &'static str,
    default: T,
    range: RangeInclusive<T>,
    accepts: &'static str,
) -> Result<T, Invalid> {
    parsed(name, default, accepts, |text| {
        // NaN is in no range.
        text.parse().ok().filter(|n| range.contains(n))
    })
}

/// A number of seconds, as a duration no shorter than a millisecond.
pub fn seconds(name: &'static str, default: f64) -> Result<Duration, Invalid> {
    let accepts = "a number of seconds from 0.001 to 86400";
    number(name, default, 0.001..=86_400.0, accepts).map(Duration::from_secs_f64)
}

/// An address and port to listen on.
pub fn address(name: &'static str, port: u16) -> Result<SocketAddr, Invalid> {
    let default = SocketAddr::from(([127, 0, 0, 1], port));
    let accepts = "an address and port such as 127.0.0.1:8080";
    parsed(name, default, accepts, |text| text.parse().ok())
}
