//! One page with all of it.

use crate::story::{Story, verdict};
use std::{fmt::Write, path::Path, process::Command, thread};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d1d9e0; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.PASS { color: #1a7f37 } .FAIL { color: #cf222e } .PASS, .FAIL { font-weight: 600 }
svg { max-width: 100%; height: auto } pre { overflow-x: auto; background: #f6f8fa; padding: .8rem }";

/// Where all this was measured.
pub(crate) fn machine() -> Vec<String> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let version = |program: &str, argument: &str| {
        let said = Command::new(program).arg(argument).output();
        let said = said.map(|said| [said.stdout, said.stderr].concat());
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.lines().next().unwrap_or_default().trim().to_owned()
    };
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let mut lines = vec![
        format!(
            "{} {} build, {cores} processors shared by load, services and servers",
            env!("CARGO_PKG_NAME"),
            build
        ),
        format!("{} {}", std::env::consts::OS, version("uname", "-rm")),
    ];
    let postgres = "/usr/lib/postgresql";
    let newest = std::fs::read_dir(postgres).into_iter().flatten().flatten();
    let newest = newest.map(|entry| entry.path().join("bin/postgres")).max();
    let newest = newest.unwrap_or_else(|| Path::new("postgres").to_owned());
    lines.extend([
        version(&newest.to_string_lossy(), "--version"),
        version("redis-server", "--version"),
        version("nginx", "-v"),
    ]);
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = busy.split_whitespace().next() {
        lines.push(format!(
            "load before it began: {load} (what else runs here slows some answers down)"
        ));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The page.
pub(crate) fn html(command: &str, machine: &[String], stories: &[Story]) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Scenarios</title>\
         <style>{STYLE}</style>\n<h1>Scenarios</h1>\n<pre>{}\n",
        escaped(command)
    );
    for line in machine {
        let _ = writeln!(out, "{}", escaped(line));
    }
    out.push_str("</pre>\n");
    for story in stories {
        let _ = write!(out, "<h2>{}</h2>\n<ul>\n", escaped(story.name));
        for promise in &story.promises {
            let _ = writeln!(
                out,
                "<li><span class=\"{0}\">{0}</span> {1}: {2}</li>",
                verdict(promise.kept),
                escaped(&promise.says),
                escaped(&promise.measured)
            );
        }
        out.push_str("</ul>\n");
        for chart in &story.charts {
            let _ = writeln!(out, "<figure>{chart}</figure>");
        }
        for table in &story.tables {
            let _ = write!(out, "<h3>{}</h3>\n<table>", escaped(&table.title));
            for (n, row) in std::iter::once(&table.head).chain(&table.rows).enumerate() {
                let cell = if n == 0 { "th" } else { "td" };
                out.push_str("<tr>");
                for text in row {
                    let _ = write!(out, "<{cell}>{}</{cell}>", escaped(text));
                }
                out.push_str("</tr>\n");
            }
            out.push_str("</table>\n");
        }
        let _ = writeln!(
            out,
            "<h3>What was run</h3>\n<pre>{}</pre>",
            escaped(&story.commands.join("\n"))
        );
    }
    out.push_str("</html>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
