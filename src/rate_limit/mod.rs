//! A rate limit: how many calls may start within any window of time.
//!
//! For every call the limiter decides whether the calls of the last window, this one included, stay
//! within the quota. The promise is hard: **no window of that length, wherever it starts, admits
//! more than the quota**. Fixed windows that are reset by the clock, and counters that interpolate
//! between two windows, can admit nearly twice as much around an edge. (With
//! [`Algorithm::Gcra`] the promise is another one.)
//!
//! ```
//! use buttress::{Error, RateLimiter, Rejected};
//! use std::{convert::Infallible, time::Duration};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two requests a minute for every tenant.
//! let limiter = RateLimiter::builder("tenants", 2, Duration::from_secs(60))
//!     .keyed(|req: &(u32, &str)| req.0)
//!     .build()?;
//! let service = limiter.layer().layer(service_fn(async |req: (u32, &str)| {
//!     Ok::<_, Error<Infallible>>(req.1.len())
//! }));
//!
//! for _ in 0..2 {
//!     assert_eq!(service.clone().oneshot((7, "hello")).await?, 5);
//! }
//! match service.clone().oneshot((7, "hello")).await {
//!     Err(Error::Rejected(rejected)) => {
//!         assert!(rejected.retry_after() <= Some(Duration::from_secs(60)));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! assert!(service.oneshot((8, "another tenant")).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Refuse or wait
//!
//! A refusal carries the time after which the same call is admitted if no other call comes first.
//! [`RateLimiter::wait_up_to`] lets calls wait until then instead, in the order in which they came,
//! in one queue per key. A call that would have to wait for longer than the maximum, or past its
//! caller's deadline, is refused at once. While a call waits, no other call with its key overtakes
//! it: calls through the limiter itself are refused.
//!
//! ```
//! # use buttress::{Error, RateLimiter};
//! # use std::{convert::Infallible, time::Duration};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = RateLimiter::new("outgoing", 1, Duration::from_millis(50))?;
//! let patient = limiter.wait_up_to(Duration::from_millis(200));
//! for _ in 0..3 {
//!     patient.run(async || Ok::<_, Error<Infallible>>(())).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A call that was admitted here and refused by a later guard of the same tuple of guards
//! (`GuardLayer::new((limiter, breaker))`) gives back what it took. So does one whose service fails
//! to become ready. However else a call ends, also refused by another layer of the stack, it
//! counts.
//!
//! # Costs that are known afterwards
//!
//! [`RateLimiter::charge`] counts what a call turned out to cost, and [`RateLimiter::refund`] gives
//! back what it did not need. A charge always succeeds: beyond the quota it is a debt, which is
//! counted as soon as there is room, and until then no call of that key is admitted.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | name, quota, window | none | only you know them; the window is between 1 ms and 366 days |
//! | [`window`](RateLimiterBuilder::window) | one window | |
//! | [`algorithm`](RateLimiterBuilder::algorithm) | [`Algorithm::SlidingWindow`] | what a quota is usually taken to mean |
//! | [`keyed`](RateLimiterBuilder::keyed) | one quota for all requests together | |
//! | [`quota`](RateLimiterBuilder::quota) | the same for every key ([`FixedQuota`]) | |
//! | [`max_keys`](RateLimiterBuilder::max_keys) | 1,000,000 | about 110 MB at most, whoever comes |
//! | [`key_overflow`](RateLimiterBuilder::key_overflow) | [`KeyOverflow::ShareSmallest`] | a flood of made-up keys locks nobody out |
//! | [`cost`](RateLimiterBuilder::cost) | 1 for every request ([`UnitCost`]) | |
//! | waiting | none: calls are refused at once | calls that should wait go through [`RateLimiter::wait_up_to`] |
//!
//! # How it counts
//!
//! | | memory if global | memory if keyed: bytes per key, at a million keys | most in a window | share of the quota used at 1.5 times the load |
//! |---|---|---|---|---|
//! | exact log | quotas up to 1024: 16 bytes for each admission | quotas up to 15: 110 | the quota | 98 % |
//! | sub-window counters | larger quotas: 1 KiB, and a cache line per thread | larger quotas: 110 | the quota | 97 % |
//! | [`Algorithm::Gcra`] | 8 bytes | 22 | burst + quota | 100 % |
//!
//! With several windows, or a quota per key, every window of a key is counted as under keyed, and
//! takes about 220 bytes. A key whose quota is raised goes on in the coarser form that it needs.
//!
//! The bytes per key are measured with all overhead of the table; just after it has grown they are
//! 134 in place of 110, and 27 in place of 22. The last column is for a quota of 100 and calls that
//! arrive at random (GCRA with a burst of the whole quota). Sub-window counters cut the window into
//! 64 parts and count the oldest one in full until it has left: that keeps the promise in constant
//! memory, and makes an admission count for up to one part longer than it must. A key has as many
//! parts as fit into a cache line: 59 for a quota up to 255, 29 up to 65,535, 19 up to 16,777,215,
//! and then 14. The exact log of a key counts in steps of a two-billionth of the window, or of a
//! nanosecond if that is longer.
//!
//! What a call costs besides:
//!
//! | | an admission | a refusal |
//! |---|---|---|
//! | exact log, global | a short lock | a read; a short lock for the first one, and if the cost is not 1 |
//! | sub-window counters, global | a write to the units that its thread holds; a short lock when these are used up, and once in a sub-window | a read; a short lock for the first one, and if the cost is not 1 |
//! | GCRA, global | writes to two words that all threads share | a read |
//! | keyed, or several windows | the short lock of the key's shard | the same lock |
//! | calls that wait | the short lock of the key's queue at every poll, and memory in the queue | |
//! | calls that do not, while others with their key wait | | the short lock of the key's queue |
//!
//! Threads draw units of a large global quota a few at a time, so that an admitted call usually
//! writes nothing that another thread reads. A key that calls more than once in a sub-window is
//! looked up in 16 bytes, four keys to a cache line; the rest of what is kept of it is not touched.
//! A call that is admitted or refused at once allocates nothing, except that the table of keys
//! grows when new ones come (and an exact log whose quota was raised above 1024).
//!
//! # Keys
//!
//! Only a hash of a key is kept: see [`Key`](crate::Key). An idle key, which has been admitted
//! nothing within the last window, is evicted when a new one needs its place. At
//! [`max_keys`](RateLimiterBuilder::max_keys), with no idle key at hand, a new key takes the place
//! of the one that has used least among some twenty, and begins with what that has used, up to half
//! of the quota. So a flood of made-up keys neither grows the memory nor locks anybody out, and the
//! keys that have used much are counted on: [`KeyOverflow`] has the bounds, and other ways.
//!
//! # Metrics
//!
//! What a registered limiter publishes (feature `registry`), labelled with its name as `policy`:
//!
//! | metric | kind | |
//! |---|---|---|
//! | `buttress_rate_limiter_admitted_total` | counter | the cost admitted, without what was given back |
//! | `buttress_rate_limiter_exempt_total` | counter | calls of cost 0, which are not counted |
//! | `buttress_rejected_total` (`kind` is `rate_limiter`) | counter | calls refused |
//! | `buttress_rate_limiter_waiting` | gauge | calls that wait for their turn |
//! | `buttress_rate_limiter_quota` | gauge | the quota |
//! | `buttress_rate_limiter_remaining` | gauge | the cost that would be admitted now; global limiters only |
//! | `buttress_rate_limiter_keys` | gauge | keys that are kept; keyed limiters only |
//! | `buttress_rate_limiter_overflowed_total` | counter | calls for new keys that found no place; keyed limiters only |

mod account_access;
mod capacity_forecast;
mod change;
mod config;
mod cost;
mod gcra;
mod global;
mod keyed;
mod limiter;
mod quota;
mod state;
mod status;
mod wait_queue;
mod wait_queues;
mod waiting;

pub use config::{Algorithm, KeyOverflow, RateLimiterBuilder};
pub use cost::{Cost, Exempt, UnitCost, exempt};
pub use limiter::RateLimiter;
pub use quota::{FixedQuota, Quota, Quotas};
#[cfg(feature = "http")]
pub(crate) use state::Caller;
pub use state::Permit;
pub use status::{QuotaStatus, Snapshot};
pub use waiting::{QuotaWait, WaitingLimiter};
