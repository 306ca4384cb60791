//! Where topics are: the routes that name servers told, kept when none of them answers.
//!
//! One name server is asked at a time; when it does not answer, the next one. A route is asked for again every
//! [`REFRESH`]. What was once known is forgotten only when a name server tells something else.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::probe::Probe;
use crate::time::{Duration, Instant};
use crate::wire::body::{self, MessageQueue, TopicRouteData};

/// How often a known route is asked for again (`pollNameServerInterval`).
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// How soon an unknown topic is asked for again.
pub(super) const RETRY: Duration = Duration::from_secs(3);
/// How long a name server may take, all of them together.
const ANSWER: Duration = Duration::from_secs(3);
/// How long one of several may take at least.
const ANSWER_MIN: Duration = Duration::from_millis(500);
/// Queues of a topic that is about to be made (`defaultTopicQueueNums`).
pub(super) const NEW_TOPIC_QUEUES: i32 = 4;
/// The topic whose brokers make new topics.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// The broker id of a master.
pub(super) const MASTER_ID: i64 = 0;

const PERM_READ: i32 = 4;
const PERM_WRITE: i32 = 2;

/// Where one topic is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Route {
    /// Queues that may be written, with a master, sorted.
    pub(super) writable: Vec<MessageQueue>,
    /// Queues that may be read, sorted.
    pub(super) readable: Vec<MessageQueue>,
    /// Addresses by broker name and id.
    pub(super) brokers: BTreeMap<String, BTreeMap<i64, Arc<str>>>,
}

#[derive(Debug)]
struct Topic {
    route: Option<Route>,
    /// What a name server last told, and of which question, that made this route: most answers say nothing new.
    told: Option<(bool, Vec<u8>)>,
    /// It is not there, and its queues are those of brokers that would make it.
    is_guessed: bool,
    is_asking: bool,
    ask_at: Instant,
    /// Name servers that did not answer since one did.
    failures: usize,
    /// Somebody wants to send to it, so it may be made.
    may_make: bool,
}

impl Topic {
    /// It is known where it is, and asked for again after a while: sooner where whoever is waiting can do nothing with that.
    fn rest(&mut self, now: Instant) {
        self.is_asking = false;
        let is_stuck = self.may_make && self.route.as_ref().is_some_and(|route| route.writable.is_empty());
        let is_wanted_soon = self.is_guessed && !self.may_make || is_stuck;
        self.ask_at = now + if is_wanted_soon { RETRY } else { REFRESH };
    }
}

/// A question to a name server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) topic: Arc<str>,
    /// Asks for [`AUTO_CREATE_TOPIC`] in its place.
    pub(super) is_template: bool,
    /// Whom.
    pub(super) server: Arc<str>,
}

/// What is known of a topic after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// Where it is.
    Known,
    /// That it is not there, and no broker would make it.
    Unknown,
    /// Another question follows at once.
    Asking,
    /// Nothing new: no name server answers.
    NoServer,
}

/// The routes of a client.
#[derive(Debug)]
pub(super) struct Routes {
    servers: Vec<Arc<str>>,
    chosen: usize,
    topics: BTreeMap<Arc<str>, Topic>,
    changes: u64,
}

impl Routes {
    pub(super) fn new(servers: Vec<Arc<str>>) -> Routes {
        Routes { servers, chosen: 0, topics: BTreeMap::new(), changes: 0 }
    }

    /// Counts the answers that told something new: while it stays the same, so does everything that follows from routes.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Begins with another one than everybody else.
    pub(super) fn choose(&mut self, draw: u64) {
        self.chosen = usize::try_from(draw).unwrap_or_default() % self.servers.len().max(1);
    }

    /// How long one name server may take.
    pub(super) fn answer_limit(&self) -> Duration {
        (ANSWER / u32::try_from(self.servers.len().max(1)).unwrap_or(1)).max(ANSWER_MIN)
    }

