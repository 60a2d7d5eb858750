//! A policy with a classifier, for closures: what `.layer().classify(..)` is for services.

use super::{Guard, GuardBase, run::run_classified};
use crate::{classify::Classify, error::FromRejected};
use std::fmt;

/// A policy whose `run` asks a classifier what results mean, made by a policy's `classify` or by
/// [`guard::classify`](classify).
///
/// Without a classifier every `Err` of a closure is a failure. But a row that is not there, a value
/// that is not unique and a request that does not make sense are the caller's own mistakes, and say
/// nothing about the database: five of them in a row must not open a breaker. And where the service
/// says that it is full, only a classifier can tell a [`Throttle`](crate::Throttle).
///
/// ```
/// # #[cfg(feature = "circuit-breaker")] {
/// use buttress::{CircuitBreaker, Classified, ErrorsBy, Outcome, Rejected, circuit_breaker::State};
///
/// #[derive(Debug, thiserror::Error)]
/// enum DbError {
///     #[error("there is no such row")]
///     NotFound,
///     #[error("the connection broke")]
///     Broken,
///     #[error(transparent)]
///     Rejected(#[from] Rejected),
/// }
///
/// fn outcome(error: &DbError) -> Outcome {
///     match error {
///         DbError::NotFound => Outcome::Ignored,
///         _ => Outcome::Failure,
///     }
/// }
///
/// /// What the application keeps.
/// #[derive(Clone)]
/// struct App {
///     database: Classified<CircuitBreaker, ErrorsBy<fn(&DbError) -> Outcome>>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let breaker = CircuitBreaker::new("db");
/// let app = App { database: breaker.classify(ErrorsBy(outcome)) };
/// for _ in 0..5 {
///     match app.database.run(async || Err::<u32, _>(DbError::NotFound)).await {
///         Ok(row) => println!("{row}"),
///         Err(DbError::Rejected(rejected)) => println!("not asked: {rejected}"),
///         Err(error) => println!("{error}"),
///     }
/// }
/// assert_eq!(breaker.state(), State::Closed);
/// # }
/// # }
/// ```
///
/// # Clone
/// A clone is the same policy, with a clone of the classifier.
#[derive(Clone)]
pub struct Classified<P, C> {
    policy: P,
    classifier: C,
}

/// Returns a handle on this guard whose `run` asks the classifier what results mean.
///
/// For guards that have no `classify` of their own: tuples, and guards of yours.
///
/// ```
/// # #[cfg(all(feature = "circuit-breaker", feature = "throttle"))] {
/// use buttress::{CircuitBreaker, Error, ErrorsBy, Outcome, Throttle, guard};
/// use std::io;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (breaker, throttle) = (CircuitBreaker::new("search"), Throttle::new("search"));
/// let both = guard::classify(
///     (breaker, throttle.clone()),
///     ErrorsBy(|error: &Error<io::Error>| match error {
///         Error::Service(e) if e.kind() == io::ErrorKind::ResourceBusy => {
///             Outcome::Overloaded { retry_after: None }
///         }
///         _ => Outcome::Failure,
///     }),
/// );
/// let full = || Error::Service(io::Error::from(io::ErrorKind::ResourceBusy));
/// match both.run(async || Err::<(), _>(full())).await {
///     Ok(()) => println!("found"),
///     Err(Error::Rejected(rejected)) => println!("not asked: {rejected}"),
///     Err(Error::Service(error)) => println!("asked: {error}"),
/// }
/// assert_eq!(throttle.snapshot().overloaded_total, 1);
/// # }
/// # }
/// ```
pub const fn classify<G: GuardBase, C>(guard: G, classifier: C) -> Classified<G, C> {
    Classified::new(guard, classifier)
}

impl<P, C> Classified<P, C> {
    pub(crate) const fn new(policy: P, classifier: C) -> Self {
        Self { policy, classifier }
    }

    /// Returns the policy, to be read and to be steered.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// Returns the classifier.
    pub const fn classifier(&self) -> &C {
        &self.classifier
    }
}

impl<G: GuardBase, C> Classified<G, C> {
    /// Runs `op` if the guard admits it, and has the classifier say what its result means.
    ///
    /// The classifier is not asked about a rejection by a policy inside `op`.
    ///
    /// # Errors
    /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run<T, E, Fut>(&self, op: impl FnOnce() -> Fut) -> Result<T, E>
    where
        G: Guard<()>, // over requests: `policy.run_for(&request, op)`
        C: Classify<T, E>,
        E: FromRejected,
        Fut: Future<Output = Result<T, E>>,
    {
        run_classified(&self.policy, &(), &self.classifier, op).await
    }

    /// Runs `op` if the guard admits this request, and has the classifier say what the result
    /// means.
    ///
    /// # Errors
    /// A [`Rejected`](crate::Rejected) as `E`, or what `op` returned.
    pub async fn run_for<Req, T, E, Fut>(&self, req: &Req, op: impl FnOnce() -> Fut) -> Result<T, E>
    where
        G: Guard<Req>,
        C: Classify<T, E>,
        E: FromRejected,
        Fut: Future<Output = Result<T, E>>,
    {
        run_classified(&self.policy, req, &self.classifier, op).await
    }
}

impl<P: fmt::Debug, C> fmt::Debug for Classified<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Classified").field(&self.policy).finish()
    }
}
