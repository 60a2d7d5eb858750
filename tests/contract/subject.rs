//! A layer under test, and how its state is read.

use crate::inner::{E, Inner, Req};
use bytes::Bytes;
use http::Response;
use http_body::Body;
use std::fmt::Debug;
use tower::{Layer, Service};

/// What a layer has to make of the service: one that can be cloned and sent, as its futures can.
pub(crate) trait Subject:
    Layer<Inner, Service = Self::Made> + Clone + Send + Sync + 'static
{
    type Made: Service<Req, Response = Response<Self::Body>, Error = E, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static;
    type Body: Body<Data = Bytes, Error: Debug> + Send + 'static;
}

impl<L, B> Subject for L
where
    L: Layer<Inner> + Clone + Send + Sync + 'static,
    L::Service: Service<Req, Response = Response<B>, Error = E, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Debug> + Send + 'static,
{
    type Made = L::Service;
    type Body = B;
}

/// A fresh policy, and two layers of it.
pub(crate) struct Entry<L> {
    pub(crate) layer: L,
    pub(crate) again: L,
    /// A number that its state keeps of the calls made.
    pub(crate) count: Count,
    /// Which request leaves a trace in that number, and how large a one.
    pub(crate) trace: (&'static str, u64),
    /// What other ends of a call leave in it.
    pub(crate) leaves: Leaves,
    /// Whether its classifier is [`Touchy`](crate::inner::Touchy).
    pub(crate) touchy: bool,
    /// A policy of the same kind whose next call has to wait, if this kind waits.
    pub(crate) full: Option<Full<L>>,
    /// Whether it is always ready, because a call may need no service, and waits for the service
    /// in the calls that do; and a call that does allocates.
    pub(crate) ready_in_call: bool,
    /// How often it allocates for a call that succeeds at once.
    pub(crate) allocates: u64,
}

pub(crate) struct Full<L> {
    pub(crate) layer: L,
    pub(crate) count: Count,
    /// Makes room, where time alone does not.
    pub(crate) free: Box<dyn FnOnce()>,
    /// Whether callers wait until the service is ready, and not in its calls.
    pub(crate) in_poll_ready: bool,
}

pub(crate) type Count = Box<dyn Fn() -> u64 + Send + Sync>;

#[derive(Clone, Copy, Default)]
pub(crate) struct Leaves {
    pub(crate) success: u64,
    pub(crate) error: u64,
    pub(crate) cancelled: u64,
    pub(crate) panicked: u64,
}

impl<L> Entry<L> {
    pub(crate) fn new(
        (layer, again): (L, L),
        trace: (&'static str, u64),
        leaves: Leaves,
        count: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            layer,
            again,
            count: Box::new(count),
            trace,
            leaves,
            touchy: false,
            full: None,
            ready_in_call: false,
            allocates: 0,
        }
    }

    pub(crate) fn allocates(self, allocates: u64) -> Self {
        Self { allocates, ..self }
    }

    pub(crate) fn touchy(self) -> Self {
        let touchy = true;
        Self { touchy, ..self }
    }

    pub(crate) fn ready_in_call(self) -> Self {
        let ready_in_call = true;
        Self {
            ready_in_call,
            ..self
        }
    }

    pub(crate) fn full(self, layer: L, count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.full_until(layer, count, || ())
    }

    /// Full until `free` is called.
    pub(crate) fn full_until(
        self,
        layer: L,
        count: impl Fn() -> u64 + Send + Sync + 'static,
        free: impl FnOnce() + 'static,
    ) -> Self {
        let full = Some(Full {
            layer,
            count: Box::new(count),
            free: Box::new(free),
            in_poll_ready: false,
        });
        Self { full, ..self }
    }

    /// It waits before there is a call.
    pub(crate) fn in_poll_ready(mut self) -> Self {
        if let Some(full) = &mut self.full {
            full.in_poll_ready = true;
        }
        self
    }
}
