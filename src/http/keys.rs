//! Which state an HTTP request belongs to.

use super::{
    TrustedProxies,
    target::{self, Target},
};
use crate::key::Key;
use http::{HeaderName, Request, Uri};
use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::Deref,
};

/// An extension of requests with the address of the connection's other end.
///
/// It is for servers that set no such extension themselves: insert it where the connection is
/// accepted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PeerAddr(pub SocketAddr);

impl Deref for PeerAddr {
    type Target = SocketAddr;
    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}

/// A key that has one state per client address.
///
/// The client is the connection's other end, unless that is a [trusted proxy](Self::behind): then
/// it is the address that the proxy forwards for, and so on until an address that is not trusted.
/// Without trusted proxies `X-Forwarded-For` is ignored, because anyone can send it.
///
/// The peer's address comes from the request's extensions: any type there that dereferences to a
/// `SocketAddr` will do, such as axum's `ConnectInfo`:
///
/// ```no_run
/// # #[cfg(feature = "rate-limit")]
/// # async fn serve(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, extract::{ConnectInfo, Request}, routing::get};
/// use buttress::http::{ClientAddr, Http, RespondLayer, TrustedProxies};
/// use buttress::rate_limit::RateLimiter;
/// use std::{net::SocketAddr, time::Duration};
///
/// let client = ClientAddr::from_extension::<ConnectInfo<SocketAddr>>()
///     .behind(TrustedProxies::parse("10.0.0.0/8, ::1")?);
/// let limiter = RateLimiter::builder("per client", 100, Duration::from_secs(60))
///     .keyed(client)
///     .build()?;
/// let app: Router = Router::new()
///     .route("/", get(|| async { "in" }))
///     .layer(RespondLayer::new(Http, limiter.layer()));
/// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
/// # Ok(()) }
/// ```
///
/// Requests without that extension share one state, so a server without it limits too much rather
/// than not at all.
#[doc(alias = "x-forwarded-for")]
#[doc(alias = "forwarded")]
#[doc(alias = "client_ip")]
#[doc(alias = "real_ip")]
#[doc(alias = "SmartIpKeyExtractor")]
pub struct ClientAddr<P = PeerAddr> {
    proxies: TrustedProxies,
    forwarded: bool,
    ipv6_prefix: u8,
    peer: PhantomData<fn() -> P>,
}

impl ClientAddr {
    /// Creates a key that reads the peer's address from a [`PeerAddr`] in the request's extensions.
    pub fn new() -> Self {
        Self::from_extension()
    }

    /// Creates a key that reads the peer's address from an extension of another type, such as
    /// axum's `ConnectInfo<SocketAddr>`.
    pub fn from_extension<P: Deref<Target = SocketAddr>>() -> ClientAddr<P> {
        ClientAddr {
            proxies: TrustedProxies::default(),
            forwarded: false,
            ipv6_prefix: 64,
            peer: PhantomData,
        }
    }
}

impl<P> ClientAddr<P> {
    /// Sets the proxies whose `X-Forwarded-For` is believed. By default none is.
    #[doc(alias = "x-forwarded-for")]
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// Reads `Forwarded` (RFC 7239) in place of `X-Forwarded-For`.
    ///
    /// Only one of the two is ever read: a proxy that writes one passes the other on as the client
    /// sent it.
    #[must_use]
    pub fn forwarded(self) -> Self {
        Self {
            forwarded: true,
            ..self
        }
    }

    /// Sets how many leading bits of an IPv6 address identify a client. The default is 64: that is
    /// the smallest network that a site is given (RFC 6177), and since the site can use all of its
    /// 2^64 addresses, a limit per address would be no limit. With 128 or more, every address is a
    /// client of its own.
    #[must_use]
    pub fn ipv6_prefix(self, bits: u8) -> Self {
        Self {
            ipv6_prefix: bits,
            ..self
        }
    }
}

impl<P: Deref<Target = SocketAddr> + Send + Sync + 'static> ClientAddr<P> {
    /// Returns the client's address, in full, or `None` if the request has no extension with the
    /// peer's address. An IPv4-mapped IPv6 address is returned as IPv4.
    pub fn address<B>(&self, req: &Request<B>) -> Option<IpAddr> {
        let peer = req.extensions().get::<P>()?.ip().to_canonical();
        Some(self.proxies.client(peer, req.headers(), self.forwarded))
    }

    fn network(&self, client: IpAddr) -> IpAddr {
        let IpAddr::V6(client) = client else {
            return client;
        };
        let ignored = 128_u32.saturating_sub(self.ipv6_prefix.into());
        let mask = u128::MAX.checked_shl(ignored).unwrap_or(0);
        IpAddr::V6(Ipv6Addr::from_bits(client.to_bits() & mask))
    }
}

