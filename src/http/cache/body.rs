//! The body of a response that went through a cache, and how one is collected.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of a response from a cached service: whole, or streamed as the service sends it.
pub struct CacheBody<B: Body>(State<B>);

enum State<B: Body> {
    Whole(Option<Bytes>),
    /// What has been read of it, and the rest.
    Streamed {
        read: VecDeque<Frame<Bytes>>,
        error: Option<B::Error>,
        rest: Option<Pin<Box<B>>>,
    },
}

impl<B: Body> CacheBody<B> {
    /// Makes a body of one that nobody has looked at.
    pub(super) fn streamed(body: B) -> Self {
        Self(State::Streamed {
            read: VecDeque::new(),
            error: None,
            rest: Some(Box::pin(body)),
        })
    }
}

/// What was collected.
pub(super) enum Collected<B: Body> {
    Whole(Bytes),
    /// It is too long, or has trailers.
    Uncacheable(CacheBody<B>),
    /// It broke off.
    Broken(CacheBody<B>),
}

/// Reads a body to its end, unless that is too far.
pub(super) async fn collect<B: Body<Data = Bytes>>(body: B, limit: usize) -> Collected<B> {
    let streamed = |read, error, rest| CacheBody(State::Streamed { read, error, rest });
    let size = body.size_hint();
    let mut body = Box::pin(body);
    let mut read = VecDeque::new();
    if size.lower() > limit as u64 {
        return Collected::Uncacheable(streamed(read, None, Some(body)));
    }
    let mut length = 0;
    loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => break,
            Some(Err(error)) => return Collected::Broken(streamed(read, Some(error), None)),
            Some(Ok(frame)) => {
                let data = frame.data_ref().map(Bytes::len);
                // However many of these there are, they are nothing.
                if data == Some(0) {
                    continue;
                }
                read.push_back(frame);
                match data {
                    Some(more) if length + more <= limit => length += more,
                    _ => return Collected::Uncacheable(streamed(read, None, Some(body))),
                }
            }
        }
    }
    let mut frames = read.into_iter().filter_map(|frame| frame.into_data().ok());
    let Some(first) = frames.next() else {
        return Collected::Whole(Bytes::new());
    };
    // Most bodies are one frame, which need not be copied.
    let mut rest = frames.peekable();
    if rest.peek().is_none() {
        return Collected::Whole(first);
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    rest.for_each(|data| whole.extend_from_slice(&data));
    Collected::Whole(whole.freeze())
}

impl<B: Body> From<Bytes> for CacheBody<B> {
    fn from(whole: Bytes) -> Self {
        Self(State::Whole(Some(whole)))
    }
}

impl<B: Body<Data = Bytes>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            State::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            State::Streamed { read, error, rest } => {
                if let Some(frame) = read.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let Some(error) = error.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                match rest {
                    Some(rest) => rest.as_mut().poll_frame(cx),
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            State::Streamed { read, error, rest } => {
                let ended = rest.as_ref().is_none_or(|rest| rest.is_end_stream());
                read.is_empty() && error.is_none() && ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            State::Streamed { read, rest, .. } => {
                let data = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len) as u64;
                let read: u64 = read.iter().map(data).sum();
                let rest = rest
                    .as_ref()
                    .map_or_else(SizeHint::default, |rest| rest.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}

// The rest is boxed, and nothing else is pinned in place.
impl<B: Body> Unpin for CacheBody<B> {}

impl<B: Body> Default for CacheBody<B> {
    fn default() -> Self {
        Self(State::Whole(None))
    }
}

impl<B: Body> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Whole(_) => "CacheBody::Whole",
            State::Streamed { .. } => "CacheBody::Through",
        })
    }
}
