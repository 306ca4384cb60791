//! `gantry bench`: how fast a cluster takes messages or gives them, as its clients see it.
//!
//! While it runs, the figures of each last second go to standard error, a bar on a terminal and a line a second elsewhere; at the
//! end a table or a JSON object goes to standard output. Exit codes as those of the other commands.
//!
//! **Latency.** With `--rate` each send has its time, and its latency counts from then, also when it had to wait because others
//! were slow: a stall is seen by all that should have been sent meanwhile. Without it, sends follow each other, and a stall would
//! be seen by those under way alone; what is corrected adds what the others would have seen (coordinated omission). Sends that
//! failed are counted, and timed, apart.

mod tally;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use gantry_net::client::{Batching, ConsumeError, Consumer, Message, Producer, PullConsumer, Start};
use tally::Tally;
use tokio::task::LocalSet;

/// How long nothing may come before the end is given up.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Send messages as fast as they are taken, or at a rate
    Produce(Produce),
    /// Consume a topic from its beginning as fast as it is given
    Consume(Consume),
}

#[derive(clap::Args)]
struct Produce {
    /// Topic to send to
    #[arg(default_value = "bench")]
    topic: String,
    /// Name servers, host:port, several with ;
    #[arg(short, long, value_name = "ADDRESS", env = "NAMESRV_ADDR")]
    namesrv: String,
    /// Messages to send
    #[arg(short, long, value_name = "N", default_value_t = 100_000, conflicts_with = "seconds")]
    messages: u64,
    /// Send for so long instead
    #[arg(short, long, value_name = "S")]
    seconds: Option<u64>,
    /// Bytes of a body
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    size: u32,
    /// Sends under way at once
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// Messages a second; without it as fast as they are taken
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Clients, each with a thread and a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// Gather messages into batches
    #[arg(long)]
    batch: bool,
    /// Have each message stored once, however often its send is tried
    #[arg(long)]
    idempotent: bool,
    /// Write the result as a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Consume {
    /// Topic to read
    #[arg(default_value = "bench")]
    topic: String,
    /// Name servers, host:port, several with ;
    #[arg(short, long, value_name = "ADDRESS", env = "NAMESRV_ADDR")]
    namesrv: String,
    /// Messages to consume, and to wait for [default: those that are there]
    #[arg(short, long, value_name = "N")]
    messages: Option<u64>,
    /// Consumer group [default: one that is new]
    #[arg(short, long)]
    group: Option<String>,
    /// Messages handed out and not acknowledged
    #[arg(short, long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Write the result as a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let work = LocalSet::new();
    match &options.what {
        What::Produce(options) => {
            let tally = runtime.block_on(work.run_until(produce(options)))?;
            tally.tell(options.json, options.rate.is_none());
        }
        What::Consume(options) => {
            let tally = runtime.block_on(work.run_until(consume(options)))?;
            tally.tell(options.json, false);
        }
    }
    Ok(())
}

