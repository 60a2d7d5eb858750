//! A Redis of one's own, on a unix socket under a temporary directory.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Killed and removed when dropped.
pub(crate) struct Server {
    dir: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "buttress-redis-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Self {
            dir,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            child: None,
        };
        server.restart();
        server
    }

    /// Starts it again, with whatever it saved.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.dir)
            .arg("--unixsocket")
            .arg(self.socket())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!(
                "redis-server does not start ({error}): \
                 apt-get install -y --no-install-recommends redis-server"
            )
        }));
        let began = Instant::now();
        while self.try_connect().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "Redis is not up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As if the power went.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It hangs.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id();
        let kill = format!("kill -{signal} {id}");
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn try_connect(&self) -> Option<redis::Connection> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client
            .get_connection_with_timeout(Duration::from_secs(5))
            .ok()?;
        redis::cmd("PING").exec(&mut connection).ok()?;
        Some(connection)
    }

    /// What Redis itself answers.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut ask = redis::Cmd::new();
        ask.arg(command);
        ask.query(&mut self.try_connect().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
