//! The registry: what is listed, how it is serialised, what reaches the metrics recorder.
#![cfg(feature = "full")]
#![allow(missing_docs)]

mod cache;

use buttress::{
    CircuitBreaker, Error, LoadShed, RateLimiter, Retry, Throttle, Timeout,
    guard::Shadow,
    http::DeadlineHeaderLayer,
    registry::{CustomSnapshot, Observe, PolicySnapshot, Registry},
    timeout::DeadlineLayer,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

type Failed = Error<io::Error>;

async fn fail(breaker: &CircuitBreaker) {
    let failed = async || Err::<(), Failed>(Error::Service(io::Error::other("gone")));
    let _ = breaker.run(failed).await;
}

#[tokio::test(start_paused = true)]
async fn every_policy_is_listed_in_order_and_serialises_flat() {
    let registry = Registry::new();
    let breaker = CircuitBreaker::new("orders");
    let limiter = RateLimiter::new("api", 10, Duration::from_secs(60)).unwrap();
    registry.add(&breaker);
    registry.add(&limiter);
    registry.add(&Retry::new("orders"));
    registry.add(&Timeout::new("orders", Duration::from_secs(2)));
    registry.add(&LoadShed::new("api"));
    registry.add(&Throttle::new("orders"));
    registry.add(&DeadlineLayer::within("orders", Duration::from_secs(3)));
    registry.add(&DeadlineHeaderLayer::at_most("api", Duration::from_secs(4)));
    registry.publish(); // to no recorder at all: nothing happens
    assert_eq!(limiter.run(async || Ok::<_, Failed>(1)).await.unwrap(), 1);

    let json = serde_json::to_value(registry.snapshot()).unwrap();
    let kinds: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["kind"].clone())
        .collect();
    let expected =
        "circuit_breaker rate_limiter retry timeout load_shed throttle deadline deadline";
    assert_eq!(kinds, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(json[0]["name"], "orders");
    assert_eq!(json[0]["state"], "closed");
    assert_eq!(json[0]["retry_after"], serde_json::Value::Null);
    assert_eq!(
        (&json[1]["window"], &json[3]["limit"]),
        (&60.0.into(), &2.0.into())
    );
    assert_eq!(
        (&json[6]["within"], &json[7]["within"]),
        (&3.0.into(), &4.0.into())
    );
    assert_eq!(
        (&json[1]["admitted_total"], &json[1]["remaining"]),
        (&1.into(), &9.into())
    );
}

#[test]
fn a_policy_of_the_same_kind_and_name_takes_the_place_of_the_earlier_one() {
    let registry = Registry::new();
    let limiter = |quota| RateLimiter::new("api", quota, Duration::from_secs(60)).unwrap();
    registry.add(&limiter(10));
    registry.add(&Retry::new("api"));
    registry.add(&limiter(20));
    let snapshots = registry.snapshot();
    assert_eq!(snapshots.len(), 2);
    assert!(matches!(&snapshots[0], PolicySnapshot::RateLimiter(l) if l.quota == 20));
}

#[test]
fn a_policy_that_cannot_be_built_says_which_one_it_is() {
    use buttress::cache::Cache;
    let window = Duration::from_secs(1);
    let limiter = RateLimiter::new("api", 10, window).unwrap();
    let invalid = [
        (
            "circuit breaker",
            CircuitBreaker::builder("api").probes(0).build().err(),
        ),
        (
            "circuit breaker",
            CircuitBreaker::builder("api")
                .keyed(|_: &()| 0)
                .max_keys(0)
                .build()
                .err(),
        ),
        ("rate limiter", RateLimiter::new("api", 0, window).err()),
        ("rate limiter", limiter.set_quota(0).err()),
        ("load shed", LoadShed::builder("api").queue(0).build().err()),
        (
            "throttle",
            Throttle::builder("api").multiplier(f64::NAN).build().err(),
        ),
        ("retry", Retry::builder("api").attempts(0).build().err()),
        (
            "cache",
            Cache::<()>::builder("api")
                .jitter(f64::NAN)
                .build::<u8>()
                .err(),
        ),
    ];
    for (kind, invalid) in invalid {
        let invalid = invalid.unwrap();
        assert_eq!(invalid.name(), Some("api"), "{invalid}");
        let text = format!("invalid {kind} \"api\": {} is ", invalid.field());
        assert!(invalid.to_string().starts_with(&text), "{invalid}");
    }
}

#[test]
fn a_policy_that_looks_at_the_registry_when_it_is_dropped_finds_its_successor() {
    #[derive(Clone)]
    struct Leaves(Registry, Arc<Mutex<Vec<String>>>);
    impl Observe for Leaves {
        fn name(&self) -> &'static str {
            let _ = self.0.snapshot();
            "leaves"
        }
        fn kind(&self) -> &'static str {
            "custom"
        }
        fn snapshot(&self) -> PolicySnapshot {
            CustomSnapshot::new("custom", "leaves").into()
        }
    }
    impl Drop for Leaves {
        fn drop(&mut self) {
            let listed = format!("{:?}", self.0);
            self.1.lock().unwrap().push(listed);
        }
    }
    let (registry, seen) = (Registry::new(), Arc::default());
    let policy = Leaves(registry.clone(), Arc::clone(&seen));
    assert!(!registry.add(&policy));
    assert!(registry.add(&policy));
    assert_eq!(seen.lock().unwrap()[..], ["[(\"custom\", \"leaves\")]"]);
    std::mem::forget(policy);
}

