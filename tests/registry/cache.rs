//! What of a cache is serialised and published.

use buttress::{Error, cache::Cache, registry::Registry};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::io;

#[tokio::test(start_paused = true)]
async fn each_number_of_a_cache_is_serialised_and_published_under_the_same_name() {
    let (recorder, registry) = (PrometheusBuilder::new().build_recorder(), Registry::new());
    let cache: Cache<u32> = Cache::builder("items").build().unwrap();
    registry.add(&cache);
    for _ in 0..3 {
        let load = || async { Ok::<_, Error<io::Error>>(7) };
        assert_eq!(cache.run("a", load).await.unwrap().value, 7);
    }
    cache.invalidate("a").await.unwrap();
    metrics::with_local_recorder(&recorder, || registry.publish());
    let page = recorder.handle().render();

    let json = serde_json::to_value(registry.snapshot()).unwrap();
    let cache = json[0].as_object().unwrap();
    assert_eq!(cache["kind"], "cache");
    assert_eq!(cache["fresh_total"], 2);
    assert_eq!(cache["invalidations_total"], 1);
    assert_eq!(cache["in_flight"], 0);
    let served = ["fresh", "revalidating", "if_error"];
    for (field, number) in cache.iter().filter(|(f, _)| *f != "kind" && *f != "name") {
        let line = match field.strip_suffix("_total") {
            Some(hit) if served.contains(&hit) => {
                format!("buttress_cache_hits_total{{policy=\"items\",served=\"{hit}\"}} {number}")
            }
            _ => {
                let number = number
                    .as_bool()
                    .map_or_else(|| number.clone(), |up| u8::from(up).into());
                format!("buttress_cache_{field}{{policy=\"items\"}} {number}")
            }
        };
        assert!(
            page.lines().any(|of| of == line),
            "{line} is not in\n{page}"
        );
    }
}
