//! `gantry produce`: each line of standard input is a message.
//!
//! Standard output carries one line a message only with `--json`; what went wrong goes to standard error. Exit codes: 0, all
//! messages are stored; 1, one was not or may not have been (the first error ends the run, after those under way); 2, the
//! command line is wrong.

use gantry_net::client::{
    Batching, Compression, Message, Producer, ProducerBuilder, Receipt, SendError, Target, property,
};
use tokio::sync::mpsc;

use super::format::Escaped;
use super::input::{Fault, message, record};
use super::time::{When, now_ms, when};

/// Sends under way at once.
const IN_FLIGHT_MAX: usize = 1024;
/// Lines read ahead.
const LINES_AHEAD: usize = 1024;
/// Bodies are compressed from this size on.
const COMPRESS_OVER: usize = 4096;

#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 all messages are stored, 1 one is not or may not be, 2 wrong usage.\n\n\
    With --json each line is an object: {\"body\": TEXT, \"tag\": TEXT, \"keys\": [TEXT], \"properties\": {NAME: TEXT}, \
    \"flag\": N, \"delayLevel\": N, \"deliverAt\": MS}; all but the body may be missing, and a body that is no text is \"bodyHex\": \
    DIGITS. What gantry consume --json writes may be read too: its topic, places and times are passed over, and of its \
    properties those that libraries and brokers have set."
)]
pub(crate) struct Options {
    /// Topic to send to
    topic: String,
    /// Name servers, host:port, several with ;
    #[arg(short, long, value_name = "ADDRESS", env = "NAMESRV_ADDR")]
    namesrv: String,
    /// Producer group
    #[arg(long, default_value = "gantry-produce")]
    group: String,
    /// Tag of every message
    #[arg(short, long)]
    tag: Option<String>,
    /// Search key of every message (may be given again)
    #[arg(short, long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// What stands before this in a line is the message's key, and messages of one key keep their order
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_delimiter: Option<Escaped>,
    /// Property of every message, NAME=VALUE (may be given again)
    #[arg(short, long = "property", value_name = "NAME=VALUE", value_parser = name_value)]
    properties: Vec<(String, String)>,
    /// What stands behind each message, with \\n, \\t, \\0 and \\xHH as in a format of consume
    #[arg(short = 'D', long, value_name = "TEXT", default_value = "\\n")]
    delimiter: Escaped,
    /// Delay level, 1 (1 s) to 18 (2 h)
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=18))]
    delay_level: Option<u8>,
    /// When to deliver, if the broker serves it: RFC 3339, ms since 1970, or how long from now (90s, 15m, 2h, 1d)
    #[arg(long, value_name = "WHEN", value_parser = deliver_at, conflicts_with = "delay_level")]
    deliver_at: Option<When>,
    /// How bodies of 4096 bytes or more are compressed; clients of version 4 read zlib alone
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Compressing::Zlib)]
    compression: Compressing,
    /// Have Gantry brokers store each message once, however often its send is tried
    #[arg(long)]
    idempotent: bool,
    /// Trace the messages, for mqadmin queryMsgTraceById
    #[arg(long)]
    trace: bool,
    /// Lines are JSON objects, and a JSON object is written for each message stored
    #[arg(long)]
    json: bool,
}

fn name_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "must be NAME=VALUE".into())
}

