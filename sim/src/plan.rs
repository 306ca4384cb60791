//! What a seed draws for a scenario: modes, sizes, faults, sends.
//!
//! Everything is drawn before the world begins, each concern from a stream of its own.

use std::rc::Rc;

use gantry_core::broker::ha::HaConfig;
use gantry_core::broker::store::StoreConfig;
use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::check::{Cast, ClientKind, Flush, Replication, Setup};
use crate::fault::{self, Fault, FaultEntry, FaultPlan, Moment, Target, Way};
use crate::fleet::{self, FleetPlan};
use crate::history::Reader;
use crate::retention::{QUEUE_FILE_ENTRIES_LEAST, Retention};
use crate::scenario::{Scenario, ScenarioError, Victims};
use crate::workload::administrator::{self, TopicEdit};
use crate::workload::babbler::{self, Word};
use crate::workload::consumer::ConsumerPlan;
use crate::workload::delayer::{self, DelayedSend};
use crate::workload::janitor::{self, Reset};
use crate::workload::manager::{self, Order};
use crate::workload::ordered::{self, MemberPlan};
use crate::workload::producer::{self, Load, ProducerPlan};
use crate::workload::retrier::RetrierPlan;
use crate::world::{HostId, IDLE_LIMIT_S, Life, NetworkOptions, WorldOptions};

/// Names of the hosts, by their ids.
pub const NAMES: [&str; 22] = [
    "namesrv",
    "master",
    "follower",
    "producer",
    "consumer",
    "auditor",
    "watcher",
    "delayer",
    "retrier",
    "ordered-1",
    "ordered-2",
    "ordered-3",
    "administrator",
    "follower-2",
    "operator",
    "asker",
    "manager",
    "namesrv-2",
    "namesrv-3",
    "insister",
    "janitor",
    "babbler",
];

/// The name servers, of which a world has one or more.
pub const NAME_SERVERS: [HostId; 3] = [HostId(0), HostId(17), HostId(18)];

/// The second follower.
pub const SECOND: HostId = HostId(13);
/// Who makes a follower the master.
pub const OPERATOR: HostId = HostId(14);

/// Who wants old messages gone.
pub const JANITOR: HostId = HostId(20);

/// How the master goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// Its process dies.
    Dead,
    /// And its disk is lost.
    DiskLost,
    /// It lives, cut off from its follower and the name server, and clients still reach it.
    CutOff,
}

/// The follower takes the master's place, and the old master comes back as its follower.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Takeover {
    /// How the master goes.
    pub gone: Gone,
    /// When.
    #[serde(with = "nanos")]
    pub at: Instant,
    /// When the operator makes the follower the master.
    #[serde(with = "nanos")]
    pub promoted_at: Instant,
    /// When the old master starts as a follower.
    #[serde(with = "nanos")]
    pub back_at: Instant,
}

impl Takeover {
    fn draw(rng: &mut Rng, from: Instant, ways: &[Gone]) -> Takeover {
        let gone = ways[rng.below(ways.len() as u64) as usize];
        let mut some = |least: u64, most: u64| {
            let span = Duration::from_secs(most - least).as_nanos() as u64;
            Duration::from_secs(least) + Duration::from_nanos(rng.below(span))
        };
        let at = from + some(CALM_S, CALM_S + 20);
        let promoted_at = at + some(5, 40);
        let back_at = promoted_at + some(10, 50);
        Takeover { gone, at, promoted_at, back_at }
    }

    /// The follower dies as it is made the master, and is the master when it starts again. Under asynchronous flush its power stays:
    /// it may be the last to have what was acknowledged.
    fn death_of_promoted(&self, rng: &mut Rng, flush: Flush) -> FaultEntry {
        let nth = 1 + rng.below(PROMOTION_MOMENTS) as u32;
        let is_power = rng.one_in(2) && flush == Flush::Sync;
        let death = if is_power { fault::Death::Power } else { fault::Death::Process };
        let down = Duration::from_nanos(1 + rng.below(PROMOTED_DOWN_MAX.as_nanos() as u64));
        let (host, moment, mid_turn) = (CAST.follower, Moment::Promoting, rng.one_in(2));
        let fault = Fault::AtMoment { host, moment, nth, mid_turn, death, down };
        FaultEntry { at: self.promoted_at, fault, disabled: false }
    }

