//! One exchange on madsim: a client sends to a master, which sends to its slave and answers when the slave has answered. Frames of
//! 108 bytes, 1 to 10 ms a hop, a heartbeat each 30 s. What a round trip costs in processor time is the yardstick for the same
//! exchange through Gantry's real machines in Gantry's own world.
//!
//! Prints one JSON object a window of messages in flight.

use std::error::Error;
use std::time::Duration;

use madsim::Config;
use madsim::runtime::{Handle, Runtime};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

const FRAME_BYTES: usize = 108;
const ROUND_TRIPS: usize = 20_000;
const WINDOWS: [usize; 3] = [1, 16, 256];
const HEARTBEAT: Duration = Duration::from_secs(30);
const MASTER: &str = "10.0.0.2:10911";
const SLAVE: &str = "10.0.0.3:10912";

fn main() -> Result<(), Failure> {
    for window in WINDOWS {
        let before = cpu_s();
        let simulated = exchange(window)?;
        let cpu_s = cpu_s() - before;
        println!(
            "{}",
            json!({
                "engine": "madsim",
                "window": window,
                "round_trips": ROUND_TRIPS,
                "cpu_s": cpu_s,
                "cpu_us_a_round_trip": cpu_s * 1e6 / ROUND_TRIPS as f64,
                "simulated_s": simulated.as_secs_f64(),
            })
        );
    }
    Ok(())
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Runs the exchange in a world of its own; how long it took there.
fn exchange(window: usize) -> Result<Duration, Failure> {
    let mut config = Config::default();
    config.net.send_latency = Duration::from_millis(1)..Duration::from_millis(10);
    let runtime = Runtime::with_seed_and_config(7, config);
    runtime.block_on(async move {
        let handle = Handle::current();
        let node = |name: &str, ip: &str| -> Result<_, Failure> {
            Ok(handle.create_node().name(name).ip(ip.parse()?).build())
        };
        let (client, master, slave) =
            (node("client", "10.0.0.1")?, node("master", "10.0.0.2")?, node("slave", "10.0.0.3")?);
        slave.spawn(echo(SLAVE));
        master.spawn(relay());
        client
            .spawn(send_all(window))
            .await
            .map_err(|error| -> Failure { error.to_string().into() })?
    })
}

async fn beat() {
    let mut timer = tokio::time::interval(HEARTBEAT);
    loop {
        timer.tick().await;
    }
}

/// The slave: what comes is what goes.
async fn echo(address: &str) -> Result<(), Failure> {
    tokio::spawn(beat());
    let listener = TcpListener::bind(address).await?;
    let (stream, _) = listener.accept().await?;
    let (from, to) = io::split(stream);
    pass_on(from, to).await
}

/// The master: what a client sends goes to the slave, what the slave answers goes to the client.
async fn relay() -> Result<(), Failure> {
    tokio::spawn(beat());
    let slave = connect(SLAVE).await;
    let listener = TcpListener::bind(MASTER).await?;
    let (client, _) = listener.accept().await?;
    let ((from_client, to_client), (from_slave, to_slave)) = (io::split(client), io::split(slave));
    tokio::spawn(pass_on(from_slave, to_client));
    pass_on(from_client, to_slave).await
}

async fn pass_on(
    mut from: impl io::AsyncRead + Unpin,
    mut to: impl io::AsyncWrite + Unpin,
) -> Result<(), Failure> {
    let mut frame = [0; FRAME_BYTES];
    while from.read_exact(&mut frame).await.is_ok() {
        to.write_all(&frame).await?;
        to.flush().await?;
    }
    Ok(())
}

/// Nobody says when the other end listens.
async fn connect(address: &str) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn send_all(window: usize) -> Result<Duration, Failure> {
    tokio::spawn(beat());
    let (mut from, mut to) = io::split(connect(MASTER).await);
    let began = tokio::time::Instant::now();
    let mut frame = [7; FRAME_BYTES];
    let (mut sent, mut answered) = (0, 0);
    while answered < ROUND_TRIPS {
        while sent < ROUND_TRIPS && sent - answered < window {
            to.write_all(&frame).await?;
            sent += 1;
        }
        to.flush().await?;
        from.read_exact(&mut frame).await?;
        answered += 1;
    }
    Ok(began.elapsed())
}
