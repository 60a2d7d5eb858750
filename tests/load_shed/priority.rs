use crate::support::*;
use buttress::{Criticality, ErrorsAsFailures, LoadShed, Time, load_shed::Priority};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// Requests of ten: 0 is critical, the rest can be shed.
fn by_class(req: &u32) -> Criticality {
    match req % 10 {
        0 => Criticality::Critical,
        _ => Criticality::Sheddable,
    }
}

#[tokio::test(start_paused = true)]
async fn what_matters_more_goes_first_and_takes_a_place_in_a_full_queue() {
    let shed = LoadShed::builder("api")
        .fixed(1)
        .queue(2)
        .priority(by_class)
        .build()
        .unwrap();
    let inner = Manual::default();
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut held = spawn(service.call(1));
    assert_pending!(held.poll());
    let mut low: Vec<_> = (2..4).map(|n| spawn(service.call(n))).collect();
    for call in &mut low {
        assert_pending!(call.poll());
    }
    let mut high = spawn(service.call(10));
    assert_pending!(high.poll());
    assert!(low[0].is_woken());
    assert!(kind(assert_ready!(low[0].poll())).is_some());
    assert!(kind(assert_ready!(spawn(service.call(5)).poll())).is_some());
    inner.end();
    assert_ready!(held.poll()).unwrap();
    assert!(high.is_woken() && !low[1].is_woken());
    assert_pending!(high.poll());
    assert_eq!(inner.running(), [10]);
    assert_eq!(shed.snapshot().rejected_total, 2);
}

/// Offers so many calls a second to ten workers of 10 ms: what part of each source is served.
async fn offer<P>(shed: &LoadShed<P>, rate: u32, source: fn(u32) -> usize) -> [f64; 2]
where
    P: buttress::load_shed::Prioritize<u32> + Send + Sync + 'static,
{
    const SECONDS: u32 = 10;
    let work = service_fn(async |n: u32| {
        tokio::time::sleep(10 * MS).await;
        Ok::<_, E>(n)
    });
    let service = shed.queued().layer().classify(ErrorsAsFailures).layer(work);
    let counts: Arc<[[AtomicU32; 2]; 2]> = Arc::default();
    let start = Time::now().to_instant();
    for n in 0..rate * SECONDS {
        tokio::time::sleep_until(start + Duration::from_secs(1) * n / rate).await;
        let (service, counts) = (service.clone(), counts.clone());
        if n > rate * 2 {
            counts[source(n)][0].fetch_add(1, SeqCst);
        }
        tokio::spawn(async move {
            if service.oneshot(n).await.is_ok() && n > rate * 2 {
                counts[source(n)][1].fetch_add(1, SeqCst);
            }
        });
    }
    tokio::time::sleep(200 * MS).await;
    [0, 1]
        .map(|i| f64::from(counts[i][1].load(SeqCst)) / f64::from(counts[i][0].load(SeqCst).max(1)))
}

#[tokio::test(start_paused = true)]
async fn at_twice_the_capacity_only_what_can_be_shed_is_and_no_more_than_has_to_be() {
    let shed = LoadShed::builder("api")
        .fixed(10)
        .priority(by_class)
        .seed(1)
        .build()
        .unwrap();
    let [critical, sheddable] = offer(&shed, 2_000, |n| usize::from(n % 10 != 0)).await;
    assert!(critical > 0.99, "{critical}");
    // 800 a second of 1800.
    assert!((0.42..0.46).contains(&sheddable), "{sheddable}");
}

#[tokio::test(start_paused = true)]
async fn while_there_is_room_nobody_is_shed() {
    let shed = LoadShed::builder("api")
        .fixed(10)
        .priority(by_class)
        .seed(1)
        .build()
        .unwrap();
    let served = offer(&shed, 900, |n| usize::from(n % 10 != 0)).await;
    assert_eq!((served, shed.snapshot().shed_share), ([1.0; 2], 0.0));
}

#[tokio::test(start_paused = true)]
async fn the_flood_of_one_user_sheds_itself_first() {
    // 1 in 10 requests are of nine quiet users, the rest of one.
    let user = |n: &u32| {
        Priority::new(Criticality::Critical).of_user(match n % 10 {
            0 => n / 10 % 9,
            _ => 99,
        })
    };
    let shed = LoadShed::builder("api")
        .fixed(10)
        .priority(user)
        .seed(1)
        .build()
        .unwrap();
    let [quiet, flood] = offer(&shed, 3_000, |n| usize::from(n % 10 != 0)).await;
    assert!(quiet > 0.95, "{quiet}");
    assert!((0.2..0.3).contains(&flood), "{flood}");
}

#[tokio::test(start_paused = true)]
async fn priorities_are_asked_for_only_while_and_shortly_after_no_permit_is_free_and_by_the_queue()
{
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let shed = LoadShed::builder("api")
        .fixed(1)
        .priority(move |_: &u32| {
            count.fetch_add(1, SeqCst);
            Criticality::Critical
        })
        .build()
        .unwrap();
    let inner = Manual::default();
    let mut queued = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut at_once = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    for n in 0..100 {
        let mut call = spawn(queued.call(n));
        assert_pending!(call.poll());
        inner.end();
        assert_ready!(call.poll()).unwrap();
    }
    let mut held = spawn(at_once.call(0));
    assert_pending!(held.poll());
    assert!(kind(assert_ready!(spawn(at_once.call(1)).poll())).is_some());
    assert_eq!(asked.load(SeqCst), 0, "there was room, or another mode");
    let mut waits = spawn(queued.call(2));
    assert_pending!(waits.poll());
    assert_eq!(asked.load(SeqCst), 1);
    inner.end();
    assert_ready!(held.poll()).unwrap();
    assert_pending!(waits.poll());
    inner.end();
    assert_ready!(waits.poll()).unwrap();
    // The first one notices that the pressure is over.
    tokio::time::advance(10_000 * MS).await;
    for n in 0..100 {
        let mut later = spawn(queued.call(n));
        assert_pending!(later.poll());
        inner.end();
        assert_ready!(later.poll()).unwrap();
    }
    assert!(asked.load(SeqCst) <= 2, "{asked:?}");
}
