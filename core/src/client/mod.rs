//! The client machine: the third role of the cluster, driven like name server and broker.
//!
//! One [`Client`] has one client id, one connection an address, one cache of routes, a producer, a consumer or both.
//! The host gives commands and gets events; a [`RequestId`] joins an answer to its command.
//!
//! Absent on purpose: knowing what brokers serve. Whoever asks for a thing that a broker does not serve gets the broker's words.

mod ask;
mod asked;
mod calls;
mod consumer;
mod error;
mod id;
mod lane;
mod latency;
mod message;
mod producer;
mod rebalance;
mod route;
mod trace;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use ask::{Found, Pull, Pulled, Question};
pub use consumer::{ConsumerConfig, Delivery, DeliveryId, Filter, Start, Verdict};
pub use error::{AskError, ConsumeError, RequestError, SendError};
pub use id::{DEFAULT_INSTANCE, Origin, client_id, process_instance};
pub use message::{BODY_BYTES_MAX, Message, MessageError, Properties, Received, property};
pub use producer::{
    Batching, Half, ProducerConfig, Receipt, Request, Resolution, Send, SendHalf, SendStatus, Target,
};
pub use rebalance::{AllocateError, RoomNames, RoomResolver, Strategy, VIRTUAL_NODES};
pub use route::AUTO_CREATE_TOPIC;
pub use trace::{TRACE_TOPIC, TraceConfig};

use ask::{AskId, Asks};
use calls::{Calls, News, Outcome};
use consumer::{Consumer, Errand};
use id::MessageIds;
use producer::{JobId, Producer, Tools};
use route::{Answer, Question as RouteQuestion, Routes};
use trace::Tracer;

use crate::io::{Disk, Effect, Env, Input, Machine, Now};
use crate::time::{Duration, Instant};
use crate::wire::body::{
    self, ConsumeType, ConsumerData, HeartbeatData, MessageModel, MessageQueue, ProducerData,
};
use crate::wire::code::{request_code, response_code};
use crate::wire::request::{GetRouteInfoRequest, Header, UnregisterClientRequest};
use crate::wire::{Command, Ext};

/// How often every known broker is sent a heartbeat (`heartbeatBrokerInterval`).
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How soon one that failed is sent again.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(1);
/// How long a broker may take to answer a heartbeat or another small request.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a stop waits for brokers to be told.
const GOODBYE: Duration = Duration::from_secs(1);

/// Joins an event to the command that asked for it. Chosen by the host; one that is under way must not be used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u64);

/// What a client is told at its making.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// See [`client_id`].
    pub client_id: String,
    /// Addresses of name servers, `host:port`.
    pub name_servers: Vec<Arc<str>>,
    /// Goes into the ids of its messages.
    pub origin: Origin,
    /// To send with.
    pub producer: Option<ProducerConfig>,
    /// To consume with.
    pub consumer: Option<ConsumerConfig>,
}

/// What the host may ask.
#[derive(Clone, Debug)]
pub enum ClientCommand {
    /// Send a message, or several as one batch.
    Send(Send),
    /// Send a message and wait for a reply.
    Request(Request),
    /// Send a message that consumers see once its transaction is committed.
    SendHalf(SendHalf),
    /// How the transaction of a half message ended.
    End(Half, Resolution),
    /// The queues of a topic that may be written.
    WritableQueues {
        /// Comes back with the answer.
        id: RequestId,
        /// Which topic.
        topic: String,
    },
    /// What became of a delivery.
    Settle(DeliveryId, Verdict),
    /// Consume these queues, of a consumer whose host chooses them ([`ConsumerConfig::assigned`]).
    Assign(Vec<MessageQueue>),
    /// Go on at this offset of a queue. Deliveries of it that are not settled count no more.
    Seek(MessageQueue, i64),
    /// Pull and hand out nothing of these queues until they are resumed or go to another member; what was handed out is not concerned.
    Pause(Vec<MessageQueue>),
    /// Go on with these queues.
    Resume(Vec<MessageQueue>),
    /// Commit at once what is consumed, not only every 5 s or, without [`ConsumerConfig::auto_commit`], never.
    Commit,
    /// Find something out.
    Ask {
        /// Comes back with the answer.
        id: RequestId,
        /// What.
        question: Question,
    },
    /// End what is under way, leave the brokers, and say [`ClientEvent::Stopped`].
    Stop,
}

