//! What lies between an instance and Redis: it can be held up for one instance alone.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch::{self, Receiver, Sender},
};

/// A port that leads to another.
pub(crate) struct Wire {
    port: u16,
    held: Sender<bool>,
    cut: Sender<()>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (held, is_held) = watch::channel(false);
        let (cut, is_cut) = watch::channel(());
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            held,
            cut,
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (held, mut cut) = (is_held.clone(), is_cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let far = SocketAddr::from(([127, 0, 0, 1], port));
                    let Ok(far) = TcpStream::connect(far).await else {
                        return;
                    };
                    let (near, far) = (near.into_split(), far.into_split());
                    // Whichever ends first ends all.
                    tokio::select! {
                        () = pump(near.0, far.1, held.clone()) => {}
                        () = pump(far.0, near.1, held) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        wire
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Nothing arrives any more; what is sent waits.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Everything arrives, late.
    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    /// Every connection is lost, with what waits.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: Receiver<bool>) {
    let mut bytes = vec![0; 1 << 14];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if held.wait_for(|held| !held).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