    /// The follower asks for the tables again before it has its master's log again, and that is the last that it hears: then it knows of
    /// commits of messages that it does not have.
    fn lag(&self, rng: &mut Rng) -> FaultEntry {
        let before = Duration::from_millis(3_000 + rng.below(2_000));
        let at = Instant::from_nanos(self.at.as_nanos() - before.as_nanos() as u64);
        FaultEntry { at, fault: Fault::Reset { a: CAST.master, b: CAST.follower }, disabled: false }
    }

    /// What happens to the old master.
    fn faults(&self, second: bool) -> Vec<FaultEntry> {
        let entry = |at, fault| FaultEntry { at, fault, disabled: false };
        let down = self.back_at - self.at;
        let host = CAST.master;
        match self.gone {
            Gone::Dead => vec![entry(self.at, Fault::ProcessDeath { host, operation: 0, down })],
            Gone::DiskLost => vec![entry(self.at, Fault::DiskLoss { host, down })],
            Gone::CutOff => {
                let cut = |b| Fault::Partition { a: host, b, way: Way::Both, lasts: down };
                let again = Fault::ProcessDeath { host, operation: 0, down: Duration::from_secs(1) };
                let mut faults = vec![
                    entry(self.at, cut(CAST.follower)),
                    entry(self.at, cut(CAST.name_server)),
                    entry(self.back_at, again),
                ];
                if second {
                    faults.push(entry(self.at, cut(SECOND)));
                    // Whoever promotes one slave has the others leave the old master, or they take what it has sent in the meantime when
                    // the cut is over.
                    faults.push(entry(self.promoted_at, Fault::Reset { a: host, b: SECOND }));
                }
                faults
            }
        }
    }
}

/// The request, and the file of epochs that is written for it, perhaps twice.
const PROMOTION_MOMENTS: u64 = 3;
/// It is back before the old master is.
const PROMOTED_DOWN_MAX: Duration = Duration::from_secs(4);

/// After the faults, until the master goes: its slave follows again by then.
const CALM_S: u64 = 45;

/// Who is who.
pub const CAST: Cast = Cast {
    name_server: HostId(0),
    master: HostId(1),
    follower: HostId(2),
    producer: HostId(3),
    consumer: HostId(4),
    auditor: HostId(5),
};

/// The place of a client that a scenario may have beside the usual ones, or of the first of its kind.
pub const fn place(client: ClientKind) -> usize {
    match client {
        ClientKind::Delayer => 7,
        ClientKind::Retrier => 8,
        ClientKind::Ordered => 9,
        ClientKind::Administrator => 12,
        ClientKind::Asker => 15,
        ClientKind::Manager | ClientKind::Recreator => 16,
        ClientKind::Resetter => JANITOR.0,
        ClientKind::Insister => 19,
        ClientKind::Babbler => 21,
    }
}

/// Sizes and limits of a broker's store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sizes {
    /// Bytes of a commit-log segment.
    pub segment_bytes: u64,
    /// Entries of a consume-queue file.
    pub queue_file_entries: u64,
    /// Entries of a queue tail at which it is written out.
    pub spill_entries: usize,
    /// How long written bytes stay unsynced under asynchronous flush.
    pub flush_interval: Duration,
    /// Bytes of log recovered in a turn.
    pub recover_slice_bytes: u64,
    /// Of a thousand reads of old data, how many are cold.
    pub cold_per_mille: u32,
    /// Whether somebody changes what may be changed before each start.
    #[serde(default)]
    pub changes: bool,
    /// Room kept in reserve, in bytes.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// Bytes of a block to a slave; the usual ones when 0. Small ones end within a record.
    #[serde(default)]
    pub block_bytes: u64,
    /// By how much a slave may be behind and still count; the usual bytes when 0.
    #[serde(default)]
    pub gap_bytes: u64,
}