impl<B, P: Deref<Target = SocketAddr> + Send + Sync + 'static> Key<Request<B>> for ClientAddr<P> {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Request<B>, hasher: &mut H) {
        let client = self.address(req).map(|client| self.network(client));
        client.hash(hasher);
    }
}

impl Default for ClientAddr {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Clone for ClientAddr<P> {
    fn clone(&self) -> Self {
        Self {
            proxies: self.proxies.clone(),
            ..*self
        }
    }
}

impl<P> fmt::Debug for ClientAddr<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAddr")
            .field("proxies", &self.proxies)
            .field("forwarded", &self.forwarded)
            .field("ipv6_prefix", &self.ipv6_prefix)
            .finish()
    }
}

/// A key that has one state per value of a header: an API key, a tenant.
///
/// Put the layer inside one that checks the header: a client that can make up values gets a quota
/// for each. Requests without the header share one state. If the header occurs several times, the
/// first value counts. To limit only requests that have the header, let the others
/// cost nothing:
///
/// ```
/// # #[cfg(feature = "rate-limit")] {
/// use buttress::{RateLimiter, http::HeaderKey};
/// use http::{HeaderName, Request};
/// use std::time::Duration;
///
/// const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
///
/// let limiter = RateLimiter::builder("api keys", 1_000, Duration::from_secs(60))
///     .keyed(HeaderKey(API_KEY))
///     .cost(|request: &Request<axum::body::Body>| {
///         u32::from(request.headers().contains_key(API_KEY))
///     })
///     .build()?;
/// # }
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderKey(pub HeaderName);

impl<B> Key<Request<B>> for HeaderKey {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Request<B>, hasher: &mut H) {
        req.headers().get(&self.0).hash(hasher);
    }
}

/// A key that has one state per path, without the query.
///
/// If paths contain ids, there are as many keys as ids. For one state per route, use a closure that
/// reads the route from the request's extensions, such as axum's `MatchedPath`.
///
/// **Nested routers.** A router that nests others takes their prefix off the path: `/a/items` and
/// `/b/items` are both `/items` to a layer within. With the feature `axum` the whole path is the
/// key (from axum 0.8's `OriginalUri`, which axum puts into every request). Without it, or under
/// another router, say [where the whole URI is](Self::from_extension), or put the layer around the
/// outermost router.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathKey;

impl PathKey {
    /// Creates a key that reads the whole URI from an extension of the request, for routers that
    /// take a prefix off the path.
    ///
    /// Use `PathKey::from_extension::<axum::extract::OriginalUri>()` where the feature `axum` is
    /// off, or with another version of axum. For a request without that extension, the key is the
    /// path of its own URI.
    pub fn from_extension<P>() -> OriginalPathKey<P>
    where
        P: Deref<Target = Uri> + Send + Sync + 'static,
    {
        OriginalPathKey(PhantomData)
    }
}

impl<B> Key<Request<B>> for PathKey {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Request<B>, hasher: &mut H) {
        let target = Target::new(req.uri(), target::original(req.extensions()));
        target.whole().path().hash(hasher);
    }
}

/// A key that has one state per path as the client sent it: see [`PathKey::from_extension`].
pub struct OriginalPathKey<P>(PhantomData<fn() -> P>);

impl<B, P: Deref<Target = Uri> + Send + Sync + 'static> Key<Request<B>> for OriginalPathKey<P> {
    #[inline]
    fn hash<H: Hasher>(&self, req: &Request<B>, hasher: &mut H) {
        let original = target::extension::<P>(req.extensions());
        let target = Target::new(req.uri(), original);
        target.whole().path().hash(hasher);
    }
}

impl<P> Clone for OriginalPathKey<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for OriginalPathKey<P> {}

