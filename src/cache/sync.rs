//! What the copies of hot answers are built from. The model checker's test builds the same file
//! from its own.

pub(super) use crate::shared::Padded;
pub(super) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
};
