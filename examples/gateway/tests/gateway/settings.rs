//! Variables that cannot be understood, and addresses that cannot be had.

use crate::process::{Gateway, command};
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
        (
            "GATEWAY_ADDR",
            &["", "8080", "127.0.0.1", "127.0.0.1:99999"],
            "address and port",
        ),
        (
            "BACKEND_ADDR",
            &["", "9000", "nowhere:9000"],
            "address and port",
        ),
        (
            "BACKEND_URL",
            &["x", "https://a", "http://a?b", "http://u@a", "/a"],
            "http://127",
        ),
        ("FLAKY_FAILURE_RATE", &["1.1", "30%"], "from 0 to 1"),
        ("FLAKY_FAILURE_RATE", number, "from 0 to 1"),
        ("FLAKY_SLOW_RATE", number, "from 0 to 1"),
        ("FLAKY_DELAY_SECONDS", number, "from 0 to 3600"),
        ("MAX_RETRIES", &["1.5", "101", "three"], "from 0 to 100"),
        ("MAX_RETRIES", number, "from 0 to 100"),
        ("INITIAL_BACKOFF_SECONDS", number, "number of seconds"),
        ("BACKOFF_MULTIPLIER", number, "from 1 to 100"),
        ("BACKOFF_MULTIPLIER", &["0.9"], "from 1 to 100"),
        (
            "BACKOFF_JITTER",
            &["", "some", "true"],
            "full, equal, decorrelated or none",
        ),
        ("REQUEST_TIMEOUT_SECONDS", number, "number of seconds"),
        ("REQUEST_TIMEOUT_SECONDS", &["0", "2s"], "number of seconds"),
        ("RATE_LIMIT_ENABLED", &["", "yes", "2"], "true or false"),
        ("RATE_LIMIT_REQUESTS_PER_WINDOW", number, "from 1 to"),
        ("RATE_LIMIT_REQUESTS_PER_WINDOW", &["0", "1.5"], "from 1 to"),
        ("RATE_LIMIT_WINDOW_SECONDS", number, "number of seconds"),
        ("RATE_LIMIT_WINDOW_SECONDS", &["0"], "number of seconds"),
        ("FAILURE_THRESHOLD", number, "from 1 to"),
        ("FAILURE_THRESHOLD", &["0", "2.5"], "from 1 to"),
        ("RECOVERY_TIMEOUT_SECONDS", number, "number of seconds"),
        ("RECOVERY_TIMEOUT_SECONDS", &["0"], "number of seconds"),
        (
            "TRUSTED_PROXIES",
            &["x", "10.0.0.1/33", "10.0.0.1;10.0.0.2"],
            "10.0.0.1,",
        ),
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

#[test]
fn the_smallest_and_the_largest_values_are_accepted() {
    for settings in [
        [
            ("MAX_RETRIES", "0"),
            ("INITIAL_BACKOFF_SECONDS", "0"),
            ("BACKOFF_MULTIPLIER", "1"),
            ("BACKOFF_JITTER", "decorrelated"),
            ("REQUEST_TIMEOUT_SECONDS", "0.001"),
            ("RATE_LIMIT_REQUESTS_PER_WINDOW", "1"),
            ("RATE_LIMIT_WINDOW_SECONDS", "0.001"),
            ("FAILURE_THRESHOLD", "1"),
            ("RECOVERY_TIMEOUT_SECONDS", "0.001"),
            ("RATE_LIMIT_ENABLED", "False"),
        ],
        [
            ("MAX_RETRIES", "100"),
            ("INITIAL_BACKOFF_SECONDS", "86400"),
            ("BACKOFF_MULTIPLIER", "100"),
            ("BACKOFF_JITTER", "equal"),
            ("REQUEST_TIMEOUT_SECONDS", "86400"),
            ("RATE_LIMIT_REQUESTS_PER_WINDOW", "1000000"),
            ("RATE_LIMIT_WINDOW_SECONDS", "86400"),
            ("FAILURE_THRESHOLD", "10000"),
            ("RECOVERY_TIMEOUT_SECONDS", "86400"),
            ("TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32,::1"),
        ],
    ] {
        Gateway::start(&settings);
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["GATEWAY_ADDR", "BACKEND_ADDR"] {
        let text = fails(&[(name, &address)], 1);
        assert!(text.contains(name) && text.contains(&address), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
