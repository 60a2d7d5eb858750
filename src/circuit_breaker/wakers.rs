//! Tasks that wait for a service that is not ready, to be told when the breaker opens.

use crate::{
    clock::{Now, Time},
    shared::lock,
};
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex},
    task::Waker,
};

/// So few arrivals are not worth a sweep.
const FEW: usize = 64;
/// A longer list is swept after so many nanoseconds at the latest.
const SWEEP: u64 = 10_000_000_000;
/// And no sooner than after so many: whoever was woken has to have its turn before it is left out.
const PAUSE: u64 = 100_000_000;

/// Every task that waits, and few that do no longer.
///
/// Nobody tells us when a task goes away. So when as many have arrived as were found waiting the
/// last time, all are woken: those that still wait park again, and who has not by the next time is
/// left out. So an arrival wakes one or two of those that wait, on average, and the list is three
/// times as long as they are many, or as many as arrive in a tenth of a second, if that is more.
///
/// That tenth is there because a task that was woken stands behind all others that are to run.
/// Without it, thousands that come at once would be left out before they have run, arrive anew, and
/// wake each other for good.
///
/// # Invariants
/// 1. A task that was parked is in the list, or has been woken since.
/// 2. No waker is cloned, woken or dropped under the lock: all of these may run code of the
///    application, which may come back here.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<Parked>);

#[derive(Debug, Default)]
struct Parked {
    by_task: HashMap<WakerId, ParkedTask>,
    /// How many have arrived since the list was swept last.
    arrived: usize,
    /// How many were found waiting then, and when that was.
    waited: usize,
    swept: Time,
}

/// What makes two wakers one, see [`Waker::will_wake`]. It is that of the waker in the list: while
/// that is there, no other task gets the same.
type WakerId = (usize, usize);

fn id(waker: &Waker) -> WakerId {
    let vtable = std::ptr::from_ref(waker.vtable());
    (waker.data() as usize, vtable as usize)
}

#[derive(Debug)]
struct ParkedTask {
    /// Shared, because a sweep wakes it after the lock has been let go of.
    waker: Arc<Waker>,
    seen: Seen,
}

/// What is known of a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    /// It has arrived since the last sweep.
    Arrived,
    /// It was woken by that sweep, and has not parked since.
    Woken,
    /// It was woken by that sweep, and still waits.
    Back,
}

impl Wakers {
    /// Remembers the task.
    pub(super) fn park(&self, waker: &Waker, now: &Now) {
        if lock(&self.0).is_back(waker) {
            return;
        }
        let waker = Arc::new(waker.clone());
        let swept = lock(&self.0).add(&waker, now);
        swept.waiting.iter().for_each(|waker| waker.wake_by_ref());
    }

    pub(super) fn wake_all(&self) {
        let parked = mem::take(&mut *lock(&self.0));
        let tasks = parked.by_task.into_values();
        tasks.for_each(|task| task.waker.wake_by_ref());
    }
}

/// What a sweep leaves to do without the lock.
#[derive(Default)]
struct Swept {
    /// To be woken.
    waiting: Vec<Arc<Waker>>,
    /// To be dropped.
    gone: Vec<Arc<Waker>>,
}

impl Parked {
    /// Returns whether the task is in the list, and notes that it still waits.
    fn is_back(&mut self, waker: &Waker) -> bool {
        let Some(task) = self.by_task.get_mut(&id(waker)) else {
            return false;
        };
        if task.seen == Seen::Woken {
            task.seen = Seen::Back;
        }
        true
    }

    /// Adds a task, unless another thread was quicker.
    fn add(&mut self, waker: &Arc<Waker>, now: &Now) -> Swept {
        if self.is_back(waker) {
            return Swept::default();
        }
        let swept = if self.is_to_be_swept(now) {
            self.sweep(now)
        } else {
            Swept::default()
        };
        let (waker, seen) = (Arc::clone(waker), Seen::Arrived);
        self.by_task.insert(id(&waker), ParkedTask { waker, seen });
        self.arrived += 1;
        swept
    }

    fn is_to_be_swept(&self, now: &Now) -> bool {
        if self.by_task.len() < FEW {
            return false;
        }
        let since = now.get().since(self.swept).as_nanos();
        since >= u128::from(SWEEP)
            || (since >= u128::from(PAUSE) && self.arrived >= self.waited.max(FEW))
    }

