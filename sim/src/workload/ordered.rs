//! A member of a group that consumes in order, as RocketMQ's orderly push consumer does it: queues are shared out over the
//! members that the broker lists, locked at the broker before the first pull and every 20 s, given back when another member is
//! to have them. A lock is believed for 30 s.

use std::collections::BTreeMap;
use std::rc::Rc;

use gantry_core::io::{Effect, Env, Input, Machine, Now};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desk::{Desk, Doing, Membership, PULL_GRACE, Pulled, RETRY_DELAY, read_pull};
use super::producer::QUEUES;
use super::requests::{self, Pull, code, reply, reply_number};
use super::rpc::{ClientEnv, Event};
use super::{ClientOptions, REQUEST_TIMEOUT};
use crate::history::{OrderedReport, Queue, Report, topic_name};

const GROUP: &str = "ordered";
/// The broker's name, as in routes.
pub const BROKER: &str = "broker-a";
/// Members at most.
pub const MEMBERS: usize = 3;
/// `rebalanceInterval` and `rebalanceLockInterval`.
const INTERVAL: Duration = Duration::from_secs(20);
/// `rebalanceLockMaxLiveTime` of the client.
const LOCK_BELIEVED: Duration = Duration::from_secs(30);
const SUSPEND: Duration = Duration::from_secs(15);

/// What a member is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberPlan {
    /// Topics that it reads.
    pub topics: u8,
    /// Stretches of time, in ns from the beginning of the world, in which it has left the group.
    pub away_ns: Vec<(u64, u64)>,
}

#[derive(Debug)]
enum Tag {
    List,
    Lock { asked: Instant },
    Offset(Queue),
    Pull(Queue),
}

struct Lane {
    locked_until: Option<Instant>,
    next: Option<i64>,
    doing: Doing,
}

/// See the [module](self).
pub struct Member {
    desk: Desk<Tag>,
    plan: Rc<MemberPlan>,
    origin: Instant,
    present: bool,
    change_at: Option<Instant>,
    settled_at: Instant,
    lanes: BTreeMap<Queue, Lane>,
    list_at: Instant,
    lock_at: Instant,
    locking: bool,
}

impl Member {
    /// A life that begins `at` after the world did.
    pub fn new(options: ClientOptions, plan: Rc<MemberPlan>, at: Duration, now: Now) -> Member {
        let origin = Instant::from_nanos(now.mono.as_nanos() - at.as_nanos() as u64);
        Member {
            desk: Desk::new(options, None, now),
            plan,
            origin,
            present: false,
            change_at: None,
            settled_at: now.mono,
            lanes: BTreeMap::new(),
            list_at: now.mono,
            lock_at: now.mono,
            locking: false,
        }
    }

    fn is_away(&self, at: Instant) -> bool {
        let ns = (at - self.origin).as_nanos() as u64;
        self.plan.away_ns.iter().any(|(from, until)| (*from..*until).contains(&ns))
    }

    /// When it next comes or goes.
    fn changes_at(&self, now: Instant) -> Option<Instant> {
        let times = self.plan.away_ns.iter().flat_map(|(from, until)| [*from, *until]);
        times.map(|ns| self.origin + Duration::from_nanos(ns)).filter(|at| *at > now).min()
    }

    fn come_or_go(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        let away = self.is_away(now.mono);
        if self.present && away {
            let all: Vec<Queue> = self.lanes.keys().copied().collect();
            self.give_back(&all, env);
            let command = requests::leave(&self.desk.options.client_id, GROUP);
            self.desk.tell(env, command);
            self.desk.set_member(None, now);
        }
        if !self.present && !away {
            let topics = (0..self.plan.topics).map(topic_name).collect();
            self.desk.set_member(Some(Membership { group: GROUP, topics }), now);
            self.list_at = now.mono;
        }
        self.present = !away;
        self.change_at = self.changes_at(now.mono);
    }

