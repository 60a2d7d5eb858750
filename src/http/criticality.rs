//! How much a request matters, between processes.
//!
//! What matters little to the user at the front matters little in every service behind it: a
//! request's [`Criticality`] is said once and travels with all calls that it causes, so that each
//! service on the way sheds the same ones. The server side reads it into the
//! [context](crate::context), the client side writes it from there. gRPC metadata are HTTP headers,
//! so both serve tonic as well.

use super::ContextBody;
use crate::{
    context::{self, Context, Entered},
    criticality::Criticality,
    key::{Global, Key},
    load_shed::{Prioritize, Priority},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    hash::{Hash, Hasher},
    pin::Pin,
    task::{self, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// The header, or gRPC metadata key, that says how much a request matters: `x-request-criticality`.
///
/// Its value is the name of a [`Criticality`] ([`Criticality::as_str`]), in upper or lower case.
/// There is no standard header for this. The `Priority` of RFC 9218 orders the responses of one
/// connection, and says nothing about what may be refused.
pub const CRITICALITY_HEADER: HeaderName = HeaderName::from_static("x-request-criticality");

/// Returns what the request's header says; the first one, if there are several.
fn read(headers: &HeaderMap) -> Option<Criticality> {
    headers.get(CRITICALITY_HEADER)?.to_str().ok()?.parse().ok()
}

/// Returns the less important of the two.
fn lesser(a: Criticality, b: Criticality) -> Criticality {
    // The most important comes first.
    a.max(b)
}

/// A layer for servers that reads how much a request matters from its [`CRITICALITY_HEADER`], up to
/// a bound.
///
/// It puts the [`Criticality`] into the request's extensions, and into the
/// [context](crate::context) of everything that the service does for the request, also while the
/// body of the response is polled or dropped. A request without the header, or with one that cannot
/// be read, is [`Critical`](Criticality::Critical), or less if the bound is lower. Put this layer
/// outside the load shed:
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::{LoadShed, http::{ByCriticality, CriticalityHeaderLayer, Http, RespondLayer}};
///
/// # fn main() -> Result<(), buttress::InvalidConfig> {
/// let shed = LoadShed::builder("orders").priority(ByCriticality::new()).build()?;
/// let stack = (CriticalityHeaderLayer::new(), shed.queued().layer().http());
/// let app: Router = Router::new()
///     .route("/orders", get(|| async { "[]" }))
///     // What is shed leaves as 503, with Retry-After.
///     .layer(RespondLayer::new(Http, stack));
/// # let _ = app;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CriticalityHeaderLayer {
    at_most: Criticality,
}

impl CriticalityHeaderLayer {
    /// Creates a layer that believes requests up to [`Critical`](Criticality::Critical). Anyone can
    /// write a header, and a class that everyone may claim means nothing.
    pub const fn new() -> Self {
        Self::at_most(Criticality::Critical)
    }

    /// Creates a layer that believes requests up to this class. A request that claims more gets
    /// this class. One that says nothing is [`Critical`](Criticality::Critical), or gets this class
    /// if that is less important.
    ///
    /// [`CriticalPlus`](Criticality::CriticalPlus) is for servers that only your own services can
    /// reach, [`SheddablePlus`](Criticality::SheddablePlus) for an entrance that only batch jobs
    /// use.
    pub const fn at_most(class: Criticality) -> Self {
        Self { at_most: class }
    }

    /// Returns how much this request matters, in this context.
    fn class(self, headers: &HeaderMap) -> Criticality {
        let given = lesser(read(headers).unwrap_or_default(), self.at_most);
        // A layer further out has had its say.
        let outer = context::current().criticality;
        outer.map_or(given, |outer| lesser(given, outer))
    }
}

impl Default for CriticalityHeaderLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CriticalityHeaderLayer {
    type Service = CriticalityHeaderService<S>;

    fn layer(&self, inner: S) -> CriticalityHeaderService<S> {
        CriticalityHeaderService {
            inner,
            layer: *self,
        }
    }
}

/// A service that reads how much its requests matter, built by [`CriticalityHeaderLayer`].
#[derive(Clone, Debug)]
pub struct CriticalityHeaderService<S> {
    inner: S,
    layer: CriticalityHeaderLayer,
}

impl<S> CriticalityHeaderService<S> {
    inner_accessors!();
}

impl<S, B, RB> Service<Request<B>> for CriticalityHeaderService<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
{
    type Response = Response<ContextBody<RB>>;
    type Error = S::Error;
    type Future = CriticalityHeaderFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let class = self.layer.class(req.headers());
        req.extensions_mut().insert(class);
        let context = context::current().with_criticality(class);
        let call = context.enter(|| self.inner.call(req));
        CriticalityHeaderFuture {
            call: Entered::new(call, context),
            context,
        }
    }
}

