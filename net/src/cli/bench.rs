//! `gantry bench`: how fast a cluster takes messages or gives them, as its clients see it.
//!
//! While it runs, figures go to standard error (if that is a terminal); at the end a table or a JSON object goes to standard
//! output. Exit codes as those of the other commands.
//!
//! **Latency.** With `--rate` each send has its time, and its latency counts from then, also when it had to wait because others
//! were slow: a stall is seen by all that should have been sent meanwhile. Without it, sends follow each other, and a stall would
//! be seen by those under way alone; the corrected column adds what the others would have seen (coordinated omission).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use gantry_net::client::{Batching, ConsumeError, Consumer, Message, Producer, PullConsumer, Start};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::LocalSet;

/// Between two looks at the figures.
const LOOK: Duration = Duration::from_millis(250);
/// How long nothing may come before the end is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// Longer latencies count as this one.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

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

/// What was measured.
struct Tally {
    begin: Instant,
    /// When the last one ended.
    end: Cell<Instant>,
    messages: Cell<u64>,
    bytes: Cell<u64>,
    failures: Cell<u64>,
    last_failure: RefCell<String>,
    latency_us: RefCell<Histogram<u64>>,
}

impl Tally {
    fn new() -> Result<Rc<Tally>, String> {
        let latency =
            Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).map_err(|error| error.to_string())?;
        let now = Instant::now();
        Ok(Rc::new(Tally {
            begin: now,
            end: Cell::new(now),
            messages: Cell::new(0),
            bytes: Cell::new(0),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
            latency_us: RefCell::new(latency),
        }))
    }

    fn add(&self, bytes: usize, latency: Option<Duration>) {
        self.end.set(Instant::now());
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
        if let Some(latency) = latency {
            self.latency_us.borrow_mut().saturating_record(micros(latency));
        }
    }

    fn rate(&self) -> (f64, f64) {
        let seconds = self.end.get().duration_since(self.begin).as_secs_f64().max(1e-9);
        (self.messages.get() as f64 / seconds, self.bytes.get() as f64 / seconds / 1e6)
    }

    /// The figures so far, until the returned bar is finished.
    fn show(self: &Rc<Tally>, length: Option<u64>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = if length.is_some() { "{bar:30} {pos}/{len} {msg}" } else { "{spinner} {pos} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let (tally, shown) = (Rc::clone(self), bar.clone());
        tokio::task::spawn_local(async move {
            while !shown.is_finished() {
                tokio::time::sleep(LOOK).await;
                let (messages, megabytes) = tally.rate();
                let p99_ms = tally.latency_us.borrow().value_at_quantile(0.99) as f64 / 1e3;
                let failures = tally.failures.get();
                shown.set_position(tally.messages.get());
                shown.set_message(format!(
                    "{messages:.0} msg/s, {megabytes:.1} MB/s, p99 {p99_ms:.2} ms, {failures} failed"
                ));
            }
        });
        bar
    }

    fn tell(&self, as_json: bool, corrects: bool) {
        let measured = self.latency_us.borrow();
        // In a closed loop the next one of a place follows at once: one at the mean.
        let interval = (measured.mean() as u64).max(1);
        let corrected = if corrects { measured.clone_correct(interval) } else { measured.clone() };
        let (messages, megabytes) = self.rate();
        let seconds = self.end.get().duration_since(self.begin).as_secs_f64();
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
        if as_json {
            let latency = |histogram: &Histogram<u64>| {
                let values = quantiles
                    .iter()
                    .map(|(name, quantile)| ((*name).into(), histogram.value_at_quantile(*quantile).into()));
                serde_json::Value::Object(values.collect())
            };
            let object = serde_json::json!({
                "messages": self.messages.get(),
                "failures": self.failures.get(),
                "seconds": seconds,
                "messagesPerSecond": messages,
                "megabytesPerSecond": megabytes,
                "latencyMicros": latency(&measured),
                "correctedLatencyMicros": latency(&corrected),
            });
            println!("{object}");
            return;
        }
        println!("messages      {:>12}", self.messages.get());
        println!("failures      {:>12}", self.failures.get());
        println!("seconds       {seconds:>12.3}");
        println!("messages/s    {messages:>12.0}");
        println!("MB/s          {megabytes:>12.2}");
        if measured.is_empty() {
            return;
        }
        println!("latency, ms   {:>12} {:>12}", "measured", if corrects { "corrected" } else { "" });
        for (name, quantile) in quantiles {
            let ms = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile) as f64 / 1e3;
            if corrects {
                println!("  {name:<12}{:>12.3} {:>12.3}", ms(&measured), ms(&corrected));
            } else {
                println!("  {name:<12}{:>12.3}", ms(&measured));
            }
        }
        if self.failures.get() > 0 {
            eprintln!("gantry: the last failure: {}", self.last_failure.borrow());
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn produce(options: &Produce) -> Result<Rc<Tally>, String> {
    let body = vec![b'x'; options.size as usize];
    let builder = Producer::builder().group("gantry-bench").name_servers(&options.namesrv);
    let mut builder = builder.no_compression();
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
    let bar = tally.show(last);
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
                    Err(error) => {
                        tally.failures.set(tally.failures.get() + 1);
                        *tally.last_failure.borrow_mut() = error.to_string();
                    }
                }
            }
        }));
    }
    for place in places {
        place.await.map_err(|error| error.to_string())?;
    }
    bar.finish_and_clear();
    for producer in producers {
        producer.stop().await;
    }
    if tally.messages.get() == 0 {
        return Err(format!("nothing was stored: {}", tally.last_failure.borrow()));
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
    let bar = tally.show(Some(wanted));
    let mut message = first;
    loop {
        // How old a message is says something only if it was sent meanwhile.
        let age_ms = wall_ms() - message.born_timestamp;
        let latency = u64::try_from(age_ms).ok().filter(|_| message.born_timestamp >= begin_ms);
        tally.add(message.body.len(), latency.map(Duration::from_millis));
        message.ack();
        if tally.messages.get() >= wanted {
            break;
        }
        message = match tokio::time::timeout(SILENCE, consumer.recv()).await {
            Ok(Ok(message)) => message,
            Ok(Err(ConsumeError::Stopped)) => break,
            Ok(Err(error)) => return Err(words(&error)),
            Err(_) => {
                let came = tally.messages.get();
                return Err(format!("nothing came for {} s after {came} messages", SILENCE.as_secs()));
            }
        };
    }
    bar.finish_and_clear();
    consumer.stop().await;
    Ok(tally)
}
