//! Connections that are upgraded, over a socket, and the permits that they hold.

use crate::{
    server::serve,
    tally::{eventually, within},
};
use axum::{Router, extract::State, response::IntoResponse, routing::get};
use buttress::{
    GuardLayer, LoadShed, Outcome, Rejected,
    guard::{self, End},
    http::{Http, RespondLayer},
};
use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::tally::{SUCCESS, Tally};

/// Sends back what it gets, for as long as the connection is open.
async fn echo(
    State(sockets): State<LoadShed>,
    mut request: Request<axum::body::Body>,
) -> Result<impl IntoResponse, Rejected> {
    let permit = guard::hold(sockets, &())?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _permit = permit;
        let Ok(socket) = upgrade.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(socket));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers))
}

/// Returns a connection to the address, and the beginning of what it answered.
async fn connect(address: SocketAddr) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(socket.read_u8()).await.unwrap());
    }
    (socket, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_permit_is_held_until_the_upgraded_connection_is_dropped() {
    let sockets = LoadShed::builder("sockets").fixed(2).build().unwrap();
    let requests = Tally::default();
    let app = Router::new()
        .route("/", get(echo))
        .with_state(sockets.clone())
        .layer(RespondLayer::new(
            Http,
            GuardLayer::new(requests.clone()).http(),
        ));
    let address = serve(app).await;
    let in_flight = || sockets.snapshot().in_flight;

    let (mut first, head) = connect(address).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (second, head) = connect(address).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // For the layers around the server, both calls are over.
    assert_eq!(requests.ended(2).await, [SUCCESS; 2]);
    assert_eq!(in_flight(), 2);

    let (_, head) = connect(address).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(head.contains("buttress-rejected: overloaded"), "{head}");

    let mut back = [0; 5];
    first.write_all(b"hello").await.unwrap();
    within(first.read_exact(&mut back)).await.unwrap();
    assert_eq!((&back, in_flight()), (b"hello", 2));

    drop(second);
    eventually(|| in_flight() == 1).await;
    let (third, head) = connect(address).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    drop((first, third));
    eventually(|| in_flight() == 0).await;
}

#[test]
fn a_held_permit_teaches_what_its_holder_says_or_nothing() {
    let tally = Tally::default();
    let permit = guard::hold(tally.clone(), &()).unwrap();
    assert_eq!((tally.in_flight(), tally.ends().len()), (1, 0));
    drop(permit);
    let permit = guard::hold(tally.clone(), &()).unwrap();
    permit.end(Outcome::Failure);
    assert_eq!(
        tally.ends(),
        [End::Done(Outcome::Refused), End::Done(Outcome::Failure)]
    );
    tally.refuse(buttress::Kind::Overloaded);
    assert!(guard::hold(tally, &()).is_err());
}