/// What the client tells its host.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// A send ended: a receipt for each message, in order.
    Sent {
        /// Which.
        id: RequestId,
        /// How.
        result: Result<Vec<Receipt>, SendError>,
    },
    /// A request ended.
    Replied {
        /// Which.
        id: RequestId,
        /// How.
        result: Result<Received, RequestError>,
    },
    /// A broker asks how the transaction of a half message of this client's group ended: tell it with [`ClientCommand::End`]. No
    /// answer is as good as [`Resolution::Unknown`].
    Checking {
        /// For the answer.
        half: Half,
        /// The message; [`Received::queue`] does not name the broker.
        message: Received,
    },
    /// The answer to [`ClientCommand::WritableQueues`]; none when the topic is not known.
    Queues {
        /// To which command.
        id: RequestId,
        /// Sorted.
        queues: Result<Vec<MessageQueue>, SendError>,
    },
    /// Messages for the application. Settle each delivery; more come as those are settled.
    Delivered(Delivery),
    /// The queues of a topic that are this member's from now on.
    Assigned {
        /// Which topic.
        topic: String,
        /// All that it has of it, sorted.
        queues: Vec<MessageQueue>,
    },
    /// How far this client has come with a broadcast, all queues: to be stored, and given to its next life
    /// ([`ConsumerConfig::offsets`]).
    Progress(BTreeMap<MessageQueue, i64>),
    /// The answer to [`ClientCommand::Ask`].
    Answered {
        /// To which command.
        id: RequestId,
        /// What was found.
        result: Result<Found, AskError>,
    },
    /// The consumer cannot do its work, until somebody acts. Said once; it goes on trying.
    Failing(ConsumeError),
    /// Something goes wrong that the client goes on trying; for people.
    Problem(String),
    /// It has left; nothing follows.
    Stopped,
}

/// What a call is for.
#[derive(Debug)]
enum Tag {
    Route(RouteQuestion),
    Heartbeat(Arc<str>),
    Goodbye,
    Send(JobId),
    Trace(JobId),
    Consumer(Errand),
    Ask(AskId),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    routes: Routes,
    calls: Calls<Tag>,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    tracer: Option<Tracer>,
    /// When each broker is to hear from this client again.
    heartbeats: BTreeMap<Arc<str>, Instant>,
    /// Up to which change of the routes the brokers in `heartbeats` are those in the routes.
    heard_of: Option<u64>,
    asked_queues: Vec<(RequestId, String, Instant)>,
    asks: Asks,
    /// A group that is committed for by hand: brokers must know it.
    committer: Option<String>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// Ends what is under way.
    Finishing,
    /// So many brokers have still to confirm that it leaves, until then.
    Leaving(usize, Instant),
    Stopped,
}

impl Client {
    /// A client that begins at [`Input::Start`].
    pub fn new(config: ClientConfig) -> Client {
        let ids = MessageIds::new(config.origin);
        let of_producer = config.producer.as_ref().and_then(|it| Some((it.trace.as_ref()?, &it.group)));
        let of_consumer = config.consumer.as_ref().and_then(|it| Some((it.trace.as_ref()?, &it.group)));
        let traced = of_producer.or(of_consumer);
        Client {
            routes: Routes::new(config.name_servers.clone()),
            calls: Calls::new(),
            producer: config.producer.clone().map(|producer| Producer::new(producer, ids)),
            consumer: config
                .consumer
                .clone()
                .map(|consumer| Consumer::new(consumer, config.client_id.clone())),
            tracer: traced.map(|(trace, group)| Tracer::new(trace, group)),
            heartbeats: BTreeMap::new(),
            heard_of: None,
            asked_queues: Vec::new(),
            asks: Asks::default(),
            committer: None,
            phase: Phase::Running,
            config,
        }
    }