pin_project! {
    /// The response future of [`CriticalityHeaderService`].
    #[derive(Debug)]
    pub struct CriticalityHeaderFuture<F> {
        #[pin]
        call: Entered<F, Context>,
        context: Context,
    }
}

impl<F, B, E> Future for CriticalityHeaderFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ContextBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let context = *this.context;
        let result = ready!(this.call.poll(cx));
        Poll::Ready(result.map(|response| response.map(|body| ContextBody::new(body, context))))
    }
}

/// A layer for clients that tells the service how much a request matters.
///
/// It writes the criticality of the [context](crate::context) into the [`CRITICALITY_HEADER`]. If
/// the request has that header already, the less important of the two is kept. So a proxy that
/// passes on the headers of strangers does not make their requests more important than it took them
/// for, and a request that was marked as sheddable on purpose stays so. Without a criticality in
/// the context, the request is not changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalityHeaderClientLayer;

impl<S> Layer<S> for CriticalityHeaderClientLayer {
    type Service = CriticalityHeaderClientService<S>;

    fn layer(&self, inner: S) -> CriticalityHeaderClientService<S> {
        CriticalityHeaderClientService { inner }
    }
}

/// A service that is told how much its requests matter, built by [`CriticalityHeaderClientLayer`].
#[derive(Clone, Debug)]
pub struct CriticalityHeaderClientService<S> {
    inner: S,
}

impl<S> CriticalityHeaderClientService<S> {
    inner_accessors!();
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for CriticalityHeaderClientService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        if let Some(class) = context::current().criticality {
            let headers = req.headers_mut();
            let class = read(headers).map_or(class, |given| lesser(given, class));
            let name = HeaderValue::from_static(class.as_str());
            headers.insert(CRITICALITY_HEADER, name);
        }
        self.inner.call(req)
    }
}

/// A priority that prefers requests of higher criticality, for
/// [`LoadShedBuilder::priority`](crate::load_shed::LoadShedBuilder::priority).
///
/// A request's criticality is, in this order:
///
/// 1. the [`Criticality`] in its extensions, put there by [`CriticalityHeaderLayer`] or by a layer
///    of yours that checks who is asking;
/// 2. what its [`CRITICALITY_HEADER`] says, up to [`Critical`](Criticality::Critical);
/// 3. [`Critical`](Criticality::Critical), if there is neither.
///
/// Within a class, either all requests are equal, or all users are:
///
/// ```
/// use buttress::{LoadShed, http::{ByCriticality, ClientAddr}};
///
/// let fair = ByCriticality::new().per(ClientAddr::new());
/// let shed = LoadShed::builder("orders").priority(fair).build()?;
/// # Ok::<_, buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByCriticality<K = Global> {
    user: Option<K>,
}

impl ByCriticality {
    /// Creates a priority under which all requests of a class are equal.
    pub const fn new() -> Self {
        Self { user: None }
    }

    /// Makes all users within a class equal: a user who asks for more than others is refused first.
    ///
    /// Users are told apart by a key: [`ClientAddr`](super::ClientAddr),
    /// [`HeaderKey`](super::HeaderKey), or a closure `|req: &http::Request<_>| ...`.
    pub const fn per<K>(self, user: K) -> ByCriticality<K> {
        ByCriticality { user: Some(user) }
    }
}

impl<B, K: Key<Request<B>>> Prioritize<Request<B>> for ByCriticality<K> {
    fn priority(&self, req: &Request<B>) -> Priority {
        let class = req.extensions().get().copied();
        let priority = Priority::new(class.unwrap_or_else(|| {
            let given = read(req.headers()).unwrap_or_default();
            lesser(given, Criticality::Critical)
        }));
        match &self.user {
            Some(key) => priority.of_user(User { key, req }),
            None => priority,
        }
    }
}

/// A user of a request, which hashes as the key of this request does.
struct User<'a, K, B> {
    key: &'a K,
    req: &'a Request<B>,
}

