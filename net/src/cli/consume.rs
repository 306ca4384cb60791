//! `gantry consume`: messages of a topic, one a line of standard output.
//!
//! Without a group it looks at the messages and leaves no trace at the brokers; with one it is a member of that group and
//! acknowledges what it has written. Standard output carries messages only; all else goes to standard error. Exit codes: 0, it
//! came to its end or was interrupted; 1, something failed; 2, the command line is wrong.

use std::collections::BTreeSet;
use std::io::{BufWriter, ErrorKind, Stdout, Write};
use std::time::Duration;

use gantry_net::client::{
    AskError, ConsumeError, Consumer, Filter, Incoming, MessageQueue, PullConsumer, Received, Start,
};
use tokio::sync::mpsc;

use super::format::{Format, json};
use super::time::{When, now_ms, when};

/// The group in whose name messages are looked at.
const BROWSER: &str = "gantry-consume";
/// Messages read ahead of standard output.
const MESSAGES_AHEAD: usize = 1024;
/// How long a broker may hold a pull.
const WAIT: Duration = Duration::from_secs(15);
/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries of a queue before it is given up, unless it is followed.
const TRIES: u32 = 5;
/// Between two looks for new queues.
const LOOK: Duration = Duration::from_secs(30);
/// Between two looks whether the group has come to the end.
const END_LOOK: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
#[command(
    after_help = "Without --follow and --count it ends at the end of the topic, as it was at the start; --from last \
    follows.\n\nIn a format, %s is the body, %S its size, %R its size as four bytes, %k the keys, %K their size or -1, %g the tag, \
    %t the topic, %b the broker, %p or %q the queue, %o the queue offset, %T the store time in ms, %B the sender's time, %c the \
    time when it is written here, %r how often it was tried in vain, %i the message id, %h the properties, %{NAME} one of them, %% a percent sign; \\n, \\r, \\t, \\0, \\xHH, \
    \\\\ as usual.\n\nExit codes: 0 the end or an interruption, 1 a failure, 2 wrong usage."
)]
pub(crate) struct Options {
    /// Topic to read
    topic: String,
    /// Name servers, host:port, several with ;
    #[arg(short, long, value_name = "ADDRESS", env = "NAMESRV_ADDR")]
    namesrv: String,
    /// Where to begin: first, last, a time (RFC 3339 or ms since 1970), or an age (90s, 15m, 2h, 1d); with --group only if it is new
    #[arg(long, value_name = "WHERE", default_value = "first", value_parser = start)]
    from: Start,
    /// End after so many messages, and wait for them
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Wait for new messages without end
    #[arg(long)]
    follow: bool,
    /// Tags wanted, a || b
    #[arg(long, value_name = "TAGS", default_value = "*")]
    filter: String,
    /// Messages wanted by their properties, an SQL92 expression that the broker must serve
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "filter")]
    sql: Option<String>,
    /// Be a member of this consumer group, and acknowledge what is written
    #[arg(short, long)]
    group: Option<String>,
    /// With --group, one message of a queue after the other, under the brokers' locks
    #[arg(long, requires = "group")]
    ordered: bool,
    /// With --group, trace what is consumed, for mqadmin queryMsgTraceById
    #[arg(long, requires = "group")]
    trace: bool,
    /// How a message is written, as in kcat (see below)
    #[arg(short, long, default_value = "%s\\n", conflicts_with = "json")]
    format: Format,
    /// Write each message as a JSON object
    #[arg(long)]
    json: bool,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "first" => return Ok(Start::First),
        "last" => return Ok(Start::Last),
        _ => {}
    }
    match when(text) {
        Some(When::At(ms)) => Ok(Start::Time(ms)),
        Some(When::Away(ms)) => Ok(Start::Time(now_ms().saturating_sub(ms))),
        None => {
            Err("must be first, last, a time as 2026-01-31T12:00:00Z or in ms since 1970, or an age as 15m"
                .into())
        }
    }
}

/// Standard output, and how many messages it still takes.
struct Output<'a> {
    out: BufWriter<Stdout>,
    options: &'a Options,
    written: u64,
}