/// A world to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// Flush mode of the master.
    pub flush: Flush,
    /// Replication mode of the master.
    pub replication: Replication,
    /// Of both brokers' stores.
    pub sizes: Sizes,
    /// Of network and turns.
    pub options: WorldOptions,
    /// What goes wrong.
    pub faults: Vec<FaultEntry>,
    /// What is sent.
    #[serde(with = "shared")]
    pub producer: Rc<ProducerPlan>,
    /// How it is consumed.
    pub consumer: ConsumerPlan,
    /// How it is looked at in the end.
    pub auditor: ConsumerPlan,
    /// How often the watcher asks for routes.
    pub watch_interval: Duration,
    /// How many topics there are.
    pub topics: u8,
    /// Whether the master has a follower.
    pub follower: bool,
    /// Whether there is a second one.
    #[serde(default)]
    pub second: bool,
    /// The follower takes the master's place.
    #[serde(default)]
    pub takeover: Option<Takeover>,
    /// Slaves poll their master for its tables, as RocketMQ's do, instead of taking them from its log.
    #[serde(default)]
    pub polls_tables: bool,
    /// Slaves find their master through name servers, not by `haMasterAddress`.
    #[serde(default)]
    pub asks_for_master: bool,
    /// When old messages go.
    #[serde(default)]
    pub retention: Option<Retention>,
    /// How many name servers there are.
    #[serde(default = "one")]
    pub name_servers: u8,
    /// When they start.
    #[serde(default, with = "nanos")]
    pub names_start: Instant,
    /// Clients beside the usual ones, and what they do.
    pub clients: Vec<ClientKind>,
    /// What the client of delayed messages sends.
    #[serde(with = "shared")]
    pub delayer: Rc<Vec<DelayedSend>>,
    /// What the consumer that fails does.
    #[serde(with = "shared")]
    pub retrier: Rc<RetrierPlan>,
    /// What the members of the group that consumes in order do.
    pub ordered: Vec<MemberPlan>,
    /// What the administrator does to topics.
    #[serde(with = "shared", default)]
    pub administrator: Rc<Vec<TopicEdit>>,
    /// What the client that looks for messages does.
    #[serde(default, with = "shared")]
    pub asker: Rc<Vec<DelayedSend>>,
    /// What the manager does.
    #[serde(default, with = "shared")]
    pub manager: Rc<Vec<Order>>,
    /// The applications and broker groups of a world that has these in place of the usual hosts.
    #[serde(default)]
    pub fleet: Option<FleetPlan>,
    /// Where an administrator puts the group.
    #[serde(default)]
    pub resets: Vec<Reset>,
    /// What the producers that insist send.
    #[serde(default, with = "shared")]
    pub insister: Rc<Vec<DelayedSend>>,
    /// What the client that sends nonsense says.
    #[serde(default, with = "shared")]
    pub babbler: Rc<Vec<Word>>,
    /// The delay of each level, in seconds.
    pub delays_s: Vec<u64>,
    /// All is mended by then.
    #[serde(with = "nanos")]
    pub healed_at: Instant,
    /// When the auditor begins.
    #[serde(with = "nanos")]
    pub audit_at: Instant,
    /// The last thing that happens.
    #[serde(with = "nanos")]
    pub ends_at: Instant,
}

/// Messages begin to be sent after this.
const SENDS_FROM: Duration = Duration::from_secs(2);
/// What an administrator does in all.
const EDITS: u32 = 150;
/// What a client says that sends nonsense.
const WORDS: u32 = 400;
const NAMES_LATE_NANOS: u64 = 60_000_000_000;
/// In one world of so many brokers start with other settings than before.
const CHANGES_IN: u64 = 4;
/// Real sizes in one world of so many, tiny ones in the others: what happens once in a gigabyte happens in each run.
const REAL_SIZES_IN: u64 = 8;

