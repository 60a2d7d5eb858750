//! One method name for a request on all guards, and keys that borrow from it.

use buttress::{
    CircuitBreaker, Criticality, Error, Guard, Key, Kind, LoadShed, RateLimiter, Throttle,
    borrowed_key, circuit_breaker::State,
};
use std::{
    hash::{Hash, Hasher},
    io,
    time::Duration,
};
use tokio_test::block_on;

struct Query {
    name: String,
    shard: u8,
}

fn query(name: &str) -> Query {
    Query {
        name: name.to_owned(),
        shard: 0,
    }
}

type Answer = Result<u32, Error<io::Error>>;

async fn ok() -> Answer {
    Ok(7)
}

fn kind(answer: Answer) -> Option<Kind> {
    match answer {
        Err(Error::Rejected(rejected)) => Some(rejected.kind()),
        _ => None,
    }
}

#[test]
fn every_guard_takes_the_request_in_the_same_way() {
    let hour = Duration::from_secs(3600);
    let q = query("ada");
    let breaker = CircuitBreaker::new("a");
    let limiter = RateLimiter::builder("b", 9, hour);
    let limiter = limiter.keyed(|q: &Query| q.shard).build().unwrap();
    let keyed = CircuitBreaker::builder("c").keyed(|q: &Query| q.shard);
    let keyed = keyed.build().unwrap();
    let shed = LoadShed::builder("d").priority(|_: &Query| Criticality::Critical);
    let shed = shed.build().unwrap();
    let throttle = Throttle::new("e");
    let answers = [
        block_on(breaker.run_for(&q, ok)),
        block_on(limiter.run_for(&q, ok)),
        block_on(limiter.wait_up_to(hour).run_for(&q, ok)),
        block_on(keyed.run_for(&q, ok)),
        block_on(shed.run_for(&q, ok)),
        block_on(shed.queued().run_for(&q, ok)),
        block_on(throttle.run_for(&q, ok)),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap(), 7);
    }
    assert_eq!(limiter.status(&q).remaining, 7);
    assert_eq!(shed.snapshot().admitted_total, 2);
}

/// A key of several borrowed parts.
struct NameAndShard;

impl Key<Query> for NameAndShard {
    fn hash<H: Hasher>(&self, query: &Query, hasher: &mut H) {
        (&query.name, query.shard).hash(hasher);
    }
}

/// A key of one's own, for requests of any type.
struct Everything;

impl<Req> Key<Req> for Everything {
    fn hash<H: Hasher>(&self, _: &Req, _: &mut H) {}
}

fn once_a_day<K>(key: K) -> RateLimiter<K> {
    let day = Duration::from_secs(86_400);
    let builder = RateLimiter::builder("names", 1, day);
    builder.keyed(key).build().unwrap()
}

fn tells_apart<K>(key: K) -> bool
where
    RateLimiter<K>: Guard<Query>,
{
    let limiter = once_a_day(key);
    assert_eq!(kind(block_on(limiter.run_for(&query("ada"), ok))), None);
    let again = kind(block_on(limiter.run_for(&query("ada"), ok)));
    assert_eq!(again, Some(Kind::RateLimited));
    kind(block_on(limiter.run_for(&query("bob"), ok))).is_none()
}

#[test]
fn a_key_may_borrow_from_the_request() {
    assert!(tells_apart(borrowed_key(|q: &Query| q.name.as_str())));
    assert!(tells_apart(borrowed_key(|q: &Query| &q.name)));
    assert!(tells_apart(NameAndShard));
    assert!(tells_apart(|q: &Query| q.name.clone()));
    assert!(!tells_apart(|q: &Query| q.shard));
    assert!(!tells_apart(Everything));
}

#[test]
fn the_request_may_be_the_key_and_may_itself_be_borrowed() {
    let by_text = borrowed_key(|text: &String| text.as_str());
    let keyed = CircuitBreaker::builder("hosts")
        .keyed(by_text)
        .build()
        .unwrap();
    let down = "down".to_owned();
    for _ in 0..5 {
        let failed = keyed.run_for(&down, async || Err::<(), _>(Error::Service("refused")));
        assert_eq!(block_on(failed), Err(Error::Service("refused")));
    }
    assert_eq!(keyed.state(&down), State::Open);
    assert_eq!(keyed.state(&"up".to_owned()), State::Closed);

    let limiter = once_a_day(borrowed_key(|parts: &(String, u8)| &parts.0));
    assert!(block_on(limiter.run_for(&("/orders".to_owned(), 0), ok)).is_ok());
    let again = block_on(limiter.run_for(&("/orders".to_owned(), 9), ok));
    assert_eq!(kind(again), Some(Kind::RateLimited));
}
