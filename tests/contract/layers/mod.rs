//! The layers under test, by kind. Each function makes a fresh policy.

pub(crate) mod guard;
#[cfg(feature = "timeout")]
pub(crate) mod timeout;