impl Plan {
    /// Draws a world.
    pub fn draw(scenario: &Scenario, seed: u64) -> Plan {
        let scenario = &*scenario.of_seed(seed);
        let root = Rng::from_seed(seed);
        let mut modes = root.fork("modes");
        let flush = if modes.one_in(2) { Flush::Sync } else { Flush::Async };
        let replication =
            if modes.one_in(3) && scenario.follower { Replication::Sync } else { Replication::Async };
        let (flush, replication) =
            (scenario.flush.unwrap_or(flush), scenario.replication.unwrap_or(replication));
        let options = WorldOptions {
            network: NetworkOptions {
                cut_frames: modes.one_in(4),
                idle_limit_s: draw_idle_limit(&mut root.fork("idle limit")),
                latency_nanos_max: [100_000, 1_000_000, 20_000_000][modes.below(3) as usize],
            },
            check_invariants: modes.one_in(10),
            turn_inputs_max: [1, 4, 256][modes.below(3) as usize],
            trace: false,
        };
        let mut names = root.fork("name servers");
        let drawn = 1 + names.below(scenario.name_servers.into()) as u8;
        let name_servers = if scenario.exact { scenario.name_servers } else { drawn };
        // Where there may be many, they start late now and then: brokers and clients find none at first.
        let is_late = scenario.name_servers > 1 && names.one_in(4);
        let names_start = Instant::from_nanos(if is_late { names.below(NAMES_LATE_NANOS) } else { 0 });
        let mut faults =
            fault::draw(&mut root.fork("faults"), &fault_plan(scenario, name_servers, &mut names));
        let fleet = scenario.fleet.as_ref().map(|shape| fleet::draw(&root, scenario, shape));
        if let Some(fleet) = &fleet {
            faults = fleet::faults(&mut root.fork("faults"), scenario, fleet, name_servers, flush);
        }
        let takeover = scenario
            .takeover
            .then(|| Takeover::draw(&mut root.fork("takeover"), scenario.faults_until(), &scenario.gone));
        faults.extend(takeover.iter().flat_map(|takeover| takeover.faults(scenario.second_follower)));
        if let Some(takeover) = takeover.filter(|_| scenario.promoted_dies) {
            faults.push(takeover.death_of_promoted(&mut root.fork("death of the promoted"), flush));
        }
        let load = Load {
            messages: scenario.messages,
            topics: scenario.topics,
            from: SENDS_FROM,
            until: scenario.sends_until(),
            aims: faults
                .iter()
                .filter(|entry| entry.fault.is_death())
                .map(|entry| entry.at - Instant::ZERO)
                .collect(),
        };
        let producer = producer::draw(&mut root.fork("sends"), &load);
        let until = scenario.sends_until();
        let mut sizes = Sizes::draw(&mut root.fork("sizes"), !scenario.retention);
        let retention = scenario.retention.then(|| {
            let rng = &mut root.fork("retention");
            Retention::draw(rng, sizes.segment_bytes, scenario.topics, scenario.sends_until())
        });
        sizes.changes = root.fork("settings").one_in(CHANGES_IN);
        if retention.as_ref().is_some_and(|retention| retention.disk_bytes.is_some()) {
            sizes.queue_file_entries = sizes.queue_file_entries.max(QUEUE_FILE_ENTRIES_LEAST);
        }
        let mut tables = root.fork("tables");
        // What is delivered of delayed messages is told by the log alone, and so is how far emptied queues went.
        let may_poll = !scenario.retention && !scenario.clients.contains(&ClientKind::Delayer);
        let polls_tables = takeover.is_some() && may_poll && tables.one_in(4);
        if let Some(takeover) = takeover.filter(|_| polls_tables && tables.one_in(2)) {
            faults.push(takeover.lag(&mut tables));
        }
        let (consumer, auditor) = readers(&mut root.fork("readers"), scenario.topics);
        Plan {
            seed,
            flush,
            replication,
            sizes,
            options,
            faults,
            producer: Rc::new(producer),
            consumer,
            auditor,
            watch_interval: Duration::from_nanos(2_000_000_000 + modes.below(4_000_000_000)),
            topics: scenario.topics,
            follower: scenario.follower,
            second: scenario.second_follower,
            takeover,
            polls_tables,
            asks_for_master: root.fork("masters").one_in(2),
            retention,
            name_servers,
            names_start,
            asker: Rc::new(delayer::draw(&mut root.fork("asked"), 30, 1, SENDS_FROM, until)),
            insister: Rc::new(delayer::draw(&mut root.fork("insisted"), 40, 1, SENDS_FROM, until)),
            babbler: Rc::new(babbler::draw(&mut root.fork("babbled"), WORDS, SENDS_FROM, until)),
            manager: Rc::new(if scenario.clients.contains(&ClientKind::Recreator) {
                manager::draw_lives(&mut root.fork("orders"), SENDS_FROM, until)
            } else {
                manager::draw(&mut root.fork("orders"), SENDS_FROM, until)
            }),
            clients: scenario.clients.clone(),
            delayer: Rc::new(delayer::draw(&mut root.fork("delayed"), 40, 6, SENDS_FROM, until)),
            retrier: Rc::new(draw_retrier(&mut root.fork("retried"), until)),
            ordered: draw_members(&mut root.fork("members"), scenario.topics, until),
            administrator: Rc::new(administrator::draw(
                &mut root.fork("edits"),
                EDITS,
                30,
                SENDS_FROM,
                until,
            )),
            resets: janitor::draw_resets(&mut root.fork("resets"), scenario.topics, SENDS_FROM, until),
            delays_s: draw_delays(&mut root.fork("delays"), fleet.is_none()),
            fleet,
            healed_at: takeover.map_or(scenario.faults_until(), |takeover| takeover.back_at),
            audit_at: scenario.audit_at(),
            ends_at: scenario.ends_at(),
        }
    }