    /// Commits and unlocks.
    fn give_back(&mut self, queues: &[Queue], env: &mut ClientEnv<'_>) {
        let mut locked = Vec::new();
        for queue in queues {
            let Some(lane) = self.lanes.remove(queue) else { continue };
            if lane.locked_until.is_some() {
                locked.push((topic_name(queue.topic), queue.id));
            }
        }
        if !locked.is_empty() {
            let client = &self.desk.options.client_id;
            let command = requests::lock(code::UNLOCK_BATCH_MQ, GROUP, client, BROKER, &locked);
            self.desk.tell(env, command);
        }
    }

    fn on_event(&mut self, now: Now, event: Event<Tag>, env: &mut ClientEnv<'_>) {
        match event {
            Event::Reply(Tag::List, command) => self.on_list(now, &command, env),
            Event::Reply(Tag::Lock { asked }, command) => self.on_locked(now, asked, &command),
            Event::Reply(Tag::Offset(queue), command) => self.on_offset(now, queue, &command),
            Event::Reply(Tag::Pull(queue), command) => self.on_pull(now, queue, &command, env),
            Event::Lost(Tag::Lock { .. }) | Event::NotSent(Tag::Lock { .. }) => {
                self.locking = false;
                self.lock_at = now.mono + RETRY_DELAY;
            }
            Event::Lost(Tag::Offset(queue) | Tag::Pull(queue))
            | Event::NotSent(Tag::Offset(queue) | Tag::Pull(queue)) => {
                if let Some(lane) = self.lanes.get_mut(&queue) {
                    lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
                }
            }
            Event::Lost(Tag::List) | Event::NotSent(Tag::List) => self.list_at = now.mono + RETRY_DELAY,
            Event::Request(command) if command.code == code::NOTIFY_CONSUMER_IDS_CHANGED => {
                self.list_at = now.mono;
            }
            Event::Request(_) => {}
        }
    }

