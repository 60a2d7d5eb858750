//! A server process in a directory of its own.

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// Waits for its input to end, which it does when the process that holds the other side is gone,
/// however it went; then ends the server whose id is in the file, and removes the directory.
const CARETAKER: &str = r#"
trap '' INT TERM HUP
while read -r _; do :; done
if pid=$(cat "$1/pid" 2>/dev/null); then
    kill -s "$2" "$pid"; kill -s CONT "$pid"
    n=0; while kill -0 "$pid" && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
fi
rm -rf "$1""#;

/// A directory, and the server that runs in it, if one does.
pub(super) struct Server {
    directory: PathBuf,
    running: Option<Child>,
    /// What makes it end.
    end: &'static str,
    caretaker: Child,
    _input: Option<ChildStdin>,
}

impl Server {
    /// A directory for a server that this signal ends, and its children with it.
    pub(super) fn new(name: &str, end: &'static str) -> io::Result<Self> {
        let directory = directory(name)?;
        let mut caretaker = Command::new("sh");
        caretaker.args(["-c", CARETAKER, "caretaker"]);
        caretaker.arg(&directory).arg(end);
        caretaker.stdin(Stdio::piped());
        caretaker.stdout(Stdio::null()).stderr(Stdio::null());
        // A Ctrl-C in the terminal is for us, who may still need the server.
        let mut caretaker = caretaker.process_group(0).spawn()?;
        Ok(Self {
            directory,
            running: None,
            end,
            _input: caretaker.stdin.take(),
            caretaker,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process, if it was started and not ended by us.
    pub(super) fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Starts the server, and polls until it is ready, ten seconds at most.
    pub(super) fn spawn(
        &mut self,
        mut command: Command,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> io::Result<()> {
        let log = fs::File::create(self.directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?);
        let child = command.stderr(log).process_group(0).spawn()?;
        let noted = fs::write(self.directory.join("pid"), child.id().to_string());
        self.running = Some(child);
        noted?;
        for _ in 0..2_000 {
            if ready(self) {
                return Ok(());
            }
            let ended = self.running.as_mut().map(Child::try_wait).transpose()?;
            if ended.flatten().is_some() {
                self.forget();
                return Err(io::Error::other(self.log()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        Err(io::Error::new(io::ErrorKind::TimedOut, self.log()))
    }

    /// What it has written.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Sends a signal to the server, and to its children after it. True if there was one.
    pub(super) fn signal(&self, name: &str) -> io::Result<bool> {
        let Some(id) = self.id() else {
            return Ok(false);
        };
        signal(name, &[id])?;
        // These may have ended meanwhile.
        let _ = signal(name, &children(id));
        Ok(true)
    }

    /// Ends it as its own signal does, and waits for that.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        let Some(id) = self.id() else {
            return Ok(());
        };
        let _ = signal(self.end, &[id]);
        // It may be suspended.
        let _ = self.signal("CONT");
        self.reap()
    }

    /// SIGKILL, for it and for its children, and waits for that.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        let Some(id) = self.id() else {
            return Ok(());
        };
        // So that it can have no more of them.
        let _ = signal("STOP", &[id]);
        let children = children(id);
        let _ = signal("KILL", &[id]);
        let _ = signal("KILL", &children);
        self.reap()?;
        // Nobody tells us of their end.
        let alive = |id: &u32| Path::new("/proc").join(id.to_string()).exists();
        for _ in 0..400 {
            if !children.iter().any(alive) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.running {
            child.wait()?;
        }
        self.forget();
        Ok(())
    }

    /// Its id may soon be another's.
    fn forget(&mut self) {
        let _ = fs::remove_file(self.directory.join("pid"));
        self.running = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = fs::remove_dir_all(&self.directory);
        let _ = self.caretaker.kill();
        let _ = self.caretaker.wait();
    }
}

/// A new directory that others may enter: Postgres and nginx do not run as root.
fn directory(name: &str) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("{name}-{}-{n}", process::id()));
        match fs::create_dir(&directory) {
            Ok(()) => {
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
                return Ok(directory);
            }
            // Of an earlier process with our id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The shell's own `kill`: the program of that name is not everywhere.
fn signal(name: &str, ids: &[u32]) -> io::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"kill -s "$@""#, "kill", name]);
    run(shell.args(ids.iter().map(u32::to_string)))
}

/// Processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name, in parentheses, may have spaces; then follow the state and the parent.
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    ids.filter(is_child).collect()
}

/// The folder of a program: in one of these, in the path, or where Debian keeps servers.
pub(super) fn find(program: &str, places: Vec<PathBuf>, install: &str) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let mut all = places.into_iter().chain(env::split_paths(&path));
    let found = all.find(|place| place.join(program).exists());
    let found = found.or_else(|| {
        let mut debian = debian.iter().map(PathBuf::from);
        debian.find(|place| place.join(program).exists())
    });
    found.ok_or_else(|| {
        let text = format!("{program} is not installed: apt-get install -y {install}");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Runs it to its end.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
