use super::{ask, paused};
use crate::{
    inner::{Inner, get},
    subject::{Entry, Subject},
};
use std::thread;

pub(crate) fn clones_share_their_state<L: Subject>(entry: Entry<L>) {
    let (path, each) = entry.trace;
    paused(async {
        let service = entry.layer.layer(Inner::default());
        for calls in 1..=4 {
            let _ = ask(&mut service.clone(), get(path)).await;
            assert_eq!((entry.count)(), calls * each);
        }
    });
}

pub(crate) fn all_services_of_one_layer_share_their_state<L: Subject>(entry: Entry<L>) {
    let (path, each) = entry.trace;
    paused(async {
        for calls in 1..=4 {
            // As axum does: a service for each route, some of them by a clone of the layer.
            let layer = [&entry.layer, &entry.layer.clone()][calls as usize % 2].clone();
            let _ = ask(&mut layer.layer(Inner::default()), get(path)).await;
            assert_eq!((entry.count)(), calls * each);
        }
    });
}

pub(crate) fn all_layers_of_one_handle_share_their_state<L: Subject>(entry: Entry<L>) {
    let (path, each) = entry.trace;
    paused(async {
        for calls in 1..=4 {
            let layer = [&entry.layer, &entry.again][calls as usize % 2];
            let _ = ask(&mut layer.layer(Inner::default()), get(path)).await;
            assert_eq!((entry.count)(), calls * each);
        }
    });
}

pub(crate) fn threads_share_their_state<L: Subject>(entry: Entry<L>) {
    let (path, each) = entry.trace;
    let service = entry.layer.layer(Inner::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut service = service.clone();
            scope.spawn(move || {
                paused(async {
                    for _ in 0..5 {
                        let _ = ask(&mut service, get(path)).await;
                    }
                });
            });
        }
    });
    assert_eq!((entry.count)(), 20 * each);
}
