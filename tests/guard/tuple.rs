//! Several guards in one.

use crate::support::*;
use buttress::guard::OnResponse;
use buttress::{
    ErrorsAsFailures, Guard, GuardBase, GuardLayer, Now, Outcome, WaitLayer, guard::End,
};
use tokio_test::{assert_pending, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SUCCESS: End = End::Done(Outcome::Success);

fn spies(log: &Log) -> [Spy; 4] {
    NAMES.map(|name| Spy::new(name, log))
}

fn each(names: &[&'static str], event: Event) -> Vec<(&'static str, Event)> {
    names.iter().map(|name| (*name, event)).collect()
}

#[tokio::test]
async fn guards_admit_from_left_to_right_and_are_settled_from_right_to_left() {
    let log = Log::default();
    let [a, b, c, d] = spies(&log);
    let steps = || Steps(Log::default());
    let of_two = GuardLayer::new((a.clone(), b.clone()))
        .classify(ErrorsAsFailures)
        .layer(steps());
    let of_three = GuardLayer::new((a.clone(), b.clone(), c.clone()))
        .classify(ErrorsAsFailures)
        .layer(steps());
    let of_four = GuardLayer::new((a, b, c, d))
        .classify(ErrorsAsFailures)
        .layer(steps());
    let check = |n: usize| {
        let mut expected = each(&NAMES[..n], Admit);
        expected.extend(each(&NAMES[..n], Suspend));
        expected.extend(each(&NAMES[..n], Settle(SUCCESS)).into_iter().rev());
        assert_eq!(log.take(), expected, "{n} guards");
    };
    assert_eq!(of_two.oneshot(2).await, Ok(2));
    check(2);
    assert_eq!(of_three.oneshot(2).await, Ok(2));
    check(3);
    assert_eq!(of_four.oneshot(2).await, Ok(2));
    check(4);
}

#[tokio::test]
async fn what_was_admitted_before_a_refusal_never_started_and_what_comes_after_is_not_asked() {
    for refusing in 0..4 {
        let log = Log::default();
        let [a, b, c, d] = spies(&log);
        [&a, &b, &c, &d][refusing].0.refuse(overloaded());
        let service = GuardLayer::new((a, b, c, d))
            .classify(ErrorsAsFailures)
            .layer(Steps(Log::default()));
        assert_eq!(service.oneshot(1).await, Err(E::Rejected(overloaded())));
        let (before, at) = (&NAMES[..refusing], NAMES[refusing]);
        let mut expected = each(before, Admit);
        expected.push((at, Refuse));
        let events = log.take();
        assert_eq!(events[..=refusing], expected, "{at} refuses");
        let mut refunded = events[refusing + 1..].to_vec();
        refunded.sort_by_key(|event| event.0);
        assert_eq!(
            refunded,
            each(before, Settle(End::NeverStarted)),
            "{at} refuses"
        );
    }
}

#[test]
fn it_refuses_all_if_one_of_them_does() {
    for refusing in 0..4 {
        let log = Log::default();
        let [a, b, c, d] = spies(&log);
        [&a, &b, &c, &d][refusing].0.refuse_all(true);
        let tuple = (a, b, c, d);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(tuple.poll_closed(&mut cx, &Now::lazy()));
        [&tuple.0, &tuple.1, &tuple.2, &tuple.3][refusing]
            .0
            .refuse_all(false);
        assert!(!tuple.poll_closed(&mut cx, &Now::lazy()));
    }
}

/// Runs a check with a guard that waits in each position of a tuple.
macro_rules! in_each_position {
    ($check:ident) => {
        $check(|gate, [a, b, _]| (gate, a, b), &[], &["a", "b"]);
        $check(|gate, [a, b, _]| (a, gate, b), &["a"], &["b"]);
        $check(|gate, [a, b, _]| (a, b, gate), &["a", "b"], &[]);
        $check(|gate, [a, b, c]| (a, b, gate, c), &["a", "b"], &["c"]);
    };
}

type Names = &'static [&'static str];

fn waiting<G>(log: &Log, tuple: impl Fn(Gate, [Spy; 3]) -> G) -> (Told, WaitLayer<G, OnResponse>)
where
    G: GuardBase + Send + Sync + 'static,
{
    let (gate, [a, b, c, _]) = (Gate::new("gate", log), spies(log));
    gate.0.close();
    (
        gate.0.clone(),
        WaitLayer::settling(tuple(gate, [a, b, c]), OnResponse::default()),
    )
}

fn entered(before: Names) -> Vec<(&'static str, Event)> {
    let mut events = each(before, Admit);
    events.push(("gate", Wait));
    events
}

/// What the log says, the events after so many in order of names.
fn sorted(log: &Log, from: usize) -> Vec<(&'static str, Event)> {
    let mut events = log.take();
    events[from..].sort_by_key(|event| event.0);
    events
}

#[test]
fn a_wait_holds_up_the_rest_and_then_lets_it_go_on() {
    fn check<G>(tuple: impl Fn(Gate, [Spy; 3]) -> G, before: Names, after: Names)
    where
        G: Guard<usize> + Send + Sync + 'static,
    {
        let log = Log::default();
        let (gate, layer) = waiting(&log, tuple);
        let mut call = spawn(layer.layer(Steps(Log::default())).call(1));
        assert_pending!(call.poll());
        assert_eq!(log.take(), entered(before));
        assert!(!call.is_woken());
        gate.open();
        assert!(call.is_woken());
        assert_ready_eq!(call.poll(), Ok(1));
        let mut expected = vec![("gate", Admit)];
        expected.extend(each(after, Admit));
        expected.extend(each(after, Settle(SUCCESS)).into_iter().rev());
        expected.push(("gate", Settle(SUCCESS)));
        expected.extend(each(before, Settle(SUCCESS)).into_iter().rev());
        assert_eq!(log.take(), expected);
    }
    in_each_position!(check);
}

#[test]
fn a_wait_that_is_left_gives_back_what_came_before() {
    fn check<G>(tuple: impl Fn(Gate, [Spy; 3]) -> G, before: Names, _: Names)
    where
        G: Guard<usize> + Send + Sync + 'static,
    {
        for polls in 0..3 {
            let log = Log::default();
            let (_, layer) = waiting(&log, &tuple);
            let mut call = spawn(layer.layer(Steps(Log::default())).call(1));
            for _ in 0..polls {
                assert_pending!(call.poll());
            }
            drop(call);
            let mut expected = entered(before);
            expected.push(("gate", Abandon));
            let events = sorted(&log, expected.len());
            expected.extend(each(before, Settle(End::NeverStarted)));
            assert_eq!(events, expected, "after {polls} polls");
        }
    }
    in_each_position!(check);
}

#[test]
fn a_wait_that_ends_in_a_refusal_gives_back_what_came_before() {
    fn check<G>(tuple: impl Fn(Gate, [Spy; 3]) -> G, before: Names, _: Names)
    where
        G: Guard<usize> + Send + Sync + 'static,
    {
        let log = Log::default();
        let (gate, layer) = waiting(&log, tuple);
        let mut call = spawn(layer.layer(Steps(Log::default())).call(1));
        assert_pending!(call.poll());
        gate.refuse(overloaded());
        assert_ready_eq!(call.poll(), Err(E::Rejected(overloaded())));
        drop(call);
        let mut expected = entered(before);
        expected.push(("gate", Refuse));
        let events = sorted(&log, expected.len());
        expected.extend(each(before, Settle(End::NeverStarted)));
        assert_eq!(events, expected);
    }
    in_each_position!(check);
}

#[test]
fn a_refusal_after_a_wait_gives_back_both() {
    let log = Log::default();
    let (gate, [a, b, ..]) = (Gate::new("gate", &log), spies(&log));
    gate.0.close();
    b.0.refuse(overloaded());
    let mut service = WaitLayer::new((a, gate.clone(), b))
        .classify(ErrorsAsFailures)
        .layer(Steps(Log::default()));
    let mut call = spawn(service.call(1));
    assert_pending!(call.poll());
    gate.0.open();
    assert_ready_eq!(call.poll(), Err(E::Rejected(overloaded())));
    drop(call);
    let mut ends = log.take().split_off(4);
    ends.sort_by_key(|event| event.0);
    assert_eq!(ends, each(&["a", "gate"], Settle(End::NeverStarted)));
}

#[test]
fn a_second_wait_follows_the_first() {
    let log = Log::default();
    let [first, second] = ["first", "second"].map(|name| Gate::new(name, &log));
    first.0.close();
    second.0.close();
    let layer = WaitLayer::new((first.clone(), second.clone())).classify(ErrorsAsFailures);
    let mut service = layer.layer(Steps(Log::default()));
    let mut call = spawn(service.call(1));
    assert_pending!(call.poll());
    first.0.open();
    assert_pending!(call.poll());
    second.0.open();
    assert_ready_eq!(call.poll(), Ok(1));
    let events = log.take();
    let order = [
        ("first", Wait),
        ("first", Admit),
        ("second", Wait),
        ("second", Admit),
    ];
    assert_eq!(events[..4], order);
}