impl<B, K: Key<Request<B>>> Hash for User<'_, K, B> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key.hash(self.req, hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeaderKey;
    use std::future::{Ready, ready};
    use tower::service_fn;

    fn request(lines: &[&str]) -> Request<()> {
        let mut req = Request::new(());
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            req.headers_mut().append(CRITICALITY_HEADER, value);
        }
        req
    }

    /// What a server with this bound takes the request for: in the context and in the extensions.
    async fn taken(layer: CriticalityHeaderLayer, req: Request<()>) -> Criticality {
        let mut service = layer.layer(service_fn(async |req: Request<()>| {
            let given = context::current().criticality;
            tokio::task::yield_now().await;
            assert_eq!(context::current().criticality, given);
            assert_eq!(req.extensions().get(), given.as_ref());
            let mut answer = Response::new(());
            answer.extensions_mut().insert(given.ok_or(())?);
            Ok::<_, ()>(answer)
        }));
        let answer = service.call(req).await.unwrap();
        *answer.extensions().get().unwrap()
    }

    #[tokio::test]
    async fn a_server_believes_what_can_be_read_up_to_its_bound() {
        use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
        for (lines, class) in [
            (&[][..], Critical),
            (&["sheddable"], Sheddable),
            (&["SHEDDABLE_PLUS"], SheddablePlus),
            (&["critical"], Critical),
            (&["critical-plus"], CriticalPlus),
            (&["sheddable", "critical"], Sheddable),
            (&["urgent"], Critical),
            (&[" sheddable"], Critical),
            (&[""], Critical),
            (&["\u{ff}"], Critical),
        ] {
            for bound in Criticality::ALL {
                let layer = CriticalityHeaderLayer::at_most(bound);
                let expected = lesser(class, bound);
                assert_eq!(taken(layer, request(lines)).await, expected, "{lines:?}");
            }
            let default = CriticalityHeaderLayer::default();
            assert_eq!(
                taken(default, request(lines)).await,
                lesser(class, Critical)
            );
        }
    }

    #[tokio::test]
    async fn a_layer_further_in_makes_no_request_more_important() {
        let inner = CriticalityHeaderLayer::at_most(Criticality::CriticalPlus);
        let outer = context::current().with_criticality(Criticality::SheddablePlus);
        let claims = taken(inner, request(&["critical-plus"]));
        assert_eq!(outer.scope(claims).await, Criticality::SheddablePlus);
        let less = taken(inner, request(&["sheddable"]));
        assert_eq!(outer.scope(less).await, Criticality::Sheddable);
    }

    /// What a client sends: the header's lines.
    fn sent(ambient: Option<Criticality>, req: Request<()>) -> Vec<HeaderValue> {
        let mut client = CriticalityHeaderClientLayer.layer(service_fn(
            |req: Request<()>| -> Ready<Result<Vec<HeaderValue>, ()>> {
                let lines = req.headers().get_all(CRITICALITY_HEADER);
                ready(Ok(lines.iter().cloned().collect()))
            },
        ));
        let mut context = context::current();
        context.criticality = ambient;
        context.enter(|| client.call(req)).into_inner().unwrap()
    }

    #[test]
    fn a_client_sends_the_less_important_of_context_and_header() {
        use Criticality::{Critical, CriticalPlus, Sheddable};
        assert!(sent(None, request(&[])).is_empty());
        assert_eq!(sent(None, request(&["whatever"])), ["whatever"]);
        for class in Criticality::ALL {
            assert_eq!(sent(Some(class), request(&[])), [class.as_str()]);
        }
        let more = request(&["critical-plus", "critical-plus"]);
        assert_eq!(sent(Some(Sheddable), more), ["sheddable"]);
        assert_eq!(
            sent(Some(CriticalPlus), request(&["critical"])),
            ["critical"]
        );
        assert_eq!(sent(Some(Critical), request(&["\u{ff}"])), ["critical"]);
    }

    #[test]
    fn the_extension_counts_before_the_header_and_users_are_told_apart() {
        let class = |req: &Request<()>| ByCriticality::new().priority(req).class();
        assert_eq!(class(&request(&[])), Criticality::Critical);
        assert_eq!(class(&request(&["critical-plus"])), Criticality::Critical);
        assert_eq!(class(&request(&["sheddable"])), Criticality::Sheddable);
        let mut checked = request(&["sheddable"]);
        checked.extensions_mut().insert(Criticality::CriticalPlus);
        assert_eq!(class(&checked), Criticality::CriticalPlus);

        let fair = ByCriticality::new().per(HeaderKey(CRITICALITY_HEADER));
        let of = |line| fair.priority(&request(&[line]));
        assert_eq!(of("sheddable"), of("sheddable"));
        assert_ne!(of("a"), of(""));
        assert_eq!(of("a").class(), of("").class());
        let equal = |line| ByCriticality::new().priority(&request(&[line]));
        assert_eq!(equal("a"), equal(""));
    }
}