#[tokio::test(start_paused = true)]
async fn published_counters_are_absolute_and_exactly_one_state_is_set() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let registry = Registry::new();
    let breaker = CircuitBreaker::builder("orders")
        .consecutive_failures(2)
        .build()
        .unwrap();
    registry.add(&breaker);
    let show = |registry: &Registry| {
        metrics::with_local_recorder(&recorder, || registry.publish());
        page.render()
    };
    let line = |state, value| {
        format!("buttress_circuit_breaker_state{{policy=\"orders\",state=\"{state}\"}} {value}")
    };

    let text = show(&registry);
    assert!(
        text.contains(&line("closed", 1)) && text.contains(&line("open", 0)),
        "{text}"
    );

    fail(&breaker).await;
    fail(&breaker).await;
    fail(&breaker).await;
    for _ in 0..3 {
        let text = show(&registry); // however often it is published
        assert!(
            text.contains(&line("closed", 0)) && text.contains(&line("open", 1)),
            "{text}"
        );
        let failures = "calls_total{policy=\"orders\",outcome=\"failure\"} 2";
        assert!(text.contains(failures), "{text}");
        let rejected = "buttress_rejected_total{kind=\"circuit_breaker\",policy=\"orders\"} 1";
        assert!(text.contains(rejected), "{text}");
    }

    tokio::time::advance(Duration::from_secs(60)).await;
    breaker.run(async || Ok::<_, Failed>(())).await.unwrap();
    let text = show(&registry);
    assert!(
        text.contains(&line("closed", 1)) && text.contains(&line("open", 0)),
        "{text}"
    );
    assert!(text.contains(&line("half_open", 0)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn publishing_periodically_never_spins_and_ends_with_its_future() {
    let registry = Registry::new();
    registry.add(&Retry::new("r"));
    let publishing = registry.clone().publish_every(Duration::ZERO);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), publishing)
            .await
            .is_err()
    );
}

#[test]
fn every_metric_is_explained_to_the_recorder_and_in_the_readme() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let registry = Registry::new();
    registry.add(&buttress::Cache::builder("p").build::<u8>().unwrap());
    registry.add(&CircuitBreaker::new("p"));
    let by_key = CircuitBreaker::builder("p").keyed(|key: &u8| *key);
    registry.add(&by_key.build().unwrap());
    registry.add(&LoadShed::new("p"));
    registry.add(&RateLimiter::new("p", 10, Duration::from_secs(60)).unwrap());
    let by_key = RateLimiter::builder("k", 10, Duration::from_secs(60)).keyed(|key: &u8| *key);
    registry.add(&by_key.build().unwrap());
    registry.add(&Retry::new("p"));
    registry.add(&Throttle::new("p"));
    registry.add(&Timeout::new("p", Duration::from_secs(2)));
    registry.add(&Shadow::new("p", Throttle::new("p")));
    registry.add(&DeadlineLayer::within("p", Duration::from_secs(2)));
    metrics::with_local_recorder(&recorder, || registry.publish());
    let text = page.render();

    let readme = include_str!("../../README.md");
    let mut listed = Vec::new();
    for row in readme.lines().filter(|line| line.starts_with("| ")) {
        let names: Vec<&str> = row.split('`').filter(|word| word.contains('_')).collect();
        let kinds = [
            "cache",
            "circuit_breaker",
            "deadline",
            "load_shed",
            "rate_limiter",
            "rejected",
            "retry",
            "shadow",
            "throttle",
            "timeout",
        ];
        let first = names.first().copied().unwrap_or_default();
        let Some(kind) = kinds.into_iter().find(|kind| first.starts_with(kind)) else {
            continue;
        };
        for name in names {
            let name = name.split('{').next().unwrap();
            listed.push(match name.strip_prefix('_') {
                Some(rest) => format!("buttress_{kind}_{rest}"),
                None => format!("buttress_{name}"),
            });
        }
    }
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let published: Vec<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    for name in &published {
        assert!(
            text.contains(&format!("# HELP {name} ")),
            "{name} in {text}"
        );
        assert!(
            listed.iter().any(|other| other == name),
            "{name} in the README"
        );
    }
    for name in &listed {
        assert!(published.contains(&name.as_str()), "{name} is published");
    }
}