impl<P> fmt::Debug for OriginalPathKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginalPathKey").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHash;
    use proptest::prelude::*;

    fn from(peer: &str, headers: &[(&'static str, &[u8])]) -> Request<()> {
        let mut request = Request::get("/some/path?query");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = PeerAddr(SocketAddr::new(peer.parse().unwrap(), 4711));
        request.extension(peer).body(()).unwrap()
    }

    fn same<K: Key<Request<()>>>(key: &K, a: &Request<()>, b: &Request<()>) -> bool {
        KeyHash::of(key, a) == KeyHash::of(key, b)
    }

    #[test]
    fn ipv6_clients_are_networks_and_ipv4_ones_are_addresses() {
        let (a, b) = (from("2001:db8::1", &[]), from("2001:db8::ffff:2", &[]));
        let other = from("2001:db8:0:1::1", &[]);
        assert!(same(&ClientAddr::new(), &a, &b));
        assert!(!same(&ClientAddr::new(), &a, &other));
        for bits in [128, u8::MAX] {
            assert!(!same(&ClientAddr::new().ipv6_prefix(bits), &a, &b));
        }
        assert!(same(&ClientAddr::new().ipv6_prefix(0), &a, &other));
        let (four, mapped) = (from("10.0.0.1", &[]), from("::ffff:10.0.0.1", &[]));
        assert!(same(&ClientAddr::new(), &four, &mapped));
        assert!(!same(&ClientAddr::new(), &four, &from("10.0.0.2", &[])));
    }

    #[test]
    fn requests_of_unknown_peers_share_one_state() {
        let nobody = Request::get("/").body(()).unwrap();
        assert_eq!(ClientAddr::new().address(&nobody), None);
        assert!(same(&ClientAddr::new(), &nobody, &nobody));
        assert!(!same(&ClientAddr::new(), &nobody, &from("10.0.0.1", &[])));
    }

    #[test]
    fn header_and_path_are_keys() {
        let key = HeaderKey(HeaderName::from_static("x-api-key"));
        let with = |value: &'static [u8]| from("10.0.0.1", &[("x-api-key", value)]);
        assert!(same(&key, &with(b"a"), &with(b"a")));
        assert!(!same(&key, &with(b"a"), &with(b"b")));
        assert!(!same(&key, &with(b""), &from("10.0.0.1", &[])));
        let path = Request::get("/some/path").body(()).unwrap();
        assert!(same(&PathKey, &with(b"a"), &path));
        assert!(!same(&PathKey, &path, &Request::get("/").body(()).unwrap()));
    }

    #[test]
    fn a_path_is_whole_where_a_router_took_its_prefix() {
        struct Sent(Uri);
        impl Deref for Sent {
            type Target = Uri;
            fn deref(&self) -> &Uri {
                &self.0
            }
        }
        impl Clone for Sent {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }
        let sent = |original: Option<&str>| {
            let mut req = Request::get("/items").body(()).unwrap();
            if let Some(uri) = original {
                req.extensions_mut().insert(Sent(uri.parse().unwrap()));
            }
            req
        };
        let key = PathKey::from_extension::<Sent>();
        let (a, b) = (sent(Some("/a/items")), sent(Some("/b/items")));
        assert!(same(&key, &a, &a) && !same(&key, &a, &b));
        assert!(!same(&key, &a, &sent(None)));
        assert!(same(&key, &sent(None), &sent(Some("/items"))));
        assert!(same(&PathKey, &a, &b), "it does not know of it");
    }

    proptest! {
        #[test]
        fn headers_never_change_the_key_when_the_peer_is_not_trusted(
            peer: IpAddr,
            lines in prop::collection::vec("[ -~]{0,40}", 0..4),
            spoofed: IpAddr,
        ) {
            let proxies = TrustedProxies::parse("10.0.0.0/8, fd00::/8").unwrap();
            prop_assume!(!proxies.trust(peer));
            let spoofed = [spoofed.to_string(), format!("for=\"{spoofed}\"")];
            let lines = lines.iter().chain(&spoofed);
            let headers: Vec<_> = lines
                .flat_map(|l| [("x-forwarded-for", l.as_bytes()), ("forwarded", l.as_bytes())])
                .collect();
            let (honest, liar) = (from(&peer.to_string(), &[]), from(&peer.to_string(), &headers));
            for key in [ClientAddr::new(), ClientAddr::new().forwarded()] {
                prop_assert!(same(&key, &honest, &liar));
                prop_assert!(same(&key.behind(proxies.clone()), &honest, &liar));
            }
        }
    }
}
