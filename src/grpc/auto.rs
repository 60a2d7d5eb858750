//! One port for HTTP and gRPC: rejections in the protocol of the request.

use super::Grpc;
use crate::{
    error::Rejected,
    http::{GrpcType, Http, ProblemBody, Respond, RespondTo},
};
use http::{HeaderMap, HeaderValue, Request, Response, header};

/// The responder that answers a rejection in the protocol of the request which was rejected.
///
/// | request's `content-type` | answer |
/// |---|---|
/// | `application/grpc`, `application/grpc+proto` and so on | that of [`Grpc`] |
/// | `application/grpc-web`, `application/grpc-web-text` | that of [`Grpc`], with a `content-type` of gRPC-Web |
/// | any other, or none | that of [`Http`] |
///
/// So axum routes and tonic services can share one port, and one stack of layers. What their
/// responses mean, the layers learn by `.auto()`.
///
/// A gRPC-Web answer has nothing but trailers. It tells them in its head, as the protocol allows
/// and tonic-web does; a browser shows them to clients of another origin only if
/// `access-control-expose-headers` names `grpc-status` and `grpc-message`. Which of the two content
/// types it has is for the request's `accept` to say, or else its own.
///
/// ```
/// # #[cfg(feature = "load-shed")] {
/// use axum::{Router, routing::get};
/// use buttress::{LoadShed, grpc::Auto, http::RespondLayer};
/// use tonic::service::Routes;
///
/// let (_, health) = tonic_health::server::health_reporter();
/// let app: Router = Routes::new(health)
///     .into_axum_router()
///     .route("/orders", get(async || "[]"))
///     .layer(RespondLayer::new(Auto, LoadShed::new("port").layer().auto()));
/// # }
/// ```
#[doc(alias = "grpc-web")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl<T> RespondTo<Request<T>> for Auto {
    type Responder = AutoResponder;

    #[inline]
    fn respond_to(&self, req: &Request<T>) -> AutoResponder {
        AutoResponder(AnswerType::to(req.headers()))
    }
}

/// The responder of [`Auto`] for one request.
#[derive(Clone, Copy, Debug)]
pub struct AutoResponder(AnswerType);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AnswerType {
    Http,
    Grpc(GrpcType),
}

impl AnswerType {
    /// Returns in which protocol to answer a request with these headers.
    #[inline]
    fn to(headers: &HeaderMap) -> Self {
        match GrpcType::of(headers) {
            None => Self::Http,
            Some(GrpcType::Grpc) => Self::Grpc(GrpcType::Grpc),
            // Which of the two encodings is for the client to say.
            Some(sent) => match GrpcType::accepted(headers) {
                None | Some(GrpcType::Grpc) => Self::Grpc(sent),
                Some(accepted) => Self::Grpc(accepted),
            },
        }
    }
}

impl Respond for AutoResponder {
    type Body = ProblemBody;

    fn respond(&self, rejected: Rejected) -> Response<ProblemBody> {
        let content_type = match self.0 {
            AnswerType::Http => return Respond::respond(&Http, rejected),
            AnswerType::Grpc(GrpcType::Grpc) => return Grpc.respond(rejected),
            AnswerType::Grpc(GrpcType::Web) => "application/grpc-web+proto",
            AnswerType::Grpc(GrpcType::WebText) => "application/grpc-web-text+proto",
        };
        let mut response = Grpc.respond(rejected);
        let content_type = HeaderValue::from_static(content_type);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_answer_is_in_the_protocol_of_the_request() {
        let problem = "application/problem+json";
        let (web, text) = (
            "application/grpc-web+proto",
            "application/grpc-web-text+proto",
        );
        for (sent, accepted, expected) in [
            ("", "", problem),
            ("application/json", "application/grpc-web", problem),
            ("application/grpc", "", "application/grpc"),
            ("application/grpc+proto", "", "application/grpc"),
            ("application/grpc-web", "", web),
            ("application/grpc-web-text", "", text),
            (
                "application/grpc-web+proto",
                "application/grpc-web-text",
                text,
            ),
            (
                "application/grpc-web-text",
                "application/grpc-web+proto",
                web,
            ),
            ("application/grpc-web-text", "*/*", text),
        ] {
            let mut request = Request::new(());
            for (name, value) in [(header::CONTENT_TYPE, sent), (header::ACCEPT, accepted)] {
                if !value.is_empty() {
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
            }
            let responder = Auto.respond_to(&request);
            let rejected = Rejected::new(Kind::CircuitOpen, "p");
            let answer = responder.respond(rejected);
            assert_eq!(
                answer.headers()["content-type"],
                expected,
                "{sent}, {accepted}"
            );
            let status = answer.headers().get("grpc-status");
            assert_eq!(status.is_some(), expected != problem, "{sent}");
            assert_eq!(answer.headers()["buttress-rejected"], "circuit-open");
            assert_eq!(answer.extensions().get(), Some(&rejected));
        }
    }
}
