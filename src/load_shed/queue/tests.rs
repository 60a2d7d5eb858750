use super::*;

const MS: u64 = 1_000_000;
const AS_BUILT: Discipline = Discipline {
    capacity: 4,
    wait: 100 * MS,
    overloaded_wait: 20 * MS,
    overloaded_after: 100 * MS,
};

fn ms(ms: u64) -> Time {
    Time::from_nanos(ms * MS)
}

fn join(line: &mut Line, class: usize, at: u64) -> Ticket {
    line.join(class, None, ms(at)).unwrap().0
}

fn turn(line: &mut Line, ticket: &Ticket, at: u64) -> Turn {
    line.poll(ticket, ms(at)).0
}

/// Who gets the next permit, by position.
fn serve(line: &mut Line, tickets: &[Ticket], at: u64) -> Option<usize> {
    let next = line.next(ms(at))?;
    line.grant(next);
    tickets.iter().position(|ticket| ticket.0 == next.0)
}

#[test]
fn while_it_is_well_the_oldest_goes_first_and_may_wait_for_the_full_time() {
    let mut line = Line::new(AS_BUILT);
    let tickets = [0, 10, 20].map(|at| join(&mut line, 1, at));
    assert_eq!(turn(&mut line, &tickets[0], 99), Turn::Waiting(ms(100)));
    assert_eq!(serve(&mut line, &tickets, 99), Some(0));
    assert_eq!(turn(&mut line, &tickets[0], 300), Turn::Granted);
    assert_eq!(
        turn(&mut line, &tickets[1], 110),
        Turn::Out(LeftBecause::Waited)
    );
    assert_eq!(serve(&mut line, &tickets, 119), Some(2));
    assert!(line.is_empty());
    assert_eq!((line.queued(), line.lost().waited), (0, 1));
}

#[test]
fn one_slow_item_in_an_interval_is_not_dropped() {
    let mut line = Line::new(AS_BUILT);
    for at in [0, 100, 200] {
        let slow = join(&mut line, 1, at);
        assert_eq!(serve(&mut line, &[slow], at + 90), Some(0));
    }
    assert_eq!(line.lost(), Lost::default());
}

#[test]
fn when_it_has_not_been_empty_for_the_interval_the_newest_goes_first_and_soon() {
    let mut line = Line::new(AS_BUILT);
    let first = join(&mut line, 1, 0);
    let second = join(&mut line, 1, 90);
    assert_eq!(serve(&mut line, &[first], 95), Some(0));
    // The queue was not empty since 0.
    let rest = [second, join(&mut line, 1, 101), join(&mut line, 1, 102)];
    assert_eq!(turn(&mut line, &rest[1], 102), Turn::Waiting(ms(121)));
    assert_eq!(serve(&mut line, &rest, 103), Some(2));
    assert_eq!(serve(&mut line, &rest, 120), Some(1));
    assert_eq!(serve(&mut line, &rest, 120), Some(0));
    // Empty: well again.
    let fresh = [join(&mut line, 1, 121), join(&mut line, 1, 122)];
    assert_eq!(turn(&mut line, &fresh[0], 121), Turn::Waiting(ms(221)));
    assert_eq!(serve(&mut line, &fresh, 122), Some(0));
}

#[test]
fn a_full_queue_refuses_and_under_standing_overload_the_oldest_gives_way() {
    let mut line = Line::new(AS_BUILT);
    let tickets: Vec<_> = (0..4).map(|_| join(&mut line, 1, 99)).collect();
    assert!(line.join(1, None, ms(100)).is_none());
    line.lanes[1].since = ms(0);
    let (newest, _) = line.join(1, None, ms(101)).unwrap();
    assert_eq!(
        turn(&mut line, &tickets[0], 101),
        Turn::Out(LeftBecause::Evicted)
    );
    assert_eq!(serve(&mut line, &[newest], 101), Some(0));
    assert_eq!((line.queued(), line.lost().evicted), (3, 1));
}

#[test]
fn a_higher_class_goes_first_and_takes_the_place_of_a_lower_one() {
    let mut line = Line::new(AS_BUILT);
    let low: Vec<_> = (0..4).map(|n| join(&mut line, 2 + n % 2, 0)).collect();
    assert!(line.join(3, None, ms(1)).is_none());
    let high = [join(&mut line, 0, 1)];
    assert_eq!(turn(&mut line, &low[1], 1), Turn::Out(LeftBecause::Evicted));
    assert_eq!(serve(&mut line, &high, 1), Some(0));
    assert_eq!(serve(&mut line, &low, 1), Some(0));
    assert_eq!(serve(&mut line, &low, 1), Some(2));
    assert_eq!(serve(&mut line, &low, 1), Some(3));
}

#[test]
fn the_overload_of_a_lower_class_does_not_hurry_a_higher_one() {
    let mut line = Line::new(AS_BUILT);
    let _low = join(&mut line, 3, 0);
    let high = join(&mut line, 0, 150);
    assert_eq!(turn(&mut line, &high, 150), Turn::Waiting(ms(250)));
}

