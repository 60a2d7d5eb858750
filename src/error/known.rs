//! Which errors say of themselves whether they are a rejection.

#[cfg(feature = "grpc")]
use super::AsRejected;
use super::{BoxError, Error, FromRejected, Kind, RefusalMark, Rejected, sources};
use crate::shared::lock;
use std::{
    any::{Any, TypeId, type_name},
    cell::{Cell, RefCell},
    collections::HashMap,
    error,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// What an error says of where it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Provenance {
    /// It is this rejection, by a policy of this process.
    Rejected(Rejected),
    /// It is the service's own.
    Service,
    /// Its type does not tell.
    Unknown,
}

/// Finds out where an error of one type comes from.
type Find = &'static (dyn Fn(&dyn Any) -> Provenance + Send + Sync);

static FOUND: LazyLock<Mutex<HashMap<TypeId, Find>>> = LazyLock::new(Mutex::default);
/// How often the table has changed: what a thread remembers of it holds as long as this is the
/// same.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// What a thread has looked up, with [`CHANGES`] of that time.
type Seen = (u64, Vec<(TypeId, Option<Find>)>);

thread_local! {
    static SEEN: RefCell<Seen> = const { RefCell::new((0, Vec::new())) };
    /// Whether a rejection is turned into an error only to learn the error's type.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Makes every policy look into errors of this type for the rejection that they may hold.
///
/// A policy that sees a call end in an error has to know whether the service failed, or a policy
/// further in refused the call. `Rejected`, [`Error`], `Box<dyn std::error::Error + Send + Sync>`,
/// `tonic::Status` and, with the features of these names, `axum::Error` and `anyhow::Error` say so
/// themselves. With any other type, such as an enum of the application, also if it is boxed, a
/// policy goes by whether a refusal was made in the very poll that ended with the error. That is
/// wrong in two cases:
///
/// - something is awaited between the refusal and the return, or the refusal comes out of a
///   `spawn`ed task or a `join!`: then the rejection counts as a failure of the service. A retry
///   around an open circuit breaker asks it again, and a circuit breaker around another one opens
///   with it;
/// - a refusal is swallowed, something else is tried in the same poll, and fails: then that failure
///   is taken for the refusal, and not counted.
///
/// If that can happen, call this at the start of the program, once for the type:
///
/// ```
/// use buttress::{Rejected, recognize};
///
/// #[derive(Debug, thiserror::Error)]
/// enum AppError {
///     #[error(transparent)]
///     Rejected(#[from] Rejected),
///     #[error("no such order")]
///     NotFound,
/// }
///
/// recognize(|error: &AppError| match error {
///     AppError::Rejected(rejected) => Some(*rejected),
///     _ => None,
/// });
/// ```
///
/// The function is called where calls end, and must not block. A second one for the same type
/// replaces the first.
pub fn recognize<E: 'static>(find: impl Fn(&E) -> Option<Rejected> + Send + Sync + 'static) {
    learn::<E>(move |error| match find(error) {
        Some(rejected) => Provenance::Rejected(rejected),
        None => Provenance::Service,
    });
}

fn learn<E: 'static>(find: impl Fn(&E) -> Provenance + Send + Sync + 'static) {
    // Kept for good, once per type: calls on all threads may be looking through it.
    let find: Find = Box::leak(Box::new(move |error: &dyn Any| {
        error.downcast_ref().map_or(Provenance::Unknown, &find)
    }));
    lock(&FOUND).insert(TypeId::of::<E>(), find);
    CHANGES.fetch_add(1, Ordering::Release);
}

impl RefusalMark {
    /// Returns the rejection that an error is, which ended a poll begun at this mark. The error
    /// itself is asked first, and the note on the thread only if it cannot tell.
    #[cold]
    pub(crate) fn rejection<E: 'static>(self, error: &E) -> Option<Rejected> {
        match provenance(error) {
            Provenance::Rejected(rejected) => Some(rejected),
            Provenance::Service => None,
            Provenance::Unknown => self.refusal(),
        }
    }
}

