//! How an answer came about.

use std::{fmt, time::Duration};

/// An answer, and how it came about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cached<V> {
    /// The answer.
    pub value: V,
    /// How it came about.
    pub status: CacheStatus,
}

/// An account of how an answer came about. Its `Display` is a member of the `Cache-Status` field
/// (RFC 9211), such as `items; hit; ttl=30`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheStatus {
    pub(crate) cache: &'static str,
    pub(crate) served: Served,
    pub(crate) age: Duration,
    /// For how long the answer is fresh from its beginning.
    pub(crate) fresh: Duration,
    pub(crate) collapsed: bool,
}

/// The source of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Served {
    /// It was stored, and fresh.
    Fresh,
    /// It was stored and stale, and a new one is being loaded in the background.
    #[doc(alias = "swr")]
    #[doc(alias = "stale_while_revalidate")]
    Revalidating,
    /// It was stored and stale, and the load of a new one failed.
    #[doc(alias = "sie")]
    #[doc(alias = "stale_if_error")]
    IfError,
    /// It was loaded.
    Loaded {
        /// Whether it was stored after that.
        stored: bool,
        /// Why it was not taken from the cache.
        reason: LoadReason,
    },
}

/// The reason for which an answer was not taken from the cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LoadReason {
    /// Nothing was stored, or what was stored had expired.
    Missing,
    /// What was stored was stale.
    Stale,
    /// The store did not answer, or not in time.
    StoreUnavailable,
    /// The call loaded on its own, because answers to such requests are not for a cache.
    Bypass,
}

impl CacheStatus {
    /// Returns the name of the cache.
    pub fn cache(&self) -> &'static str {
        self.cache
    }

    /// Returns where the answer came from.
    pub fn served(&self) -> Served {
        self.served
    }

    /// Returns how old the answer is, counted from the moment at which its load was allowed to
    /// begin.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns whether the call was answered without a load.
    pub fn hit(&self) -> bool {
        matches!(self.served, Served::Fresh | Served::Revalidating)
    }

    /// Returns whether the answer is stale, so that it may be outdated.
    pub fn is_stale(&self) -> bool {
        matches!(self.served, Served::Revalidating | Served::IfError)
    }

    /// Returns whether the answer comes from another call's load.
    #[doc(alias = "coalesced")]
    #[doc(alias = "request_coalescing")]
    #[doc(alias = "single_flight")]
    pub fn collapsed(&self) -> bool {
        self.collapsed
    }

    /// Marks the answer as one that the call waited for, and did not load itself.
    pub(crate) fn shared(self) -> Self {
        Self {
            collapsed: true,
            ..self
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name that is no token of RFC 8941 is written as a string.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
        let letter = |c: char| c.is_ascii_alphabetic() || c == '*';
        if self.cache.chars().all(token) && self.cache.starts_with(letter) {
            f.write_str(self.cache)?;
        } else {
            f.write_str("\"")?;
            for c in self.cache.chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    ' '..='~' => write!(f, "{c}")?,
                    _ => f.write_str("?")?,
                }
            }
            f.write_str("\"")?;
        }
        let ttl = || self.fresh.as_secs_f64() - self.age.as_secs_f64();
        match self.served {
            Served::Fresh => write!(f, "; hit; ttl={:.0}", ttl().floor())?,
            Served::Revalidating => write!(f, "; hit; ttl={:.0}; detail=swr", ttl().floor())?,
            Served::IfError => write!(f, "; fwd=stale; ttl={:.0}; detail=sie", ttl().floor())?,
            Served::Loaded { stored, reason } => {
                f.write_str(match reason {
                    LoadReason::Missing | LoadReason::StoreUnavailable => "; fwd=uri-miss",
                    LoadReason::Stale => "; fwd=stale",
                    LoadReason::Bypass => "; fwd=bypass",
                })?;
                if stored {
                    f.write_str("; stored")?;
                }
                if reason == LoadReason::StoreUnavailable {
                    f.write_str("; detail=store-unavailable")?;
                }
            }
        }
        match self.collapsed {
            true => f.write_str("; collapsed"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_cache_status_field_says() {
        let at = |served, age, collapsed| {
            let (age, fresh) = (Duration::from_millis(age), Duration::from_secs(60));
            let status = CacheStatus {
                cache: "items",
                served,
                age,
                fresh,
                collapsed,
            };
            status.to_string()
        };
        assert_eq!(at(Served::Fresh, 29_500, false), "items; hit; ttl=30");
        assert_eq!(
            at(Served::Revalidating, 65_000, false),
            "items; hit; ttl=-5; detail=swr"
        );
        assert_eq!(
            at(Served::IfError, 61_000, true),
            "items; fwd=stale; ttl=-1; detail=sie; collapsed"
        );
        let loaded = |stored, reason| at(Served::Loaded { stored, reason }, 0, false);
        assert_eq!(
            loaded(true, LoadReason::Missing),
            "items; fwd=uri-miss; stored"
        );
        assert_eq!(
            loaded(false, LoadReason::StoreUnavailable),
            "items; fwd=uri-miss; detail=store-unavailable"
        );
        assert_eq!(loaded(false, LoadReason::Bypass), "items; fwd=bypass");
    }

    #[test]
    fn a_name_that_is_no_token_is_quoted() {
        let status = CacheStatus {
            cache: "my \"items\" \u{fc}",
            served: Served::Fresh,
            age: Duration::ZERO,
            fresh: Duration::ZERO,
            collapsed: false,
        };
        assert_eq!(status.to_string(), "\"my \\\"items\\\" ?\"; hit; ttl=0");
    }
}
