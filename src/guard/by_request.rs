//! Strategies that are chosen by the request.

use super::{CallGuard, GuardBase, GuardRef, SharedGuard, Strategy, StrategyRef};
use std::{fmt, marker::PhantomData};

/// A strategy that is chosen by the request: a closure from a request to the [`Strategy`] that
/// settles its call.
///
/// The same answer can mean different things: a 404 is the caller's mistake at `/orders/17`, and a
/// failure at `/health`; a `POST` that takes a second is well, a `GET` is not. What a result means
/// is said by a classifier, which sees the result. This makes one for each request, which has seen
/// it:
///
/// ```
/// # #[cfg(all(feature = "circuit-breaker", feature = "http"))] {
/// use buttress::{CircuitBreaker, Classify, Outcome, http::{OnBodyEnd, ServerErrorsAsFailures}};
/// use http::{Request, Response, StatusCode};
/// use std::{convert::Infallible, io};
/// use tower::{Service, ServiceBuilder, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use buttress::Error;
/// let breaker = CircuitBreaker::new("orders");
/// let layer = breaker.layer().settle_by(|request: &Request<String>| {
///     let is_health = request.uri().path() == "/health";
///     OnBodyEnd(move |result: Result<&Response<String>, &Error<io::Error>>| match result {
///         Ok(response) if is_health && response.status() == StatusCode::NOT_FOUND => {
///             Outcome::Failure
///         }
///         result => ServerErrorsAsFailures.classify(result),
///     })
/// });
/// let mut client = ServiceBuilder::new().layer(layer).service(service_fn(
///     async |_: Request<String>| {
///         let mut response = Response::new(String::new());
///         *response.status_mut() = StatusCode::NOT_FOUND;
///         Ok::<_, Error<io::Error>>(response)
///     },
/// ));
/// let get = |path| Request::get(path).body(String::new());
/// client.call(get("/orders/17")?).await?;
/// client.call(get("/health")?).await?;
/// let snapshot = breaker.snapshot();
/// assert_eq!((snapshot.calls, snapshot.failures), (1, 1)); // of the calls that count
/// # Ok(())
/// # }
/// # }
/// ```
///
/// The layers' `settle_by` makes one of any strategy: `OnResponse(classifier)`,
/// `http::OnBodyEnd(classifier)`, `grpc::OnTrailers(classifier)`. `RetryLayer::classify_by` does
/// the same for retries. A closure that is run by `policy.classify(classifier).run(..)` knows its
/// request anyway.
///
/// The closure is called once for each call that is admitted, before the service is. If it panics,
/// the service has not been called, and the guard hears of
/// [`End::NeverStarted`](super::End::NeverStarted).
pub struct ByRequest<F, P> {
    choose: F,
    strategy: PhantomData<fn() -> P>,
}

impl<F, P> ByRequest<F, P> {
    /// Makes one of a closure from a request to a strategy, or to what a strategy is made of.
    pub(crate) fn new<Req, C>(choose: F) -> Self
    where
        F: Fn(&Req) -> C,
        P: From<C>,
    {
        let strategy = PhantomData;
        Self { choose, strategy }
    }
}

impl<F: Clone, P> Clone for ByRequest<F, P> {
    fn clone(&self) -> Self {
        let (choose, strategy) = (self.choose.clone(), PhantomData);
        Self { choose, strategy }
    }
}

impl<F, P> fmt::Debug for ByRequest<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRequest")
    }
}

/// A marker of what can be said to a layer about its responses: every [`Strategy`], and
/// [`ByRequest`].
///
/// It is sealed: a type of your own gets it with [`Strategy`], and in no other way.
#[diagnostic::on_unimplemented(
    message = "this layer has not been told what responses mean (`{Self}`)",
    label = "says nothing about which responses are failures",
    note = "add `.http()` to the layer for services that answer with `http::Response` (axum, hyper, reqwest)",
    note = "add `.grpc()` for tonic's servers and clients",
    note = "add `.classify(ErrorsAsFailures)` where every `Err` is a failure and every `Ok` a success",
    note = "or `.classify(classifier)` with a closure `|result: Result<&Response, &Error>| -> Outcome`"
)]
pub trait AnyStrategy: sealed::Sealed {}

#[diagnostic::do_not_recommend]
impl<P: Strategy> AnyStrategy for P {}
impl<F, P> AnyStrategy for ByRequest<F, P> {}