    fn on_command<D: Disk>(&mut self, now: Now, command: ClientCommand, env: &mut Env<'_, D, ClientEvent>) {
        match command {
            ClientCommand::Send(send) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                match &mut self.producer {
                    Some(producer) => producer.on_send(send, &mut tools),
                    None => {
                        let result = Err(SendError::Stopped);
                        env.out.push(Effect::Emit(ClientEvent::Sent { id: send.id, result }));
                    }
                }
            }
            ClientCommand::Request(request) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                match &mut self.producer {
                    Some(producer) => producer.on_request(request, &self.config.client_id, &mut tools),
                    None => {
                        let result = Err(RequestError::Stopped);
                        env.out.push(Effect::Emit(ClientEvent::Replied { id: request.id, result }));
                    }
                }
            }
            ClientCommand::SendHalf(half) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                match &mut self.producer {
                    Some(producer) => producer.on_send_half(half, &mut tools),
                    None => {
                        let result = Err(SendError::Stopped);
                        env.out.push(Effect::Emit(ClientEvent::Sent { id: half.id, result }));
                    }
                }
            }
            ClientCommand::End(half, resolution) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(producer) = &mut self.producer {
                    producer.on_end(&half, resolution, &mut tools);
                }
            }
            ClientCommand::WritableQueues { id, topic } => {
                self.routes.want(now.mono, &topic, true);
                self.asked_queues.push((id, topic, now.mono + ANSWER));
            }
            ClientCommand::Settle(id, verdict) => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_settled(id, verdict, &mut tools);
                }
            }
            ClientCommand::Assign(queues) => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_assign(queues, now.mono);
                }
            }
            ClientCommand::Seek(queue, offset) => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_seek(&queue, offset, &mut tools);
                }
            }
            ClientCommand::Pause(queues) => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_pause(queues, &mut tools);
                }
            }
            ClientCommand::Resume(queues) => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_resume(&queues);
                }
            }
            ClientCommand::Commit => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(consumer) = &mut self.consumer {
                    consumer.commit(&mut tools);
                }
            }
            ClientCommand::Ask { id, question } if self.phase == Phase::Running => {
                let own = self.consumer.as_mut().and_then(|consumer| consumer.on_question(&question, env));
                if let Some(found) = own {
                    return env.out.push(Effect::Emit(ClientEvent::Answered { id, result: Ok(found) }));
                }
                if let Question::Commit(group, ..) = &question
                    && self.consumer.is_none()
                    && self.committer.as_ref() != Some(group)
                {
                    self.committer = Some(group.clone());
                    self.heartbeats.clear();
                    self.heard_of = None;
                }
                self.asks.on_ask(now, id, question, &mut self.routes);
            }
            ClientCommand::Ask { id, .. } => {
                env.out.push(Effect::Emit(ClientEvent::Answered { id, result: Err(AskError::Stopped) }));
            }
            ClientCommand::Stop => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Finishing;
                    self.asks.stop(env);
                    let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                    if let Some(producer) = &mut self.producer {
                        producer.stop(&mut tools);
                    }
                    let mut tools =
                        consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                    if let Some(consumer) = &mut self.consumer {
                        consumer.stop(&mut tools);
                    }
                }
            }
        }
    }

    fn take_news<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        for news in self.calls.take_news() {
            match news {
                News::Done(tag, outcome) => self.on_outcome(now, tag, outcome, env),
                News::Asked(conn, command) => self.on_asked(now, conn, &command, env),
                News::Gone(address) => {
                    // Who is not connected is not a client: the broker has forgotten this one.
                    if let Some(at) = self.heartbeats.get_mut(&address) {
                        *at = (*at).min(now.mono + HEARTBEAT_RETRY);
                    }
                }
            }
        }
    }

    fn on_outcome<D: Disk>(
        &mut self,
        now: Now,
        tag: Tag,
        outcome: Outcome,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        match tag {
            Tag::Route(question) => self.on_route(now, &question, outcome, env),
            Tag::Heartbeat(address) => {
                let is_heard =
                    matches!(outcome, Outcome::Reply(reply) if reply.code == response_code::SUCCESS);
                if is_heard && let Some(consumer) = &mut self.consumer {
                    consumer.on_heard(now.mono);
                }
                if !is_heard && let Some(at) = self.heartbeats.get_mut(&address) {
                    *at = (*at).min(now.mono + HEARTBEAT_RETRY);
                }
            }
            Tag::Goodbye => {
                if let Phase::Leaving(left, until) = &mut self.phase {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        *until = now.mono;
                    }
                }
            }
            Tag::Consumer(errand) => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(consumer) = &mut self.consumer {
                    consumer.on_outcome(errand, outcome, &mut tools);
                }
            }
            Tag::Ask(id) => self.asks.on_outcome(id, &outcome, env),
            Tag::Trace(id) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(tracer) = &mut self.tracer {
                    tracer.on_outcome(id, outcome, &mut tools);
                }
            }
            Tag::Send(id) => {
                let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                if let Some(producer) = &mut self.producer {
                    producer.on_outcome(id, outcome, &mut tools);
                }
            }
        }
    }

    fn on_route<D: Disk>(
        &mut self,
        now: Now,
        question: &RouteQuestion,
        outcome: Outcome,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        let (answer, next) = match outcome {
            Outcome::Reply(reply) if reply.code == response_code::SUCCESS => {
                self.routes.on_answer(now.mono, question, Some(&reply.body))
            }
            Outcome::Reply(reply) if reply.code == response_code::TOPIC_NOT_EXIST => {
                self.routes.on_answer(now.mono, question, None)
            }
            Outcome::Reply(_) | Outcome::Lost | Outcome::NotSent => {
                (self.routes.on_silence(now.mono, question), None)
            }
        };
        if let Some(next) = next {
            self.ask(now, next, env);
        }
        let (topic, servers) = (question.topic.as_ref(), || self.routes.servers());
        let (error, ask_error, consume_error) = match answer {
            Answer::Known | Answer::Asking => return,
            Answer::Unknown => (
                SendError::UnknownTopic(topic.into()),
                AskError::UnknownTopic(topic.into()),
                ConsumeError::UnknownTopic(topic.into()),
            ),
            Answer::NoServer => (
                SendError::NoNameServer(servers()),
                AskError::NoNameServer(servers()),
                ConsumeError::NoNameServer(servers()),
            ),
        };
        self.asks.on_no_route(topic, &ask_error, env);
        let mut tools = consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
        if let Some(consumer) = &mut self.consumer {
            consumer.on_no_route(topic, &consume_error, &mut tools);
        }
        if let Some(producer) = &mut self.producer {
            producer.on_no_route(&question.topic, &error, env);
        }
        if let Some(tracer) = &mut self.tracer {
            tracer.on_no_route(&question.topic, &error, env);
        }
        for (id, topic, _) in
            self.asked_queues.extract_if(.., |(_, topic, _)| topic.as_str() == &*question.topic)
        {
            debug_assert_eq!(topic.as_str(), &*question.topic);
            env.out.push(Effect::Emit(ClientEvent::Queues { id, queues: Err(error.clone()) }));
        }
    }

    fn ask<D: Disk>(&mut self, now: Now, question: RouteQuestion, env: &mut Env<'_, D, ClientEvent>) {
        let topic = if question.is_template { route::AUTO_CREATE_TOPIC } else { &question.topic };
        let header = GetRouteInfoRequest { topic: topic.into(), accept_standard_json_only: Some(true) };
        let command = Command::request(request_code::GET_ROUTEINFO_BY_TOPIC, header.to_ext());
        let (server, limit) = (question.server.clone(), self.routes.answer_limit());
        self.calls.call(now, &server, command, limit, Tag::Route(question), env);
    }

    /// Tells brokers who this is: those that are new at once.
    fn send_heartbeats<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        // Who only asks is in no group, and no broker need know of it.
        if self.producer.is_none() && self.consumer.is_none() && self.committer.is_none() {
            return;
        }
        if self.heard_of != Some(self.routes.changes()) {
            self.heard_of = Some(self.routes.changes());
            let known: BTreeSet<Arc<str>> = self.routes.addresses(self.consumer.is_none());
            self.heartbeats.retain(|address, _| known.contains(address));
            for address in known {
                self.heartbeats.entry(address).or_insert(now.mono);
            }
        }
        let due = self.heartbeats.iter().filter(|(_, at)| **at <= now.mono).map(|(address, _)| address);
        let due: Vec<Arc<str>> = due.cloned().collect();
        for address in due {
            self.heartbeats.insert(address.clone(), now.mono + HEARTBEAT);
            let command = Command::request(request_code::HEART_BEAT, Ext::None)
                .with_body(body::encode(&self.heartbeat()));
            self.calls.call(now, &address, command, ANSWER, Tag::Heartbeat(address.clone()), env);
        }
    }

    fn heartbeat(&self) -> HeartbeatData {
        let group = |producer: &Producer| ProducerData { group_name: producer.group().into() };
        let committer = self.committer.iter().map(|group| ConsumerData {
            consume_type: ConsumeType::Actively,
            group_name: group.clone(),
            message_model: MessageModel::Clustering,
            ..ConsumerData::default()
        });
        HeartbeatData {
            client_id: self.config.client_id.clone(),
            consumer_data_set: self.consumer.iter().map(Consumer::heartbeat).chain(committer).collect(),
            producer_data_set: self.producer.iter().map(group).collect(),
            ..HeartbeatData::default()
        }
    }

    fn answer_queues<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        let routes = &self.routes;
        self.asked_queues.retain(|(id, topic, until)| {
            let queues = match routes.route(topic) {
                Some(route) => Ok(route.writable.clone()),
                None if *until <= now.mono => Err(SendError::NoNameServer(routes.servers())),
                None => return true,
            };
            env.out.push(Effect::Emit(ClientEvent::Queues { id: *id, queues }));
            false
        });
    }

    /// Sends what producer and consumer have noted.
    fn trace<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        let Some(tracer) = &mut self.tracer else { return };
        let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
        tracer.take(self.producer.as_mut().map(Producer::take_notes).unwrap_or_default(), &mut tools);
        tracer.take(self.consumer.as_mut().map(Consumer::take_notes).unwrap_or_default(), &mut tools);
        let is_last = self.phase == Phase::Finishing && self.producer.as_ref().is_none_or(Producer::is_idle);
        tracer.settle(is_last, &mut tools);
    }

    /// Leaves, step by step.
    fn leave<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        match self.phase {
            Phase::Running | Phase::Stopped => {}
            Phase::Finishing => {
                let is_tracing = self.tracer.as_ref().is_some_and(|tracer| !tracer.is_idle());
                if is_tracing || self.producer.as_ref().is_some_and(|producer| !producer.is_idle()) {
                    return;
                }
                let told: Vec<Arc<str>> =
                    self.heartbeats.keys().filter(|address| self.calls.is_known(address)).cloned().collect();
                let header = UnregisterClientRequest {
                    client_id: self.config.client_id.clone(),
                    producer_group: self.producer.as_ref().map(|producer| producer.group().into()),
                    consumer_group: self
                        .consumer
                        .as_ref()
                        .map(Consumer::group)
                        .or(self.committer.as_deref())
                        .map(Into::into),
                };
                for address in &told {
                    let command = Command::request(request_code::UNREGISTER_CLIENT, header.to_ext());
                    self.calls.call(now, address, command, GOODBYE, Tag::Goodbye, env);
                }
                let until = if told.is_empty() { now.mono } else { now.mono + GOODBYE };
                self.phase = Phase::Leaving(told.len(), until);
                self.leave(now, env);
            }
            Phase::Leaving(_, until) => {
                if until <= now.mono {
                    self.phase = Phase::Stopped;
                    self.calls.close_all(now, env);
                    env.out.push(Effect::Emit(ClientEvent::Stopped));
                }
            }
        }
    }
}

