//! Which queues of a topic a member of a group takes: RocketMQ's strategies, with exactly its results.
//!
//! Every member computes alone, so members written in different languages divide a topic without gap or overlap only if
//! they agree queue for queue. Queues are taken in the order of [`MessageQueue`] and members in that of their ids' text,
//! as RocketMQ sorts them (source: `org.apache.rocketmq.client.consumer.rebalance`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::wire::body::MessageQueue;

/// Points that a member has on the ring of [`Strategy::ConsistentHash`], unless said otherwise.
pub const VIRTUAL_NODES: u32 = 10;

/// How the queues of a topic are divided among a group. All members must use the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// `AVG`: runs of neighbouring queues; the first members take one more.
    #[default]
    Averagely,
    /// `AVG_BY_CIRCLE`: one after the other, as cards are dealt.
    AveragelyByCircle,
    /// `CONFIG`: these, whoever else is there.
    Config(Vec<MessageQueue>),
    /// `MACHINE_ROOM`: queues of brokers called `room@name` whose room is listed.
    MachineRoom(BTreeSet<String>),
    /// `MACHINE_ROOM_NEARBY`: queues go to members of their own room, those of rooms without members to all.
    MachineRoomNearby {
        /// Divides within a room, and what rooms without members have among all.
        inner: Arc<Strategy>,
        /// The rooms.
        rooms: RoomNames,
    },
    /// `CONSISTENT_HASH`: few queues move when members come and go.
    ConsistentHash {
        /// Points of each member on the ring; RocketMQ has [`VIRTUAL_NODES`].
        virtual_nodes: u32,
    },
}

/// Which machine room a broker and a member are in. RocketMQ leaves that to its user, and shows the form before the dash.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RoomNames {
    /// What stands before the first `-` of the broker's name and of the member's id.
    #[default]
    BeforeDash,
    /// What stands before the first `@` of the broker's name, and before the first `-` of the member's id.
    BeforeAt,
    /// As the host says. All members must say the same.
    By(RoomResolver),
}

type RoomOf<T> = Arc<dyn Fn(&T) -> Option<String> + Send + Sync>;

/// A host's own functions from brokers and members to their rooms (`MachineRoomResolver`).
#[derive(Clone)]
pub struct RoomResolver {
    of_broker: RoomOf<MessageQueue>,
    of_member: RoomOf<str>,
}

impl PartialEq for RoomResolver {
    /// Functions cannot be compared; these are the same ones, or they are not.
    fn eq(&self, other: &RoomResolver) -> bool {
        Arc::ptr_eq(&self.of_broker, &other.of_broker) && Arc::ptr_eq(&self.of_member, &other.of_member)
    }
}

impl Eq for RoomResolver {}

impl core::fmt::Debug for RoomResolver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RoomResolver")
    }
}

/// Why queues cannot be divided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AllocateError {
    /// A broker or member whose name says no room.
    NoRoom(String),
}

impl core::fmt::Display for AllocateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AllocateError::NoRoom(name) => {
                write!(f, "{name} names no machine room: rename it, or say its room with RoomNames::by")
            }
        }
    }
}

impl core::error::Error for AllocateError {}

impl RoomNames {
    /// Rooms by the host's own functions: of the broker that has a queue, and of the member with this client id. They say the same
    /// each time, on every member. Where one answers `None` the topic cannot be divided, and members keep what they have.
    pub fn by(
        of_broker: impl Fn(&MessageQueue) -> Option<String> + Send + Sync + 'static,
        of_member: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> RoomNames {
        RoomNames::By(RoomResolver { of_broker: Arc::new(of_broker), of_member: Arc::new(of_member) })
    }

    fn of_broker(&self, queue: &MessageQueue) -> Result<String, AllocateError> {
        let name = &queue.broker_name;
        let found = match self {
            RoomNames::BeforeDash => before(name, '-'),
            RoomNames::BeforeAt => before(name, '@'),
            RoomNames::By(resolver) => (resolver.of_broker)(queue),
        };
        known(found, name)
    }

    fn of_member(&self, id: &str) -> Result<String, AllocateError> {
        let found = match self {
            RoomNames::BeforeDash | RoomNames::BeforeAt => before(id, '-'),
            RoomNames::By(resolver) => (resolver.of_member)(id),
        };
        known(found, id)
    }
}

fn before(name: &str, separator: char) -> Option<String> {
    name.split(separator).next().map(String::from)
}

fn known(room: Option<String>, name: &str) -> Result<String, AllocateError> {
    room.filter(|room| !room.is_empty()).ok_or_else(|| AllocateError::NoRoom(name.into()))
}

impl Strategy {
    /// RocketMQ's name of it.
    pub fn name(&self) -> String {
        match self {
            Strategy::Averagely => "AVG".into(),
            Strategy::AveragelyByCircle => "AVG_BY_CIRCLE".into(),
            Strategy::Config(_) => "CONFIG".into(),
            Strategy::MachineRoom(_) => "MACHINE_ROOM".into(),
            Strategy::MachineRoomNearby { inner, rooms: _ } => {
                format!("MACHINE_ROOM_NEARBY-{}", inner.name())
            }
            Strategy::ConsistentHash { .. } => "CONSISTENT_HASH".into(),
        }
    }

