//! Verifies: the master never grants a queue lock to one client while another holds it: one that was granted or renewed it in
//! the last 60 s of the same life of the master, and did not give it back.
//!
//! Does not verify: that a lock that nobody holds is granted.

use std::collections::BTreeMap;

use gantry_core::io::ConnId;
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::Command;
use serde_json::Value;

use super::{Checker, Cx, Verdict, secs, unsafe_because};
use crate::workload::requests::code;
use crate::world::Fact;

const NAME: &str = "locks";
/// `rebalanceLockMaxLiveTime`
const EXPIRY: Duration = Duration::from_secs(60);

/// Group, topic and queue.
type Key = (String, String, i64);

#[derive(Debug)]
struct Asked {
    client: String,
    group: String,
    /// Which request of the master's life it was: answers of a turn leave together, in whatever order it took them.
    number: u64,
}

#[derive(Debug)]
struct Holder {
    client: String,
    since: Instant,
    number: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Locks {
    asked: BTreeMap<(ConnId, i32), Asked>,
    holders: BTreeMap<Key, Holder>,
    /// The latest request of each client that gave a lock back.
    freed: BTreeMap<(Key, String), u64>,
    requests: u64,
    looked: u64,
}

fn queues(list: &Value) -> impl Iterator<Item = (String, i64)> {
    let queues = list.as_array().into_iter().flatten();
    queues.filter_map(|queue| Some((queue["topic"].as_str()?.to_owned(), queue["queueId"].as_i64()?)))
}

impl Locks {
    fn on_request(&mut self, conn: ConnId, command: &Command) {
        if command.code != code::LOCK_BATCH_MQ && command.code != code::UNLOCK_BATCH_MQ {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(&command.body) else { return };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (client, group) = (text("clientId"), text("consumerGroup"));
        self.requests += 1;
        if command.code == code::LOCK_BATCH_MQ {
            let asked = Asked { client, group, number: self.requests };
            self.asked.insert((conn, command.opaque), asked);
            return;
        }
        for (topic, id) in queues(&body["mqSet"]) {
            let key = (group.clone(), topic, id);
            if self.holders.get(&key).is_some_and(|holder| holder.client == client) {
                self.holders.remove(&key);
            }
            self.freed.insert((key, client.clone()), self.requests);
        }
    }

    fn on_answer(&mut self, cx: &Cx<'_>, conn: ConnId, command: &Command) -> Verdict {
        let Some(asked) = self.asked.remove(&(conn, command.opaque)) else { return Ok(()) };
        let Ok(body) = serde_json::from_slice::<Value>(&command.body) else { return Ok(()) };
        for (topic, id) in queues(&body["lockOKMQSet"]) {
            self.looked += 1;
            let key = (asked.group.clone(), topic, id);
            let freed = self.freed.get(&(key.clone(), asked.client.clone()));
            let holder = self.holders.get(&key);
            if let Some(holder) = holder
                && holder.client != asked.client
                && holder.number < asked.number
                && cx.at < holder.since + EXPIRY
            {
                let what = format!(
                    "{key:?} was granted to {}, while {} holds it since {}",
                    asked.client,
                    holder.client,
                    secs(holder.since)
                );
                return unsafe_because(NAME, what);
            }
            if freed.is_none_or(|freed| *freed < asked.number) {
                let holder = Holder { client: asked.client.clone(), since: cx.at, number: asked.number };
                self.holders.insert(key, holder);
            }
        }
        Ok(())
    }
}

impl Checker for Locks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn on_fact(&mut self, cx: &Cx<'_>, fact: &Fact<'_>) -> Verdict {
        if cx.host != cx.setup.cast.master {
            return Ok(());
        }
        if let Fact::Died(_) = fact {
            *self = Locks { looked: self.looked, ..Locks::default() };
        }
        if let Some((conn, command)) = fact.asked() {
            self.on_request(conn, command);
        }
        if let Some((conn, command)) = fact.answered() {
            return self.on_answer(cx, conn, command);
        }
        Ok(())
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
