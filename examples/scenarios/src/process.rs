//! The services, as processes of their own.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// A running example. It is ended when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
    /// As one would type it.
    pub(crate) command: String,
}

impl Process {
    /// Starts an example of this package with these arguments, and this environment.
    pub(crate) fn start(
        name: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Self, Box<dyn Error>> {
        let program = executable(name)?;
        let mut command = Command::new("setpriv");
        // Gone with us, should we be killed.
        command.args(["--pdeathsig", "TERM"]).arg(&program);
        if !PathBuf::from("/usr/bin/setpriv").exists() {
            command = Command::new(&program);
        }
        command.args(arguments).envs(settings.iter().copied());
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (line, lines) = channel();
        if let Some(out) = child.stdout.take() {
            // Read on for as long as it writes, or it would block.
            thread::spawn(move || {
                for read in BufReader::new(out).lines().map_while(Result::ok) {
                    let _ = line.send(read);
                }
            });
        }
        let errors = child.stderr.take().map(|mut err| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = err.read_to_string(&mut text);
                text
            })
        });
        let settings = settings
            .iter()
            .map(|(name, value)| format!("{name}={value} "));
        let settings: String = settings.collect();
        let command = format!("{settings}{name} {}", arguments.join(" "));
        Ok(Self {
            child,
            lines,
            errors,
            command: command.trim_end().to_owned(),
        })
    }

    /// What it says after these words, once it has said them; half a minute at most.
    pub(crate) fn says(&mut self, words: &str) -> Result<String, Box<dyn Error>> {
        let end = Instant::now() + Duration::from_secs(30);
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if let Some((_, after)) = line.split_once(words) {
                return Ok(after.trim().to_owned());
            }
        }
        let _ = self.child.kill();
        let errors = self.errors.take().map(thread::JoinHandle::join);
        let errors = errors.and_then(Result::ok).unwrap_or_default();
        Err(format!("{} did not say {words:?}: {errors}", self.command).into())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have processes and servers of its own to end.
        let _ = signal("TERM", self.id());
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As `kill -s NAME ID` does.
pub(crate) fn signal(name: &str, id: u32) -> std::io::Result<()> {
    let kill = format!("kill -s {name} {id}");
    Command::new("sh").args(["-c", &kill]).status().map(drop)
}

/// Beside this program. Cargo builds it: it may not be there, or not be up to date.
fn executable(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let own = env::current_exe()?;
    let programs = own.parent().ok_or("this program is nowhere")?;
    let path = programs.join(name);
    let under_cargo = env::var_os("CARGO");
    if under_cargo.is_none() && path.exists() {
        return Ok(path);
    }
    let mut cargo = Command::new(under_cargo.unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", name]);
    if programs.ends_with("release") {
        cargo.arg("--release");
    }
    cargo
        .arg("--target-dir")
        .arg(programs.parent().unwrap_or(programs))
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if cargo.status()?.success() && path.exists() {
        return Ok(path);
    }
    Err(format!("cannot build the example {name}").into())
}
