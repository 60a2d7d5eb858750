//! A recorder for the `metrics` facade, and its text for Prometheus.
//!
//! `metrics-exporter-prometheus` is what to take when there are histograms as well, or a port of
//! their own to serve: counters and gauges need no more than this, and compile in no time.

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SetRecorderError, SharedString,
    Unit,
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Counters hold a number, gauges the bits of one with a fraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counter,
    Gauge,
}

/// By name and kind, then by labels, written as they are in the text.
type Families = BTreeMap<(String, Kind), BTreeMap<String, Arc<AtomicU64>>>;

/// Clones share what was recorded.
#[derive(Clone, Default)]
pub(crate) struct Prometheus {
    families: Arc<Mutex<Families>>,
}

impl Prometheus {
    /// Has all of the process record here.
    ///
    /// # Errors
    /// If something else records already.
    pub(crate) fn install() -> Result<Self, SetRecorderError<Self>> {
        let prometheus = Self::default();
        metrics::set_global_recorder(prometheus.clone())?;
        Ok(prometheus)
    }

    /// The text of all that was recorded.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for ((name, kind), values) in self.families().iter() {
            let called = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# TYPE {name} {called}");
            for (labels, value) in values {
                let bits = value.load(Relaxed);
                let _ = match kind {
                    Kind::Counter => writeln!(text, "{name}{labels} {bits}"),
                    Kind::Gauge => writeln!(text, "{name}{labels} {}", f64::from_bits(bits)),
                };
            }
        }
        text
    }

    fn value(&self, kind: Kind, key: &Key) -> Arc<AtomicU64> {
        let mut families = self.families();
        let family = families.entry((key.name().to_owned(), kind)).or_default();
        Arc::clone(family.entry(labels(key)).or_default())
    }

    fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn labels(key: &Key) -> String {
    let escaped = |value: &str| {
        let value = value.replace('\\', r"\\").replace('"', "\\\"");
        value.replace('\n', r"\n")
    };
    let pairs = key.labels();
    let pairs: Vec<_> = pairs
        .map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value())))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", pairs.join(",")),
    }
}

impl Recorder for Prometheus {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(Kind::Counter, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(Kind::Gauge, key))
    }

    /// The gateway has none.
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::{counter, gauge, with_local_recorder};

    #[test]
    fn counters_and_gauges_are_told_by_family_with_their_labels_escaped() {
        let prometheus = Prometheus::default();
        with_local_recorder(&prometheus, || {
            counter!("calls_total", "to" => "a\\b\"c\nd").absolute(7);
            counter!("calls_total", "to" => "x", "how" => "y").increment(1);
            gauge!("share").set(0.25);
            gauge!("share").set(0.5);
        });
        let text = prometheus.render();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "# TYPE calls_total counter",
                r#"calls_total{to="a\\b\"c\nd"} 7"#,
                r#"calls_total{to="x",how="y"} 1"#,
                "# TYPE share gauge",
                "share 0.5",
            ]
        );
    }
}
