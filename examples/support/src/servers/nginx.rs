//! An nginx of one's own.

use super::server::{Server, find};
use std::{fs, io, process::Command};

/// A server with the sites it was given. Start what it passes requests on to before it.
pub struct Nginx {
    server: Server,
}

impl Nginx {
    /// Starts one; some 50 ms. The text is what stands in a file of `conf.d`: `upstream` and
    /// `server` blocks. A path in it that is not absolute is below the server's own directory.
    ///
    /// # Errors
    /// If nginx is not installed, or does not start: then with what it wrote.
    pub fn start(sites: &str) -> io::Result<Self> {
        let install = "--no-install-recommends nginx-light";
        let program = find("nginx", Vec::new(), install)?.join("nginx");
        let mut server = Server::new("nginx", "TERM")?;
        let directory = server.directory().to_owned();
        fs::write(directory.join("nginx.conf"), config(sites))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&directory);
        command.args(["-c", "nginx.conf", "-e", "errors"]);
        let started = server.spawn(command, |server| {
            // Written when its sockets are bound.
            let written = fs::read_to_string(server.directory().join("nginx.pid"));
            let id = written.ok().and_then(|text| text.trim().parse().ok());
            id.is_some() && id == server.id()
        });
        let nginx = Self { server };
        started.map_err(|error| io::Error::new(error.kind(), nginx.errors()))?;
        Ok(nginx)
    }

    /// What it has complained of.
    pub fn errors(&self) -> String {
        let errors = fs::read_to_string(self.server.directory().join("errors"));
        errors.unwrap_or_default() + &self.server.log()
    }

    /// Ends it at once, with the requests that run.
    pub fn stop(&mut self) -> io::Result<()> {
        self.server.stop()
    }
}

fn config(sites: &str) -> String {
    // One worker: several would each pass requests round by themselves.
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log errors warn;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path body_temp;
    proxy_temp_path proxy_temp;
    fastcgi_temp_path fastcgi_temp;
    uwsgi_temp_path uwsgi_temp;
    scgi_temp_path scgi_temp;
{sites}
}}
"
    )
}
