//! A permit that is held by a value, and not by a call.

use super::{Admission, CallGuard, End, Guard, GuardBase, GuardRef, Immediate};
use crate::{
    classify::Outcome,
    clock::Now,
    error::{Rejected, refuse},
};

/// Asks a guard for a permit that is held until it is dropped: for work that outlives its call.
///
/// A WebSocket or another upgraded connection is such work. For the layers around a server, its
/// call ends with the head of its response (101), so a limit of theirs says nothing about how many
/// connections stay open. Ask for a permit before the connection is upgraded, so that a refusal is
/// an ordinary response, and move it into the connection's task:
///
/// ```
/// # #[cfg(all(feature = "load-shed", feature = "axum"))] {
/// use axum::{Router, extract::State, response::IntoResponse, routing::any};
/// use buttress::{LoadShed, Rejected, guard};
/// # use axum::extract::Request as WebSocketUpgrade;
/// # trait OnUpgrade { fn on_upgrade<F>(self, _: impl FnOnce(()) -> F) -> &'static str; }
/// # impl OnUpgrade for WebSocketUpgrade {
/// #     fn on_upgrade<F>(self, _: impl FnOnce(()) -> F) -> &'static str { "" }
/// # }
///
/// async fn chat(
///     State(sockets): State<LoadShed>,
///     upgrade: WebSocketUpgrade, // `axum::extract::ws::WebSocketUpgrade`
/// ) -> Result<impl IntoResponse, Rejected> {
///     let permit = guard::hold(sockets, &())?; // 503 if too many are open
///     Ok(upgrade.on_upgrade(async move |socket| {
///         // ... talk until the client leaves ...
///         # let _ = socket;
///         drop(permit);
///     }))
/// }
///
/// // At most 1,000 at a time.
/// let sockets = LoadShed::builder("sockets").fixed(1_000).build()?;
/// let app: Router = Router::new().route("/chat", any(chat)).with_state(sockets);
/// # }
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
///
/// Use a policy of its own for such work. An adaptive limit learns from how long calls take, and of
/// connections that says nothing.
///
/// # Errors
/// The guard's [`Rejected`]: in an axum handler, and with the feature `axum`, a response.
pub fn hold<Req, G>(guard: G, req: &Req) -> Result<HeldPermit<G>, Rejected>
where
    G: Guard<Req>,
    G::Wait: Immediate,
{
    match guard.admit(req, &Now::lazy()) {
        Admission::Admitted(permit) => {
            let mut call = CallGuard::new(Owned(guard), permit);
            call.start(|| ());
            call.held();
            Ok(HeldPermit { call })
        }
        Admission::Refused(rejected) => Err(refuse(rejected)),
        Admission::Wait(wait) => wait.never(),
    }
}

/// A permit that is held until this is dropped, from [`hold`].
///
/// A guard learns nothing from a permit that is dropped, and takes it back. [`end`](Self::end) says
/// how the work went.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back at once"]
pub struct HeldPermit<G: GuardBase> {
    call: CallGuard<Owned<G>>,
}

impl<G: GuardBase> HeldPermit<G> {
    /// Gives the permit back, and says how the work went.
    pub fn end(mut self, outcome: Outcome) {
        self.call.end(End::Done(outcome));
    }
}

impl<G: GuardBase> Drop for HeldPermit<G> {
    fn drop(&mut self) {
        self.call.end(End::Done(Outcome::Refused));
    }
}

struct Owned<G>(G);

impl<G: GuardBase> GuardRef for Owned<G> {
    type Guard = G;

    fn guard(&self) -> &G {
        &self.0
    }
}
