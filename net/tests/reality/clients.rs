//! The clients, which tell what they see.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gantry_core::rng::Rng;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{
    GetMaxOffsetRequest, Header, QueryConsumerOffsetRequest, UpdateConsumerOffsetRequest,
};
use gantry_core::wire::{Command as Packet, Ext};
use gantry_net::client::{
    ConsumeError, Consumer, Incoming, Message, MessageQueue, Producer, PullConsumer, Receipt, Received,
    SendError, SendStatus, Start, Target,
};
use gantry_sim::check::outside::{What, stored_at};
use gantry_sim::check::told::Told;
use gantry_sim::history::{MessageId, Outcome, Queue, Reader, Report, RequestId, topic_name};
use gantry_sim::plan::CAST;

use super::history::History;
use super::program::ask_on;
use super::{QUEUES, RECOVERY};

/// A message is tried so often, each time as a new attempt.
const ATTEMPTS: u32 = 3;
/// One message in so many is not consumed at the first time.
const FAILS: u64 = 40;

/// What clients need.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) history: History,
    pub(crate) names: SocketAddr,
    pub(crate) master: SocketAddr,
    /// Producers and the clerk go on until it is set.
    pub(crate) is_over: Arc<AtomicBool>,
    /// Members go on until it is set.
    pub(crate) is_read: Arc<AtomicBool>,
    /// Rises when a member is to be replaced.
    pub(crate) replaced: Arc<AtomicU32>,
    /// Where the group met each message first, for those that come again from elsewhere.
    places: Arc<Mutex<BTreeMap<MessageId, Place>>>,
}

#[derive(Clone, Copy)]
struct Place {
    queue: Queue,
    offset: i64,
    physical: u64,
}

