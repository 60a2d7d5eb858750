//! A guard of one's own: answers cost money, and there is only so much of it.
//!
//! It says three things: what an admitted call holds (its price), which calls are admitted, and
//! what is learnt from the end of a call (one that does not succeed is not charged for).
//!
//!     cargo run --example own_guard

use buttress::guard::{Admission, End, Never};
use buttress::{
    Error, ErrorsAsFailures, Guard, GuardBase, GuardLayer, Kind, Now, Outcome, Rejected,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

struct Question {
    text: &'static str,
    cents: u32,
}

/// What is left, in cents.
#[derive(Clone)]
struct Purse(Arc<AtomicU32>);

impl GuardBase for Purse {
    type Permit = u32;
    type Wait = Never;
    fn settle(&self, cents: u32, end: End, _: &Now) {
        if end != End::Done(Outcome::Success) {
            self.0.fetch_add(cents, Relaxed);
        }
    }
}

impl Guard<Question> for Purse {
    fn admit(&self, &Question { cents, .. }: &Question, _: &Now) -> Admission<u32> {
        let pay = |left: u32| left.checked_sub(cents);
        match self.0.fetch_update(Relaxed, Relaxed, pay) {
            Ok(_) => Admission::Admitted(cents),
            Err(_) => Admission::Refused(Rejected::new(Kind::RateLimited, "purse")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error<&'static str>> {
    let purse = Purse(Arc::new(AtomicU32::new(100)));
    let mut oracle = ServiceBuilder::new()
        .layer(GuardLayer::new(purse.clone()).classify(ErrorsAsFailures))
        .service(service_fn(async |question: Question| match question.text {
            "why?" => Err(Error::Service("it does not know")),
            _ => Ok("42"),
        }));
    for (text, cents) in [("what?", 60), ("why?", 30), ("how?", 50), ("who?", 40)] {
        let answer = oracle.ready().await?.call(Question { text, cents }).await;
        let left = purse.0.load(Relaxed);
        println!("{text} {answer:?}, {left} cents left");
    }
    Ok(())
}
