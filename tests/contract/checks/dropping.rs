use super::{ask, cx, paused, still_works};
use crate::{
    inner::{Inner, get},
    subject::{Entry, Subject},
};
use std::time::Duration;
use tokio::time::timeout;
use tokio_test::task::spawn;
use tower::{Service, ServiceExt};

/// More than any layer here has permits of.
const MANY: u64 = 70;
/// Longer than any layer here makes a call wait.
const LONG: Duration = Duration::from_secs(10_000);

pub(crate) fn before_the_first_poll<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        let mut service = entry.layer.layer(inner.clone());
        for calls in 1..=MANY {
            drop(service.ready().await.expect("ready").call(get("/slow")));
            assert_eq!(inner.running(), 0);
            assert_eq!((entry.count)(), calls * entry.leaves.cancelled);
        }
        still_works(&entry.layer, &inner).await;
    });
}

pub(crate) fn while_the_inner_call_runs<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        let mut service = entry.layer.layer(inner.clone());
        for calls in 1..=MANY {
            let mut call = spawn(service.ready().await.expect("ready").call(get("/slow")));
            for _ in 0..1 + calls % 2 {
                assert!(call.poll().is_pending());
            }
            assert_eq!(inner.running(), 1);
            drop(call);
            assert_eq!(inner.running(), 0);
            assert_eq!((entry.count)(), calls * entry.leaves.cancelled);
        }
        still_works(&entry.layer, &inner).await;
    });
}

pub(crate) fn after_completion<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        let mut service = entry.layer.layer(inner.clone());
        let mut call = spawn(service.ready().await.expect("ready").call(get("/slow")));
        while call.poll().is_pending() {}
        // The response, with its body unread, has been dropped; now its future is.
        drop(call);
        assert_eq!((inner.calls(), inner.running()), (1, 0));
        assert_eq!((entry.count)(), entry.leaves.success);
        let _ = ask(&mut service, get("/error")).await;
        assert_eq!((entry.count)(), entry.leaves.success + entry.leaves.error);
        still_works(&entry.layer, &inner).await;
    });
}

pub(crate) fn while_waiting<L: Subject>(entry: Entry<L>) {
    let Some(full) = entry.full else {
        return;
    };
    paused(async {
        let inner = Inner::default();
        let before = (full.count)();
        for polls in 0..3 {
            let mut service = full.layer.layer(inner.clone());
            if full.in_poll_ready {
                for _ in 0..polls {
                    assert!(service.poll_ready(&mut cx()).is_pending());
                }
            } else {
                let mut call = spawn(service.ready().await.expect("ready").call(get("/ok")));
                for _ in 0..polls {
                    assert!(call.poll().is_pending());
                }
            }
            drop(service);
            let left = (inner.calls(), (full.count)());
            assert_eq!(left, (0, before), "after {polls} polls");
        }
        (full.free)();
        // Whoever left the queue is not in the way of the next one.
        let works = still_works(&full.layer, &inner);
        timeout(LONG, works).await.expect("a turn");
    });
}
