//! Variables that cannot be understood, and addresses that cannot be had.

use crate::service::{Servers, Service, command};
use std::{net::TcpListener, process::Output};

fn fails(settings: &[(&str, &str)], code: i32) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command(settings).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{settings:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(stdout.is_empty());
    text
}

#[test]
fn a_bad_value_is_exit_code_2_and_one_line_with_the_variable_and_what_it_accepts() {
    let number = &["", "x", "-1", "nan", "inf", "1e999"][..];
    let cases: &[(&str, &[&str], &str)] = &[
        ("RESILIENCE", &["", "x", "1", "true"], "on or off"),
        ("DATABASE_URL", &["x", "http://a", "user=a"], "postgres://"),
        (
            "REDIS_URL",
            &["x", "http://a", "127.0.0.1:6379"],
            "redis://",
        ),
        (
            "LISTEN_ADDR",
            &["", "8000", "127.0.0.1:99999"],
            "address and port",
        ),
        ("MAX_CONCURRENT", number, "from 1 to 100000"),
        ("MAX_CONCURRENT", &["0", "1.5"], "from 1 to 100000"),
        ("CACHE_TTL_SECONDS", number, "number of seconds"),
        ("CACHE_TTL_SECONDS", &["0"], "number of seconds"),
        ("STALE_SECONDS", number, "from 0 to 86400"),
        ("POSTGRES_TIMEOUT_SECONDS", number, "number of seconds"),
        (
            "POSTGRES_TIMEOUT_SECONDS",
            &["0", "1s"],
            "number of seconds",
        ),
        ("REDIS_TIMEOUT_SECONDS", number, "number of seconds"),
    ];
    for (name, values, accepts) in cases {
        for value in *values {
            let text = fails(&[(name, value)], 2);
            assert!(
                text.contains(name) && text.contains(accepts),
                "{value:?}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn the_smallest_and_the_largest_values_are_accepted() {
    let servers = Servers::start();
    for (n, time) in [("1", "0.001"), ("100000", "86400")] {
        let settings = [
            ("MAX_CONCURRENT", n),
            ("CACHE_TTL_SECONDS", time),
            ("STALE_SECONDS", if n == "1" { "0" } else { time }),
            ("POSTGRES_TIMEOUT_SECONDS", time),
            ("REDIS_TIMEOUT_SECONDS", time),
            ("RESILIENCE", "On"),
        ];
        let service = Service::before(&servers, &settings);
        assert!([200, 503].contains(&service.get("/health").await.status.as_u16()));
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = fails(&[("LISTEN_ADDR", &address)], 1);
    assert!(
        text.contains("LISTEN_ADDR") && text.contains(&address),
        "{text}"
    );
}
