//! Tasks that wait for a service that is not ready, to be told when the breaker opens.

use crate::{
    clock::{Now, Time},
    shared::lock,
};
use std::{collections::HashMap, mem, sync::Mutex, task::Waker};

/// How many tasks are remembered. Nobody tells us when one goes away, so now and then all are woken
/// and those that still wait come back. Not more often than this:
const LIMIT: usize = 1_024;
const SWEEP: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<Parked>);

#[derive(Debug, Default)]
struct Parked {
    /// By what makes two wakers one, see [`Waker::will_wake`].
    by_task: HashMap<(usize, usize), Waker>,
    swept: Time,
}

impl Wakers {
    /// Remembers the task.
    pub(super) fn park(&self, waker: &Waker, now: &Now) {
        let id = (
            waker.data() as usize,
            std::ptr::from_ref(waker.vtable()) as usize,
        );
        let mut parked = lock(&self.0);
        if parked.by_task.contains_key(&id) {
            return;
        }
        let mut gone = HashMap::new();
        if parked.by_task.len() >= LIMIT {
            // With more tasks than places, waking at every arrival would keep all of them awake;
            // so the one that finds no place waits for its service alone.
            let now = now.get();
            if now.since(parked.swept).as_nanos() < u128::from(SWEEP) {
                return;
            }
            parked.swept = now;
            gone = mem::take(&mut parked.by_task);
        }
        parked.by_task.insert(id, waker.clone());
        drop(parked);
        gone.into_values().for_each(Waker::wake);
    }

    pub(super) fn wake_all(&self) {
        let parked = mem::take(&mut lock(&self.0).by_task);
        parked.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Task(AtomicUsize);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_task_is_remembered_once_and_woken_once() {
        let (wakers, task) = (Wakers::default(), Arc::new(Task::default()));
        for _ in 0..3 {
            wakers.park(&Waker::from(task.clone()), &Now::at(Time(0)));
        }
        assert_eq!(lock(&wakers.0).by_task.len(), 1);
        wakers.wake_all();
        wakers.wake_all();
        assert_eq!(task.0.load(Relaxed), 1);
    }

    #[test]
    fn the_list_is_bounded_and_swept_but_not_at_every_arrival() {
        let wakers = Wakers::default();
        let tasks: Vec<_> = (0..3 * LIMIT).map(|_| Arc::new(Task::default())).collect();
        for task in &tasks {
            wakers.park(&Waker::from(task.clone()), &Now::at(Time(2 * SWEEP)));
        }
        let woken = tasks.iter().filter(|t| t.0.load(Relaxed) > 0).count();
        assert_eq!((woken, lock(&wakers.0).by_task.len()), (LIMIT, LIMIT));
    }
}