    /// The queues that `member` takes of `queues`; none when it is not one of `members`. Both lists must be sorted.
    ///
    /// # Errors
    /// See [`AllocateError`]: a group keeps what it has.
    pub fn allocate(
        &self,
        member: &str,
        queues: &[MessageQueue],
        members: &[String],
    ) -> Result<Vec<MessageQueue>, AllocateError> {
        debug_assert!(queues.is_sorted() && members.is_sorted(), "sorted by the caller");
        let Some(place) = members.iter().position(|id| id == member) else { return Ok(Vec::new()) };
        let count = members.len();
        Ok(match self {
            Strategy::Averagely => averagely(place, count, queues),
            Strategy::AveragelyByCircle => queues.iter().skip(place).step_by(count).cloned().collect(),
            Strategy::Config(fixed) => fixed.clone(),
            Strategy::MachineRoom(rooms) => by_machine_room(place, count, queues, rooms),
            Strategy::MachineRoomNearby { inner, rooms } => nearby(inner, rooms, member, queues, members)?,
            Strategy::ConsistentHash { virtual_nodes } => {
                by_consistent_hash(*virtual_nodes, member, queues, members)
            }
        })
    }
}

fn averagely(place: usize, count: usize, queues: &[MessageQueue]) -> Vec<MessageQueue> {
    let more = queues.len() % count;
    let (share, start) = if queues.len() <= count {
        (1, place)
    } else if place < more {
        let share = queues.len() / count + 1;
        (share, place * share)
    } else {
        let share = queues.len() / count;
        (share, place * share + more)
    };
    queues.iter().skip(start).take(share).cloned().collect()
}

/// As RocketMQ splits a name at `@`: empty parts at the end do not count.
fn at_room(name: &str) -> Option<&str> {
    let (room, rest) = name.split_once('@')?;
    let rest = rest.trim_end_matches('@');
    (!rest.is_empty() && !rest.contains('@')).then_some(room)
}

fn by_machine_room(
    place: usize,
    count: usize,
    queues: &[MessageQueue],
    rooms: &BTreeSet<String>,
) -> Vec<MessageQueue> {
    let near: Vec<&MessageQueue> = queues
        .iter()
        .filter(|queue| at_room(&queue.broker_name).is_some_and(|room| rooms.contains(room)))
        .collect();
    let (share, more) = (near.len() / count, near.len() % count);
    let mut taken: Vec<MessageQueue> =
        near.iter().skip(share * place).take(share).map(|queue| (*queue).clone()).collect();
    if place < more {
        taken.extend(near.get(share * count + place).map(|queue| (*queue).clone()));
    }
    taken
}

fn nearby(
    inner: &Strategy,
    rooms: &RoomNames,
    member: &str,
    queues: &[MessageQueue],
    members: &[String],
) -> Result<Vec<MessageQueue>, AllocateError> {
    let mut queues_of: BTreeMap<String, Vec<MessageQueue>> = BTreeMap::new();
    for queue in queues {
        queues_of.entry(rooms.of_broker(queue)?).or_default().push(queue.clone());
    }
    let mut members_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in members {
        members_of.entry(rooms.of_member(id)?).or_default().push(id.clone());
    }
    let own = rooms.of_member(member)?;
    let mut taken = Vec::new();
    if let (Some(queues), Some(members)) = (queues_of.remove(&own), members_of.get(&own)) {
        taken.extend(inner.allocate(member, &queues, members)?);
    }
    for (room, queues) in queues_of {
        if !members_of.contains_key(&room) {
            taken.extend(inner.allocate(member, &queues, members)?);
        }
    }
    Ok(taken)
}

fn by_consistent_hash(
    virtual_nodes: u32,
    member: &str,
    queues: &[MessageQueue],
    members: &[String],
) -> Vec<MessageQueue> {
    let mut ring: BTreeMap<u32, &str> = BTreeMap::new();
    for id in members {
        for node in 0..virtual_nodes {
            ring.insert(ring_hash(&format!("{id}-{node}")), id);
        }
    }
    let owner = |queue: &MessageQueue| {
        let MessageQueue { broker_name, queue_id, topic } = queue;
        let text = format!("MessageQueue [topic={topic}, brokerName={broker_name}, queueId={queue_id}]");
        let at_or_after = ring.range(ring_hash(&text)..).next().or_else(|| ring.iter().next());
        at_or_after.map(|(_, id)| *id)
    };
    queues.iter().filter(|queue| owner(queue) == Some(member)).cloned().collect()
}

/// Place on the ring: the first four bytes of the MD5.
fn ring_hash(text: &str) -> u32 {
    let [a, b, c, d, ..] = md5::compute(text.as_bytes()).0;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    fn queues(brokers: &[&str], each: i32) -> Vec<MessageQueue> {
        let mut all: Vec<MessageQueue> = brokers
            .iter()
            .flat_map(|broker| (0..each).map(|id| MessageQueue::new("T", *broker, id)))
            .collect();
        all.sort();
        all
    }

    fn members(ids: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = ids.iter().map(|id| (*id).to_string()).collect();
        all.sort();
        all
    }

    /// What each member takes, as RocketMQ 5.5.0's classes answered: `broker:queue` with commas, members with `|`.
    fn check(strategy: &Strategy, queues: &[MessageQueue], members: &[String], expect: &str) {
        let taken: Vec<String> = members
            .iter()
            .map(|id| {
                let taken = strategy.allocate(id, queues, members).expect("rooms are named");
                let texts: Vec<String> =
                    taken.iter().map(|queue| format!("{}:{}", queue.broker_name, queue.queue_id)).collect();
                texts.join(",")
            })
            .collect();
        assert_eq!(taken.join("|"), expect, "{strategy:?} of {} among {members:?}", queues.len());
    }

    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Averagely,
        Circle,
        Hash,
        Room,
        NearbyAveragely,
        NearbyCircle,
    }
    use Kind::{Averagely, Circle, Hash, NearbyAveragely, NearbyCircle, Room};

