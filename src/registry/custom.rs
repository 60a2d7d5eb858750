//! Snapshots of policies that this crate does not know.

use super::PolicySnapshot;
use metrics::{counter, gauge};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// The snapshot of a policy of your own: its kind, its name, and named numbers.
///
/// It is serialised as one flat map, like the snapshots of this crate's policies. Each of its
/// numbers is published as the metric `buttress_{kind}_{number}`, with the policy's name as the
/// label `policy`. The exception is a counter named `rejected_total`: it is published as
/// `buttress_rejected_total` with the labels `kind` and `policy`, as for this crate's policies, so
/// that a sum over all policies includes yours.
///
/// ```
/// use buttress::registry::{CustomSnapshot, Observe, PolicySnapshot, Registry};
///
/// #[derive(Clone)]
/// struct Purse;
///
/// impl Observe for Purse {
///     fn name(&self) -> &'static str {
///         "answers"
///     }
///     fn kind(&self) -> &'static str {
///         "purse"
///     }
///     fn snapshot(&self) -> PolicySnapshot {
///         let snapshot = CustomSnapshot::new(self.kind(), self.name());
///         snapshot.gauge("left", 58.0).counter("rejected_total", 1).into()
///     }
/// }
///
/// let registry = Registry::new();
/// registry.add(&Purse);
/// let json = serde_json::to_string(&registry.snapshot()).unwrap();
/// assert_eq!(json, r#"[{"kind":"purse","name":"answers","left":58.0,"rejected_total":1}]"#);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CustomSnapshot {
    kind: &'static str,
    name: &'static str,
    numbers: Vec<(&'static str, Number)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Number {
    Counter(u64),
    Gauge(f64),
}

impl CustomSnapshot {
    /// Creates a snapshot without numbers, of a policy of this kind (in snake case) and name.
    pub fn new(kind: &'static str, name: &'static str) -> Self {
        let numbers = Vec::new();
        Self {
            kind,
            name,
            numbers,
        }
    }

    /// Adds a count of events since the policy was made. Its name should end in `_total`.
    #[must_use]
    pub fn counter(self, name: &'static str, count: u64) -> Self {
        self.with(name, Number::Counter(count))
    }

    /// Adds a number that goes up and down.
    #[must_use]
    pub fn gauge(self, name: &'static str, value: f64) -> Self {
        self.with(name, Number::Gauge(value))
    }

    /// Returns the kind of the policy.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the name of the policy.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn with(mut self, name: &'static str, number: Number) -> Self {
        self.numbers.push((name, number));
        self
    }

    pub(super) fn publish(&self) {
        let Self {
            kind,
            name: policy,
            ref numbers,
        } = *self;
        for &(name, number) in numbers {
            let metric = || format!("buttress_{kind}_{name}");
            match number {
                Number::Counter(count) if name == "rejected_total" => {
                    counter!("buttress_rejected_total", "kind" => kind, "policy" => policy)
                        .absolute(count);
                }
                Number::Counter(count) => counter!(metric(), "policy" => policy).absolute(count),
                Number::Gauge(value) => gauge!(metric(), "policy" => policy).set(value),
            }
        }
    }
}

impl From<CustomSnapshot> for PolicySnapshot {
    fn from(snapshot: CustomSnapshot) -> Self {
        Self::Custom(snapshot)
    }
}

impl Serialize for CustomSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.numbers.len()))?;
        map.serialize_entry("kind", self.kind)?;
        map.serialize_entry("name", self.name)?;
        for (name, number) in &self.numbers {
            map.serialize_entry(name, number)?;
        }
        map.end()
    }
}
