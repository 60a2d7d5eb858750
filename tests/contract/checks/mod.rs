//! The promises. Each check gets a fresh entry.

pub(crate) mod dropping;
pub(crate) mod panics;
pub(crate) mod readiness;
pub(crate) mod sharing;
pub(crate) mod success;
pub(crate) mod tcp;

/// The tests of one layer.
macro_rules! checks {
    ($entry:path) => {
        $crate::checks::checks! { $entry;
            readiness::every_call_is_preceded_by_it;
            readiness::its_errors_pass_unchanged;
            readiness::it_is_not_cloned;
            readiness::a_service_that_is_not_ready_is_waited_for;
            sharing::clones_share_their_state;
            sharing::all_services_of_one_layer_share_their_state;
            sharing::all_layers_of_one_handle_share_their_state;
            sharing::threads_share_their_state;
            dropping::before_the_first_poll;
            dropping::while_the_inner_call_runs;
            dropping::after_completion;
            dropping::while_waiting;
            panics::of_the_service_in_call;
            panics::of_the_service_in_poll;
            panics::of_the_classifier;
            success::responses_are_unchanged;
            success::errors_are_unchanged;
            success::nothing_is_allocated;
            tcp::sixty_connections_have_one_state;
        }
    };
    ($entry:path; $($group:ident::$check:ident;)*) => {
        $(
            #[test]
            fn $check() {
                $crate::checks::$group::$check($entry());
            }
        )*
    };
}
pub(crate) use checks;

use crate::{
    inner::{E, Inner, Req, get},
    subject::Subject,
};
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use std::task::{Context, Waker};
use tower::{Service, ServiceExt};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Runs a check under tokio's clock, stopped.
fn paused<F: Future>(check: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(check)
}

/// A whole call, to the end of the response's body.
async fn ask<S, B>(service: &mut S, req: Req) -> Result<Response<Bytes>, E>
where
    S: Service<Req, Response = Response<B>, Error = E>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (head, body) = service.ready().await?.call(req).await?.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Ok(Response::from_parts(head, body))
}

/// A call still gets through: nothing that was taken is missing.
async fn still_works<L: Subject>(layer: &L, inner: &Inner) {
    let answer = ask(&mut layer.layer(inner.clone()), get("/ok")).await;
    assert_eq!(answer.map(|answer| answer.status().as_u16()), Ok(200));
    assert_eq!(inner.running(), 0);
}