    fn sweep(&mut self, now: &Now) -> Swept {
        let mut swept = Swept::default();
        (self.arrived, self.waited, self.swept) = (0, 0, now.get());
        let gone = self.by_task.extract_if(|_, task| task.seen == Seen::Woken);
        swept.gone.extend(gone.map(|(_, task)| task.waker));
        for task in self.by_task.values_mut() {
            self.waited += usize::from(task.seen == Seen::Back);
            task.seen = Seen::Woken;
            swept.waiting.push(Arc::clone(&task.waker));
        }
        swept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Weak,
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

    fn at(nanos: u64) -> Now {
        Now::at(Time(nanos))
    }

    #[test]
    fn every_task_that_waits_is_woken_however_many_there_are() {
        let wakers = Wakers::default();
        let tasks: Vec<_> = (0..3_000).map(|_| Arc::new(Task::default())).collect();
        let time = AtomicUsize::new(0);
        let park = |task: &Arc<Task>| {
            let now = time.fetch_add(1, Relaxed) as u64 * (PAUSE / 100);
            wakers.park(&Waker::from(task.clone()), &at(now));
        };
        for n in 0..tasks.len() {
            park(&tasks[n]);
            // Who was woken looks again, and goes on waiting.
            for task in &tasks[..=n] {
                if task.0.swap(0, Relaxed) > 0 {
                    park(task);
                }
            }
        }
        wakers.wake_all();
        assert!(tasks.iter().all(|task| task.0.load(Relaxed) == 1));
    }

    /// A runtime of one thread runs whom it wakes after all who were to run already.
    #[test]
    fn a_crowd_that_comes_at_once_comes_to_rest_and_is_woken() {
        let (wakers, crowd) = (Wakers::default(), 3_000);
        let tasks: Vec<_> = (0..crowd).map(|_| Arc::new(Task::default())).collect();
        let begin = 1_000 * SWEEP;
        let (mut to_run, mut polls) = (std::collections::VecDeque::from_iter(0..crowd), 0);
        let mut is_to_run = vec![true; crowd];
        while let Some(n) = to_run.pop_front() {
            is_to_run[n] = false;
            polls += 1;
            assert!(polls <= 3 * crowd, "they wake each other for good");
            // A microsecond each.
            wakers.park(
                &Waker::from(tasks[n].clone()),
                &at(begin + polls as u64 * 1_000),
            );
            for (n, task) in tasks.iter().enumerate() {
                if task.0.swap(0, Relaxed) > 0 && !mem::replace(&mut is_to_run[n], true) {
                    to_run.push_back(n);
                }
            }
        }
        wakers.wake_all();
        assert!(tasks.iter().all(|task| task.0.load(Relaxed) == 1));
    }

    #[test]
    fn arrivals_wake_few_and_those_that_left_are_forgotten() {
        let (wakers, waiting) = (Wakers::default(), 100);
        let tasks: Vec<_> = (0..waiting).map(|_| Arc::new(Task::default())).collect();
        let time = AtomicUsize::new(0);
        // Ten in each pause: so it is how many arrive that matters, and not when.
        let park = |task: &Arc<Task>| {
            let now = time.load(Relaxed) as u64 * (PAUSE / 10);
            wakers.park(&Waker::from(task.clone()), &at(now));
        };
        tasks.iter().for_each(park);
        let mut woken = 0;
        for arrival in 1..=10_000 {
            time.store(arrival, Relaxed);
            park(&Arc::new(Task::default()));
            for task in &tasks {
                let times = task.0.swap(0, Relaxed);
                (0..times).for_each(|_| park(task));
                woken += times;
            }
            let len = lock(&wakers.0).by_task.len();
            assert!(len <= 3 * waiting + FEW, "{len}");
            assert!(woken <= 2 * (waiting + arrival), "{woken} after {arrival}");
        }
        wakers.wake_all();
        assert!(tasks.iter().all(|task| task.0.load(Relaxed) == 1));
    }

    #[test]
    fn after_a_crowd_has_left_two_arrivals_are_enough_to_forget_it() {
        let wakers = Wakers::default();
        let crowd: Vec<_> = (0..1_000).map(|_| Arc::new(Task::default())).collect();
        let park = |task: &Arc<Task>, nanos| wakers.park(&Waker::from(task.clone()), &at(nanos));
        for n in 0..crowd.len() {
            park(&crowd[n], 0);
            let woken = crowd.iter().filter(|task| task.0.swap(0, Relaxed) > 0);
            woken.for_each(|task| park(task, 0));
        }
        assert_eq!(lock(&wakers.0).by_task.len(), crowd.len());
        for n in 1..=2 {
            park(&Arc::new(Task::default()), n * SWEEP);
        }
        assert_eq!(lock(&wakers.0).by_task.len(), 2);
    }

    /// A task whose waker, woken or dropped, runs code that needs the lock.
    struct Asks(Weak<Wakers>, Arc<AtomicUsize>);

    impl Asks {
        fn asserts_free(&self) {
            let wakers = self.0.upgrade().unwrap();
            assert!(wakers.0.try_lock().is_ok(), "under the lock");
        }
    }

    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            self.asserts_free();
        }
    }

    impl Drop for Asks {
        fn drop(&mut self) {
            self.asserts_free();
            self.1.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn wakers_are_woken_and_dropped_while_nobody_holds_the_lock() {
        let (wakers, dropped) = (Arc::new(Wakers::default()), Arc::<AtomicUsize>::default());
        let crowd = 4 * FEW;
        for n in 0..crowd {
            // Nobody but the list keeps it: it ends with a sweep, or with the list.
            let asks = Asks(Arc::downgrade(&wakers), dropped.clone());
            wakers.park(&Waker::from(Arc::new(asks)), &at(n as u64 * SWEEP));
        }
        assert!(dropped.load(Relaxed) > 0, "nobody was swept");
        wakers.wake_all();
        assert_eq!(dropped.load(Relaxed), crowd);
    }
}
