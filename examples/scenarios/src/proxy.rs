//! A way to a server on which answers can be late, and connections break.

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Whatever the server sends arrives so much later.
    Late(Duration),
    /// Every connection is reset: those that there are, and those that are made.
    Reset,
}

/// A proxy on a port of its own, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    fault: watch::Sender<Fault>,
}

impl Proxy {
    /// Before the server at this port of 127.0.0.1.
    pub(crate) async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::None);
        tokio::spawn(async move {
            let mut gone = faults.clone();
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // Until there is nobody to tell us of faults.
                    _ = async { while gone.changed().await.is_ok() {} } => return,
                };
                if let Ok((client, _)) = client {
                    tokio::spawn(pass(client, port, faults.clone()));
                }
            }
        });
        Ok(Self { address, fault })
    }

    pub(crate) fn set(&self, fault: Fault) {
        let _ = self.fault.send(fault);
    }
}

async fn pass(client: TcpStream, port: u16, mut faults: watch::Receiver<Fault>) {
    // So that closing is a reset.
    #[allow(deprecated)]
    let _ = client.set_linger(Some(Duration::ZERO));
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let late = faults.clone();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forth = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let Some(read) = buffer.get(..read).filter(|read| !read.is_empty()) else {
                return;
            };
            let fault = *late.borrow();
            if let Fault::Late(by) = fault {
                sleep(by).await;
            }
            if to_client.write_all(read).await.is_err() {
                return;
            }
        }
    };
    let reset = async {
        faults
            .wait_for(|fault| *fault == Fault::Reset)
            .await
            .is_ok()
    };
    tokio::select! {
        _ = forth => {}
        () = back => {}
        _ = reset => {}
    }
}
