//! Lines that name the instance that wrote them.

use std::{
    fmt,
    io::{Write, stdout},
    sync::{
        OnceLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

struct Log {
    name: String,
    lines: SyncSender<Line>,
}

enum Line {
    Text(String),
    /// Everything before it is written when this is dropped.
    Mark(SyncSender<()>),
}

static LOG: OnceLock<Log> = OnceLock::new();

/// From here on lines bear this name, and are written by a thread of their own: whoever reads them
/// slowly, or not at all, does not hold up the service. What does not fit is left out.
pub(crate) fn start(name: String) {
    let (lines, written) = sync_channel(4_096);
    thread::spawn(move || {
        for line in written {
            match line {
                Line::Text(line) => say(format_args!("{line}")),
                Line::Mark(mark) => drop(mark),
            }
        }
    });
    let _ = LOG.set(Log { name, lines });
}

/// Writes a line.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    match LOG.get() {
        Some(Log { name, lines }) => {
            let _ = lines.try_send(Line::Text(format!("[{name}] {text}")));
        }
        None => say(text),
    }
}

/// Waits until the lines are written, but not for ever.
pub(crate) fn finish() {
    let (mark, written) = sync_channel::<()>(0);
    if let Some(log) = LOG.get()
        && log.lines.try_send(Line::Mark(mark)).is_ok()
    {
        let _ = written.recv_timeout(Duration::from_millis(200));
    }
}

/// Writes a line at once. Like `println!`, but a reader that has gone is no reason to stop.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(stdout(), "{text}");
}
