//! What the gateway can be told through its environment.

use crate::{
    backend::Behaviour,
    env::{Invalid, address, number, parsed, seconds},
};
use axum::http::Uri;
use buttress::{http::TrustedProxies, retry::Jitter};
use std::{net::SocketAddr, time::Duration};

/// The gateway's settings; the README lists the variables with their defaults.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) gateway_addr: SocketAddr,
    pub(crate) backend: Backend,
    /// How many more attempts a request gets after its first one has failed.
    pub(crate) max_retries: u32,
    pub(crate) initial_backoff: Duration,
    pub(crate) backoff_multiplier: f64,
    pub(crate) backoff_jitter: Jitter,
    /// For each attempt.
    pub(crate) request_timeout: Duration,
    /// So many requests per window for each client, or no limit.
    pub(crate) rate_limit: Option<(u32, Duration)>,
    pub(crate) failure_threshold: u32,
    pub(crate) recovery_timeout: Duration,
    /// Peers whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: TrustedProxies,
}

/// Where the backend is.
#[derive(Debug)]
pub(crate) enum Backend {
    /// In this process: the flaky one, listening here.
    Flaky(SocketAddr, Behaviour),
    /// Somewhere else, under this URL (which does not end with a slash).
    At(String),
}

impl Config {
    /// Reads every variable, also those that this run will not need: a typing error in a variable
    /// is better found now than when it is needed.
    pub(crate) fn from_env() -> Result<Self, Invalid> {
        let flaky = Backend::Flaky(
            address("BACKEND_ADDR", 9000)?,
            Behaviour {
                failure_rate: number("FLAKY_FAILURE_RATE", 0.3, 0.0..=1.0, RATE)?,
                slow_rate: number("FLAKY_SLOW_RATE", 0.1, 0.0..=1.0, RATE)?,
                delay_seconds: number("FLAKY_DELAY_SECONDS", 3.0, 0.0..=3600.0, DELAY)?,
            },
        );
        let limited = parsed("RATE_LIMIT_ENABLED", true, "true or false", boolean)?;
        let quota = number("RATE_LIMIT_REQUESTS_PER_WINDOW", 100, 1..=1_000_000, QUOTA)?;
        let window = seconds("RATE_LIMIT_WINDOW_SECONDS", 60.0)?;
        Ok(Self {
            gateway_addr: address("GATEWAY_ADDR", 8080)?,
            backend: parsed("BACKEND_URL", None, URL, base_url)?.map_or(flaky, Backend::At),
            max_retries: number("MAX_RETRIES", 3, 0..=100, "a whole number from 0 to 100")?,
            initial_backoff: number("INITIAL_BACKOFF_SECONDS", 0.5, 0.0..=86_400.0, WAIT)
                .map(Duration::from_secs_f64)?,
            backoff_multiplier: number("BACKOFF_MULTIPLIER", 2.0, 1.0..=100.0, MULTIPLIER)?,
            backoff_jitter: parsed("BACKOFF_JITTER", Jitter::Full, JITTER, jitter)?,
            request_timeout: seconds("REQUEST_TIMEOUT_SECONDS", 2.0)?,
            rate_limit: limited.then_some((quota, window)),
            failure_threshold: number("FAILURE_THRESHOLD", 5, 1..=10_000, THRESHOLD)?,
            recovery_timeout: seconds("RECOVERY_TIMEOUT_SECONDS", 30.0)?,
            trusted_proxies: parsed(
                "TRUSTED_PROXIES",
                TrustedProxies::default(),
                PROXIES,
                proxies,
            )?,
        })
    }

    /// The longest that a request can take before its answer begins: every attempt times out, and
    /// no wait is cut short by jitter.
    pub(crate) fn longest_request(&self) -> Duration {
        let mut longest = self.request_timeout;
        let mut wait = self.initial_backoff.as_secs_f64();
        for _ in 0..self.max_retries {
            let waited = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
            longest = longest
                .saturating_add(waited)
                .saturating_add(self.request_timeout);
            wait *= self.backoff_multiplier;
        }
        longest
    }
}

const RATE: &str = "a number from 0 to 1";
const WAIT: &str = "a number of seconds from 0 to 86400";
const DELAY: &str = "a number of seconds from 0 to 3600";
const URL: &str = "a URL such as http://127.0.0.1:9000 (http only)";
const QUOTA: &str = "a whole number from 1 to 1000000";
const MULTIPLIER: &str = "a number from 1 to 100";
const JITTER: &str = "full, equal, decorrelated or none";
const THRESHOLD: &str = "a whole number from 1 to 10000";
const PROXIES: &str = "addresses or networks, as in 10.0.0.1,192.168.0.0/16";

fn boolean(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

fn jitter(text: &str) -> Option<Jitter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "full" => Jitter::Full,
        "equal" => Jitter::Equal,
        "decorrelated" => Jitter::Decorrelated,
        "none" => Jitter::None,
        _ => return None,
    })
}

/// An empty variable means the same as none: no backend elsewhere.
fn base_url(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let url: Uri = text.parse().ok()?;
    let (authority, path) = (url.authority()?.as_str(), url.path().trim_end_matches('/'));
    let fits = url.scheme_str() == Some("http") && url.query().is_none();
    let plain = !authority.contains('@') && !text.contains('#');
    (fits && plain).then(|| Some(format!("http://{authority}{path}")))
}

fn proxies(text: &str) -> Option<TrustedProxies> {
    TrustedProxies::parse(text).ok()
}
