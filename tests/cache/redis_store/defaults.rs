//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::{
    cache::Json,
    redis::{RedisStore, RedisStoreBuilder, Tiered},
};

/// The settings of memory over a Redis that is not there.
async fn settings_of_memory() -> String {
    let builder: RedisStoreBuilder<Json> = RedisStore::builder("redis://127.0.0.1:1");
    let store: RedisStore<Json> = builder.namespace("app").connect().unwrap();
    format!("{:#?}", Tiered::<String>::builder(store))
}

#[test]
fn a_store_that_is_told_nothing_more_has_no_namespace() {
    let builder = RedisStore::builder("redis://127.0.0.1:1");
    let settings = r#"RedisStoreBuilder { namespace: "", .. }"#;
    assert_eq!(format!("{builder:?}"), settings);
}

#[tokio::test]
async fn the_settings_of_memory_that_is_told_nothing_more() {
    let text = settings_of_memory().await;
    let (_, settings) = text.split_once("    capacity").unwrap();
    let expected = r#": 10000,
    max_age: 5s,
    heartbeat: 3s,
    ..
}"#;
    assert_eq!(settings, expected);
}
