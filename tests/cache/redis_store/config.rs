//! What a store is built from.

use super::{server::Server, support::*};
use buttress::{cache::Binary, redis::RedisStore};

#[tokio::test]
async fn what_makes_no_store_is_refused_with_its_reason() {
    let error = RedisStore::builder("redis://localhost")
        .connect()
        .unwrap_err();
    assert_eq!(error.field(), "namespace");
    for url in [
        "",
        "localhost",
        "http://localhost",
        "redis://:secret@host:port",
        "redis://h/x",
    ] {
        let error = RedisStore::builder(url)
            .namespace("app")
            .connect()
            .unwrap_err();
        assert_eq!(error.field(), "url", "{url}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().contains("redis://"), "{error}");
    }
}

#[test]
fn a_store_is_built_on_a_runtime_and_says_so() {
    let builder = RedisStore::builder("redis://localhost").namespace("app");
    assert_eq!(builder.connect().unwrap_err().field(), "runtime");
}

#[tokio::test]
async fn a_store_can_be_printed_but_its_password_cannot() {
    let builder = RedisStore::builder("redis://:secret@localhost:1").namespace("app");
    let text = format!("{builder:?}");
    assert!(text.contains("app") && !text.contains("secret"), "{text}");
    let text = format!("{:?}", builder.codec(Binary).connect().unwrap());
    assert!(text.contains("app") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn sections_share_a_connection_and_nothing_else() {
    let server = Server::start();
    let store = connect(&server).await;
    let sections = [
        store.clone(),
        store.section("items"),
        store.section("users"),
    ];
    let seven = tagged("7", "all");
    for (i, section) in sections.iter().enumerate() {
        put(section, &seven, &i.to_string()).await;
    }
    invalidate_tag(&sections[1], "all", buttress::cache::InvalidationMode::Drop).await;
    for (i, section) in sections.iter().enumerate() {
        let text = look(section, &seven).await.map(|entry| entry.value);
        assert_eq!(text, (i != 1).then(|| i.to_string()));
    }
    let clients = || server.ask::<String>(&["CLIENT", "LIST"]).lines().count();
    eventually("there is one connection, and ours", async || clients() == 2).await;
    // Each of them keeps it.
    let [first, _, last] = sections;
    drop((store, first));
    assert!(look(&last, &seven).await.is_some());
}

#[tokio::test]
async fn namespaces_do_not_see_each_other() {
    let server = Server::start();
    let app = connect(&server).await;
    let other = RedisStore::builder(server.url())
        .namespace("other{")
        .codec(Text)
        .connect()
        .unwrap();
    connected(&other).await;
    put(&app, &tagged("7", "items"), "app").await;
    put(&other, &tagged("7", "items"), "other").await;
    invalidate_tag(&app, "items", buttress::cache::InvalidationMode::Drop).await;
    assert!(look(&app, &tagged("7", "items")).await.is_none());
    assert_eq!(
        look(&other, &tagged("7", "items")).await.unwrap().value,
        "other"
    );
}
