//! The throw-away servers of the examples: they fail as they are told to, and leave nothing.
#![cfg(all(feature = "servers", unix))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use example_support::servers::{Nginx, Postgres, Redis, free_port};
use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::timeout;
use tokio_postgres::NoTls;

const SHORT: Duration = Duration::from_millis(300);

fn ping(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.write_all(b"PING\r\nDBSIZE\r\n")?;
    let mut answer = [0; 11];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

async fn count(url: &str) -> Result<i64, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let create = "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)";
    client.batch_execute(create).await?;
    Ok(client
        .query_one("SELECT count(*) FROM t", &[])
        .await?
        .get(0))
}

#[test]
fn redis_is_killed_suspended_and_restarted_on_its_port() {
    let mut redis = Redis::start().unwrap();
    let port = redis.port();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{port}"));
    assert_eq!(ping(port).unwrap(), "+PONG\r\n:0\r\n");
    redis.suspend().unwrap();
    let hangs = ping(port).unwrap_err();
    assert_eq!(hangs.kind(), std::io::ErrorKind::WouldBlock);
    redis.resume().unwrap();
    assert_eq!(ping(port).unwrap(), "+PONG\r\n:0\r\n");
    redis.kill().unwrap();
    let refused = ping(port).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    redis.restart().unwrap();
    assert_eq!(ping(port).unwrap(), "+PONG\r\n:0\r\n");
}

#[tokio::test]
async fn postgres_keeps_its_data_and_its_port_when_it_is_killed() {
    let mut postgres = Postgres::start_on_tcp().unwrap();
    let url = postgres.url();
    assert_eq!(count(&url).await.unwrap(), 1);
    assert_eq!(count(&postgres.socket_url()).await.unwrap(), 2);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    postgres.suspend().unwrap();
    assert!(timeout(SHORT, count(&url)).await.is_err());
    // A connection that there was hangs as well: its process is suspended too.
    assert!(timeout(SHORT, client.simple_query("")).await.is_err());
    postgres.resume().unwrap();
    assert_eq!(count(&url).await.unwrap(), 3);
    postgres.kill().unwrap();
    assert!(timeout(SHORT, count(&url)).await.unwrap().is_err());
    postgres.restart().unwrap();
    assert_eq!(count(&url).await.unwrap(), 4);
    assert_eq!(postgres.url(), url);
}

#[test]
fn nginx_serves_the_sites_it_was_given() {
    let port = free_port().unwrap();
    let site = format!("server {{ listen 127.0.0.1:{port}; return 200 here; }}");
    let mut nginx = Nginx::start(&site).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("here"), "{answer}");
    nginx.stop().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(nginx.errors(), "");
    let error = Nginx::start("nonsense;").err().unwrap();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

/// What the test below runs in a process of its own.
#[test]
#[ignore = "waits to be killed"]
fn servers_that_wait_to_be_killed() {
    let postgres = Postgres::start_on_tcp().unwrap();
    let mut redis = Redis::start().unwrap();
    redis.restart().unwrap();
    let port = free_port().unwrap();
    let site = format!("server {{ listen 127.0.0.1:{port}; return 200 here; }}");
    let _nginx = Nginx::start(&site).unwrap();
    // A suspended server must go as well.
    redis.suspend().unwrap();
    let ports = [postgres.port().unwrap(), redis.port(), port];
    fs::write(env::var_os("SERVERS_READY").unwrap(), format!("{ports:?}")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time: {what}");
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn nothing_outlives_a_killed_process() {
    let directory = env::temp_dir().join(format!("servers-{}", std::process::id()));
    fs::create_dir_all(directory.join("servers")).unwrap();
    let (servers, ready) = (directory.join("servers"), directory.join("ready"));
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "servers_that_wait_to_be_killed"])
        .env("TMPDIR", &servers)
        .env("SERVERS_READY", &ready)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut ports = String::new();
    eventually("the servers run", || {
        ports = fs::read_to_string(&ready).unwrap_or_default();
        ports.ends_with(']')
    });
    assert_eq!(entries(&servers).len(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("their directories are gone", || {
        entries(&servers).is_empty()
    });
    let ports = ports.trim_matches(['[', ']']).split(", ");
    for port in ports.map(|port| port.parse::<u16>().unwrap()) {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
    fs::remove_dir_all(&directory).unwrap();
}