    /// The plan as a file of `scenarios/regress/`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan holds nothing that TOML cannot")
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub fn from_toml(text: &str) -> Result<Plan, ScenarioError> {
        toml::from_str(text).map_err(|error| ScenarioError::new(error.to_string()))
    }

    /// Leaves out every fault but those with these numbers.
    pub fn keep_faults(&mut self, only: &[usize]) {
        for (index, entry) in self.faults.iter_mut().enumerate() {
            entry.disabled = !only.contains(&index);
        }
    }

    /// The brokers.
    pub fn brokers(&self) -> Vec<HostId> {
        let follower = self.follower.then_some(CAST.follower);
        let second = self.second.then_some(SECOND);
        [Some(CAST.master), follower, second].into_iter().flatten().collect()
    }

    /// What the hosts are called, by their ids.
    pub fn names(&self) -> Vec<String> {
        match &self.fleet {
            Some(fleet) => fleet.names(self.name_servers),
            None => NAMES.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// What the checkers need to know.
    pub fn setup(&self) -> Setup {
        Setup {
            cast: CAST,
            name_servers: NAME_SERVERS[..usize::from(self.name_servers)].to_vec(),
            flush: self.flush,
            replication: self.replication,
            segment_bytes: self.sizes.segment_bytes,
            faults: self.faults.clone(),
            healed_at: self.healed_at,
            ends_at: self.ends_at,
            audit_at: self.audit_at,
            takeover: self.takeover.is_some(),
            polls_tables: self.polls_tables,
            has_follower: self.follower,
            second: self.second.then_some(SECOND),
            topics: self.topics,
            clients: self.clients.clone(),
            retention: self.retention.clone(),
            delays: self.delays_s.iter().map(|secs| Duration::from_secs(*secs)).collect(),
            times_max: self.retrier.times_max,
        }
    }

    /// Modes, sizes and faults, one a line.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "flush {:?}, replication {:?}, {:?}, cut frames: {}, turns of at most {} inputs",
            self.flush,
            self.replication,
            self.sizes,
            self.options.network.cut_frames,
            self.options.turn_inputs_max
        )];
        lines.extend(self.retention.as_ref().map(|retention| format!("{retention:?}")));
        let names = self.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (index, entry) in self.faults.iter().enumerate() {
            let nanos = entry.at.as_nanos();
            let left_out = if entry.disabled { " (left out)" } else { "" };
            let (secs, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            lines.push(format!(
                "fault {index}: {secs}.{nanos:09} s {}{left_out}",
                entry.fault.describe(&names)
            ));
        }
        lines
    }
}

