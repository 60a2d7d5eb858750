//! A Postgres of one's own: in a temporary directory, on a socket there, gone when dropped.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A running server.
pub(crate) struct Postgres {
    directory: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a database and starts a server for it; some half a second.
    ///
    /// # Errors
    /// If Postgres is not installed, or does not start: then with what it wrote.
    pub(crate) fn start() -> io::Result<Self> {
        let programs = programs().ok_or_else(|| {
            let text = "Postgres is not installed (apt-get install postgresql), \
                        and DATABASE_URL is not set";
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        let directory = env::temp_dir().join(format!("postgres-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        // From here on dropping this cleans up.
        let mut postgres = Self {
            directory,
            server: None,
        };
        let data = postgres.directory.join("data");
        if is_root() {
            run(Command::new("chown")
                .arg("postgres")
                .arg(&postgres.directory))?;
        }
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "--no-sync",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
        ]);
        run(initdb.arg("-D").arg(&data))?;
        let log = fs::File::create(postgres.log())?;
        let mut server = unprivileged(&programs.join("postgres"));
        // On a socket only: no port that somebody else could take meanwhile.
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&postgres.directory);
        postgres.server = Some(server.stdout(log.try_clone()?).stderr(log).spawn()?);
        postgres.wait()?;
        Ok(postgres)
    }

    /// What to connect to.
    pub(crate) fn url(&self) -> String {
        format!("host={} user=postgres", self.directory.display())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Until it says that it takes connections.
    fn wait(&mut self) -> io::Result<()> {
        for _ in 0..500 {
            let log = fs::read_to_string(self.log())?;
            if log.contains("database system is ready to accept connections") {
                return Ok(());
            }
            let server = self.server.as_mut().map(Child::try_wait).transpose()?;
            if server.flatten().is_some() {
                return Err(io::Error::other(log));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            fs::read_to_string(self.log())?,
        ))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Immediate shutdown: killed outright it would leave its shared memory behind.
            let stopped = Command::new("kill")
                .args(["-QUIT", &server.id().to_string()])
                .status();
            if !stopped.is_ok_and(|status| status.success()) {
                let _ = server.kill();
            }
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where the programs are: Debian keeps them by version, outside of the path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut places: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = places.into_iter().rev().chain(env::split_paths(&path));
    all.find(|place| place.join("initdb").exists() && place.join("postgres").exists())
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

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
