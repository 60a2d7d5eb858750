//! How many calls may run at once, and what becomes of the rest.

mod config;
mod control;
mod gate;
mod inner;
pub mod limit;
mod manners;
mod permit;
pub mod priority;
mod queue;
mod samples;
mod stripes;
mod sync;
#[cfg(test)]
mod tests;

pub use config::LoadShedBuilder;
pub use manners::{Backpressure, Place, Queued};
pub use permit::Permit;
pub use priority::{Class, Equal, Prioritize, Priority};

use crate::{Name, Time};
use inner::Inner;
use std::{fmt, sync::Arc};

/// A limit on the calls in flight. Clones share it, and so do the layers of all its manners.
pub struct LoadShed<P = Equal>(Arc<Inner<P>>);

impl LoadShed {
    /// A load shed with all defaults: see the setters of [`LoadShedBuilder`].
    pub fn new(name: impl Into<Name>) -> Self {
        Self::builder(name).built()
    }

    /// A load shed to be configured.
    pub fn builder(name: impl Into<Name>) -> LoadShedBuilder {
        LoadShedBuilder::new(name.into())
    }
}

impl<P> LoadShed<P> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What it has done so far, and what it is doing.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }
}

impl<P> Clone for LoadShed<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for LoadShed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A [`LoadShed`] at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: &'static str,
    /// How many calls may be in flight.
    pub limit: usize,
    /// How many are. More than the limit while a lower limit takes effect.
    pub in_flight: usize,
    /// How many wait.
    pub queued: usize,
    /// Calls that were let in.
    pub admitted: u64,
    /// Calls for which there was neither a permit nor a place in the queue, or not for long.
    pub rejected: u64,
    /// Calls that waited for as long as they may, in vain.
    pub expired: u64,
    /// Calls whose caller's deadline had passed when they came, or passed while they waited.
    pub deadline_exceeded: u64,
}
