//! Gantry and the echo in turn, round after round, and the median of the rounds' ratios.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::frame::{BODY_BYTES, Template};
use crate::load::{Load, Shape, Told, last_reply};
use crate::server::{Counts, Server};
use crate::strace;

const TOPIC: &str = "SpeedTest";
/// Sends before the first measurement; the last reply is what the echo answers with.
const FIRST_SENDS: u64 = 400;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program under measurement.
    #[arg(long, default_value = "target/release/gantry")]
    gantry: PathBuf,
    /// Connections x requests in flight on each.
    #[arg(long, value_delimiter = ',', default_value = "64x1,16x64")]
    shapes: Vec<Shape>,
    /// Flush modes.
    #[arg(long, value_delimiter = ',', default_value = "async,sync")]
    flush: Vec<String>,
    /// Ways to write the log.
    #[arg(long, value_delimiter = ',', default_value = "mapped,pwrite")]
    log_write: Vec<String>,
    /// Measure only the shell, without a broker.
    #[arg(long)]
    shell_only: bool,
    /// Rounds of each; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of each stretch of load.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Where the stores go; emptied at the end.
    #[arg(long, default_value = "target/speed")]
    data: PathBuf,
    /// Do not count system calls.
    #[arg(long)]
    no_strace: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A server in the comparison.
struct Candidate {
    name: String,
    server: Server,
    is_gantry: bool,
    rounds: Vec<Round>,
    calls: BTreeMap<String, f64>,
}

struct Round {
    /// CPU of the server a message, in microseconds.
    cpu: f64,
    a_second: f64,
    p50: Duration,
    p99: Duration,
    packets_a_turn: f64,
    failures: usize,
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _ = std::fs::remove_dir_all(&options.data);
    std::fs::create_dir_all(&options.data)?;
    let mut results = Vec::new();
    for flush in &options.flush {
        let mut candidates = start(options, flush)?;
        for shape in &options.shapes {
            measure(options, *shape, &mut candidates)?;
            let result = describe(flush, *shape, &candidates);
            if !options.json {
                print(&result);
            }
            results.push(result);
        }
    }
    if options.json {
        println!("{}", json!({ "body_bytes": BODY_BYTES, "seconds": options.seconds, "results": results }));
    }
    std::fs::remove_dir_all(&options.data)
}

/// The echo first, then the shell alone, then gantry once for each way to write its log.
fn start(options: &Options, flush: &str) -> io::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let log_writes = if options.shell_only { &[] } else { &options.log_write[..] };
    for log_write in log_writes {
        let data = options.data.join(format!("{flush}-{log_write}"));
        let server = start_gantry(&options.gantry, &data, flush, log_write)?;
        candidates.push(Candidate::new(format!("gantry, {log_write}"), server, true));
    }
    candidates.insert(0, Candidate::new(String::from("shell alone"), start_bare()?, false));
    let mut reply = Vec::new();
    for candidate in &candidates {
        reply = last_reply(candidate.server.address, TOPIC, FIRST_SENDS)?;
    }
    let echo = start_echo(&options.data, flush, &reply)?;
    candidates.insert(0, Candidate::new(String::from("echo"), echo, false));
    Ok(candidates)
}

pub(crate) fn start_gantry(program: &Path, data: &Path, flush: &str, log_write: &str) -> io::Result<Server> {
    let [namesrv_port, broker_port] = free_ports()?;
    let mut command = Command::new(program);
    command
        .arg("standalone")
        .args(["--flush", flush, "--log-write", log_write])
        .args(["--namesrv-port", &namesrv_port.to_string(), "--broker-port", &broker_port.to_string()])
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "info");
    Server::start(command, "The broker[", |_| Some(SocketAddr::from(([127, 0, 0, 1], broker_port))))
}

fn start_echo(data: &Path, flush: &str, reply: &[u8]) -> io::Result<Server> {
    // Of a record, the fixed part, the topic and the properties beside the body.
    const RECORD_BYTES: usize = 91 + BODY_BYTES + TOPIC.len() + 66;
    let reply_file = data.join("reply");
    std::fs::write(&reply_file, reply)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("echo")
        .args(["--request-bytes", &Template::new(TOPIC).len().to_string()])
        .arg("--reply")
        .arg(&reply_file);
    if flush == "sync" {
        command.args(["--record-bytes", &RECORD_BYTES.to_string()]).arg("--flush").arg(data.join("echo-log"));
    }
    start_own(command)
}

fn start_bare() -> io::Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare");
    start_own(command)
}

fn start_own(command: Command) -> io::Result<Server> {
    Server::start(command, "listening on ", |line| line.strip_prefix("listening on ")?.parse().ok())
}

/// Two ports free now: gantry's name server and broker; the one after the broker's, for replication, is asked for too.
fn free_ports() -> io::Result<[u16; 2]> {
    let namesrv = TcpListener::bind("127.0.0.1:0")?;
    for _ in 0..100 {
        let broker = TcpListener::bind("127.0.0.1:0")?;
        let port = broker.local_addr()?.port();
        if port.checked_add(1).is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok()) {
            return Ok([namesrv.local_addr()?.port(), port]);
        }
    }
    Err(io::Error::other("no two neighbouring ports are free"))
}