    /// Wants to know where a topic is; `may_make` when it is to be written.
    pub(super) fn want(&mut self, now: Instant, topic: &str, may_make: bool) {
        if let Some(known) = self.topics.get_mut(topic) {
            if may_make && !known.may_make && known.route.is_none() && !known.is_asking {
                known.ask_at = now;
            }
            known.may_make |= may_make;
            return;
        }
        let (route, told, is_guessed, is_asking, failures) = (None, None, false, false, 0);
        let state = Topic { route, told, is_guessed, is_asking, ask_at: now, failures, may_make };
        self.topics.insert(topic.into(), state);
    }

    /// Asks again now, if it is not being asked for.
    pub(super) fn refresh(&mut self, now: Instant, topic: &str) {
        if let Some(state) = self.topics.get_mut(topic) {
            state.ask_at = state.ask_at.min(now);
        }
    }

    /// Where a topic is.
    pub(super) fn route(&self, topic: &str) -> Option<&Route> {
        self.topics.get(topic)?.route.as_ref()
    }

    /// Where a topic is that is there, and not only to be made.
    pub(super) fn existing(&self, topic: &str) -> Option<&Route> {
        self.topics.get(topic).filter(|state| !state.is_guessed)?.route.as_ref()
    }

    /// The questions that are due; their answers must come to [`Routes::on_answer`] or [`Routes::on_silence`].
    pub(super) fn questions(&mut self, now: Instant) -> Vec<Question> {
        let Some(server) = self.servers.get(self.chosen) else { return Vec::new() };
        let mut questions = Vec::new();
        for (topic, state) in &mut self.topics {
            if !state.is_asking && state.ask_at <= now {
                state.is_asking = true;
                let (topic, server) = (topic.clone(), server.clone());
                questions.push(Question { topic, is_template: false, server });
            }
        }
        questions
    }

    /// A name server told where a topic is (`None`: that it is not there). May give another question.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        question: &Question,
        told: Option<&[u8]>,
    ) -> (Answer, Option<Question>) {
        let Some(state) = self.topics.get_mut(&question.topic) else { return (Answer::Unknown, None) };
        state.failures = 0;
        let is_known = |bytes| {
            state.told.as_ref().is_some_and(|(of, known)| *of == question.is_template && known == bytes)
        };
        if told.is_some_and(is_known) {
            state.rest(now);
            return (Answer::Known, None);
        }
        let data = told.and_then(|bytes| body::decode::<TopicRouteData>(bytes).ok());
        let found = match (&data, question.is_template) {
            (Some(data), false) => Some(Route::read(&question.topic, data)),
            (Some(data), true) => Some(Route::guess(&question.topic, data)),
            (None, _) => None,
        };
        match found {
            Some(route) => {
                // A guess does not replace what was there: the topic may be about to come back.
                if !question.is_template || state.route.is_none() || state.is_guessed {
                    if state.route.as_ref() != Some(&route) {
                        self.changes += 1;
                        state.route = Some(route);
                    }
                    state.is_guessed = question.is_template;
                    state.told = told.map(|bytes| (question.is_template, bytes.to_vec()));
                }
                state.rest(now);
                (Answer::Known, None)
            }
            // Brokers that would make it come and go as well.
            None if state.may_make
                && !question.is_template
                && (state.route.is_none() || state.is_guessed) =>
            {
                (Answer::Asking, Some(Question { is_template: true, ..question.clone() }))
            }
            None => {
                state.is_asking = false;
                state.ask_at = now + RETRY;
                (if state.route.is_some() { Answer::Known } else { Answer::Unknown }, None)
            }
        }
    }

    /// A name server did not answer, or not with sense.
    pub(super) fn on_silence(&mut self, now: Instant, question: &Question) -> Answer {
        if self.servers.get(self.chosen) == Some(&question.server) {
            self.chosen = (self.chosen + 1) % self.servers.len();
        }
        let Some(state) = self.topics.get_mut(&question.topic) else { return Answer::NoServer };
        state.is_asking = false;
        state.failures += 1;
        if state.failures < self.servers.len() {
            state.ask_at = now;
            return Answer::Asking;
        }
        if state.route.is_some() {
            Probe::RouteKept.reached();
        }
        state.failures = 0;
        state.ask_at = now + RETRY;
        Answer::NoServer
    }

    /// The address of a broker: the one of that id, or `None`.
    pub(super) fn address(&self, broker: &str, id: i64) -> Option<&Arc<str>> {
        self.members(broker).find_map(|members| members.get(&id))
    }

    /// The address to read from: of the wanted id, of the next one if a slave was wanted, else any.
    pub(super) fn address_to_read(&self, broker: &str, wanted: i64) -> Option<&Arc<str>> {
        let next = || if wanted == MASTER_ID { None } else { self.address(broker, wanted + 1) };
        let any = || self.members(broker).find_map(|members| members.values().next());
        self.address(broker, wanted).or_else(next).or_else(any)
    }

    fn members(&self, broker: &str) -> impl Iterator<Item = &BTreeMap<i64, Arc<str>>> {
        let routes = self.topics.values().filter_map(|state| state.route.as_ref());
        routes.filter_map(move |route| route.brokers.get(broker))
    }

    /// All addresses of all brokers; with `masters_only` only theirs.
    pub(super) fn addresses(&self, masters_only: bool) -> BTreeSet<Arc<str>> {
        let routes = self.topics.values().filter_map(|state| state.route.as_ref());
        let members = routes.flat_map(|route| route.brokers.values().flatten());
        members
            .filter(|(id, _)| !masters_only || **id == MASTER_ID)
            .map(|(_, address)| address.clone())
            .collect()
    }

    /// The name servers, for people.
    pub(super) fn servers(&self) -> String {
        self.servers.join(";")
    }

    /// When the next question is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.servers.is_empty() {
            return None;
        }
        self.topics.values().filter(|state| !state.is_asking).map(|state| state.ask_at).min()
    }
}

