//! Names of policies.

use crate::shared::lock;
use std::{
    collections::HashSet,
    fmt,
    sync::{LazyLock, Mutex},
};

/// The name of a policy, as it is in rejections, snapshots and metrics.
///
/// Name policies after what they guard (`orders-db`), not after requests. A name made from a
/// `String` is kept for the life of the process, once for each distinct text, so that rejections
/// can carry it without allocating.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Name(&'static str);

impl Name {
    /// Returns the name as text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(name)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
        let mut names = lock(&NAMES);
        Self(names.get(&*name).copied().unwrap_or_else(|| {
            let kept: &'static str = name.leak();
            names.insert(kept);
            kept
        }))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_made_at_run_time_are_kept_once() {
        let (a, b) = (
            Name::from("shard-1".to_owned()),
            Name::from("shard-1".to_owned()),
        );
        assert!(std::ptr::eq(a.as_str(), b.as_str()));
        assert_eq!(a, Name::from("shard-1"));
    }
}
