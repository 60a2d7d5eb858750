use super::{ask, cx, paused};
use crate::{
    inner::{E, Inner, Mark, get},
    subject::{Entry, Subject},
};
use http_body::Body;
use std::{pin::pin, task::Poll};
use tower::Service;

pub(crate) fn responses_are_unchanged<L: Subject>(entry: Entry<L>) {
    paused(async {
        let mut service = entry.layer.layer(Inner::default());
        let answer = ask(&mut service, get("/marked")).await.expect("a response");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-mark"], "8");
        assert_eq!(answer.extensions().get(), Some(&Mark(9)));
        assert_eq!(answer.body(), "answer");
        assert_eq!((entry.count)(), entry.leaves.success);
    });
}

pub(crate) fn errors_are_unchanged<L: Subject>(entry: Entry<L>) {
    paused(async {
        let mut service = entry.layer.layer(Inner::default());
        let error = ask(&mut service, get("/error"))
            .await
            .expect_err("an error");
        assert_eq!(error, E::Boom(7));
        assert_eq!((entry.count)(), entry.leaves.error);
    });
}

pub(crate) fn nothing_is_allocated<L: Subject>(entry: Entry<L>) {
    if entry.ready_in_call {
        return;
    }
    /// A call that ends at its first poll, as does its response's body.
    fn call<L: Subject>(service: &mut L::Made) {
        assert!(service.poll_ready(&mut cx()).is_ready());
        let mut call = pin!(service.call(get("/ok")));
        let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx()) else {
            panic!("no response at once");
        };
        let mut body = pin!(response.into_body());
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx()) {
            assert!(frame.is_ok());
        }
    }
    paused(async {
        let mut service = entry.layer.layer(Inner::default());
        // The first calls may make what stays: a window of calls grows until it is full.
        for _ in 0..100 {
            call::<L>(&mut service);
        }
        let allocated = allocation_counter::measure(|| {
            for _ in 0..100 {
                call::<L>(&mut service);
                call::<L>(&mut service.clone());
            }
        });
        let expected = 200 * entry.allocates;
        assert_eq!(allocated.count_total, expected, "{allocated:?}");
    });
}