    impl Kind {
        fn strategy(self) -> Strategy {
            let nearby =
                |inner| Strategy::MachineRoomNearby { inner: Arc::new(inner), rooms: RoomNames::BeforeDash };
            match self {
                Averagely => Strategy::Averagely,
                Circle => Strategy::AveragelyByCircle,
                Hash => Strategy::ConsistentHash { virtual_nodes: VIRTUAL_NODES },
                Room => Strategy::MachineRoom(BTreeSet::from(["r1".into(), "r2".into()])),
                NearbyAveragely => nearby(Strategy::Averagely),
                NearbyCircle => nearby(Strategy::AveragelyByCircle),
            }
        }
    }

    /// Brokers, queues of each, members, and what RocketMQ 5.5.0's classes gave each member.
    type Row = (Kind, &'static [&'static str], i32, &'static [&'static str], &'static str);

    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        (Averagely, &["a", "b"], 1, &["c1"], "a:0,b:0"),
        (Circle, &["a", "b"], 1, &["c1"], "a:0,b:0"),
        (Hash, &["a", "b"], 1, &["c1"], "a:0,b:0"),
        (Averagely, &["a", "b"], 4, &["c1"], "a:0,a:1,a:2,a:3,b:0,b:1,b:2,b:3"),
        (Circle, &["a", "b"], 4, &["c1"], "a:0,a:1,a:2,a:3,b:0,b:1,b:2,b:3"),
        (Hash, &["a", "b"], 4, &["c1"], "a:0,a:1,a:2,a:3,b:0,b:1,b:2,b:3"),
        (Averagely, &["a", "b"], 1, &["c1", "c2"], "a:0|b:0"),
        (Circle, &["a", "b"], 1, &["c1", "c2"], "a:0|b:0"),
        (Hash, &["a", "b"], 1, &["c1", "c2"], "|a:0,b:0"),
        (Averagely, &["a", "b"], 4, &["c1", "c2"], "a:0,a:1,a:2,a:3|b:0,b:1,b:2,b:3"),
        (Circle, &["a", "b"], 4, &["c1", "c2"], "a:0,a:2,b:0,b:2|a:1,a:3,b:1,b:3"),
        (Hash, &["a", "b"], 4, &["c1", "c2"], "a:1,a:2,a:3,b:1,b:2|a:0,b:0,b:3"),
        (Averagely, &["a", "b"], 1, &["c1", "c2", "c3"], "a:0|b:0|"),
        (Circle, &["a", "b"], 1, &["c1", "c2", "c3"], "a:0|b:0|"),
        (Hash, &["a", "b"], 1, &["c1", "c2", "c3"], "|a:0,b:0|"),
        (Averagely, &["a", "b"], 4, &["c1", "c2", "c3"], "a:0,a:1,a:2|a:3,b:0,b:1|b:2,b:3"),
        (Circle, &["a", "b"], 4, &["c1", "c2", "c3"], "a:0,a:3,b:2|a:1,b:0,b:3|a:2,b:1"),
        (Hash, &["a", "b"], 4, &["c1", "c2", "c3"], "a:3,b:2|a:0,b:0,b:3|a:1,a:2,b:1"),
        (Averagely, &["a", "b"], 1, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "a:0|b:0|||||||"),
        (Circle, &["a", "b"], 1, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "a:0|b:0|||||||"),
        (Hash, &["a", "b"], 1, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "|||||a:0||b:0|"),
        (Averagely, &["a", "b"], 4, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "a:0|a:1|a:2|a:3|b:0|b:1|b:2|b:3|"),
        (Circle, &["a", "b"], 4, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "a:0|a:1|a:2|a:3|b:0|b:1|b:2|b:3|"),
        (Hash, &["a", "b"], 4, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], "a:3||a:2,b:1|||a:0,a:1,b:3||b:0|b:2"),
        (Averagely, &["a", "b"], 1, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "a:0|b:0|"),
        (Circle, &["a", "b"], 1, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "a:0|b:0|"),
        (Hash, &["a", "b"], 1, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "||a:0,b:0"),
        (Averagely, &["a", "b"], 4, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "a:0,a:1,a:2|a:3,b:0,b:1|b:2,b:3"),
        (Circle, &["a", "b"], 4, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "a:0,a:3,b:2|a:1,b:0,b:3|a:2,b:1"),
        (Hash, &["a", "b"], 4, &["10.0.0.1@4242#998", "10.0.0.2@17#5", "10.0.0.10@DEFAULT"], "b:1,b:3|a:1,a:3,b:2|a:0,a:2,b:0"),
        (Room, &["r1@a", "r2@b@", "r3@c", "r1@a@b", "r1"], 4, &["c1"], "r1@a:0,r1@a:1,r1@a:2,r1@a:3,r2@b@:0,r2@b@:1,r2@b@:2,r2@b@:3"),
        (Room, &["r1@a", "r2@b@", "r3@c", "r1@a@b", "r1"], 4, &["c1", "c2"], "r1@a:0,r1@a:1,r1@a:2,r1@a:3|r2@b@:0,r2@b@:1,r2@b@:2,r2@b@:3"),
        (Room, &["r1@a", "r2@b@", "r3@c", "r1@a@b", "r1"], 4, &["c1", "c2", "c3"], "r1@a:0,r1@a:1,r2@b@:2|r1@a:2,r1@a:3,r2@b@:3|r2@b@:0,r2@b@:1"),
        (NearbyAveragely, &["r1-a", "r2-b", "r3-c"], 4, &["r1-1", "r1-2", "r2-1"], "r1-a:0,r1-a:1,r3-c:0,r3-c:1|r1-a:2,r1-a:3,r3-c:2|r2-b:0,r2-b:1,r2-b:2,r2-b:3,r3-c:3"),
        (NearbyCircle, &["r1-a", "r2-b", "r3-c"], 4, &["r1-1", "r1-2", "r2-1"], "r1-a:0,r1-a:2,r3-c:0,r3-c:3|r1-a:1,r1-a:3,r3-c:1|r2-b:0,r2-b:1,r2-b:2,r2-b:3,r3-c:2"),
        (NearbyAveragely, &["r1-a", "r2-b", "r3-c"], 4, &["r2-1", "r2-2"], "r2-b:0,r2-b:1,r1-a:0,r1-a:1,r3-c:0,r3-c:1|r2-b:2,r2-b:3,r1-a:2,r1-a:3,r3-c:2,r3-c:3"),
        (NearbyCircle, &["r1-a", "r2-b", "r3-c"], 4, &["r2-1", "r2-2"], "r2-b:0,r2-b:2,r1-a:0,r1-a:2,r3-c:0,r3-c:2|r2-b:1,r2-b:3,r1-a:1,r1-a:3,r3-c:1,r3-c:3"),
        (NearbyAveragely, &["r1-a", "r2-b", "r3-c"], 4, &["r9-1", "r9-2"], "r1-a:0,r1-a:1,r2-b:0,r2-b:1,r3-c:0,r3-c:1|r1-a:2,r1-a:3,r2-b:2,r2-b:3,r3-c:2,r3-c:3"),
        (NearbyCircle, &["r1-a", "r2-b", "r3-c"], 4, &["r9-1", "r9-2"], "r1-a:0,r1-a:2,r2-b:0,r2-b:2,r3-c:0,r3-c:2|r1-a:1,r1-a:3,r2-b:1,r2-b:3,r3-c:1,r3-c:3"),
    ];

    #[test]
    fn results_are_those_of_java() {
        for (kind, brokers, each, ids, expect) in ROWS {
            check(&kind.strategy(), &queues(brokers, *each), &members(ids), expect);
        }
    }

    #[test]
    fn a_stranger_takes_nothing() {
        let (queues, members) = (queues(&["a"], 4), members(&["x", "y"]));
        for strategy in [Strategy::Averagely, Strategy::AveragelyByCircle, Strategy::Config(queues.clone())] {
            assert_eq!(strategy.allocate("z", &queues, &members), Ok(vec![]));
        }
    }

    #[test]
    fn a_name_without_a_room_is_an_error() {
        let nearby = Strategy::MachineRoomNearby { inner: Arc::default(), rooms: RoomNames::BeforeDash };
        let error = nearby.allocate("r-1", &queues(&["-b"], 1), &members(&["r-1"]));
        assert_eq!(error, Err(AllocateError::NoRoom("-b".into())));
    }

    #[test]
    fn rooms_may_be_the_hosts_own() {
        // Queues by their number, members by the end of their ids; who has no room is an error.
        let rooms = RoomNames::by(
            |queue| Some(if queue.queue_id < 2 { "low" } else { "high" }.into()),
            |id| id.rsplit_once('/').map(|(_, room)| room.to_string()),
        );
        assert_eq!(rooms, rooms.clone());
        let nearby = Strategy::MachineRoomNearby { inner: Arc::default(), rooms };
        check(&nearby, &queues(&["b"], 4), &members(&["x/low", "y/high"]), "b:0,b:1|b:2,b:3");
        let error = nearby.allocate("x/low", &queues(&["b"], 4), &members(&["x/low", "y"]));
        assert_eq!(error, Err(AllocateError::NoRoom("y".into())));
    }

    #[test]
    fn every_queue_has_one_owner() {
        let nearby =
            |inner| Strategy::MachineRoomNearby { inner: Arc::new(inner), rooms: RoomNames::BeforeDash };
        let hash = Strategy::ConsistentHash { virtual_nodes: VIRTUAL_NODES };
        let strategies = [
            Strategy::Averagely,
            Strategy::AveragelyByCircle,
            hash.clone(),
            nearby(hash),
            nearby(Strategy::Averagely),
        ];
        for strategy in strategies {
            for count in 1..12usize {
                for each in [0, 1, 3, 8] {
                    let ids: Vec<String> = (0..count).map(|n| format!("r{}-{n}", n % 2)).collect();
                    let ids = members(&ids.iter().map(String::as_str).collect::<Vec<_>>());
                    let queues = queues(&["r0-a", "r1-a", "r2-a"], each);
                    let mut taken: Vec<MessageQueue> = ids
                        .iter()
                        .flat_map(|id| strategy.allocate(id, &queues, &ids).expect("rooms are named"))
                        .collect();
                    taken.sort();
                    assert_eq!(taken, queues, "{strategy:?} {count} {each}");
                }
            }
        }
    }
}