    /// Shares the queues out: each member gets a stretch of them.
    fn on_list(&mut self, now: Now, command: &Command, env: &mut ClientEnv<'_>) {
        let Ok(body) = serde_json::from_slice::<Value>(&command.body) else { return };
        let ids = body["consumerIdList"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut ids: Vec<&str> = ids.collect();
        ids.sort_unstable();
        let me = ids.iter().position(|id| *id == self.desk.options.client_id);
        let Some(me) = me.filter(|_| self.present && command.code == reply::SUCCESS) else { return };
        let topics = 0..self.plan.topics;
        let queues = topics.flat_map(|topic| (0..QUEUES as i32).map(move |id| Queue { topic, id }));
        let all: Vec<Queue> = queues.collect();
        let mine = &all[me * all.len() / ids.len()..(me + 1) * all.len() / ids.len()];
        let others: Vec<Queue> = self.lanes.keys().copied().filter(|queue| !mine.contains(queue)).collect();
        self.give_back(&others, env);
        for queue in mine {
            self.lanes.entry(*queue).or_insert_with(|| {
                self.lock_at = now.mono;
                Lane { locked_until: None, next: None, doing: Doing::Nothing(now.mono) }
            });
        }
    }

    fn on_locked(&mut self, now: Now, asked: Instant, command: &Command) {
        self.locking = false;
        let body = serde_json::from_slice::<Value>(&command.body).unwrap_or_default();
        let granted = body["lockOKMQSet"].as_array().cloned().unwrap_or_default();
        for (queue, lane) in &mut self.lanes {
            let name = topic_name(queue.topic);
            let ok = granted.iter().any(|one| one["topic"] == name.as_str() && one["queueId"] == queue.id);
            if !ok || lane.locked_until.is_none_or(|until| until < now.mono) {
                // Another member may have had it meanwhile.
                lane.next = None;
            }
            lane.locked_until = ok.then_some(asked + LOCK_BELIEVED);
        }
        let all = self.lanes.values().all(|lane| lane.locked_until.is_some());
        self.lock_at = now.mono + if all { INTERVAL } else { RETRY_DELAY };
    }

    fn on_offset(&mut self, now: Now, queue: Queue, command: &Command) {
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.doing = Doing::Nothing(now.mono);
        match command.code {
            reply::SUCCESS => lane.next = Some(reply_number(command, "offset").unwrap_or(0)),
            reply::QUERY_NOT_FOUND => lane.next = Some(0),
            _ => lane.doing = Doing::Nothing(now.mono + RETRY_DELAY),
        }
    }

    fn on_pull(&mut self, now: Now, queue: Queue, command: &Command, env: &mut ClientEnv<'_>) {
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.doing = Doing::Nothing(now.mono);
        let mine = lane.locked_until.is_some_and(|until| until > now.mono) && lane.next.is_some();
        let pulled = read_pull(command);
        if matches!(&pulled, Pulled::Refused | Pulled::Nothing { wait: true, .. }) {
            lane.doing = Doing::Nothing(now.mono + RETRY_DELAY);
        }
        let (Pulled::Messages { next, .. } | Pulled::Nothing { next, .. }) = &pulled else { return };
        if !mine {
            return;
        }
        lane.next = Some(*next);
        if let Pulled::Messages { records, next } = pulled {
            for record in records {
                let report = OrderedReport::Took { queue, offset: record.queue_offset };
                env.out.push(Effect::Emit(Report::Ordered(report)));
            }
            let command = requests::update_offset(GROUP, &topic_name(queue.topic), queue.id, next);
            self.desk.tell(env, command);
        }
    }

    fn work(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        if self.list_at <= now.mono {
            self.list_at = now.mono + INTERVAL;
            self.desk.call(now, env, requests::consumer_list(GROUP), REQUEST_TIMEOUT, Tag::List);
        }
        if !self.locking && self.lock_at <= now.mono && !self.lanes.is_empty() {
            self.locking = true;
            let queues: Vec<(String, i32)> =
                self.lanes.keys().map(|queue| (topic_name(queue.topic), queue.id)).collect();
            let client = &self.desk.options.client_id;
            let command = requests::lock(code::LOCK_BATCH_MQ, GROUP, client, BROKER, &queues);
            self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Lock { asked: now.mono });
        }
        for (&queue, lane) in &mut self.lanes {
            let locked = lane.locked_until.is_some_and(|until| until > now.mono);
            if !locked || !matches!(lane.doing, Doing::Nothing(at) if at <= now.mono) {
                continue;
            }
            lane.doing = Doing::Waiting;
            let topic = topic_name(queue.topic);
            let Some(offset) = lane.next else {
                let command = requests::query_offset(GROUP, &topic, queue.id);
                self.desk.call(now, env, command, REQUEST_TIMEOUT, Tag::Offset(queue));
                continue;
            };
            let pull = Pull {
                group: GROUP,
                topic: &topic,
                queue: queue.id,
                offset,
                messages_max: 8,
                commit: None,
                suspend_ms: SUSPEND.as_millis() as i64,
            };
            self.desk.call(now, env, requests::pull(&pull), SUSPEND + PULL_GRACE, Tag::Pull(queue));
        }
    }
}

impl Machine<MemoryDisk> for Member {
    type Command = ();
    type Event = Report;

    fn step(&mut self, now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        for event in self.desk.step(now, input, env) {
            self.on_event(now, event, env);
        }
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.settled_at = now.mono;
        self.come_or_go(now, env);
        for event in self.desk.settle(now, env) {
            self.on_event(now, event, env);
        }
        if self.present && self.desk.is_ready() {
            self.work(now, env);
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let mut at = self.desk.deadline();
        at = at.into_iter().chain(self.change_at).min();
        if self.present && self.desk.is_ready() {
            let lanes = self.lanes.values().filter_map(|lane| match (lane.doing, lane.locked_until) {
                (Doing::Nothing(at), Some(until)) if until > self.settled_at => Some(at),
                (Doing::Nothing(_) | Doing::Waiting, _) => None,
            });
            let lock = (!self.locking && !self.lanes.is_empty()).then_some(self.lock_at);
            at = at.into_iter().chain(lanes).chain(lock).chain([self.list_at]).min();
        }
        at.map(|at| (at, "work"))
    }
}
