//! Four instances, and nginx before them.

use crate::process::{Answer, Service, empty, eventually, signal};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

async fn four() -> Service {
    let (database, redis) = empty().await;
    let settings = [
        ("DATABASE_URL", database.as_str()),
        ("REDIS_URL", redis.as_str()),
    ];
    let arguments = ["--instances", "4", "--nginx"];
    Service::run(&arguments, &settings, "nginx listening on")
}

/// The processes that this one started, by their arguments.
fn children(parent: u32) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(id) = id else { continue };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        if after.split_whitespace().nth(1) == Some(&parent.to_string()) {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            found.insert(id, String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// The processes that listen on the ports of the instances.
fn instances(parent: u32) -> Vec<u32> {
    let children = children(parent).into_iter();
    let instances = children.filter(|(_, line)| line.contains("--until-stdin-ends"));
    instances.map(|(id, _)| id).collect()
}

fn gone(ids: &[u32]) -> bool {
    // A zombie, whom nobody has waited for yet, has no memory any more.
    let is_gone = |id: &u32| {
        let statm = fs::read_to_string(format!("/proc/{id}/statm"));
        statm.is_ok_and(|text| text.starts_with("0 "))
            || !Path::new(&format!("/proc/{id}")).exists()
    };
    ids.iter().all(is_gone)
}

async fn served_by(api: &Service) -> String {
    let answer = api.get("/tasks").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-served-by").to_owned()
}

#[tokio::test]
async fn requests_are_spread_evenly_over_four_processes() {
    let api = four().await;
    assert_eq!(instances(api.id()).len(), 4);
    let mut counts = BTreeMap::<_, u32>::new();
    for _ in 0..40 {
        *counts.entry(served_by(&api).await).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10; 4]);
}

// The load goes on while this waits for lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_instance_killed_under_load_fails_no_read_and_is_started_again() {
    let mut api = four().await;
    let id = api.add("/tasks", json!({"title": "t"})).await;
    let ended = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..16)
        .map(|n| {
            let (client, url) = (api.client.clone(), api.url.clone());
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let path = if n % 2 == 0 { "/tasks" } else { "/tasks/1" };
                let mut answers = 0;
                while !ended.load(Relaxed) {
                    let response = client.get(format!("{url}{path}")).send().await.unwrap();
                    assert_eq!(response.status(), 200, "after {answers} answers");
                    response.bytes().await.unwrap();
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for (name, how) in [
        ("KILL", "ended: signal: 9"),
        ("TERM", "ended: exit status: 0"),
    ] {
        let victim = instances(api.id())[0];
        signal(victim, name);
        api.line(how);
        let again = api.line("again");
        assert!(again.contains("port"), "{again}");
        api.line("listening on");
        eventually("there are four again", async || {
            instances(api.id()).len() == 4
        })
        .await;
    }
    ended.store(true, Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 10);
    }
    assert_eq!(api.get("/tasks/1").await.with(200)["id"], id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_task_is_added_twice_and_none_is_lost_when_an_instance_is_killed_meanwhile() {
    let mut api = four().await;
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let (client, url) = (api.client.clone(), format!("{}/tasks", api.url));
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut done = Vec::new();
                for m in 0.. {
                    if ended.load(Relaxed) {
                        break;
                    }
                    let title = format!("{n} {m}");
                    let body = json!({"title": title}).to_string();
                    let answer = client.post(&url).body(body).send().await.unwrap();
                    match answer.status().as_u16() {
                        201 => done.push(title),
                        // It may or may not have been done.
                        502 => {}
                        status => panic!("{status}"),
                    }
                }
                done
            })
        })
        .collect();
    signal(instances(api.id())[0], "KILL");
    api.line("again");
    api.line("listening on");
    ended.store(true, Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.extend(writer.await.unwrap());
    }
    assert!(done.len() > 20, "{}", done.len());
    let mut found = BTreeMap::<String, u32>::new();
    for page in 0.. {
        let path = format!("/tasks?limit=1000&offset={}", page * 1000);
        let titles = api.column(&path, "title").await;
        if titles.is_empty() {
            break;
        }
        for title in titles {
            *found.entry(title.as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert!(done.iter().all(|title| found.contains_key(title)));
    assert!(found.values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_write_on_one_instance_is_read_on_all_others() {
    let api = four().await;
    for n in 1..=12 {
        // Each list is asked of all four, so that all know it.
        for _ in 0..4 {
            api.get("/tasks?sort=-id").await.with(200);
        }
        let id = api.add("/tasks", json!({"title": format!("t{n}")})).await;
        for _ in 0..4 {
            assert_eq!(api.column("/tasks?sort=-id&limit=1", "id").await, [id]);
            assert_eq!(api.get("/tasks?sort=-id").await.with(200)["total"], n);
        }
    }
}

#[tokio::test]
async fn all_processes_end_with_the_first_also_when_it_is_killed() {
    for (name, success) in [("TERM", true), ("INT", true), ("KILL", false)] {
        let mut api = four().await;
        let running: Vec<_> = children(api.id()).into_keys().collect();
        // Four instances, nginx, and who looks after nginx.
        assert!(running.len() >= 5, "{running:?}");
        let answer: Answer = api.call("GET", "/tasks", &Value::Null).await;
        assert_eq!(answer.status, 200);
        api.signal(name);
        assert_eq!(api.ended().await.success(), success, "{name}");
        eventually("all of them are gone", async || gone(&running)).await;
    }
}

#[tokio::test]
async fn without_urls_it_boots_its_own_databases_and_removes_them() {
    let mut api = Service::run(&[], &[], "listening on");
    let database = api.url.clone();
    api.add("/tasks", json!({"title": "t"})).await;
    assert_eq!(api.get("/health").await.with(200)["status"], "up");
    let running: Vec<_> = children(api.id()).into_keys().collect();
    assert!(running.len() >= 2, "{database}: {running:?}");
    api.signal("TERM");
    assert!(api.ended().await.success());
    eventually("all of them are gone", async || gone(&running)).await;
    let prefix = |name: &str| format!("{name}-{}-", api.id());
    let left = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name().into_string().unwrap_or_default())
        .filter(|name| {
            ["postgres", "redis"]
                .iter()
                .any(|of| name.starts_with(&prefix(of)))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