impl World {
    pub(crate) fn new(history: &History, names: SocketAddr, master: SocketAddr) -> World {
        World {
            history: history.clone(),
            names,
            master,
            is_over: Arc::default(),
            is_read: Arc::default(),
            replaced: Arc::default(),
            places: Arc::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Runs a client on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn queue_of(queue: &MessageQueue) -> Queue {
    Queue { topic: 0, id: queue.queue_id }
}

/// Which message it is, if it is whole.
fn id_of(message: &Received) -> Option<MessageId> {
    let pairs = message.properties.iter();
    let properties: String = pairs.map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect();
    MessageId::from_stored(&message.body, properties.as_bytes())
}

fn place_of(message: &Received) -> Place {
    Place {
        queue: queue_of(&message.queue),
        offset: message.queue_offset,
        physical: u64::try_from(message.physical_offset).unwrap(),
    }
}

/// Sends to one queue, one message after the other. Gives how many were stored; the last of them after everything was mended.
pub(crate) fn produce(world: &World, queue: i32, idempotent: bool, mut rng: Rng) -> usize {
    block_on(async {
        let builder = Producer::builder().group("producers").name_servers(world.names.to_string());
        // One that insists outlives a restart; another one soon knows that it does not know.
        let timeout = if idempotent { Duration::from_secs(15) } else { Duration::from_millis(1_200) };
        let builder =
            builder.instance_name(format!("producer-{queue}")).idempotent(idempotent).timeout(timeout);
        let producer = builder.build().await.unwrap();
        let mut stored = 0;
        let mut was_stored = true;
        let mut over: Option<Instant> = None;
        loop {
            let (number, body_bytes) = (world.history.next_number(), 12 + rng.below(1_500) as usize);
            for attempt in 0..ATTEMPTS {
                let id = MessageId { message: number, attempt };
                let (outcome, error) = send(world, &producer, queue, id, body_bytes).await;
                let is_stored = matches!(outcome, Outcome::Ok { .. });
                if is_stored != was_stored {
                    let what = error.map_or("sends again".to_owned(), |error| format!("fails: {error}"));
                    println!("{:?}: producer {queue} {what}", world.history.now());
                    was_stored = is_stored;
                }
                if is_stored {
                    stored += 1;
                    if over.is_some() {
                        producer.stop().await;
                        return stored;
                    }
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if world.is_over() && over.get_or_insert_with(Instant::now).elapsed() > RECOVERY {
                world.history.broken(format!("nothing can be sent to queue {queue} after all was mended"));
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(rng.below(12))).await;
        }
    })
}

async fn send(
    world: &World,
    producer: &Producer,
    queue: i32,
    id: MessageId,
    body_bytes: usize,
) -> (Outcome, Option<String>) {
    let request = RequestId(world.history.next_number());
    let begun = Report::SendBegun { request, queue: Queue { topic: 0, id: queue }, messages: vec![id] };
    world.history.report(CAST.producer, begun);
    let message = Message::new(topic_name(0), id.body(body_bytes)).with_tag(format!("t{}", id.message % 3));
    let message = message.with_unique_key(id.unique_key());
    let target = Target::Queue(MessageQueue::new(topic_name(0), "broker-a", queue));
    let result = producer.send_to(message, target).await;
    let error = result.as_ref().err().map(SendError::to_string);
    let unexpected = |receipt: &Receipt| {
        world.history.broken(format!("{id:?} to queue {queue} got {receipt:?}"));
        Outcome::Unknown
    };
    let outcome = match result {
        Ok(receipt) if receipt.queue.queue_id == queue => match receipt.status {
            SendStatus::Ok => stored_at(receipt.queue_offset, &receipt.offset_id),
            // On the master alone: nothing is promised.
            SendStatus::FlushSlaveTimeout | SendStatus::SlaveNotAvailable => Outcome::Unknown,
            SendStatus::FlushDiskTimeout | SendStatus::Unacknowledged => unexpected(&receipt),
        },
        Ok(receipt) => unexpected(&receipt),
        Err(error) if error.may_be_stored() => Outcome::Unknown,
        // Those that say so must never appear.
        Err(SendError::Refused { code, .. }) => Outcome::Refused { code },
        Err(_) => Outcome::Refused { code: -1 },
    };
    world.history.report(CAST.producer, Report::SendEnded { request, outcome: outcome.clone() });
    (outcome, error)
}

/// A member of the group; when it is to be replaced, it leaves with what it has, and another one comes.
pub(crate) fn consume(world: &World, member: u32, members: u32, mut rng: Rng) {
    block_on(async {
        let mut generation = 0;
        while !world.is_read.load(Ordering::Relaxed) {
            let builder =
                Consumer::builder().group(Reader::Group.group()).name_servers(world.names.to_string());
            let builder = builder.subscribe(topic_name(0), "*").start(Start::First);
            let builder = builder.instance_name(format!("member-{member}-{generation}"));
            let mut consumer = builder.build().await.unwrap();
            let begin = world.replaced.load(Ordering::Relaxed);
            let is_replaced = || {
                let now = world.replaced.load(Ordering::Relaxed);
                (begin..now).any(|replaced| replaced % members == member)
            };
            let mut kept = Vec::new();
            while !world.is_read.load(Ordering::Relaxed) && !is_replaced() {
                match tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await {
                    Ok(Ok(message)) => take(world, message, &mut kept, &mut rng),
                    Ok(Err(ConsumeError::Stopped)) => break,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            consumer.stop().await;
            generation += 1;
        }
    });
}

/// Consumes a message, or does not: then it must come again, to whoever is a member by then.
fn take(world: &World, message: Incoming, kept: &mut Vec<Incoming>, rng: &mut Rng) {
    let id = id_of(&message);
    let is_first = message.queue.topic == topic_name(0);
    let place = if is_first {
        let place = place_of(&message);
        id.map(|id| world.places.lock().unwrap().insert(id, place));
        place
    } else {
        let place = id.and_then(|id| world.places.lock().unwrap().get(&id).copied());
        let Some(place) = place else {
            return world.history.broken(format!("{id:?} comes again and never came before: {message:?}"));
        };
        place
    };
    // In the end nobody keeps anything any more.
    if is_first && !world.is_over() && rng.one_in(FAILS) {
        if rng.one_in(2) {
            message.retry_later(1);
        } else {
            // Until it leaves: then its queue's offset lies before the message.
            kept.push(message);
        }
        return;
    }
    let Place { queue, offset, physical } = place;
    let reader = Reader::Group;
    world.history.report(CAST.consumer, Report::Delivered { reader, queue, offset, physical, message: id });
    message.ack();
}

/// A connection of the bare protocol, made anew after a failure: no late answer is taken for another one.
struct Line {
    to: SocketAddr,
    open: Option<TcpStream>,
    opaque: i32,
}

impl Line {
    fn new(to: SocketAddr) -> Line {
        Line { to, open: None, opaque: 0 }
    }

    fn ask(&mut self, code: i32, ext: Ext) -> io::Result<Packet> {
        self.send(Packet::request(code, ext))
    }

    fn send(&mut self, request: Packet) -> io::Result<Packet> {
        self.opaque += 1;
        let request = Packet { opaque: self.opaque, ..request };
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.to)?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let answer = ask_on(&mut stream, request)?;
        self.open = Some(stream);
        Ok(answer)
    }

    /// An offset, if it is there.
    fn ask_offset(&mut self, code: i32, ext: Ext) -> io::Result<Option<i64>> {
        let answer = self.ask(code, ext)?;
        match answer.code {
            response_code::SUCCESS => {
                let offset = answer.ext.get("offset").ok_or(io::ErrorKind::InvalidData)?;
                offset.parse().map(Some).map_err(io::Error::other)
            }
            response_code::QUERY_NOT_FOUND => Ok(None),
            _ => Err(io::Error::other(format!("{answer:?}"))),
        }
    }
}

/// A group that commits how far a queue goes.
struct Clerk<'a> {
    line: &'a mut Line,
    group: String,
    queue_id: i32,
}

impl Clerk<'_> {
    fn join(&mut self) -> bool {
        let group = Packet::request(request_code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, Ext::None);
        let group = group.with_body(format!(r#"{{"groupName":"{}"}}"#, self.group).into_bytes());
        self.line.send(group).is_ok_and(|made| made.code == response_code::SUCCESS)
    }

    fn end(&mut self) -> io::Result<Option<i64>> {
        let topic = topic_name(0).into();
        let question = GetMaxOffsetRequest { topic, queue_id: self.queue_id, committed: None };
        self.line.ask_offset(request_code::GET_MAX_OFFSET, question.to_ext())
    }

    fn commit(&mut self, value: i64) -> bool {
        let commit = UpdateConsumerOffsetRequest {
            consumer_group: self.group.as_str().into(),
            topic: topic_name(0).into(),
            queue_id: self.queue_id,
            commit_offset: value,
        };
        let taken = self.line.ask(request_code::UPDATE_CONSUMER_OFFSET, commit.to_ext());
        taken.is_ok_and(|taken| taken.code == response_code::SUCCESS)
    }

    fn committed(&mut self) -> io::Result<Option<i64>> {
        let question = QueryConsumerOffsetRequest {
            consumer_group: self.group.as_str().into(),
            topic: topic_name(0).into(),
            queue_id: self.queue_id,
            set_zero_if_not_found: Some(false),
        };
        self.line.ask_offset(request_code::QUERY_CONSUMER_OFFSET, question.to_ext())
    }
}

/// Commits how far a queue goes, for a group of its own, and asks what is committed: the master, whatever a slave takes meanwhile. Of
/// a commit without an answer nobody knows when it is carried out: another group goes on then.
pub(crate) fn keep_offsets(world: &World) {
    let reader = Reader::Group;
    let pause = || std::thread::sleep(Duration::from_millis(20));
    let mut line = Line::new(world.master);
    for number in 0_u8..=u8::MAX {
        let queue_id = i32::from(number) % QUEUES;
        let mut clerk = Clerk { line: &mut line, group: format!("clerks-{number}"), queue_id };
        // The group has its own name among the queues.
        let queue = Queue { topic: number, id: queue_id };
        let tell = |told| world.history.add(CAST.master, What::Told(told));
        while !world.is_over() && !clerk.join() {
            pause();
        }
        while !world.is_over() {
            pause();
            if let Ok(Some(value)) = clerk.end() {
                tell(Told::OffsetTaken { reader, queue, value, certain: false });
                if !clerk.commit(value) {
                    break;
                }
                tell(Told::OffsetTaken { reader, queue, value, certain: true });
            }
            if let Ok(value) = clerk.committed() {
                tell(Told::OffsetTold { reader, queue, value });
            }
        }
        if world.is_over() {
            return;
        }
    }
}

/// Asks a name server for the route, again and again; the proxy in front of it writes down what it says.
pub(crate) fn watch(world: &World) {
    let mut line = Line::new(world.names);
    while !world.is_over() {
        std::thread::sleep(Duration::from_millis(100));
        let topic = Ext::Fields(vec![("topic".into(), topic_name(0).into())]);
        // Whoever cannot be asked is asked again.
        let _ = line.ask(request_code::GET_ROUTEINFO_BY_TOPIC, topic);
    }
}

/// Reads everything; gives how many messages there are.
pub(crate) fn audit(world: &World) -> usize {
    let begin = Instant::now();
    let reader = Reader::Auditor;
    block_on(async {
        let builder = PullConsumer::builder().group(reader.group()).name_servers(world.names.to_string());
        let auditor = builder.build().await.unwrap();
        let mut read = 0;
        for id in 0..QUEUES {
            let place = MessageQueue::new(topic_name(0), "broker-a", id);
            let mut next = 0;
            loop {
                let pulled = match auditor.pull(&place, next, "*", Duration::ZERO).await {
                    Ok(pulled) => pulled,
                    Err(error) => {
                        if begin.elapsed() > RECOVERY {
                            world.history.broken(format!("queue {id} cannot be read: {error}"));
                            return read;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                for message in &pulled.messages {
                    let Place { queue, offset, physical } = place_of(message);
                    let report =
                        Report::Delivered { reader, queue, offset, physical, message: id_of(message) };
                    world.history.report(CAST.auditor, report);
                }
                read += pulled.messages.len();
                next = pulled.next_offset;
                if next >= pulled.max_offset {
                    break;
                }
            }
        }
        auditor.stop().await;
        read
    })
}