#[test]
fn nobody_is_let_in_after_its_deadline() {
    let mut line = Line::new(AS_BUILT);
    let late = line.join(1, Some(ms(30)), ms(0)).unwrap().0;
    let patient = line.join(1, Some(ms(500)), ms(0)).unwrap().0;
    assert_eq!(turn(&mut line, &late, 29), Turn::Waiting(ms(30)));
    assert_eq!(serve(&mut line, &[patient], 30), Some(0));
    assert_eq!(turn(&mut line, &late, 30), Turn::Out(LeftBecause::Late));
    assert_eq!(
        line.lost(),
        Lost {
            late: 1,
            ..Lost::default()
        }
    );
}

#[test]
fn those_who_waited_too_long_make_room() {
    let mut line = Line::new(AS_BUILT);
    let old: Vec<_> = (0..4).map(|_| join(&mut line, 1, 0)).collect();
    let new = [join(&mut line, 1, 100)];
    assert_eq!(serve(&mut line, &new, 100), Some(0));
    assert!(
        old.iter()
            .all(|t| turn(&mut line, t, 100) == Turn::Out(LeftBecause::Waited))
    );
}

#[test]
fn reservations_wait_in_order_without_end_and_take_turns_with_requests() {
    let mut line = Line::new(AS_BUILT);
    let reserved: Vec<_> = (0..3).map(|_| line.reserve(ms(0))).collect();
    let queued: Vec<_> = (0..2).map(|_| join(&mut line, 1, 0)).collect();
    assert_eq!(serve(&mut line, &queued, 1), Some(0));
    assert_eq!(serve(&mut line, &reserved, 1), Some(0));
    assert_eq!(serve(&mut line, &queued, 1), Some(1));
    assert_eq!(serve(&mut line, &reserved, 1_000_000), Some(1));
    assert_eq!(serve(&mut line, &reserved, 1_000_000), Some(2));
}

#[test]
fn leaving_says_whether_a_permit_must_come_back_and_the_rest_keep_their_order() {
    let mut line = Line::new(AS_BUILT);
    let tickets: Vec<_> = (0..4).map(|_| join(&mut line, 1, 0)).collect();
    assert!(!line.leave(&tickets[1]).0);
    assert_eq!(serve(&mut line, &tickets, 1), Some(0));
    assert!(line.leave(&tickets[0]).0);
    assert!(!line.leave(&tickets[0]).0, "only once");
    assert_eq!(
        turn(&mut line, &tickets[0], 1),
        Turn::Out(LeftBecause::Waited)
    );
    assert_eq!(serve(&mut line, &tickets, 1), Some(2));
    assert_eq!(line.queued(), 1);
}

#[test]
fn clocks_that_jump_put_nobody_in_twice_and_overflow_nothing() {
    let mut line = Line::new(AS_BUILT);
    let ticket = line.join(1, None, Time::from_nanos(u64::MAX)).unwrap().0;
    assert_eq!(
        turn(&mut line, &ticket, 0),
        Turn::Waiting(Time::from_nanos(u64::MAX))
    );
    let back = join(&mut line, 1, 0);
    assert_eq!(
        turn(&mut line, &back, 3_600_000),
        Turn::Out(LeftBecause::Waited)
    );
    assert_eq!(line.queued(), 1);
}

#[test]
fn a_request_that_has_expired_makes_room_wherever_it_stands() {
    // In front of it stand live ones, of its own class or of another.
    for (live, dead, new) in [(1, 1, 1), (0, 3, 3), (3, 0, 3), (1, 2, 0)] {
        let mut line = Line::new(AS_BUILT);
        let first = join(&mut line, live, 0);
        let (late, _) = line.join(dead, Some(ms(10)), ms(0)).unwrap();
        let rest = [join(&mut line, live, 1), join(&mut line, live, 2)];
        let (newest, evicted) = line.join(new, None, ms(20)).unwrap();
        assert!(evicted.is_none());
        assert_eq!(
            line.lost(),
            Lost {
                late: 1,
                ..Lost::default()
            }
        );
        assert_eq!(turn(&mut line, &late, 20), Turn::Out(LeftBecause::Late));
        for ticket in [first, newest].iter().chain(&rest) {
            assert!(matches!(turn(&mut line, ticket, 20), Turn::Waiting(_)));
        }
    }
}

#[test]
fn expiries_are_not_kept_for_longer_than_twice_as_many_wait() {
    let mut line = Line::new(Discipline {
        capacity: 100,
        ..AS_BUILT
    });
    let waiting: Vec<_> = (0..20).map(|_| join(&mut line, 1, 0)).collect();
    for n in 0..10_000 {
        let ticket = join(&mut line, 1, n / 1_000);
        line.leave(&ticket);
        assert!(line.expiries.len() <= 2 * 21 + SPARE);
    }
    for _ in 0..80 {
        join(&mut line, 1, 10);
    }
    // The queue is full, and all of the first have expired.
    let (_, evicted) = line.join(1, None, ms(100)).unwrap();
    assert!(evicted.is_none());
    assert_eq!(line.lost().waited, waiting.len() as u64);
}
