//! A client that sends well-formed nonsense: any request code with any fields and any body, to the master and to a name server,
//! so that most get past their header. What it says is about topics and groups of its own; nobody else may notice it.
//!
//! Absent on purpose: what an administrator may ask of a whole server, such as other settings or the removal of what is old; that
//! is no nonsense. `tests/tests/broker/nonsense.rs` has it, and sees that everything is answered.

use std::rc::Rc;
use std::sync::Arc;

use gantry_core::io::{Env, Input, Machine, Now};
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::code::request_code;
use gantry_core::wire::{Command, Ext};
use gantry_disk::MemoryDisk;
use serde::{Deserialize, Serialize};

use super::rpc::{ClientEnv, Rpc};
use super::script::{Script, Timed};
use super::{ClientOptions, REQUEST_TIMEOUT};
use crate::history::Report;

/// Fields that requests have, the short ones of a send among them: of words,
const WORD_FIELDS: &[&str] = &[
    "a",
    "b",
    "c",
    "i",
    "topic",
    "group",
    "consumerGroup",
    "producerGroup",
    "groupName",
    "clientID",
    "subscription",
    "expressionType",
    "properties",
    "defaultTopic",
    "topicFilterType",
    "attributes",
    "originTopic",
    "originMsgId",
    "key",
    "value",
    "namespace",
    "brokerName",
    "transactionId",
    "msgId",
];

/// and of numbers.
const NUMBER_FIELDS: &[&str] = &[
    "d",
    "e",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "queueId",
    "queueOffset",
    "commitOffset",
    "offset",
    "maxMsgNums",
    "sysFlag",
    "suspendTimeoutMillis",
    "subVersion",
    "bornTimestamp",
    "flag",
    "reconsumeTimes",
    "unitMode",
    "batch",
    "defaultTopicQueueNums",
    "readQueueNums",
    "writeQueueNums",
    "perm",
    "order",
    "delayLevel",
    "maxReconsumeTimes",
    "maxNum",
    "beginTimestamp",
    "endTimestamp",
    "timestamp",
    "isForce",
    "index",
    "count",
];

const WORDS: &[&str] = &["babble", "babble", "babble-1", "%RETRY%babble", "*"];
const NUMBERS: &[&str] = &["0", "0", "1", "3", "8"];

const VALUES: &[&str] = &[
    "",
    " ",
    "0",
    "1",
    "-1",
    "8",
    "65536",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "1e9",
    "null",
    "true",
    "babble",
    "babble-1",
    "%RETRY%babble",
    "%DLQ%babble",
    "babble;babble-1",
    "*",
    "a || b",
    "SQL92",
    "a > 3",
    "../../babble",
    "\u{0}",
    "\u{1}\u{2}",
    "DELAY\u{1}3\u{2}",
    "KEYS\u{1}k\u{2}",
    "UNIQ_KEY\u{1}babble\u{2}",
    "é\u{1F980}",
    "{\"a\":[1]}",
    "[[[[[[[[",
    "0A00000200002A9F0000000000000000",
    "0A00000200002A9F7FFFFFFFFFFFFFFF",
];

const BODIES: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "{",
    "m",
    "\u{0}\u{0}\u{0}\u{8}babble",
    "{\"clientID\":\"babble\",\"consumerDataSet\":[{}]}",
    "{\"clientID\":\"babble\",\"consumerDataSet\":[{\"groupName\":\"babble\",\"subscriptionDataSet\":[{\"topic\":\"babble\",\"subString\":\"a||\"}]}]}",
    "{\"clientId\":\"babble\",\"consumerGroup\":\"babble\",\"mqSet\":[{\"topic\":\"babble\",\"brokerName\":\"b\",\"queueId\":-7}]}",
    "{\"groupName\":\"babble\",\"retryMaxTimes\":-9}",
    "{\"topicName\":\"babble\",\"readQueueNums\":-1}",
];