/// Why no more is written.
enum End {
    /// All that were wanted.
    Enough,
    /// Who reads it has gone, as `head` does.
    Closed,
    Failed(String),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        if error.kind() == ErrorKind::BrokenPipe {
            End::Closed
        } else {
            End::Failed(format!("cannot write to standard output: {error}"))
        }
    }
}

impl Output<'_> {
    fn write(&mut self, message: &Received) -> Result<(), End> {
        if self.is_full() {
            return Err(End::Enough);
        }
        if self.options.json {
            writeln!(self.out, "{}", json(message))?;
        } else {
            self.options.format.write(message, &mut self.out)?;
        }
        self.written += 1;
        if self.is_full() { Err(End::Enough) } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        self.options.count.is_some_and(|count| self.written >= count)
    }

    /// What is written must be seen before it is acknowledged or waited on.
    fn flush(&mut self) -> Result<(), End> {
        Ok(self.out.flush()?)
    }
}

impl Options {
    fn wanted(&self) -> Filter {
        match &self.sql {
            Some(expression) => Filter::Sql(expression.clone()),
            None => Filter::Tags(self.filter.clone()),
        }
    }

    fn follows(&self) -> bool {
        self.follow || self.count.is_some() || self.from == Start::Last
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let mut output = Output { out: BufWriter::new(std::io::stdout()), options, written: 0 };
        let work = async {
            match &options.group {
                None => browse(options, &mut output).await,
                Some(group) => join(options, group, &mut output).await,
            }
        };
        let end = tokio::select! {
            end = work => end,
            // Whoever follows a topic ends like this.
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        match end.and_then(|()| output.flush()) {
            Ok(()) | Err(End::Enough | End::Closed) => Ok(()),
            Err(End::Failed(reason)) => Err(reason),
        }
    })
}

fn failed(error: impl std::fmt::Display) -> End {
    End::Failed(error.to_string())
}

