//! What a reader of cold history does to hot senders: the broker in a memory-limited cgroup, a log several times as large,
//! and the senders' 99th percentile with and without the reader, interleaved.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::compare::start_gantry;
use crate::echo::write_all;
use crate::load::{Load, Shape};

const TOPIC: &str = "ColdTest";
/// What fills the log.
const FILL: Shape = Shape { connections: 16, in_flight: 64 };
/// Where memory cgroups of the first version are mounted.
const CGROUP_V1: &str = "/sys/fs/cgroup/memory";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The gantry to measure.
    #[arg(long)]
    gantry: PathBuf,
    /// Memory that the broker may have, page cache included, in MiB.
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// Log before the measurement, in MiB.
    #[arg(long, default_value_t = 2048)]
    log_mib: u64,
    /// The senders.
    #[arg(long, default_value = "16x1")]
    shape: Shape,
    /// Seconds with and without the reader in each round.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let data = std::env::temp_dir().join(format!("gantry-cold-{}", std::process::id()));
    let cgroup = Cgroup::make(options.memory_mib)?;
    let result = measure(options, &data, &cgroup);
    let _ = fs::remove_dir_all(&data);
    result
}

fn measure(options: &Options, data: &Path, cgroup: &Cgroup) -> io::Result<()> {
    let server = start_gantry(&options.gantry, data, "async", "pwrite")?;
    cgroup.enter(server.pid())?;
    fill(server.address, data, options.log_mib << 20)?;
    let mut load = Load::open(server.address, options.shape, TOPIC)?;
    let time = Duration::from_secs_f64(options.seconds);
    load.run_for(time)?;
    let mut reader = Reader::default();
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let alone = load.run_for(time)?.quantile(0.99);
        let read = reader.start(server.address);
        let beside = load.run_for(time)?.quantile(0.99);
        let bytes = read.stop()?;
        if !options.json {
            println!(
                "p99 alone {:>6} us, beside the reader {:>6} us, {:>5} MiB read",
                alone.as_micros(),
                beside.as_micros(),
                bytes >> 20
            );
        }
        rounds.push((alone, beside, bytes));
    }
    tell(options, &mut rounds, server.resident()?);
    Ok(())
}

fn tell(options: &Options, rounds: &mut [(Duration, Duration, u64)], resident: u64) {
    let read: u64 = rounds.iter().map(|round| round.2).sum();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let median = rounds.get(rounds.len() / 2).map_or(0.0, ratio);
    if options.json {
        println!(
            "{{\"p99_ratio_median\":{median:.3},\"read_mib\":{},\"resident_mib\":{}}}",
            read >> 20,
            resident >> 20
        );
    } else {
        println!("median ratio of the p99: {median:.2}; {} MiB read in all", read >> 20);
    }
}

fn ratio(round: &(Duration, Duration, u64)) -> f64 {
    round.1.as_secs_f64() / round.0.as_secs_f64().max(1e-9)
}

/// Sends until the log has so many bytes.
fn fill(server: SocketAddr, data: &Path, bytes: u64) -> io::Result<()> {
    let mut load = Load::open(server, FILL, TOPIC)?;
    let bar = data.join("commitlog");
    loop {
        load.run_for(Duration::from_millis(500))?;
        // The newest segment is made ahead, so it does not count.
        let segments = fs::read_dir(&bar)?.count().saturating_sub(1) as u64;
        if segments << 30 >= bytes {
            return Ok(());
        }
    }
}

/// A consumer that reads a queue from its beginning, going on where the last stretch ended.
#[derive(Default)]
struct Reader {
    next: Arc<AtomicU64>,
}

struct Stretch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<io::Result<u64>>,
}

impl Reader {
    fn start(&mut self, server: SocketAddr) -> Stretch {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, next) = (Arc::clone(&stop), Arc::clone(&self.next));
        let thread = std::thread::spawn(move || read(server, &next, &stopped));
        Stretch { stop, thread }
    }
}

impl Stretch {
    fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the reader panicked"))?
    }
}

fn read(server: SocketAddr, next: &AtomicU64, stop: &AtomicBool) -> io::Result<u64> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut bytes = 0;
    while !stop.load(Ordering::Relaxed) {
        write_all(&stream, &pull(next.load(Ordering::Relaxed)))?;
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut frame)?;
        let head = String::from_utf8_lossy(&frame[4..frame.len().min(400)]).into_owned();
        let found = head.split("\"nextBeginOffset\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let Some(found) = found.and_then(|text| text.parse().ok()) else {
            return Err(io::Error::other(format!("not the answer to a pull: {head}")));
        };
        next.store(found, Ordering::Relaxed);
        bytes += frame.len() as u64;
    }
    Ok(bytes)
}

fn pull(offset: u64) -> Vec<u8> {
    let header = format!(
        "{{\"code\":11,\"extFields\":{{\"consumerGroup\":\"cold-reader\",\"topic\":\"{TOPIC}\",\"queueId\":\"0\",\
         \"queueOffset\":\"{offset}\",\"maxMsgNums\":\"32\",\"sysFlag\":\"4\",\"commitOffset\":\"0\",\
         \"suspendTimeoutMillis\":\"0\",\"subscription\":\"*\",\"subVersion\":\"0\",\"expressionType\":\"TAG\"}},\
         \"flag\":0,\"language\":\"JAVA\",\"opaque\":1,\"version\":513}}"
    );
    let mut frame = Vec::new();
    frame.extend_from_slice(&(header.len() as u32 + 4).to_be_bytes());
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    frame
}

/// A memory cgroup, removed when dropped.
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn make(memory_mib: u64) -> io::Result<Cgroup> {
        let hint = |error: io::Error| {
            io::Error::new(error.kind(), format!("{CGROUP_V1}: {error}; this needs root and cgroup v1"))
        };
        let path = Path::new(CGROUP_V1).join(format!("gantry-cold-{}", std::process::id()));
        fs::create_dir(&path).map_err(hint)?;
        let cgroup = Cgroup { path };
        fs::write(cgroup.path.join("memory.limit_in_bytes"), (memory_mib << 20).to_string()).map_err(hint)?;
        Ok(cgroup)
    }

    fn enter(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
