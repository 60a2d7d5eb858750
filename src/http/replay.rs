//! A request body that can be sent again.

use super::respond::BoxError;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    error, fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

/// The request body of one attempt, which can be sent again.
///
/// What the first attempt reads of the original body is kept, up to the
/// [cap](crate::retry::RetryLayer::body_cap). A further attempt gets what was kept, and then reads
/// on where the one before it stopped. A body that goes over the cap is passed through unchanged,
/// but not kept, and its request is not sent again once some of the body was read. Keeping a frame
/// copies no data, because frames are `Bytes`.
///
/// A connection may hold on to the body of an attempt that is over. Once there is another attempt,
/// the old body ends in an error, which resets that stream. If it ended as if complete, the service
/// would take half a body for a whole one.
pub struct ReplayBody<B>(State<B>);

enum State<B> {
    Empty,
    Plain(B),
    Taped {
        tape: Tape<B>,
        take: u32,
        /// The next frame to play.
        next: usize,
    },
}

impl<B: Body> ReplayBody<B> {
    /// Makes a body that is sent once.
    pub(super) fn once(body: B) -> Self {
        Self(State::Plain(body))
    }

    /// Makes the body of the first attempt, and what others are made from.
    pub(super) fn kept(body: B, cap: usize) -> (Self, RecordedBody<B>) {
        if body.is_end_stream() {
            return (Self::once(body), RecordedBody(None));
        }
        // A body that will not fit is whole for as long as nobody has read of it.
        let fits = body.size_hint().lower() <= cap as u64;
        let tape = Tape(Arc::new(Mutex::new(Recording {
            source: body,
            frames: Vec::new(),
            room: if fits { cap } else { 0 },
            take: 0,
            state: Source::Open,
        })));
        let kept = RecordedBody(Some(tape.clone()));
        (Self::play(tape, 0), kept)
    }

    fn play(tape: Tape<B>, take: u32) -> Self {
        Self(State::Taped {
            tape,
            take,
            next: 0,
        })
    }
}

/// What the bodies of further attempts are made from. It is empty for an empty body.
pub struct RecordedBody<B>(Option<Tape<B>>);

impl<B: Body> RecordedBody<B> {
    /// Makes the body of another attempt, if all that was read has been kept.
    pub(super) fn again(&self) -> Option<ReplayBody<B>> {
        let Some(tape) = &self.0 else {
            return Some(ReplayBody(State::Empty));
        };
        let take = tape.with(|recording| {
            // Without another attempt, this one's body is still the request's: it is read on.
            if recording.state == Source::Lost {
                return None;
            }
            recording.take = recording.take.wrapping_add(1);
            Some(recording.take)
        })?;
        Some(ReplayBody::play(tape.clone(), take))
    }
}

/// Attempts share the source and what was read from it. They take turns, so the lock is free.
struct Tape<B>(Arc<Mutex<Recording<B>>>);

impl<B> Tape<B> {
    fn with<T>(&self, f: impl FnOnce(&mut Recording<B>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<B> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Recording<B> {
    source: B,
    frames: Vec<Part>,
    /// How many bytes may still be kept.
    room: usize,
    /// The attempt whose turn it is.
    take: u32,
    state: Source,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Source {
    /// There is more to read, and what was read is kept.
    Open,
    /// All of it is kept.
    Ended,
    /// It was too long, or failed: what was read is not kept.
    Lost,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A body in frames of a few bytes must not cost many times its length.
const MOST_FRAMES: usize = 1024;

impl<B: Body + Unpin> Recording<B> {
    fn poll(
        &mut self,
        next: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(part) = self.frames.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(part.clone().into())));
        }
        if self.state == Source::Ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.lose();
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                if self.state == Source::Open {
                    self.state = Source::Ended;
                }
                return Poll::Ready(None);
            }
        };
        let part = match frame.into_data() {
            Ok(mut data) => Part::Data(data.copy_to_bytes(data.remaining())),
            Err(frame) => Part::Trailers(frame.into_trailers().unwrap_or_default()),
        };
        if self.state == Source::Open {
            match self.room.checked_sub(part.len()) {
                Some(room) if self.frames.len() < MOST_FRAMES => {
                    self.room = room;
                    self.frames.push(part.clone());
                    *next += 1;
                }
                _ => self.lose(),
            }
        }
        Poll::Ready(Some(Ok(part.into())))
    }

    fn lose(&mut self) {
        self.state = Source::Lost;
        self.frames = Vec::new();
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => {
                let len = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    name.as_str().len() + value.len()
                };
                trailers.iter().map(len).sum()
            }
        }
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            State::Empty => Poll::Ready(None),
            State::Plain(body) => Pin::new(body).poll_frame(cx).map(|frame| {
                let frame = frame?.map_err(Into::into);
                let bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                Some(frame.map(|frame| frame.map_data(bytes)))
            }),
            State::Taped { tape, take, next } => tape.with(|recording| {
                if recording.take != *take {
                    return Poll::Ready(Some(Err(Superseded.into())));
                }
                let frame = ready!(recording.poll(next, cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Empty => true,
            State::Plain(body) => body.is_end_stream(),
            State::Taped { tape, take, next } => tape.with(|recording| {
                recording.take == *take
                    && recording.frames.len() <= *next
                    && (recording.state == Source::Ended || recording.source.is_end_stream())
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Empty => SizeHint::with_exact(0),
            State::Plain(body) => body.size_hint(),
            State::Taped { tape, next, .. } => tape.with(|recording| {
                let unplayed = recording.frames.iter().skip(*next);
                let played_on = unplayed.map(|part| match part {
                    Part::Data(data) => data.len() as u64,
                    Part::Trailers(_) => 0,
                });
                let kept: u64 = played_on.sum();
                let rest = recording.source.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(kept));
                }
                hint
            }),
        }
    }
}

/// There is a later attempt; this body's stream must not look complete.
#[derive(Debug)]
struct Superseded;

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request is being sent again")
    }
}

impl error::Error for Superseded {}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for RecordedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordedBody")
            .field(&self.0.is_some())
            .finish()
    }
}
