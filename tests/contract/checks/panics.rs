use super::{cx, paused, still_works};
use crate::{
    inner::{Inner, get},
    subject::{Entry, Subject},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
};
use tower::Service;

/// Makes a call that panics, and sees what that leaves.
fn panics<L: Subject>(entry: &Entry<L>, path: &'static str) {
    paused(async {
        let inner = Inner::default();
        let mut service = entry.layer.layer(inner.clone());
        for calls in 1..=2 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                assert!(service.poll_ready(&mut cx()).is_ready());
                let mut call = pin!(service.call(get(path)));
                let _ = call.as_mut().poll(&mut cx());
            }));
            assert!(caught.is_err());
            assert_eq!((inner.calls() as u64, inner.running()), (calls, 0));
            assert_eq!((entry.count)(), calls * entry.leaves.panicked);
        }
        still_works(&entry.layer, &inner).await;
    });
}

pub(crate) fn of_the_service_in_call<L: Subject>(entry: Entry<L>) {
    panics(&entry, "/panic-in-call");
}

pub(crate) fn of_the_service_in_poll<L: Subject>(entry: Entry<L>) {
    panics(&entry, "/panic-in-poll");
}

pub(crate) fn of_the_classifier<L: Subject>(entry: Entry<L>) {
    if entry.touchy {
        panics(&entry, "/touch");
    }
}
