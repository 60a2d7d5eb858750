//! A backend of which the gateway knows nothing, and which can do everything wrong.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What it does with a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Writes this, and closes the connection.
    Answer(String),
    /// Reads the request and never answers.
    Hang,
    /// Does this, but not before some time has passed.
    Late(Duration, Box<Self>),
    /// Resets the connection.
    Reset,
    /// Writes a head, then each of these chunks after a pause, then does what comes last.
    Stream(Vec<&'static str>, Duration, Box<Self>),
}

impl Act {
    /// A whole answer.
    pub(crate) fn answer(status: &str, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(format!(
            "HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
    }

    pub(crate) fn ok() -> Self {
        Self::answer("200 OK", "content-type: text/plain\r\n", "well")
    }

    pub(crate) fn unavailable() -> Self {
        Self::answer("503 Service Unavailable", "", "down")
    }
}

/// The running backend.
pub(crate) struct Outside {
    pub(crate) url: String,
    hits: Arc<Mutex<Vec<Instant>>>,
}

impl Outside {
    /// Starts one; `act` is asked what to do with the nth request, from 1.
    pub(crate) async fn start(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hits = Arc::new(Mutex::new(Vec::new()));
        let (seen, act) = (hits.clone(), Arc::new(act));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (seen, act) = (seen.clone(), act.clone());
                tokio::spawn(async move {
                    let mut connection = connection;
                    if request(&mut connection).await {
                        let n = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(Instant::now());
                            seen.len()
                        };
                        perform(connection, act(n)).await;
                    }
                });
            }
        });
        Self { url, hits }
    }

    /// How many requests it has seen.
    pub(crate) fn hits(&self) -> usize {
        self.hits.lock().unwrap().len()
    }

    /// The times between its requests.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        let hits = self.hits.lock().unwrap();
        hits.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Reads a request's head; false if the connection ended before it.
async fn request(connection: &mut TcpStream) -> bool {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
    }
    true
}

async fn perform(mut connection: TcpStream, act: Act) {
    match act {
        Act::Answer(text) => {
            let _ = connection.write_all(text.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
        Act::Hang => {
            // Until the other side gives up.
            let _ = connection.read(&mut [0]).await;
        }
        Act::Reset => {
            let _ = connection.set_zero_linger();
        }
        Act::Late(pause, act) => {
            tokio::time::sleep(pause).await;
            Box::pin(perform(connection, *act)).await;
        }
        Act::Stream(chunks, pause, last) => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = connection.write_all(head.as_bytes()).await;
            for chunk in chunks {
                tokio::time::sleep(pause).await;
                let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
                if connection.write_all(framed.as_bytes()).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            Box::pin(perform(connection, *last)).await;
        }
    }
}
