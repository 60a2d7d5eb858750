//! A process that writes lines.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

/// It is killed when dropped.
pub struct Process {
    child: Child,
    lines: Mutex<Receiver<String>>,
    /// What it said before the line that was last waited for.
    pub said: Vec<String>,
}

impl Process {
    /// Makes a command for a program, without these variables, which whoever runs the tests may
    /// have.
    pub fn command(program: &str, variables: &[&str]) -> Command {
        let mut command = Command::new(program);
        for name in variables.iter().chain(&["HTTP_PROXY", "http_proxy"]) {
            command.env_remove(name);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        // Read on for as long as it writes, or it would block.
        thread::spawn(move || {
            for read in out.lines().map_while(Result::ok) {
                let _ = line.send(read);
            }
        });
        Self {
            child,
            lines: Mutex::new(lines),
            said: Vec::new(),
        }
    }

    /// The next line that says this.
    pub fn line(&mut self, says: &str) -> String {
        loop {
            let lines = self.lines.get_mut().unwrap();
            match lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains(says) => return line,
                Ok(line) => self.said.push(line),
                Err(error) => panic!("{error} before {says:?}: {}", self.errors()),
            }
        }
    }

    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            let _ = err.read_to_string(&mut text);
        }
        text
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, as `kill -NAME` does.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the process ends", async || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &id.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Polls until it is so.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}