/// Returns what an error says of where it comes from.
pub(crate) fn provenance<E: 'static>(error: &E) -> Provenance {
    let any: &dyn Any = error;
    if let Some(rejected) = any.downcast_ref::<Rejected>() {
        return Provenance::Rejected(*rejected);
    }
    if let Some(boxed) = any.downcast_ref::<BoxError>() {
        return in_chain(&**boxed);
    }
    #[cfg(feature = "grpc")]
    if let Some(status) = any.downcast_ref::<tonic::Status>() {
        return status
            .as_rejected()
            .map_or(Provenance::Service, |rejected| {
                Provenance::Rejected(*rejected)
            });
    }
    #[cfg(feature = "anyhow")]
    if let Some(error) = any.downcast_ref::<anyhow::Error>() {
        return in_chain(&**error);
    }
    // Of axum's bodies.
    #[cfg(feature = "axum")]
    if let Some(error) = any.downcast_ref::<axum::Error>() {
        return in_chain(error);
    }
    match found::<E>() {
        Some(find) => find(any),
        None => Provenance::Unknown,
    }
}

/// Looks for a rejection in an error and its sources. If there is none it may still be one: the
/// source of what is `#[error(transparent)]` is not seen.
fn in_chain(error: &(dyn error::Error + 'static)) -> Provenance {
    for error in sources(error) {
        if let Some(rejected) = error.downcast_ref::<Rejected>() {
            return Provenance::Rejected(*rejected);
        }
        #[cfg(feature = "grpc")]
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            return provenance(status);
        }
    }
    Provenance::Unknown
}

/// Returns what is known of errors of this type.
fn found<E: 'static>() -> Option<Find> {
    let (id, changes) = (TypeId::of::<E>(), CHANGES.load(Ordering::Acquire));
    // A thread that is ending has nothing to remember it in.
    let known = SEEN.try_with(|seen| {
        let (seen, finds) = &*seen.borrow();
        let mut finds = finds.iter().filter(|_| *seen == changes);
        finds.find(|(of, _)| *of == id).map(|(_, find)| *find)
    });
    known.ok().flatten().unwrap_or_else(|| {
        let find = lock(&FOUND).get(&id).copied();
        let _ = SEEN.try_with(|seen| {
            let (seen, finds) = &mut *seen.borrow_mut();
            if *seen != changes {
                finds.clear();
                *seen = changes;
            }
            finds.push((id, find));
        });
        find
    })
}

/// A rejection that no policy has made, where there has to be one.
pub(super) const PLACEHOLDER: Rejected = Rejected::new(Kind::NotReady, "");

/// Learns what there is to know of an error type that a policy meets, if it is [`Error`].
///
/// The compiler cannot be asked whether a type is an `Error` of something. But an `Error` can be
/// made of a rejection, and says what it is while it is being made.
#[cold]
#[inline(never)]
pub(super) fn learn_type<E: FromRejected>() {
    let wrapper = type_name::<Error<()>>().trim_end_matches("()>");
    if found::<E>().is_some() {
        return;
    }
    if type_name::<E>().starts_with(wrapper) {
        ASKING.set(true);
        let _ = E::from_rejected(PLACEHOLDER);
        ASKING.set(false);
    } else {
        // It can hold a rejection and does not tell, also where it is wrapped in an `Error`.
        learn::<E>(|_| Provenance::Unknown);
    }
}

impl<E: 'static> From<Rejected> for Error<E> {
    // Always: it is a part of every refusal.
    #[inline(always)]
    fn from(rejected: Rejected) -> Self {
        match ASKING.get() {
            false => Self::Rejected(rejected),
            true => asked(),
        }
    }
}