#[test]
fn what_a_snapshot_calls_a_count_the_metrics_call_it_too() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let registry = Registry::new();
    registry.add(&CircuitBreaker::new("p"));
    let by_key = CircuitBreaker::builder("k").keyed(|key: &u8| *key);
    registry.add(&by_key.build().unwrap());
    registry.add(&RateLimiter::new("p", 10, Duration::from_secs(60)).unwrap());
    registry.add(&LoadShed::new("p"));
    registry.add(&Retry::new("p"));
    registry.add(&Throttle::new("p"));
    registry.add(&Timeout::new("p", Duration::from_secs(2)));
    registry.add(&Shadow::new("p", Throttle::new("p")));
    registry.add(&DeadlineLayer::within("p", Duration::from_secs(2)));
    metrics::with_local_recorder(&recorder, || registry.publish());
    let text = page.render();
    let has = |start: &str, name: &str| {
        let policy = format!("policy=\"{name}\"");
        let mut lines = text.lines().filter(|line| line.starts_with(start));
        lines.any(|line| line.contains(&policy))
    };

    let json = serde_json::to_value(registry.snapshot()).unwrap();
    for policy in json.as_array().unwrap() {
        let (kind, name) = (policy["kind"].as_str(), policy["name"].as_str().unwrap());
        // A breaker for each key tells what one breaker does, of all of them.
        let kind = kind.unwrap().trim_start_matches("keyed_");
        let mut counts = 0;
        for (field, _) in policy
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| v.is_number())
        {
            let metric = match (kind, field.as_str()) {
                // Settings in seconds, which nobody plots.
                ("rate_limiter", "window") | ("timeout", "limit") | ("deadline", "within") => {
                    continue;
                }
                (_, "rejected_total") => format!("buttress_rejected_total{{kind=\"{kind}\","),
                ("circuit_breaker", "successes_total" | "failures_total") => {
                    "buttress_circuit_breaker_calls_total{".to_owned()
                }
                // What they decide by, here and now; the totals are for rates.
                ("circuit_breaker" | "throttle", now) if !now.ends_with("_total") => continue,
                (_, field) => format!("buttress_{kind}_{field}{{"),
            };
            assert!(has(&metric, name), "{metric} of {name} is not in {text}");
            counts += u32::from(field.ends_with("_total"));
        }
        let least = if kind == "deadline" { 1 } else { 2 };
        assert!(counts >= least, "{kind}: {counts} counts");
    }
}

/// A policy that this crate does not know.
#[derive(Clone)]
struct Purse;

impl Observe for Purse {
    fn name(&self) -> &'static str {
        "answers"
    }
    fn kind(&self) -> &'static str {
        "purse"
    }
    fn snapshot(&self) -> PolicySnapshot {
        CustomSnapshot::new(self.kind(), self.name())
            .counter("spent_total", 42)
            .gauge("left", 57.5)
            .counter("rejected_total", 3)
            .into()
    }
}

#[test]
fn a_policy_of_the_applications_own_is_listed_and_published_like_the_others() {
    let registry = Registry::new();
    registry.add(&Retry::new("answers"));
    registry.add(&Purse);
    registry.add(&Purse);
    let json = serde_json::to_value(registry.snapshot()).unwrap();
    let purse = serde_json::json!({
        "kind": "purse", "name": "answers", "spent_total": 42, "left": 57.5, "rejected_total": 3
    });
    assert_eq!(json[1], purse);
    assert_eq!(json.as_array().unwrap().len(), 2);

    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || registry.publish());
    let page = recorder.handle().render();
    for line in [
        "buttress_purse_spent_total{policy=\"answers\"} 42",
        "buttress_purse_left{policy=\"answers\"} 57.5",
        "buttress_rejected_total{kind=\"purse\",policy=\"answers\"} 3",
    ] {
        assert!(page.contains(line), "{line}:\n{page}");
    }
}
