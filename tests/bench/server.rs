//! A server under measurement: a child process, its CPU time, and what it counts itself.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A child process, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    lines: Receiver<String>,
}

/// Turns and packets as gantry counts them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) turns: u64,
    pub(crate) packets_in: u64,
}

impl Server {
    /// Starts `command` and waits for a line of its output that contains `ready`, in which `address` finds where it
    /// listens.
    pub(crate) fn start(
        mut command: Command,
        ready: &str,
        address: impl Fn(&str) -> Option<SocketAddr>,
    ) -> io::Result<Server> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, lines) = mpsc::channel();
        for pipe in [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn io::Read + Send>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn io::Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        drop(sender);
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), lines };
        let line = server.wait_for(ready)?;
        server.address = address(&line).ok_or_else(|| io::Error::other(format!("no address in `{line}`")))?;
        Ok(server)
    }

    fn wait_for(&self, what: &str) -> io::Result<String> {
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return Ok(line),
                Ok(line) => {
                    seen.push_str(&line);
                    seen.push('\n');
                }
                Err(_) => return Err(io::Error::other(format!("it did not say `{what}`; it said:\n{seen}"))),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu_of(self.pid())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024)
    }

    /// What gantry's broker has counted, asked for by SIGUSR1.
    pub(crate) fn counts(&self) -> io::Result<Counts> {
        self.signal(Signal::USR1);
        let line = self.wait_for("service=\"broker\"")?;
        let word = |name: &str| {
            line.split([' ', '"']).find_map(|word| word.strip_prefix(name)?.parse().ok()).unwrap_or(0)
        };
        Ok(Counts { turns: word("turns="), packets_in: word("packets_in=") })
    }
}

/// CPU time of all threads of a process so far.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the look at it.
        if let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) {
            nanos += stat.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}
