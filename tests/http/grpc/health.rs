//! A health service that does what it is asked to, and a server for it.

use buttress::{Kind, Rejected};
use futures::{StreamExt, stream};
use std::{net::SocketAddr, pin::Pin};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    service::Routes,
    transport::{Channel, Server},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_server::{Health, HealthServer},
};
use tower::{Layer, Service};

/// Fails with the status that it is asked for by name; "hang" never answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Obedient;

type Answers = Pin<Box<dyn stream::Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

fn answer(asked: &str) -> Result<HealthCheckResponse, Status> {
    match asked {
        "" => Ok(HealthCheckResponse::default()),
        "exhausted" => {
            let mut status = Status::resource_exhausted("full");
            let metadata = status.metadata_mut();
            metadata.insert("grpc-retry-pushback-ms", "70".parse().unwrap());
            Err(status)
        }
        "internal" => Err(Status::internal("bug")),
        "missing" => Err(Status::not_found("who?")),
        "limited" => Err(Rejected::new(Kind::RateLimited, "user").into()),
        "full" => Err(Rejected::new(Kind::Overloaded, "user").into()),
        "late" => Err(Rejected::new(Kind::TimedOut, "user").into()),
        other => panic!("nobody knows {other}"),
    }
}

#[tonic::async_trait]
impl Health for Obedient {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match &*request.into_inner().service {
            "hang" => std::future::pending().await,
            asked => answer(asked).map(Response::new),
        }
    }

    type WatchStream = Answers;

    /// One answer; then the status that was asked for, at the end of the stream.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Answers>, Status> {
        let asked = request.into_inner().service;
        let first = stream::iter([answer("")]);
        let rest = stream::once(async move {
            match &*asked {
                "hang" => std::future::pending().await,
                asked => answer(asked),
            }
        });
        Ok(Response::new(first.chain(rest).boxed()))
    }
}

pub(crate) fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// A tonic server behind this layer, on a port of its own.
pub(crate) async fn serve<L, B>(layer: L) -> SocketAddr
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send,
    <L::Service as Service<http::Request<Body>>>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder().layer(layer);
    let server = server.add_service(HealthServer::new(Obedient));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    address
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}"));
    endpoint.unwrap().connect_lazy()
}
