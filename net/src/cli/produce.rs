//! `gantry produce`: each line of standard input is a message.
//!
//! Standard output carries one line a message only with `--json`; what went wrong goes to standard error. Exit codes: 0, all
//! messages are stored; 1, one was not or may not have been (the first error ends the run, after those under way); 2, the
//! command line is wrong.

use std::collections::BTreeMap;
use std::io::BufRead;

use gantry_net::client::{Batching, Message, Producer, Receipt, SendError, Target, property};
use serde::Deserialize;
use tokio::sync::mpsc;

/// Sends under way at once.
const IN_FLIGHT_MAX: usize = 1024;
/// Lines read ahead.
const LINES_AHEAD: usize = 1024;

#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 all messages are stored, 1 one is not or may not be, 2 wrong usage.\n\n\
    With --json each line is an object: {\"body\": TEXT, \"tag\": TEXT, \"keys\": [TEXT], \"properties\": {NAME: TEXT}, \
    \"delayLevel\": N}; all but the body may be missing."
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
    key_delimiter: Option<String>,
    /// Property of every message, NAME=VALUE (may be given again)
    #[arg(short, long = "property", value_name = "NAME=VALUE", value_parser = name_value)]
    properties: Vec<(String, String)>,
    /// Delay level, 1 (1 s) to 18 (2 h)
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=18))]
    delay_level: Option<u8>,
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

/// A line of `--json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    body: String,
    tag: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    delay_level: Option<u8>,
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
    let builder = if options.trace { builder.trace(None) } else { builder };
    let producer = builder.batching(Batching::default()).build().await.map_err(|error| error.to_string())?;
    let (put, mut lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || read_lines(&put));
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
                match line.and_then(|line| message(options, &line)) {
                    Ok((message, target)) => {
                        under_way += 1;
                        let (producer, done) = (producer.clone(), done.clone());
                        tokio::spawn(async move {
                            let result = producer.send_to(message, target).await;
                            // Nobody takes it only when the run is over.
                            let _ = done.send((number, result)).await;
                        });
                    }
                    Err(error) => failure = Some(format!("line {number}: {error}")),
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
                    Err(error) => failure = failure.or(Some(format!("line {number}: {error}"))),
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
fn read_lines(put: &mpsc::Sender<Result<Vec<u8>, String>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line);
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let sent = match read {
            Ok(0) => return,
            Ok(_) => put.blocking_send(Ok(line)),
            Err(error) => put.blocking_send(Err(format!("cannot read standard input: {error}"))),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn message(options: &Options, line: &[u8]) -> Result<(Message, Target), String> {
    let mut target = Target::RoundRobin;
    let mut message;
    if options.json {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| format!("not as --json wants it: {error}"))?;
        message = Message::new(&options.topic, line.body);
        for (name, value) in line.properties {
            message = message.with_property(&name, value);
        }
        message = line.keys.iter().fold(message, |message, key| message.with_key(key));
        if let Some(tag) = line.tag {
            message = message.with_tag(tag);
        }
        if let Some(level) = line.delay_level {
            message = message.with_delay_level(level);
        }
    } else {
        let delimiter = options.key_delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let at = delimiter.and_then(|delimiter| {
            line.windows(delimiter.len()).position(|window| window == delimiter.as_bytes())
        });
        match (at, delimiter) {
            (Some(at), Some(delimiter)) => {
                let key = String::from_utf8_lossy(&line[..at]).into_owned();
                message = Message::new(&options.topic, line[at + delimiter.len()..].to_vec()).with_key(&key);
                target = Target::Hash(key);
            }
            (Some(_) | None, _) => message = Message::new(&options.topic, line.to_vec()),
        }
    }
    message = options.keys.iter().fold(message, |message, key| message.with_key(key));
    for (name, value) in &options.properties {
        message = message.with_property(name, value);
    }
    if let (Some(tag), None) = (&options.tag, message.property(property::TAGS)) {
        message = message.with_tag(tag);
    }
    if let (Some(level), None) = (options.delay_level, message.property(property::DELAY)) {
        message = message.with_delay_level(level);
    }
    Ok((message, target))
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