fn measure(options: &Options, shape: Shape, candidates: &mut [Candidate]) -> io::Result<()> {
    let stretch = Duration::from_secs_f64(options.seconds);
    let mut loads = Vec::new();
    for candidate in candidates.iter_mut() {
        candidate.rounds.clear();
        candidate.calls.clear();
        let mut load = Load::open(candidate.server.address, shape, TOPIC)?;
        load.run_for(stretch / 2)?;
        loads.push(load);
    }
    for _ in 0..options.rounds {
        for (candidate, load) in candidates.iter_mut().zip(&mut loads) {
            candidate.round(load, stretch)?;
        }
    }
    if !options.no_strace {
        for (candidate, load) in candidates.iter_mut().zip(&mut loads) {
            if let Some((told, calls)) = strace::count(candidate.server.pid(), || load.run_for(stretch))? {
                let messages = told.messages as f64;
                candidate.calls = calls.into_iter().map(|(name, n)| (name, n as f64 / messages)).collect();
            }
        }
    }
    Ok(())
}

impl Candidate {
    fn new(name: String, server: Server, is_gantry: bool) -> Candidate {
        Candidate { name, server, is_gantry, rounds: Vec::new(), calls: BTreeMap::new() }
    }

    fn round(&mut self, load: &mut Load, stretch: Duration) -> io::Result<()> {
        let counts = || if self.is_gantry { self.server.counts() } else { Ok(Counts::default()) };
        let (counts_before, cpu_before) = (counts()?, self.server.cpu()?);
        let told: Told = load.run_for(stretch)?;
        let (cpu_after, counts_after) = (self.server.cpu()?, counts()?);
        let cpu = (cpu_after - cpu_before).as_secs_f64() * 1e6;
        let turns = (counts_after.turns - counts_before.turns) as f64;
        self.rounds.push(Round {
            cpu: cpu / told.messages as f64,
            a_second: told.messages as f64 / told.seconds,
            p50: told.quantile(0.5),
            p99: told.quantile(0.99),
            packets_a_turn: (counts_after.packets_in - counts_before.packets_in) as f64 / turns,
            failures: told.failures,
        });
        Ok(())
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

fn describe(flush: &str, shape: Shape, candidates: &[Candidate]) -> Value {
    let echo = &candidates[0];
    let servers: Vec<Value> = candidates
        .iter()
        .map(|candidate| {
            let ratios: Vec<f64> =
                candidate.rounds.iter().zip(&echo.rounds).map(|(ours, echo)| ours.cpu / echo.cpu).collect();
            json!({
                "name": candidate.name,
                "cpu_us_a_message": candidate.median(|round| round.cpu),
                "ratio_to_echo": median(ratios.clone()),
                "ratios": ratios,
                "messages_a_second": candidate.median(|round| round.a_second),
                "p50_us": candidate.median(|round| round.p50.as_secs_f64() * 1e6),
                "p99_us": candidate.median(|round| round.p99.as_secs_f64() * 1e6),
                "packets_a_turn": if candidate.is_gantry { json!(candidate.median(|round| round.packets_a_turn)) } else { Value::Null },
                "failures": candidate.rounds.iter().map(|round| round.failures).sum::<usize>(),
                "calls_a_message": candidate.calls,
                "resident_mib": candidate.server.resident().unwrap_or(0) as f64 / 1048576.0,
            })
        })
        .collect();
    json!({ "flush": flush, "shape": shape.to_string(), "servers": servers })
}

fn print(result: &Value) {
    println!("\n{} connections x in flight, flush {}", text(&result["shape"]), text(&result["flush"]));
    println!(
        "{:<16} {:>10} {:>7} {:>10} {:>8} {:>8} {:>9} {:>9}  system calls a message",
        "", "CPU us/msg", "ratio", "msg/s", "p50 us", "p99 us", "msg/turn", "RSS MiB"
    );
    for server in result["servers"].as_array().into_iter().flatten() {
        let number = |name: &str| server[name].as_f64().unwrap_or(f64::NAN);
        let calls = server["calls_a_message"].as_object().into_iter().flatten();
        let mut calls: Vec<(&String, f64)> =
            calls.map(|(name, n)| (name, n.as_f64().unwrap_or(0.0))).collect();
        calls.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = calls.iter().map(|(_, n)| n).sum();
        let calls: Vec<String> =
            calls.iter().filter(|(_, n)| *n >= 0.005).map(|(name, n)| format!("{name} {n:.2}")).collect();
        println!(
            "{:<16} {:>10.2} {:>7.2} {:>10.0} {:>8.0} {:>8.0} {:>9.1} {:>9.1}  {:.2}: {}",
            text(&server["name"]),
            number("cpu_us_a_message"),
            number("ratio_to_echo"),
            number("messages_a_second"),
            number("p50_us"),
            number("p99_us"),
            number("packets_a_turn"),
            number("resident_mib"),
            total,
            calls.join(", ")
        );
        if server["failures"] != json!(0) {
            println!("{:<16} {} SENDS FAILED", "", server["failures"]);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
