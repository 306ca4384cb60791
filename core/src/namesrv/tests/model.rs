//! The tables against a small model, under arbitrary registrations, closings, goodbyes and silences.
//!
//! The model knows masters and slaves of 4.9 (a slave adds no topics), whose rules are few enough to be said twice: a broker name
//! lives while one of its addresses does, and has the topics that its masters brought since it came to life.

use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 4] = ["T", "U", "V", "W"];
/// Name 0 has addresses 0 and 1 to itself; the others are shared, so that addresses change hands.
const ADDRS: [&str; 5] = ["h:0", "h:1", "h:2", "h:3", "h:4"];

#[derive(Clone, Debug)]
enum Act {
    Register { conn: u64, name: usize, id: i64, addr: usize, topics: BTreeSet<usize> },
    Close { conn: u64 },
    Unregister { name: usize, addr: usize },
    Silence,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..4u64, 0..NAMES.len(), 0..3i64, 0..ADDRS.len(), proptest::collection::btree_set(0..TOPICS.len(), 2..4))
            .prop_map(|(conn, name, id, addr, topics)| Act::Register { conn, name, id, addr, topics }),
        2 => (0..4u64).prop_map(|conn| Act::Close { conn }),
        2 => (0..NAMES.len(), 0..ADDRS.len()).prop_map(|(name, addr)| Act::Unregister { name, addr }),
        1 => Just(Act::Silence),
    ]
}

/// Address to name, id and connection; name to topics.
#[derive(Default)]
struct Model {
    live: BTreeMap<usize, (usize, i64, u64)>,
    topics: BTreeMap<usize, BTreeSet<usize>>,
}

impl Model {
    fn drop_addrs(&mut self, gone: impl Fn(usize, (usize, i64, u64)) -> bool) {
        self.live.retain(|addr, live| !gone(*addr, *live));
        self.topics.retain(|name, _| self.live.values().any(|live| live.0 == *name));
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Register { conn, name, id, addr, topics } => {
                self.drop_addrs(|held, live| held == *addr && live.0 != *name);
                // Whoever has that name and id gives way, but the name lives on.
                self.live.retain(|held, live| *held == *addr || (live.0, live.1) != (*name, *id));
                self.live.insert(*addr, (*name, *id, *conn));
                let known = self.topics.entry(*name).or_default();
                if *id == 0 {
                    known.extend(topics);
                }
            }
            Act::Close { conn } => self.drop_addrs(|_, live| live.2 == *conn),
            Act::Unregister { name, addr } => self.drop_addrs(|held, live| held == *addr && live.0 == *name),
            Act::Silence => self.drop_addrs(|_, _| true),
        }
    }

    /// Names that have a topic.
    fn names(&self, topic: usize) -> Vec<&'static str> {
        self.topics
            .iter()
            .filter(|(_, topics)| topics.contains(&topic))
            .map(|(name, _)| NAMES[*name])
            .collect()
    }
}

fn perform(rig: &mut Rig, act: &Act) {
    match act {
        Act::Register { conn, name, id, addr, topics } => {
            let topics = topics.iter().map(|at| topic(TOPICS[*at])).collect();
            let (name, addr) = (NAMES[*name], ADDRS[*addr]);
            rig.register(
                *conn,
                &Broker { name, id: *id, addr, topics, acting_master: None, ..Broker::master() },
            );
        }
        Act::Close { conn } => {
            rig.close(*conn);
        }
        Act::Unregister { name, addr } => {
            let broker = Broker { name: NAMES[*name], addr: ADDRS[*addr], ..Broker::master() };
            assert_eq!(rig.ask(9, broker.named(request_code::UNREGISTER_BROKER)).code, 0);
        }
        Act::Silence => {
            rig.pass(Duration::from_secs(131));
        }
    }
}

proptest! {
    #[test]
    fn tables_are_as_the_model_says(acts in proptest::collection::vec(acts(), 0..40)) {
        let mut rig = Rig::started();
        let mut model = Model::default();
        for act in &acts {
            perform(&mut rig, act);
            model.act(act);
            for (at, topic) in TOPICS.iter().enumerate() {
                let names: Vec<_> = rig.perms(topic).into_iter().map(|(name, _)| name).collect();
                prop_assert_eq!(names, model.names(at), "{} after {:?}", topic, act);
            }
            let live: BTreeMap<_, _> =
                rig.machine.live_brokers().map(|(name, id, addr)| (addr.to_string(), (name.to_string(), id))).collect();
            let expect: BTreeMap<_, _> = model
                .live
                .iter()
                .map(|(addr, (name, id, _))| (ADDRS[*addr].to_string(), (NAMES[*name].to_string(), *id)))
                .collect();
            prop_assert_eq!(live, expect);
        }
    }
}
