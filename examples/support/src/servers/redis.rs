//! A Redis of one's own.

use super::{
    ports::free_port,
    server::{Server, find},
};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// A server on a port of 127.0.0.1, and on a socket in its directory. It saves nothing: after
/// [`Redis::restart`] it is empty.
pub struct Redis {
    server: Server,
    program: PathBuf,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one; some 50 ms.
    ///
    /// # Errors
    /// If Redis is not installed, or does not start: then with what it wrote.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// With these arguments after ours, such as `--appendonly yes`.
    pub fn start_with(arguments: &[&str]) -> io::Result<Self> {
        let install = "--no-install-recommends redis-server";
        let mut redis = Self {
            program: find("redis-server", Vec::new(), install)?.join("redis-server"),
            server: Server::new("redis", "KILL")?,
            port: free_port()?,
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        // Somebody may have taken the port meanwhile.
        for _ in 0..5 {
            match redis.restart() {
                Err(_) if redis.server.log().contains("in use") => redis.port = free_port()?,
                result => return result.map(|()| redis),
            }
        }
        Err(io::Error::from(io::ErrorKind::AddrInUse))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What to connect to.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same by way of the socket.
    pub fn socket_url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.server.directory().join("socket")
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> io::Result<()> {
        self.server.kill()
    }

    /// SIGSTOP: it takes connections, and never answers.
    pub fn suspend(&self) -> io::Result<()> {
        self.server.signal("STOP").map(drop)
    }

    /// SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.server.signal("CONT").map(drop)
    }

    /// Another process on the same port, empty; kills the one that runs, if one does.
    pub fn restart(&mut self) -> io::Result<()> {
        self.server.kill()?;
        let mut command = Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        command.arg("--dir").arg(self.server.directory());
        command.arg("--unixsocket").arg(self.socket());
        command.args(&self.arguments);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        self.server
            .spawn(command, |_| answers(address).unwrap_or(false))
    }
}

fn answers(address: SocketAddr) -> io::Result<bool> {
    let patience = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}