/// Instants in files: nanoseconds from the beginning of the world.
pub(crate) mod nanos {
    use super::{Deserialize, Instant, Serialize};

    pub(crate) fn serialize<S: serde::Serializer>(at: &Instant, to: S) -> Result<S::Ok, S::Error> {
        at.as_nanos().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Instant, D::Error> {
        u64::deserialize(from).map(Instant::from_nanos)
    }
}

/// What clients share with the plan, in files.
mod shared {
    use super::{Deserialize, Rc, Serialize};

    pub(super) fn serialize<T: Serialize, S: serde::Serializer>(
        it: &Rc<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(it, to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Rc<T>, D::Error> {
        T::deserialize(from).map(Rc::new)
    }
}

impl Sizes {
    fn draw(rng: &mut Rng, may_be_real: bool) -> Sizes {
        let cold_per_mille = [0, 100, 700][rng.below(3) as usize];
        if rng.one_in(REAL_SIZES_IN) && may_be_real {
            return Sizes {
                segment_bytes: 1 << 30,
                queue_file_entries: 300_000,
                spill_entries: 204,
                flush_interval: Duration::from_millis(500),
                recover_slice_bytes: 4 << 20,
                cold_per_mille,
                changes: false,
                reserve_bytes: 64 << 20,
                block_bytes: 0,
                gap_bytes: 0,
            };
        }
        Sizes {
            segment_bytes: 4096 * (6 + rng.below(12)),
            queue_file_entries: 4 + rng.below(60),
            spill_entries: 1 + rng.below(30) as usize,
            flush_interval: Duration::from_millis(100 + rng.below(900)),
            recover_slice_bytes: 512 << rng.below(8),
            cold_per_mille,
            changes: false,
            // None, a page, or room for most of what a small store has to write.
            reserve_bytes: [0, 4096, 40 * 4096][rng.below(3) as usize],
            block_bytes: [0, 700, 3000][rng.below(3) as usize],
            gap_bytes: [0, 8192][rng.below(2) as usize],
        }
    }

    /// What replication takes of them.
    pub(crate) fn replicate(&self, ha: &mut HaConfig) {
        for (usual, drawn) in
            [(&mut ha.block_bytes_max, self.block_bytes), (&mut ha.gap_bytes_max, self.gap_bytes)]
        {
            *usual = if drawn > 0 { drawn } else { *usual };
        }
    }

    /// The settings of a store in a life of its broker: after the first one others, in worlds where they change.
    pub(crate) fn change(&self, store: &mut StoreConfig, life: &mut Life) {
        if !self.changes || life.number == 1 {
            return;
        }
        let mut rng = life.rng.fork("settings");
        store.spill_entries = 1 + rng.below(30) as usize;
        store.flush_interval = Duration::from_millis(100 + rng.below(900));
        store.recover_slice_bytes = 512 << rng.below(8);
        store.checkpoint_interval = Duration::from_secs(1 + rng.below(20));
        store.index_batch_entries = 1 + rng.below(64) as usize;
    }
}

fn readers(rng: &mut Rng, topics: u8) -> (ConsumerPlan, ConsumerPlan) {
    let consumer = ConsumerPlan {
        reader: Reader::Group,
        topics,
        messages_max: 1 + rng.below(32) as i64,
        suspend: Duration::from_millis(4_000 + rng.below(16_000)),
        commit_with_pulls: rng.one_in(2),
        rewind_one_in: 1 + rng.below(4),
    };
    let auditor = ConsumerPlan {
        reader: Reader::Auditor,
        topics,
        messages_max: 32,
        suspend: Duration::from_secs(15),
        commit_with_pulls: false,
        rewind_one_in: 0,
    };
    (consumer, auditor)
}

fn one() -> u8 {
    1
}

fn fault_plan(scenario: &Scenario, name_servers: u8, rng: &mut Rng) -> FaultPlan {
    let mut targets = targets(scenario, name_servers);
    let peers = targets.iter().map(|target| target.host).collect();
    let mut spared = Vec::new();
    for (at, victims) in scenario.victims().iter().enumerate() {
        if at > 0 && rng.one_in(2) {
            spared.push(*victims);
        }
    }
    if !scenario.victims().is_empty() {
        targets.retain(|target| {
            let it = if NAME_SERVERS.contains(&target.host) {
                Victims::NameServers
            } else if target.has_disk {
                Victims::Brokers
            } else {
                Victims::Clients
            };
            scenario.victims().contains(&it) && !spared.contains(&it)
        });
    }
    let mut moments = Moment::or_usual(scenario.moments());
    let delays = |client: &ClientKind| matches!(client, ClientKind::Delayer | ClientKind::Retrier);
    if scenario.moments().is_empty() && scenario.clients.iter().any(delays) {
        // As often as all others together: they are few, and seconds apart.
        moments.extend([Moment::Delivering; 8]);
    }
    FaultPlan {
        count_max: scenario.faults_max(),
        exact: scenario.exact,
        from: scenario.faults_from(),
        until: scenario.faults_until(),
        kinds: scenario.fault_kinds().to_vec(),
        moments,
        targets,
        peers,
    }
}

/// The brokers are there twice: most of what can go wrong goes wrong with them.
fn targets(scenario: &Scenario, name_servers: u8) -> Vec<Target> {
    let target = |host, has_disk| Target { host, has_disk };
    let mut targets = vec![
        target(CAST.name_server, false),
        target(CAST.master, true),
        target(CAST.master, true),
        target(CAST.producer, false),
        target(CAST.consumer, false),
    ];
    if scenario.follower {
        targets.extend([target(CAST.follower, true); 2]);
    }
    if scenario.second_follower {
        targets.push(target(SECOND, true));
    }
    for client in &scenario.clients {
        let many = if *client == ClientKind::Ordered { ordered::MEMBERS } else { 1 };
        targets.extend((0..many).map(|at| target(HostId(place(*client) + at), false)));
    }
    let more = NAME_SERVERS.iter().take(usize::from(name_servers)).skip(1);
    targets.extend(more.map(|host| target(*host, false)));
    targets
}

/// Mostly as usual. With a longer one a silent peer is found by the scans of the machines, which the usual one forestalls.
fn draw_idle_limit(rng: &mut Rng) -> u64 {
    if rng.one_in(4) { 3 * IDLE_LIMIT_S } else { IDLE_LIMIT_S }
}

/// Delays as RocketMQ has them, or so short that sixteen tries go by.
fn draw_delays(rng: &mut Rng, may_be_real: bool) -> Vec<u64> {
    if rng.one_in(3) && may_be_real {
        return vec![1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
    }
    (1..=18).map(|level| level / 2 + 1).collect()
}

fn draw_retrier(rng: &mut Rng, until: Duration) -> RetrierPlan {
    RetrierPlan {
        sends: delayer::draw(rng, 20, 1, SENDS_FROM, until),
        fail_per_mille: [300, 700, 1000][rng.below(3) as usize],
        times_max: rng.below(17) as i32,
    }
}

fn draw_members(rng: &mut Rng, topics: u8, until: Duration) -> Vec<MemberPlan> {
    let until = until.as_nanos() as u64;
    let member = |_| {
        let mut away_ns: Vec<(u64, u64)> = Vec::new();
        for _ in 0..rng.below(3) {
            let from = rng.below(until);
            away_ns.push((from, from + rng.below(until / 4)));
        }
        MemberPlan { topics, away_ns }
    };
    (0..ordered::MEMBERS).map(member).collect()
}