async fn produce(options: &Produce) -> Result<Rc<Tally>, String> {
    let body = vec![b'x'; options.size as usize];
    let builder = Producer::builder().group("gantry-bench").name_servers(&options.namesrv);
    let mut builder = builder.no_compression().idempotent(options.idempotent);
    if options.batch {
        builder = builder.batching(Batching::default());
    }
    let mut producers = Vec::new();
    for _ in 0..options.clients {
        let producer = builder.clone().build().await.map_err(|error| error.to_string())?;
        // Not measured: it makes the topic and the connections.
        let first = producer.send(Message::new(&options.topic, body.clone())).await;
        first.map_err(|error| error.to_string())?;
        producers.push(producer);
    }
    let tally = Tally::new()?;
    let last = options.seconds.is_none().then_some(options.messages);
    let until = options.seconds.map(|seconds| tally.begin + Duration::from_secs(seconds));
    let live = tally.show(last);
    let next = Rc::new(Cell::new(0u64));
    let mut places = Vec::new();
    for number in 0..options.in_flight {
        let producer = producers[number as usize % producers.len()].clone();
        let (tally, next) = (Rc::clone(&tally), Rc::clone(&next));
        let (topic, body, rate) = (options.topic.clone(), bytes::Bytes::from(body.clone()), options.rate);
        places.push(tokio::task::spawn_local(async move {
            loop {
                let number = next.get();
                if last.is_some_and(|last| number >= last)
                    || until.is_some_and(|until| Instant::now() >= until)
                {
                    return;
                }
                next.set(number + 1);
                let begin = match rate {
                    Some(rate) => {
                        let due = tally.begin + Duration::from_secs_f64(number as f64 / f64::from(rate));
                        turn(due).await
                    }
                    None => Instant::now(),
                };
                match producer.send(Message::new(&topic, body.clone())).await {
                    Ok(_) => tally.add(body.len(), Some(begin.elapsed())),
                    Err(error) => tally.fail(error.to_string(), begin.elapsed()),
                }
            }
        }));
    }
    for place in places {
        place.await.map_err(|error| error.to_string())?;
    }
    live.end();
    for producer in producers {
        producer.stop().await;
    }
    if tally.messages() == 0 {
        return Err(format!("nothing was stored: {}", tally.last_failure()));
    }
    Ok(tally)
}

/// Waits for its turn, and says from when its latency counts: from its turn if that has passed already, else from now, since a
/// timer that fires late is no fault of the cluster.
async fn turn(due: Instant) -> Instant {
    if due <= Instant::now() {
        return due;
    }
    tokio::time::sleep_until(due.into()).await;
    Instant::now()
}

fn wall_ms() -> i64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

async fn consume(options: &Consume) -> Result<Rc<Tally>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let wanted = match options.messages {
        Some(messages) => messages,
        None => {
            let builder = PullConsumer::builder().group("gantry-bench").name_servers(&options.namesrv);
            let puller = builder.build().await.map_err(|error| words(&error))?;
            let mut there = 0;
            for queue in puller.queues(&options.topic).await.map_err(|error| words(&error))? {
                let max = puller.max_offset(&queue).await.map_err(|error| words(&error))?;
                let min = puller.min_offset(&queue).await.map_err(|error| words(&error))?;
                there += u64::try_from(max - min).unwrap_or_default();
            }
            puller.stop().await;
            there
        }
    };
    let group = options.group.clone().unwrap_or_else(|| format!("gantry-bench-{}", wall_ms()));
    let builder = Consumer::builder().group(group).name_servers(&options.namesrv);
    let builder = builder.subscribe(&options.topic, "*").start(Start::First).wait_for_topics(false);
    let mut consumer =
        builder.in_flight_max(options.in_flight as usize).build().await.map_err(|error| words(&error))?;
    let begin_ms = wall_ms();
    // The time until the group has its queues is not what is measured.
    let first = match tokio::time::timeout(SILENCE, consumer.recv()).await {
        Ok(first) => first.map_err(|error| words(&error))?,
        Err(_) if wanted == 0 => return Err(format!("topic {} is empty", options.topic)),
        Err(_) => return Err(format!("nothing came for {} s", SILENCE.as_secs())),
    };
    let tally = Tally::new()?;
    let live = tally.show(Some(wanted));
    let mut message = first;
    loop {
        // How old a message is says something only if it was sent meanwhile.
        let age_ms = wall_ms() - message.born_timestamp;
        let latency = u64::try_from(age_ms).ok().filter(|_| message.born_timestamp >= begin_ms);
        tally.add(message.body.len(), latency.map(Duration::from_millis));
        message.ack();
        if tally.messages() >= wanted {
            break;
        }
        message = match tokio::time::timeout(SILENCE, consumer.recv()).await {
            Ok(Ok(message)) => message,
            Ok(Err(ConsumeError::Stopped)) => break,
            Ok(Err(error)) => return Err(words(&error)),
            Err(_) => {
                let came = tally.messages();
                return Err(format!("nothing came for {} s after {came} messages", SILENCE.as_secs()));
            }
        };
    }
    live.end();
    consumer.stop().await;
    Ok(tally)
}
