use super::{ask, cx, paused};
use crate::{
    inner::{E, Inner, get},
    subject::{Entry, Subject},
};
use std::task::Poll;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::Service;

// The service below panics when it is called without having been made ready.

pub(crate) fn every_call_is_preceded_by_it<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        let mut service = entry.layer.layer(inner.clone());
        for calls in 1..=3 {
            assert!(ask(&mut service, get("/ok")).await.is_ok());
            assert_eq!(inner.calls(), calls);
        }
        assert!(ask(&mut service.clone(), get("/ok")).await.is_ok());
        // However many calls a call becomes.
        let _ = ask(&mut service, get("/error")).await;
        assert!(inner.calls() > 4);
    });
}

pub(crate) fn its_errors_pass_unchanged<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        inner.mood(Poll::Ready(Err(E::Boom(3))));
        let mut service = entry.layer.layer(inner.clone());
        if entry.ready_in_call {
            assert_ready_ok!(service.poll_ready(&mut cx()));
            let answer = service.call(get("/ok")).await;
            assert_eq!(answer.map(|_| ()), Err(E::Boom(3)));
            assert_eq!(inner.calls(), 0);
            return;
        }
        let error = assert_ready_err!(service.poll_ready(&mut cx()));
        assert_eq!(error, E::Boom(3));
        assert_eq!(inner.calls(), 0);
        // A guard that learns from it counts it as it counts a call that failed.
        assert!((entry.count)() <= entry.leaves.error, "{}", (entry.count)());
    });
}

pub(crate) fn it_is_not_cloned<L: Subject>(entry: Entry<L>) {
    paused(async {
        let mut service = entry.layer.layer(Inner::default());
        assert_ready_ok!(service.poll_ready(&mut cx()));
        // The clone finds out for itself, and the original is as ready as it was.
        let mut clone = service.clone();
        assert!(ask(&mut clone, get("/ok")).await.is_ok());
        assert!(service.call(get("/ok")).await.is_ok());
    });
}

pub(crate) fn a_service_that_is_not_ready_is_waited_for<L: Subject>(entry: Entry<L>) {
    paused(async {
        let inner = Inner::default();
        inner.mood(Poll::Pending);
        let mut service = entry.layer.layer(inner.clone());
        if entry.ready_in_call {
            assert_ready_ok!(service.poll_ready(&mut cx()));
            let mut call = task::spawn(service.call(get("/ok")));
            assert!(call.poll().is_pending());
            inner.mood(Poll::Ready(Ok(())));
            assert!(call.is_woken());
            assert!(call.await.is_ok());
            assert_eq!(inner.calls(), 1);
            return;
        }
        let mut ready = task::spawn(());
        assert_pending!(ready.enter(|cx, _| service.poll_ready(cx)));
        assert!(!ready.is_woken());
        inner.mood(Poll::Ready(Ok(())));
        assert!(ready.is_woken());
        assert_ready_ok!(ready.enter(|cx, _| service.poll_ready(cx)));
        assert!(service.call(get("/ok")).await.is_ok());
        assert_eq!(inner.calls(), 1);
    });
}
