//! Variables and arguments that cannot be understood, and addresses that cannot be had.

use crate::process::{Service, command, empty};
use std::net::TcpListener;

fn fails(arguments: &[&str], settings: &[(&str, &str)], code: i32) -> String {
    let output = command(arguments, settings).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let context = format!("{arguments:?} {settings:?}: {text}");
    assert_eq!(output.status.code(), Some(code), "{context}");
    assert_eq!(text.lines().count(), 1, "{context}");
    assert!(!text.contains("panicked"), "{context}");
    text
}

#[test]
fn a_bad_value_is_exit_code_2_and_one_line_with_the_variable_and_what_it_accepts() {
    let seconds = &["", "x", "-1", "0", "nan", "inf", "2s"][..];
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "LISTEN_ADDR",
            &["", "3000", "127.0.0.1", "x:1"],
            "address and port",
        ),
        (
            "NGINX_ADDR",
            &["", "8080", "127.0.0.1:99999"],
            "address and port",
        ),
        ("PORT_BASE", &["", "-1", "65001", "x"], "a port from 1"),
        (
            "DATABASE_URL",
            &["x", "mysql://a/b", "postgres://"],
            "postgres://",
        ),
        ("REDIS_URL", &["x", "http://a"], "redis://"),
        (
            "POSTGRES_CONNECTIONS",
            &["", "0", "1.5", "1001"],
            "from 1 to 1000",
        ),
        ("POSTGRES_TIMEOUT_SECONDS", seconds, "number of seconds"),
        ("REDIS_TIMEOUT_SECONDS", seconds, "number of seconds"),
        ("REDIS_TIMEOUT_SECONDS", &["61"], "from 0.001 to 60"),
        ("CACHE_NAMESPACE", &[""], "not empty"),
        ("CACHE_TTL_SECONDS", seconds, "number of seconds"),
        ("STALE_SECONDS", seconds, "number of seconds"),
        ("LOG_REQUESTS", &["", "yes", "2"], "true or false"),
    ];
    for (name, values, accepts) in cases {
        for value in *values {
            let text = fails(&[], &[(name, value)], 2);
            let says = text.contains(name) && text.contains(accepts);
            assert!(says, "{value:?}: {text}");
        }
    }
}

#[test]
fn an_argument_that_is_not_known_is_exit_code_2_and_one_line_with_those_that_are() {
    for arguments in [
        &["--instance", "4"][..],
        &["--instances"],
        &["--instances", "0"],
        &["--instances", "65"],
        &["--instances=x"],
        &["--nginx=yes"],
        &["4"],
    ] {
        let text = fails(arguments, &[], 2);
        assert!(
            text.contains("--instances N") && text.contains("--nginx"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (database, redis) = empty().await;
    let settings = [
        ("DATABASE_URL", database.as_str()),
        ("REDIS_URL", redis.as_str()),
        ("LISTEN_ADDR", address.as_str()),
    ];
    let text = fails(&[], &settings, 1);
    assert!(
        text.contains("LISTEN_ADDR") && text.contains(&address),
        "{text}"
    );
    let port = taken.local_addr().unwrap().port().to_string();
    let settings = [settings[0], settings[1], ("PORT_BASE", port.as_str())];
    let output = command(&["--instances", "1"], &settings).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!("the instance on port {port} does not start")),
        "{text}"
    );
}

#[tokio::test]
async fn requests_are_lines_in_the_log_that_name_the_port_unless_they_shall_not_be() {
    let (database, redis) = empty().await;
    let mut api = Service::over(&database, &redis, &[]);
    api.get("/tasks?limit=7").await.with(200);
    let line = api.line("/tasks?limit=7");
    let port = api.url.rsplit(':').next().unwrap();
    assert!(
        line.starts_with(&format!("[{port}] GET ")) && line.contains(" 200 "),
        "{line}"
    );
    let mut api = Service::over(&database, &redis, &[("LOG_REQUESTS", "False")]);
    api.get("/tasks?limit=7").await.with(200);
    api.signal("TERM");
    assert!(!api.line("]").contains("GET"));
}