/// What concerns a whole server, or what all its clients see.
const NOT_SAID: &[i32] = &[
    request_code::UPDATE_BROKER_CONFIG,
    request_code::UPDATE_NAMESRV_CONFIG,
    request_code::CLEAN_EXPIRED_CONSUMEQUEUE,
    request_code::CLEAN_UNUSED_TOPIC,
    request_code::DELETE_EXPIRED_COMMITLOG,
    request_code::REGISTER_BROKER,
    request_code::UNREGISTER_BROKER,
];

/// Below this lie the codes of 4.9.
const CLASSIC_BELOW: i32 = 400;
/// A code that no list has, now and then.
const CODES_MAX: u64 = 400_000;

/// One request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Word {
    /// When, in ns from the beginning of the world.
    pub at_ns: u64,
    /// What it says comes from this.
    pub draw: u32,
}

impl Timed for Word {
    fn at_ns(&self) -> u64 {
        self.at_ns
    }
}

/// Draws so many between two times.
pub fn draw(rng: &mut Rng, count: u32, from: Duration, until: Duration) -> Vec<Word> {
    let span = (until - from).as_nanos() as u64;
    let word = |_| Word { at_ns: from.as_nanos() as u64 + rng.below(span), draw: rng.below(1 << 32) as u32 };
    let mut words: Vec<Word> = (0..count).map(word).collect();
    words.sort_by_key(|word| word.at_ns);
    words
}

/// See the [module](self).
pub struct Babbler {
    options: ClientOptions,
    master: Arc<str>,
    script: Script<Word>,
    rpc: Rpc<()>,
}

impl Babbler {
    /// A life that begins `at` after the world did, and leaves out what was due before.
    pub fn new(
        options: ClientOptions,
        master: Arc<str>,
        plan: Rc<Vec<Word>>,
        at: Duration,
        now: Now,
    ) -> Babbler {
        Babbler { options, master, script: Script::new(plan, at, now), rpc: Rpc::default() }
    }

    fn speak(&mut self, now: Now, env: &mut ClientEnv<'_>) {
        while let Some(word) = self.script.take(now) {
            let mut rng = Rng::from_seed(word.draw.into());
            let command = command(&mut rng);
            let address = if rng.one_in(4) { self.options.names.asked() } else { &self.master };
            self.rpc.call(now, env, address, command, REQUEST_TIMEOUT, ());
        }
    }
}

fn command(rng: &mut Rng) -> Command {
    fn one_of<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
        from[rng.below(from.len() as u64) as usize]
    }
    // Some requests are nonsense through and through, others but for one or two fields.
    let wild_in = [1, 4, 16, 64][rng.below(4) as usize];
    let mut fields = Vec::new();
    for (names, usual) in [(WORD_FIELDS, WORDS), (NUMBER_FIELDS, NUMBERS)] {
        for name in names {
            let from = if rng.one_in(wild_in) { VALUES } else { usual };
            let value = one_of(rng, from);
            if !rng.one_in(16) {
                fields.push(((*name).into(), value.into()));
            }
        }
    }
    let classic = request_code::ALL.partition_point(|(code, _)| *code < CLASSIC_BELOW);
    let code = match rng.below(12) {
        0 => rng.below(CODES_MAX) as i32,
        1 => one_of(rng, request_code::ALL).0,
        _ => one_of(rng, &request_code::ALL[..classic]).0,
    };
    let code = if NOT_SAID.contains(&code) { request_code::SEND_MESSAGE } else { code };
    Command::request(code, Ext::Fields(fields)).with_body(one_of(rng, BODIES))
}

impl Machine<MemoryDisk> for Babbler {
    type Command = ();
    type Event = Report;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.on_input(input, env);
        self.rpc.take_events();
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Report>) {
        self.rpc.expire(now, env);
        self.rpc.take_events();
        self.speak(now, env);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let at = self.rpc.deadline().into_iter().chain(self.script.due()).min();
        at.map(|at| (at, "babble"))
    }
}
