//! What the permits are built from. The model checker's test builds the same files from its own.

pub(super) use crate::shared::Padded;
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

/// How often a thread looks again for a permit while others move them about.
pub(super) const LOOKS: usize = 16;

/// Lets another thread finish what it is in the middle of.
#[inline]
pub(super) fn pause() {
    std::hint::spin_loop();
}