mod sealed {
    use super::{ByRequest, Strategy};

    /// A bound that nobody outside of the crate can name.
    ///
    /// ```compile_fail,E0277
    /// struct Own;
    /// impl buttress::guard::AnyStrategy for Own {}
    /// ```
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not a strategy",
        label = "`AnyStrategy` and `StrategyFor` cannot be implemented by hand",
        note = "implement `Strategy` and `Settle`: these two follow from them"
    )]
    pub trait Sealed {}

    #[diagnostic::do_not_recommend]
    impl<P: Strategy> Sealed for P {}
    impl<F, P> Sealed for ByRequest<F, P> {}
}

/// The choice of the strategy that settles the call of one request: the layer's own if it is a
/// [`Strategy`], or what [`ByRequest`] makes.
///
/// It is sealed, as [`AnyStrategy`] is: a strategy of your own gets this with [`Strategy`]. It is
/// public so that generic code can name it as a bound.
#[diagnostic::on_unimplemented(
    message = "the strategy `{Self}` is not for requests of this type (`{Req}`)",
    label = "chooses by requests of another type",
    note = "`.settle_by(..)` and `.classify_by(..)` take a closure `|request: &{Req}| ..`"
)]
pub trait StrategyFor<Req>: AnyStrategy + Sized {
    /// The strategy of one call.
    type Strategy: Strategy;
    /// What is kept of the choice while the call runs.
    type Choice;
    /// What a call carries: its guard, and its strategy.
    type Ref<G: GuardBase>: StrategyRef<Guard = G, Strategy = Self::Strategy>;

    /// Returns the choice for this request.
    fn choose(&self, req: &Req) -> Self::Choice;

    /// Returns the strategy that was chosen.
    fn chosen<'a>(&'a self, choice: &'a Self::Choice) -> &'a Self::Strategy;

    /// Returns the call of this request, with the strategy that was chosen.
    fn settling<G: GuardBase>(
        call: CallGuard<SharedGuard<G, Self>>,
        req: &Req,
    ) -> CallGuard<Self::Ref<G>>;
}

#[diagnostic::do_not_recommend]
impl<Req, P: Strategy> StrategyFor<Req> for P {
    type Strategy = P;
    type Choice = ();
    type Ref<G: GuardBase> = SharedGuard<G, P>;

    #[inline]
    fn choose(&self, _: &Req) {}

    #[inline]
    fn chosen<'a>(&'a self, (): &'a ()) -> &'a P {
        self
    }

    #[inline(always)]
    fn settling<G: GuardBase>(
        call: CallGuard<SharedGuard<G, P>>,
        _: &Req,
    ) -> CallGuard<SharedGuard<G, P>> {
        call
    }
}

impl<Req, F, C, P> StrategyFor<Req> for ByRequest<F, P>
where
    F: Fn(&Req) -> C,
    P: Strategy + From<C>,
{
    type Strategy = P;
    type Choice = P;
    type Ref<G: GuardBase> = ChosenStrategy<G, F, P>;

    #[inline]
    fn choose(&self, req: &Req) -> P {
        (self.choose)(req).into()
    }

    #[inline]
    fn chosen<'a>(&'a self, choice: &'a P) -> &'a P {
        choice
    }

    #[inline]
    fn settling<G: GuardBase>(
        call: CallGuard<SharedGuard<G, Self>>,
        req: &Req,
    ) -> CallGuard<ChosenStrategy<G, F, P>> {
        call.refer_by(|shared| ChosenStrategy {
            shared: shared.clone(),
            strategy: shared.strategy().choose(req),
        })
    }
}

/// Shared ownership of a guard, and the strategy that [`ByRequest`] has chosen for a call.
pub struct ChosenStrategy<G, F, P> {
    shared: SharedGuard<G, ByRequest<F, P>>,
    strategy: P,
}

impl<G: GuardBase, F, P> GuardRef for ChosenStrategy<G, F, P> {
    type Guard = G;

    #[inline]
    fn guard(&self) -> &G {
        self.shared.guard()
    }
}

impl<G: GuardBase, F, P> StrategyRef for ChosenStrategy<G, F, P> {
    type Strategy = P;

    #[inline]
    fn strategy(&self) -> &P {
        &self.strategy
    }
}

impl<G, F, P> fmt::Debug for ChosenStrategy<G, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChosenStrategy")
    }
}