/// Makes an error, which nobody will see, and says what its type is to tell.
// Without the rejection: one that was taken apart for this call would be put together word by word
// where it is not made.
#[cold]
#[inline(never)]
fn asked<E: 'static>() -> Error<E> {
    ASKING.set(false);
    learn::<Error<E>>(|error| match error {
        Error::Rejected(rejected) => Provenance::Rejected(*rejected),
        Error::Service(error) => match provenance(error) {
            Provenance::Unknown if found::<E>().is_none() => Provenance::Service,
            known => known,
        },
    });
    Error::Rejected(PLACEHOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::refuse;
    use std::io;

    const OPEN: Rejected = Rejected::new(Kind::CircuitOpen, "db");

    #[derive(Debug)]
    enum App {
        Rejected(Rejected),
        Missing,
    }

    impl From<Rejected> for App {
        fn from(rejected: Rejected) -> Self {
            Self::Rejected(rejected)
        }
    }

    #[test]
    fn errors_that_can_say_do() {
        let known = Provenance::Rejected(OPEN);
        assert_eq!(provenance(&OPEN), known);
        let boxed: BoxError = OPEN.into();
        assert_eq!(provenance(&boxed), known);
        assert_eq!(provenance(&BoxError::from(io::Error::other(boxed))), known);
        assert_eq!(provenance(&BoxError::from("gone")), Provenance::Unknown);
        #[cfg(feature = "anyhow")]
        {
            let error = anyhow::Error::from(OPEN).context("while looking for 7");
            assert_eq!(provenance(&error), known);
        }
        #[cfg(feature = "grpc")]
        {
            assert_eq!(provenance(&tonic::Status::from(OPEN)), known);
            let own = tonic::Status::unavailable("");
            assert_eq!(provenance(&own), Provenance::Service);
        }
    }

    #[test]
    fn a_wrapped_error_says_what_it_is_from_the_first_refusal_on_and_on_every_thread() {
        type E = Error<std::num::ParseIntError>;
        let _: E = refuse(OPEN);
        let check = || {
            let refused = E::Rejected(OPEN);
            assert_eq!(provenance(&refused), Provenance::Rejected(OPEN));
            let failed = E::Service("x".parse::<u8>().unwrap_err());
            assert_eq!(provenance(&failed), Provenance::Service);
        };
        check();
        std::thread::scope(|scope| scope.spawn(check).join().unwrap());
        // What is wrapped may say more.
        let _: Error<BoxError> = refuse(OPEN);
        let inner = Error::<BoxError>::Service(OPEN.into());
        assert_eq!(provenance(&inner), Provenance::Rejected(OPEN));
    }

    #[test]
    fn what_an_error_wraps_may_be_a_rejection_that_does_not_tell() {
        #[derive(Debug)]
        struct Opaque;
        impl From<Rejected> for Opaque {
            fn from(_: Rejected) -> Self {
                Self
            }
        }
        let mark = RefusalMark::set();
        let _: Error<Opaque> = refuse(OPEN);
        let inner: Opaque = refuse(OPEN);
        let wrapped = Error::Service(inner);
        assert_eq!(provenance(&wrapped), Provenance::Unknown);
        assert_eq!(mark.rejection(&wrapped), Some(OPEN));
    }

    #[test]
    fn sources_that_lead_in_a_circle_end() {
        #[derive(Debug)]
        struct Circle;
        impl std::fmt::Display for Circle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("circle")
            }
        }
        impl error::Error for Circle {
            fn source(&self) -> Option<&(dyn error::Error + 'static)> {
                static CIRCLE: Circle = Circle;
                Some(&CIRCLE)
            }
        }
        assert_eq!(provenance(&BoxError::from(Circle)), Provenance::Unknown);
    }

    #[test]
    fn an_enum_says_what_it_is_once_it_is_recognized() {
        let missing = App::Missing;
        assert_eq!(provenance(&missing), Provenance::Unknown);
        recognize(|error: &App| match error {
            App::Rejected(rejected) => Some(*rejected),
            App::Missing => None,
        });
        let refused: App = refuse(OPEN);
        assert_eq!(provenance(&refused), Provenance::Rejected(OPEN));
        assert_eq!(provenance(&missing), Provenance::Service);
        // The error is asked first, and the note that its refusal left does not matter.
        let mark = RefusalMark::set();
        let _: App = refuse(OPEN);
        assert_eq!(mark.rejection(&missing), None);
        assert_eq!(mark.refusal(), Some(OPEN));
    }
}