impl Route {
    fn read(topic: &str, data: &TopicRouteData) -> Route {
        let brokers = brokers(data);
        let (mut writable, mut readable) = (Vec::new(), Vec::new());
        for queues in &data.queue_datas {
            let Some(members) = brokers.get(&queues.broker_name) else { continue };
            let named = |id| MessageQueue::new(topic, queues.broker_name.as_str(), id);
            if queues.perm & PERM_READ != 0 {
                readable.extend((0..queues.read_queue_nums).map(named));
            }
            if queues.perm & PERM_WRITE != 0 && members.contains_key(&MASTER_ID) {
                writable.extend((0..queues.write_queue_nums).map(named));
            }
        }
        // An ordered topic has the queues that its configuration says, whatever brokers have.
        if let Some(conf) = data.order_topic_conf.as_deref().filter(|conf| !conf.is_empty()) {
            let parts = conf.split(';').filter_map(|part| part.split_once(':'));
            let counted = parts.filter_map(|(broker, count)| Some((broker, count.parse::<i32>().ok()?)));
            let named = |(broker, count): (&str, i32)| {
                let broker = broker.to_string();
                (0..count).map(move |id| MessageQueue::new(topic, broker.clone(), id))
            };
            writable = counted.flat_map(named).collect();
        }
        writable.sort();
        readable.sort();
        Route { writable, readable, brokers }
    }

    /// The queues that a topic will have once a message to it comes.
    fn guess(topic: &str, data: &TopicRouteData) -> Route {
        let mut data = data.clone();
        for queues in &mut data.queue_datas {
            let count = queues.read_queue_nums.min(NEW_TOPIC_QUEUES);
            queues.read_queue_nums = count;
            queues.write_queue_nums = count;
        }
        data.order_topic_conf = None;
        Route::read(topic, &data)
    }
}

fn brokers(data: &TopicRouteData) -> BTreeMap<String, BTreeMap<i64, Arc<str>>> {
    let members = |addresses: &BTreeMap<i64, String>| {
        addresses.iter().map(|(id, address)| (*id, Arc::from(address.as_str()))).collect()
    };
    data.broker_datas
        .iter()
        .filter(|broker| !broker.broker_addrs.is_empty())
        .map(|broker| (broker.broker_name.clone(), members(&broker.broker_addrs)))
        .collect()
}
