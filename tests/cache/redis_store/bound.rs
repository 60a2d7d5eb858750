//! The bound that a memory tier states, under writers, readers and lost connections.

use super::{
    server::Server,
    support::*,
    tiered::{HEARTBEAT, both, peek},
};
use buttress::cache::{AcquireOptions, Acquired, Fill, InvalidationMode, Store};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};
use tokio::time::sleep;

/// Which version was acknowledged when.
#[derive(Default)]
struct History(Mutex<Vec<(Instant, u64)>>);

impl History {
    /// The last version that was acknowledged before this.
    fn before(&self, moment: Instant) -> u64 {
        let acknowledged = self.0.lock().unwrap();
        let at = acknowledged.partition_point(|(when, _)| *when < moment);
        at.checked_sub(1).map_or(0, |at| acknowledged[at].1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_from_memory_a_heartbeat_after_its_invalidation_was_acknowledged() {
    let server = Arc::new(Server::start());
    let (row, done) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let history = Arc::new(History::default());
    let page = tagged("page", "items");
    let mut tasks = Vec::new();
    for reader in 0..2 {
        let store = both(&server).await;
        let (row, done, history) = (Arc::clone(&row), Arc::clone(&done), Arc::clone(&history));
        let page = page.clone();
        tasks.push(tokio::spawn(async move {
            let (mut hits, mut asked) = (0_u64, 0_u64);
            while !done.load(SeqCst) {
                let began = Instant::now();
                let version = |text: String| text.parse::<u64>().unwrap();
                if let Some(seen) = peek(&store, &page).map(version) {
                    let bound = history.before(began - HEARTBEAT);
                    assert!(seen >= bound, "reader {reader} saw {seen}, not {bound}");
                    hits += 1;
                    sleep(MS / 2).await;
                    continue;
                }
                let acknowledged = history.before(began);
                match store.acquire(&page, AcquireOptions::new(S)).await {
                    Ok(Acquired::Fresh(entry)) => {
                        // From Redis: nothing that was acknowledged before.
                        assert!(version(entry.value) >= acknowledged);
                        asked += 1;
                    }
                    Ok(Acquired::Leased { lease, .. }) => {
                        let read = row.load(SeqCst).to_string();
                        sleep(MS).await;
                        let _ = store
                            .fill(&page, &lease, Fill::new(read, WINDOWS, MS))
                            .await;
                    }
                    _ => sleep(MS).await,
                }
            }
            (hits, asked)
        }));
    }
    let writer = both(&server).await;
    let began = Instant::now();
    for round in 1.. {
        if began.elapsed() > 2 * S {
            break;
        }
        row.store(round, SeqCst);
        let invalidated = match round % 2 {
            0 => writer.invalidate_tag("items", InvalidationMode::Drop).await,
            _ => writer.invalidate(&page, InvalidationMode::Keep).await,
        };
        assert_eq!(peek(&writer, &page), None);
        invalidated.unwrap();
        history.0.lock().unwrap().push((Instant::now(), round));
        if round % 7 == 0 {
            let server = Arc::clone(&server);
            let kill = move || server.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            tokio::task::spawn_blocking(kill).await.unwrap();
        }
        sleep((10 + round % 5 * 20) as u32 * MS).await;
    }
    done.store(true, SeqCst);
    for task in tasks {
        let (hits, asked) = task.await.unwrap();
        assert!(hits > 10 && asked > 0, "{hits} {asked}");
    }
}
