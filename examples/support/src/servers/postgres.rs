//! A Postgres of one's own.

use super::{
    ports::free_port,
    server::{Server, find, run},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A server on a socket in its directory and, if asked for, on a port of 127.0.0.1.
pub struct Postgres {
    server: Server,
    programs: PathBuf,
    port: Option<u16>,
}

impl Postgres {
    /// Makes a database and starts a server for it, on a socket only; some half a second.
    ///
    /// # Errors
    /// If Postgres is not installed, or does not start: then with what it wrote.
    pub fn start() -> io::Result<Self> {
        let mut postgres = Self::make()?;
        postgres.restart()?;
        Ok(postgres)
    }

    /// The same, on a port as well.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_on_tcp() -> io::Result<Self> {
        let mut postgres = Self::make()?;
        // Somebody may take the port meanwhile.
        for _ in 0..5 {
            postgres.port = Some(free_port()?);
            match postgres.restart() {
                Err(_) if postgres.server.log().contains("already in use") => {}
                result => return result.map(|()| postgres),
            }
        }
        Err(io::Error::from(io::ErrorKind::AddrInUse))
    }

    /// A database without a server.
    fn make() -> io::Result<Self> {
        let programs = find("initdb", places(), "postgresql")?;
        // Immediate shutdown: killed outright it would leave its shared memory behind.
        let server = Server::new("postgres", "QUIT")?;
        if is_root() {
            run(Command::new("chown")
                .arg("postgres")
                .arg(server.directory()))?;
        }
        let postgres = Self {
            server,
            programs,
            port: None,
        };
        let mut initdb = unprivileged(&postgres.programs.join("initdb"));
        initdb.args(["-A", "trust", "--no-sync", "-U", "postgres"]);
        initdb.args(["-E", "UTF8", "--no-locale", "-D"]);
        run(initdb.arg(postgres.data()))?;
        Ok(postgres)
    }

    /// What to connect to: the port if there is one.
    pub fn url(&self) -> String {
        match self.port {
            Some(port) => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            None => self.socket_url(),
        }
    }

    /// The same by way of the socket.
    pub fn socket_url(&self) -> String {
        let (directory, port) = (self.server.directory().display(), self.socket_port());
        format!("host={directory} port={port} user=postgres dbname=postgres")
    }

    /// The socket's name has a port in it.
    fn socket_port(&self) -> u16 {
        self.port.unwrap_or(5432)
    }

    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What it has written since it was last started.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// SIGKILL, for every process of it.
    pub fn kill(&mut self) -> io::Result<()> {
        self.server.kill()
    }

    /// SIGSTOP, for every process of it: it takes connections, and never answers.
    pub fn suspend(&self) -> io::Result<()> {
        self.server.signal("STOP").map(drop)
    }

    /// SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.server.signal("CONT").map(drop)
    }

    /// Other processes with the same data on the same port; kills those that run, if some do.
    pub fn restart(&mut self) -> io::Result<()> {
        self.server.kill()?;
        let mut command = unprivileged(&self.programs.join("postgres"));
        let listen = if self.port.is_some() { "127.0.0.1" } else { "" };
        command.args(["-c", &format!("listen_addresses={listen}")]);
        command.args(["-p", &self.socket_port().to_string()]);
        command.arg("-k").arg(self.server.directory());
        // What it has written survives a kill, though not the machine's end; and what it shares
        // between its processes is in its directory.
        command.args(["-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap"]);
        command.args(["-c", "max_connections=200"]);
        command.arg("-D").arg(self.data());
        let note = self.note();
        self.server.spawn(command, |server| {
            let text = fs::read_to_string(&note).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            // The file of one that was killed is still there at first.
            lines.next().map(str::parse) == server.id().map(Ok) && lines.nth(6) == Some("ready")
        })
    }

    fn data(&self) -> PathBuf {
        self.server.directory().join("data")
    }

    /// Where it says who and how it is.
    fn note(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.id().is_some() {
            return;
        }
        // One that was killed has left the segment by which it knows whether it runs already.
        let note = fs::read_to_string(self.note()).unwrap_or_default();
        if let Some(segment) = note
            .lines()
            .nth(6)
            .and_then(|l| l.split_whitespace().nth(1))
        {
            let _ = run(Command::new("ipcrm").args(["-m", segment]));
        }
    }
}

/// Debian keeps its programs by version, outside of the path.
fn places() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let mut places: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    places.reverse();
    places
}

/// Postgres refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
}
