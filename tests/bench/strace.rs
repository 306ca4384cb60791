//! Counts a server's system calls by `strace`, in a stretch of its own: it slows the server down.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Calls by name while `load` ran; none where strace is missing or not permitted.
pub(crate) fn count<T>(
    pid: u32,
    load: impl FnOnce() -> io::Result<T>,
) -> io::Result<Option<(T, BTreeMap<String, u64>)>> {
    let strace = Command::new("strace")
        .args(["-c", "-f", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut strace) = strace else { return Ok(None) };
    // It says that it is attached only to a terminal.
    std::thread::sleep(Duration::from_millis(500));
    let told = load();
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
    let mut table = String::new();
    if let Some(mut pipe) = strace.stderr.take() {
        pipe.read_to_string(&mut table)?;
    }
    strace.wait()?;
    let calls = parse(&table);
    Ok(if calls.is_empty() { None } else { Some((told?, calls)) })
}

/// Rows of `% time | seconds | usecs/call | calls | [errors] | syscall`.
fn parse(table: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (words.last()?, words.get(3)?.parse().ok()?);
        words.first()?.parse::<f64>().ok()?;
        (*name != "total").then(|| ((*name).to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}
