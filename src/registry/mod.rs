//! A list of all policies of a service, to look at, to serialise, and to export as metrics.
//!
//! Policies count for themselves, and a registry adds the counts up when it is asked. So being
//! listed costs calls nothing, whatever exporter is installed.
//!
//! ```
//! use buttress::{CircuitBreaker, Error, Retry, registry::{PolicySnapshot, Registry}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (breaker, retry) = (CircuitBreaker::new("orders"), Retry::new("orders"));
//! let registry = Registry::new();
//! registry.add(&breaker);
//! registry.add(&retry);
//!
//! let answer = breaker.run(async || Ok::<_, Error<std::io::Error>>(7)).await;
//! match answer {
//!     Ok(n) => assert_eq!(n, 7),
//!     Err(Error::Rejected(rejected)) => println!("not called: {rejected}"),
//!     Err(Error::Service(error)) => println!("failed: {error}"),
//! }
//!
//! for policy in registry.snapshot() {
//!     println!("{}", serde_json::to_string(&policy).unwrap());
//!     if let PolicySnapshot::CircuitBreaker(breaker) = policy {
//!         assert_eq!(breaker.successes_total, 1);
//!     }
//! }
//! registry.publish(); // to whatever recorder of the `metrics` crate is installed
//! # }
//! ```
//!
//! Prometheus is served by a handler that publishes and renders:
//!
//! ```
//! use axum::{Router, routing::get};
//! use buttress::registry::Registry;
//! use metrics_exporter_prometheus::PrometheusBuilder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new(); // and `registry.add(&policy)` for each policy
//! let page = PrometheusBuilder::new().install_recorder()?;
//! let metrics = async move || {
//!     registry.publish();
//!     page.render()
//! };
//! let app: Router = Router::new().route("/metrics", get(metrics));
//! # Ok(()) }
//! ```
//!
//! The table of metrics of each policy is in its module.
//!
//! # Trade-offs
//!
//! Counts reach the recorder only when [`publish`](Registry::publish) is called. Call it from the
//! handler that renders the metrics, or let [`publish_every`](Registry::publish_every) do so. A
//! registry keeps its policies alive.

mod custom;
mod export;
mod observe;
// Which snapshots have a time in them depends on which layers there are.
#[allow(dead_code, unused_imports)]
mod seconds;

pub use custom::CustomSnapshot;
pub use observe::{Observe, PolicySnapshot};
#[allow(unused_imports)]
pub(crate) use seconds::seconds;

use crate::shared::lock;
use std::{
    convert::Infallible,
    fmt, mem,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A list of policies.
///
/// # Clone
/// A clone is the same list.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Listed>>>);

#[derive(Clone)]
struct Listed {
    /// Its kind and name, asked for once: the application's code may run for it.
    label: (&'static str, &'static str),
    policy: Arc<dyn Observe>,
}

impl Registry {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a policy to the list, in place of an earlier one of the same kind and name. Returns
    /// whether there was one.
    ///
    /// So give the policies of one kind names that differ: metrics could not tell them apart
    /// either. A clone of a handle has the name of the handle, so it does no harm to add it again,
    /// and a policy that is built anew takes the place of the old one.
    ///
    /// ```
    /// use buttress::{CircuitBreaker, registry::Registry};
    ///
    /// let registry = Registry::new();
    /// assert!(!registry.add(&CircuitBreaker::new("orders")));
    /// assert!(!registry.add(&CircuitBreaker::new("stock")));
    /// // The first one is not listed any more.
    /// assert!(registry.add(&CircuitBreaker::new("orders")));
    /// assert_eq!(registry.snapshot().len(), 2);
    /// ```
    pub fn add(&self, policy: &(impl Observe + Clone)) -> bool {
        let policy: Arc<dyn Observe> = Arc::new(policy.clone());
        let label = (policy.kind(), policy.name());
        let mut new = Listed { label, policy };
        let mut all = lock(&self.0);
        let replaces = match all.iter_mut().find(|other| other.label == label) {
            Some(place) => {
                mem::swap(place, &mut new);
                true
            }
            None => {
                all.push(new.clone());
                false
            }
        };
        // The old one is dropped after the lock: that may run code that comes back here.
        drop(all);
        replaces
    }

    /// Returns a snapshot of every policy, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<PolicySnapshot> {
        // Snapshots take the policies' own locks: not under this one.
        let all = lock(&self.0).clone();
        all.iter().map(|listed| listed.policy.snapshot()).collect()
    }

    /// Publishes the present counts to the recorder of the `metrics` crate.
    ///
    /// Names begin with `buttress_`, those of counters end in `_total`, and every metric has the
    /// label `policy`. Counters are set to their absolute value, so it does not matter how often
    /// this is called, or when the recorder was installed.
    pub fn publish(&self) {
        self.snapshot().iter().for_each(export::publish);
    }

    /// Publishes at once, and again after every `period`. A period under 1 ms is taken for 1 ms.
    ///
    /// It goes on for as long as the future is polled: spawn it, or let it run beside the server.
    pub async fn publish_every(self, period: Duration) -> Infallible {
        // A period of zero would make this a busy loop.
        let period = period.max(Duration::from_millis(1));
        loop {
            self.publish();
            tokio::time::sleep(period).await;
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = lock(&self.0);
        f.debug_list()
            .entries(names.iter().map(|listed| listed.label))
            .finish()
    }
}
