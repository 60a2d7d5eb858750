//! The one timer of a call, made only if the call turns out to need it.

use crate::clock::Time;
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep_until};

pin_project! {
    /// Goes off at a time that is settled when it is first polled.
    #[derive(Debug, Default)]
    pub(crate) struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        until: Option<Time>,
    }
}

impl Alarm {
    /// Polled whenever the call that it limits is pending. Answers with the time it was set to.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        set: impl FnOnce(Time) -> Time,
    ) -> Poll<Time> {
        let mut this = self.project();
        let now = Time::now();
        let until = match *this.until {
            Some(until) => until,
            None => {
                let until = set(now);
                *this.until = Some(until);
                // A limit beyond the end of time needs no timer.
                if now < until && until < Time(u64::MAX) {
                    this.sleep.set(Some(sleep_until(until.to_instant())));
                }
                until
            }
        };
        // The clock decides, the timer only wakes: a call that uses up its task's whole cooperative
        // budget in every poll would keep the timer from ever being looked at.
        if now >= until {
            return Poll::Ready(until);
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| until),
            None => Poll::Pending,
        }
    }
}
