//! Ports for servers that must come back on the same one.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that the kernel gives to clients (from 32768 on). A client that calls a dead
/// server there can be given the server's own port: it is then connected to itself, and the server
/// cannot come back.
const FIRST: u32 = 12_000;
const LAST: u32 = 32_700;

/// A port of 127.0.0.1 on which nobody listens. Each call looks further than the one before, and
/// each process begins elsewhere, so that those who look at the same time find different ones.
///
/// # Errors
/// If every port is in use.
pub fn free_port() -> io::Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    const COUNT: u32 = LAST - FIRST;
    for _ in 0..COUNT {
        let next = TRIED.fetch_add(1, Ordering::Relaxed);
        let offset = process::id().wrapping_mul(137).wrapping_add(next) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap_or(u16::MAX);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}