fn deliver_at(text: &str) -> Result<When, String> {
    when(text)
        .ok_or_else(|| "must be a time as 2026-01-31T12:00:00Z or in ms since 1970, or a span as 15m".into())
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Compressing {
    Zlib,
    Lz4,
    Zstd,
    None,
}

impl Compressing {
    fn set(self, builder: ProducerBuilder) -> ProducerBuilder {
        match self {
            Compressing::Zlib => builder.compression(Compression::Zlib, COMPRESS_OVER),
            Compressing::Lz4 => builder.compression(Compression::Lz4, COMPRESS_OVER),
            Compressing::Zstd => builder.compression(Compression::Zstd, COMPRESS_OVER),
            Compressing::None => builder.no_compression(),
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(produce(options))
}

async fn produce(options: &Options) -> Result<(), String> {
    let builder = Producer::builder().group(&options.group).name_servers(&options.namesrv);
    let builder = options.compression.set(builder).idempotent(options.idempotent);
    let builder = if options.trace { builder.trace(None) } else { builder };
    let producer = builder.batching(Batching::default()).build().await.map_err(|error| error.to_string())?;
    let (put, mut lines) = mpsc::channel(LINES_AHEAD);
    let delimiter = options.delimiter.0.clone();
    std::thread::spawn(move || read_lines(&delimiter, &put));
    let (done, mut results) = mpsc::channel::<(usize, Result<Receipt, SendError>)>(IN_FLIGHT_MAX);
    let (mut under_way, mut stored, mut number) = (0usize, 0usize, 0usize);
    let mut failure = None;
    let mut is_open = true;
    while under_way > 0 || (is_open && failure.is_none()) {
        tokio::select! {
            line = lines.recv(), if is_open && failure.is_none() && under_way < IN_FLIGHT_MAX => {
                let Some(line) = line else {
                    is_open = false;
                    continue;
                };
                number += 1;
                let made = line.map_err(|error| format!("{}: {error}", options.place(number, None)));
                match made.and_then(|line| options.message(number, &line)) {
                    Ok((message, target)) => {
                        under_way += 1;
                        let (producer, done) = (producer.clone(), done.clone());
                        tokio::spawn(async move {
                            let result = producer.send_to(message, target).await;
                            // Nobody takes it only when the run is over.
                            let _ = done.send((number, result)).await;
                        });
                    }
                    Err(error) => failure = Some(error),
                }
            }
            Some((number, result)) = results.recv() => {
                under_way -= 1;
                match result {
                    Ok(receipt) => {
                        stored += 1;
                        if options.json {
                            println!("{}", json(&receipt));
                        }
                    }
                    Err(error) => {
                        failure = failure.or(Some(format!("{}: {error}", options.place(number, None))));
                    }
                }
            }
        }
    }
    producer.stop().await;
    match failure {
        None => Ok(()),
        Some(failure) => Err(format!("{failure} ({stored} messages are stored)")),
    }
}

/// The lines of standard input without their ends; ends with it, or with the first error.
fn read_lines(delimiter: &[u8], put: &mpsc::Sender<Result<Vec<u8>, String>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let sent = match record(&mut input, delimiter) {
            Ok(None) => return,
            Ok(Some(line)) => put.blocking_send(Ok(line)),
            Err(error) => put.blocking_send(Err(format!("cannot read standard input: {error}"))),
        };
        if sent.is_err() {
            return;
        }
    }
}

impl Options {
    /// What is wrong where, in words.
    fn place(&self, number: usize, within: Option<(usize, usize)>) -> String {
        let what = if self.delimiter.0 == b"\n" { "line" } else { "message" };
        match within {
            None => format!("{what} {number}"),
            Some((1, column)) => format!("{what} {number}, column {column}"),
            Some((line, column)) => format!("{what} {number}, its line {line}, column {column}"),
        }
    }

    fn message(&self, number: usize, line: &[u8]) -> Result<(Message, Target), String> {
        let (mut made, target);
        if self.json {
            target = Target::RoundRobin;
            made = message(&self.topic, line)
                .map_err(|Fault { place, words }| format!("{}: {words}", self.place(number, place)))?;
        } else {
            (made, target) = self.plain(line);
        }
        made = self.keys.iter().fold(made, |made, key| made.with_key(key));
        for (name, value) in &self.properties {
            made = made.with_property(name, value);
        }
        if let (Some(tag), None) = (&self.tag, made.property(property::TAGS)) {
            made = made.with_tag(tag);
        }
        let is_delayed =
            made.property(property::DELAY).or(made.property(property::TIMER_DELIVER_MS)).is_some();
        match (self.delay_level, self.deliver_at) {
            // What its own line says goes first.
            (Some(_) | None, Some(_) | None) if is_delayed => {}
            (None, None) => {}
            (Some(level), _) => made = made.with_delay_level(level),
            (None, Some(When::At(ms))) => made = made.with_delivery_at(ms),
            (None, Some(When::Away(ms))) => made = made.with_delivery_at(now_ms().saturating_add(ms)),
        }
        Ok((made, target))
    }

    /// A message that is a line, or a key and what stands behind it.
    fn plain(&self, line: &[u8]) -> (Message, Target) {
        let delimiter = self.key_delimiter.as_ref().map(|delimiter| delimiter.0.as_slice());
        let at = delimiter
            .and_then(|delimiter| line.windows(delimiter.len()).position(|window| window == delimiter));
        match (at, delimiter) {
            (Some(at), Some(delimiter)) => {
                let key = String::from_utf8_lossy(&line[..at]).into_owned();
                let message = Message::new(&self.topic, line[at + delimiter.len()..].to_vec()).with_key(&key);
                (message, Target::Hash(key))
            }
            (Some(_) | None, _) => (Message::new(&self.topic, line.to_vec()), Target::RoundRobin),
        }
    }
}

fn json(receipt: &Receipt) -> String {
    let Receipt { status, message_id, offset_id, queue, queue_offset } = receipt;
    serde_json::json!({
        "broker": queue.broker_name,
        "messageId": message_id,
        "offsetId": offset_id,
        "queueId": queue.queue_id,
        "queueOffset": queue_offset,
        "status": format!("{status:?}"),
        "topic": queue.topic,
    })
    .to_string()
}