/// Looks at all queues, each in a task of its own.
async fn browse(options: &Options, output: &mut Output<'_>) -> Result<(), End> {
    let builder = PullConsumer::builder().group(BROWSER).name_servers(&options.namesrv);
    let consumer = builder.build().await.map_err(failed)?;
    let (put, mut messages) = mpsc::channel(MESSAGES_AHEAD);
    let mut known = BTreeSet::new();
    let mut put = Some(put);
    let mut look = tokio::time::interval(LOOK);
    let mut said = false;
    loop {
        tokio::select! {
            _ = look.tick(), if put.is_some() => match consumer.queues(&options.topic).await {
                Ok(queues) => {
                    let is_first = known.is_empty();
                    for queue in queues.into_iter().filter(|queue| !known.contains(queue)).collect::<Vec<_>>() {
                        known.insert(queue.clone());
                        // What is new since the start is wanted whole.
                        let from = if is_first { options.from } else { Start::First };
                        let reader = Reader {
                            consumer: consumer.clone(),
                            queue,
                            from,
                            filter: options.wanted(),
                            follows: options.follows(),
                        };
                        if let Some(put) = &put {
                            tokio::spawn(reader.run(put.clone()));
                        }
                    }
                    if !options.follows() {
                        put = None;
                    }
                }
                Err(error @ AskError::UnknownTopic(_)) if options.follow => {
                    if !std::mem::replace(&mut said, true) {
                        eprintln!("gantry: {error}; waiting for it");
                    }
                    look.reset_after(PAUSE);
                }
                Err(error) if known.is_empty() => return Err(failed(error)),
                Err(error) => eprintln!("gantry: {error}"),
            },
            message = messages.recv() => match message {
                Some(message) => {
                    output.write(&message.map_err(End::Failed)?)?;
                    if messages.is_empty() {
                        output.flush()?;
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

/// Reads one queue.
struct Reader {
    consumer: PullConsumer,
    queue: MessageQueue,
    from: Start,
    filter: Filter,
    follows: bool,
}

impl Reader {
    async fn run(self, put: mpsc::Sender<Result<Received, String>>) {
        let mut failures = 0;
        let mut place = None;
        loop {
            let error = match self.read(&mut place, &mut failures, &put).await {
                Ok(()) => return,
                Err(error) => error,
            };
            failures += 1;
            let MessageQueue { broker_name, queue_id, .. } = &self.queue;
            let what = format!("queue {queue_id} of {broker_name}: {error}");
            // An expression that a broker does not serve or cannot read is not served later.
            let is_final = matches!((&error, &self.filter), (AskError::Refused { .. }, Filter::Sql(_)));
            if is_final || (failures == TRIES && !self.follows) {
                // Nobody takes it when the run is over.
                let _ = put.send(Err(what)).await;
                return;
            }
            if failures == 1 {
                eprintln!("gantry: {what}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads to the end, or until something fails; `place` says where to go on, and where the end is.
    async fn read(
        &self,
        place: &mut Option<(i64, i64)>,
        failures: &mut u32,
        put: &mpsc::Sender<Result<Received, String>>,
    ) -> Result<(), AskError> {
        let (consumer, queue) = (&self.consumer, &self.queue);
        let (mut next, end) = match *place {
            Some(place) => place,
            None => {
                let max = consumer.max_offset(queue).await?;
                let begin = match self.from {
                    Start::First => consumer.min_offset(queue).await?,
                    Start::Last => max,
                    Start::Time(ms) => consumer.offset_at(queue, ms).await?,
                };
                (begin, if self.follows { i64::MAX } else { max })
            }
        };
        while next < end {
            *place = Some((next, end));
            let wait = if self.follows { WAIT } else { Duration::ZERO };
            let pulled = consumer.pull_by(queue, next, self.filter.clone(), wait).await?;
            *failures = 0;
            for message in pulled.messages.into_iter().filter(|message| message.queue_offset < end) {
                if put.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
            if pulled.next_offset == next && !self.follows {
                // The broker has less than it said: what is missing was removed meanwhile.
                return Ok(());
            }
            next = pulled.next_offset;
        }
        Ok(())
    }
}

/// Takes part in a group.
async fn join(options: &Options, group: &str, output: &mut Output<'_>) -> Result<(), End> {
    let builder = Consumer::builder().group(group).name_servers(&options.namesrv);
    let builder = builder.subscribe_by(&options.topic, options.wanted()).start(options.from);
    let builder = if options.trace { builder.trace(None) } else { builder };
    let builder = if options.ordered { builder.orderly() } else { builder };
    let mut consumer = builder.wait_for_topics(options.follow).build().await.map_err(failed)?;
    let builder = PullConsumer::builder().group(group).name_servers(&options.namesrv);
    let asker = builder.build().await.map_err(failed)?;
    let mut look = tokio::time::interval(END_LOOK);
    let mut ends = None;
    let end = loop {
        tokio::select! {
            message = consumer.recv() => match message {
                Ok(message) => {
                    if let Err(end) = take(message, output) {
                        break Err(end);
                    }
                }
                Err(ConsumeError::Stopped) => break Ok(()),
                Err(error) => break Err(failed(error)),
            },
            _ = look.tick(), if !options.follows() => {
                consumer.commit();
                match is_at_end(&asker, &options.topic, &mut ends).await {
                    Ok(true) => break Ok(()),
                    Ok(false) => {}
                    Err(error) => break Err(failed(error)),
                }
            }
        }
    };
    consumer.stop().await;
    end
}

fn take(message: Incoming, output: &mut Output<'_>) -> Result<(), End> {
    let written = output.write(&message);
    output.flush()?;
    match written {
        Ok(()) | Err(End::Enough) => message.ack(),
        Err(End::Closed | End::Failed(_)) => {}
    }
    written
}

/// Whether the group has consumed what was there at the first look.
async fn is_at_end(
    asker: &PullConsumer,
    topic: &str,
    ends: &mut Option<Vec<(MessageQueue, i64)>>,
) -> Result<bool, AskError> {
    let known = match ends {
        Some(known) => known,
        None => {
            let mut found = Vec::new();
            for queue in asker.queues(topic).await? {
                let end = asker.max_offset(&queue).await?;
                found.push((queue, end));
            }
            ends.insert(found)
        }
    };
    for (queue, end) in known {
        if *end > 0 && asker.committed(queue).await?.unwrap_or(0) < *end {
            return Ok(false);
        }
    }
    Ok(true)
}