impl<D: Disk> Machine<D> for Client {
    type Command = ClientCommand;
    type Event = ClientEvent;

    fn step(&mut self, now: Now, input: Input<ClientCommand>, env: &mut Env<'_, D, ClientEvent>) {
        match input {
            Input::Start => {
                self.routes.choose(env.rng.next_u64());
                if let Some(consumer) = &mut self.consumer {
                    consumer.start(now);
                }
                if let Some(producer) = &mut self.producer {
                    producer.start(now, env.rng.next_u64(), &mut self.routes);
                }
            }
            Input::Command(command) => self.on_command(now, command, env),
            Input::Opened { .. } | Input::Received { .. } | Input::Closed { .. } => {
                self.calls.on_input(now, input, env);
                self.take_news(now, env);
            }
            Input::Drained { .. } | Input::Synced { .. } | Input::Fetched { .. } | Input::Wake => {}
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, D, ClientEvent>) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.calls.expire(now, env);
        self.take_news(now, env);
        for question in self.routes.questions(now.mono) {
            self.ask(now, question, env);
        }
        if self.phase == Phase::Running {
            self.send_heartbeats(now, env);
        }
        self.answer_queues(now, env);
        self.asks.settle(now, &self.routes, &mut self.calls, env);
        let mut tools = Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
        if let Some(producer) = &mut self.producer {
            producer.settle(&mut tools);
        }
        let mut tools = consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
        if let Some(consumer) = &mut self.consumer {
            consumer.settle(&mut tools);
        }
        self.trace(now, env);
        // What the consumer has come to want is asked for in the same turn.
        for question in self.routes.questions(now.mono) {
            self.ask(now, question, env);
        }
        self.leave(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let stop = match self.phase {
            Phase::Running | Phase::Finishing => None,
            Phase::Leaving(_, until) => Some((until, "leave")),
            Phase::Stopped => return None,
        };
        let due = [
            stop,
            self.calls.deadline().map(|at| (at, "an answer is late")),
            self.routes.deadline().map(|at| (at, "route")),
            self.heartbeats
                .values()
                .min()
                .filter(|_| self.phase == Phase::Running)
                .map(|at| (*at, "heartbeat")),
            self.asks.deadline().map(|at| (at, "a route for a question")),
            self.asked_queues.iter().map(|(_, _, until)| (*until, "queues")).min(),
            self.producer.as_ref().and_then(Producer::deadline).map(|at| (at, "send")),
            self.consumer.as_ref().and_then(Consumer::deadline).map(|at| (at, "consume")),
            self.tracer.as_ref().and_then(Tracer::deadline).map(|at| (at, "trace")),
        ];
        due.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn check_invariants(&self) {
        self.calls.check_invariants();
        self.consumer.iter().for_each(Consumer::check_invariants);
    }
}
