//! Several instances, each a process; one that ends is started again.

use crate::{config::Config, log::say};
use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    sync::{oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// An instance that ended is started again after this time: not at once, so that one that cannot
/// start does not use up the machine.
const RESTART: Duration = Duration::from_secs(1);

/// The running instances. Their processes end with this one, however it ends: they read from a
/// pipe that it holds, and stop when that does.
pub(crate) struct Fleet {
    stop: watch::Sender<bool>,
    watched: JoinSet<()>,
}

/// What an instance is told.
#[derive(Clone)]
struct Instance {
    port: u16,
    database: String,
    redis: String,
    namespace: String,
}

impl Fleet {
    /// Starts an instance on each of these ports; all of them answer when this returns.
    pub(crate) async fn start(
        config: &Config,
        ports: &[u16],
        (database, redis): (&str, &str),
    ) -> Result<Self, String> {
        let (stop, stopped) = watch::channel(false);
        let mut watched = JoinSet::new();
        let mut started = Vec::new();
        for port in ports {
            let instance = Instance {
                port: *port,
                database: database.to_owned(),
                redis: redis.to_owned(),
                namespace: config.cache_namespace.clone(),
            };
            let (up, is_up) = oneshot::channel();
            watched.spawn(watch_over(instance, up, stopped.clone()));
            started.push(is_up);
        }
        let fleet = Self { stop, watched };
        for (up, port) in started.into_iter().zip(ports) {
            if up.await.is_err() {
                fleet.stop().await;
                return Err(format!("the instance on port {port} does not start"));
            }
        }
        Ok(fleet)
    }

    /// Lets all of them finish what they are doing.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.send(true);
        while self.watched.join_next().await.is_some() {}
    }
}

/// Starts it and, once it has been `up`, starts it again whenever it ends.
async fn watch_over(
    instance: Instance,
    up: oneshot::Sender<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut up = Some(up);
    loop {
        let child = instance.start();
        let Ok(mut child) = child.inspect_err(|error| say(format_args!("{error}"))) else {
            return;
        };
        // Taken out: waiting for it would close it.
        let input = child.stdin.take();
        tokio::select! {
            ended = child.wait() => {
                let how = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                say(format_args!("the instance on port {} ended: {how}", instance.port));
            }
            () = instance.answers(&mut up) => {}
            () = told(&mut stopped) => {
                drop(input);
                return end(child).await;
            }
        }
        if up.is_some() {
            return;
        }
        tokio::select! {
            () = sleep(RESTART) => {}
            () = told(&mut stopped) => return,
        }
        say(format_args!(
            "starting the instance on port {} again",
            instance.port
        ));
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

impl Instance {
    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--until-stdin-ends");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        command.env("LISTEN_ADDR", address.to_string());
        command.env("DATABASE_URL", &self.database);
        command.env("REDIS_URL", &self.redis);
        command.env("CACHE_NAMESPACE", &self.namespace);
        // A Ctrl-C in the terminal is for us, who tell them in the right order.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).spawn()
    }

    /// Says once that it is up, and never returns.
    async fn answers(&self, up: &mut Option<oneshot::Sender<()>>) {
        while up.is_some() {
            if let Ok(true) = self.is_up().await {
                up.take().map(|up| up.send(()));
            }
            sleep(Duration::from_millis(10)).await;
        }
        std::future::pending().await
    }

    /// Whether it, and nobody else who has its port, answers.
    async fn is_up(&self) -> io::Result<bool> {
        let asked = timeout(Duration::from_secs(2), async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            io::Result::Ok(String::from_utf8_lossy(&answer).to_lowercase())
        });
        let served_by = format!("x-served-by: 127.0.0.1:{}", self.port);
        Ok(asked.await??.contains(&served_by))
    }
}

/// Its input has ended, and it finishes what it is doing.
async fn end(mut child: Child) {
    if timeout(Duration::from_secs(15), child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}
