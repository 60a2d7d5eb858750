use crate::{
    inner::{E, Inner, Req},
    subject::{Entry, Subject},
};
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::{Service, ServiceExt, service_fn};

pub(crate) fn sixty_connections_have_one_state<L: Subject>(entry: Entry<L>) {
    let (path, each) = entry.trace;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Two routes, as axum makes them: each with a service from `layer()`.
        let (a, b) = (
            entry.layer.layer(Inner::default()),
            entry.again.layer(Inner::default()),
        );
        let app = Router::new()
            .route_service(
                "/a",
                service_fn(move |_: Request<Body>| edge(a.clone(), path)),
            )
            .route_service(
                "/b",
                service_fn(move |_: Request<Body>| edge(b.clone(), path)),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let mut connections = JoinSet::new();
        for n in 0..60 {
            connections.spawn(twice(address, ["a", "b"][n % 2]));
        }
        for answers in connections.join_all().await {
            assert_eq!(answers, 2);
        }
        assert_eq!((entry.count)(), 120 * each);
    });
}

/// What a server makes of errors.
async fn edge<S, B>(mut service: S, path: &'static str) -> Result<Response<Body>, Infallible>
where
    S: Service<Req, Response = Response<B>, Error = E>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut req = Request::new(Full::default());
    *req.uri_mut() = http::Uri::from_static(path);
    let answer = match service.ready().await {
        Ok(service) => service.call(req).await,
        Err(error) => Err(error),
    };
    let mut response = Response::new(Body::empty());
    match answer {
        Ok(answer) => {
            let body = answer.into_body().collect().await.expect("a body");
            *response.body_mut() = Body::from(body.to_bytes());
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_GATEWAY,
    }
    Ok(response)
}

/// Two requests over one connection: how many were answered.
async fn twice(address: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let line = format!("GET /{path} HTTP/1.1\r\nhost: a\r\n");
    let both = format!("{line}\r\n{line}connection: close\r\n\r\n");
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    answers.matches("HTTP/1.1 ").count()
}
