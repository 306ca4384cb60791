//! Verifies, in the machines in the end, when all has long been healed: what the name server has of the master is what the
//! master has. With `deleteTopicWithBrokerRegistration`, as here, that holds for topics that are gone, too.
//!
//! Does not verify: how long it took, and what was told in between.

use std::collections::BTreeMap;

use gantry_core::broker::Broker;
use gantry_core::namesrv::NameServer;

use super::stuck_because;
use crate::world::Violation;

const NAME: &str = "registered";

/// How many topics both have.
///
/// # Errors
/// The first difference.
pub fn compare(name_server: &NameServer, master: &Broker) -> Result<u64, Violation> {
    let mut there: BTreeMap<&str, (i32, i32, i32)> = name_server
        .topics_of(master.name())
        .map(|(topic, queues)| (topic, (queues.perm, queues.read_queue_nums, queues.write_queue_nums)))
        .collect();
    let mut same = 0;
    for topic in master.topics() {
        let name = topic.topic_name.as_str();
        let here = (topic.perm, topic.read_queue_nums, topic.write_queue_nums);
        match there.remove(name) {
            Some(told) if told == here => same += 1,
            told => {
                let what = format!("the master has {name} with {here:?}, the name server {told:?}");
                stuck_because(NAME, what)?;
            }
        }
    }
    match there.keys().next() {
        None => Ok(same),
        Some(gone) => {
            stuck_because(NAME, format!("the name server has {gone}, the master no more")).map(|()| 0)
        }
    }
}
