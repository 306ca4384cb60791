//! How a fleet is drawn: who is there, what is sent, how it is consumed, what goes wrong.

use gantry_core::rng::Rng;
use gantry_core::time::Duration;

use super::{BrokerPlan, FleetPlan, FleetShape, Layout};
use crate::check::Flush;
use crate::fault::{self, Fault, FaultEntry, FaultPlan, Moment, Target};
use crate::scenario::Scenario;
use crate::workload::client::{AppPlan, Asked, Dividing, FleetSeek, FleetSend, GroupPlan, Pace, Way};
use crate::workload::steward::Growth;
use crate::world::HostId;

const SENDS_FROM: Duration = Duration::from_secs(2);
/// Queues that an automatic topic has on each broker (`defaultTopicQueueNums` of a client).
const AUTO_QUEUES: i32 = 4;
const QUEUES_MAX: i32 = 10;
/// Of so many consumers one goes back now and then.
const SEEKS_ONE_IN: u64 = 6;

fn one_of<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

/// Draws a fleet.
pub fn draw(root: &Rng, scenario: &Scenario, shape: &FleetShape) -> FleetPlan {
    let mut rng = root.fork("fleet");
    let until = scenario.faults_until().as_nanos();
    let auto_topics = rng.one_in(2);
    let up_to = |rng: &mut Rng, least: u64, most: u64| {
        let drawn = least + rng.below(most - least + 1);
        if scenario.exact { most } else { drawn }
    };
    let brokers = (0..up_to(&mut rng, 1, shape.broker_groups.into()))
        .map(|at| BrokerPlan {
            slave: scenario.follower && (rng.one_in(2) || shape.memory_bytes.is_some()),
            // One that comes later brings queues along of which nobody knew.
            starts_ns: if at > 0 && rng.one_in(3) { rng.below(until) } else { 0 },
        })
        .collect::<Vec<_>>();
    let topics = up_to(&mut rng, 1, scenario.topics.into()) as u8;
    let groups: Vec<GroupPlan> = (0..up_to(&mut rng, 2, shape.consumer_groups.into()))
        .map(|at| draw_group(&mut root.fork(&format!("group {at}")), at, topics))
        .collect();
    let clients = up_to(&mut rng, shape.clients_min.into(), shape.clients_max.into());
    let producers = 2 + clients / 8;
    let mut apps: Vec<AppPlan> = (0..clients)
        .map(|at| {
            let group = if at < producers && rng.one_in(2) {
                None
            } else {
                Some(rng.below(groups.len() as u64) as usize)
            };
            draw_app(&mut rng, at, group, &groups, until)
        })
        .collect();
    draw_sends(&mut root.fork("sends"), scenario, topics, &mut apps[..producers as usize]);
    draw_seeks(&mut root.fork("seeks"), &groups, &mut apps, until);
    let growth = draw_growth(&mut root.fork("growth"), auto_topics, topics, brokers.len(), until);
    FleetPlan { topics, auto_topics, brokers, growth, groups, apps, memory_bytes: shape.memory_bytes }
}

fn draw_app(rng: &mut Rng, at: u64, group: Option<usize>, groups: &[GroupPlan], until: u64) -> AppPlan {
    let in_rooms =
        group.and_then(|group| groups.get(group)).is_some_and(|group| group.dividing == Dividing::Rooms);
    let late = rng.one_in(4);
    AppPlan {
        left_out: false,
        seed: rng.next_u64(),
        starts_ns: if late { rng.below(until) } else { rng.below(5_000_000_000) },
        renames: rng.one_in(2),
        room: in_rooms.then(|| format!("r{}", at % 2)),
        group,
        avoids_slow: rng.one_in(2),
        gathers: rng.one_in(3),
        stores_once: rng.one_in(3),
        sends: Vec::new(),
        seeks: Vec::new(),
    }
}

/// Some applications read again what they had, from the beginning of a queue. Not those that consume in order: whoever goes elsewhere
/// does not wait for what he holds. Nor those of a broadcast: what they settle behind a seek does not come again.
fn draw_seeks(rng: &mut Rng, groups: &[GroupPlan], apps: &mut [AppPlan], until: u64) {
    for app in apps {
        let group = app.group.and_then(|group| groups.get(group));
        if group.is_none_or(|group| group.broadcast || group.orderly) || !rng.one_in(SEEKS_ONE_IN) {
            continue;
        }
        for _ in 0..1 + rng.below(2) {
            let (at_ns, choice) = (rng.below(until).max(app.starts_ns), rng.next_u64());
            app.seeks.push(FleetSeek { at_ns, choice, offset: -(rng.below(3) as i64) });
        }
        app.seeks.sort_by_key(|seek| seek.at_ns);
    }
}

fn draw_group(rng: &mut Rng, at: u64, topics: u8) -> GroupPlan {
    let orderly = rng.one_in(3);
    let broadcast = rng.one_in(5);
    let mut wanted: Vec<u8> = (0..topics).filter(|_| rng.one_in(2)).collect();
    if wanted.is_empty() {
        wanted.push(rng.below(topics.into()) as u8);
    }
    let pace = Pace {
        // One after another: what piled up while a broker was away must be consumed in the time that is left.
        usual: Duration::from_millis(one_of(rng, if orderly { &[2, 20, 50] } else { &[2, 100, 500] })),
        slow_one_in: one_of(rng, &[30, 100]),
        slow: Duration::from_secs(if orderly { 8 } else { one_of(rng, &[3, 40]) }),
    };
    GroupPlan {
        name: format!("group-{at}"),
        topics: wanted,
        broadcast,
        orderly,
        asked: one_of(rng, &[Asked::All, Asked::All, Asked::TwoTags]),
        dividing: one_of(rng, &[Dividing::Averagely, Dividing::Circle, Dividing::Hash, Dividing::Rooms]),
        fail_per_mille: one_of(rng, &[0, 100, 400]),
        fails_max: one_of(rng, &[1, 3, 6]),
        reconsume_max: one_of(rng, &[None, Some(0), Some(2), Some(4)]),
        delivery_messages_max: one_of(rng, &[1, 1, 5]),
        deliveries_max: one_of(rng, &[4, 20]),
        pull_messages_max: one_of(rng, &[1, 8, 32]),
        queue_messages_max: one_of(rng, &[3, 50, 1000]),
        queue_bytes_max: one_of(rng, &[2_000, 100 << 20]),
        queue_span_max: one_of(rng, &[5, 2000]),
        consume_timeout: Duration::from_secs(one_of(rng, &[30, 15 * 60])),
        pace,
    }
}

fn draw_sends(rng: &mut Rng, scenario: &Scenario, topics: u8, producers: &mut [AppPlan]) {
    let (from, until) = (SENDS_FROM.as_nanos() as u64, scenario.sends_until().as_nanos() as u64);
    // An application has habits.
    let habits: Vec<u64> = producers.iter().map(|_| rng.below(1 << 16)).collect();
    let mut first = 0;
    while first < scenario.messages {
        let at = rng.below(producers.len() as u64) as usize;
        let habit = habits[at];
        let way = match rng.below(4 + habit % 5) {
            0 => Way::RoundRobin,
            1 if habit.is_multiple_of(7) => Way::Batch(2 + rng.below(4) as u8),
            2 if habit.is_multiple_of(3) => Way::Delay(1 + rng.below(4) as u8),
            3 => Way::Random,
            _ => Way::Key(rng.below(6) as u8),
        };
        let starts = producers[at].starts_ns + 1_000_000;
        let at_ns = (from + rng.below(until - from)).max(starts);
        producers[at].sends.push(FleetSend { at_ns, first, topic: rng.below(topics.into()) as u8, way });
        first += way.count();
    }
    for producer in producers {
        producer.sends.sort_by_key(|send| send.at_ns);
    }
}

fn draw_growth(rng: &mut Rng, auto: bool, topics: u8, brokers: usize, until: u64) -> Vec<Growth> {
    let mut growth = Vec::new();
    for topic in 0..topics {
        for broker in 0..brokers {
            let mut queues = if auto { AUTO_QUEUES } else { 1 + rng.below(4) as i32 };
            let mut at_ns = rng.below(1_500_000_000);
            if !auto {
                growth.push(Growth { at_ns, broker, topic, queues });
            }
            for _ in 0..rng.below(3) {
                at_ns += rng.below(until.saturating_sub(at_ns).max(1));
                queues += 1 + rng.below(3) as i32;
                if queues <= QUEUES_MAX {
                    growth.push(Growth { at_ns, broker, topic, queues });
                }
            }
        }
    }
    growth.sort_by_key(|growth| growth.at_ns);
    growth
}

/// Draws what goes wrong in a fleet's world.
pub fn faults(
    rng: &mut Rng,
    scenario: &Scenario,
    fleet: &FleetPlan,
    name_servers: u8,
    flush: Flush,
) -> Vec<FaultEntry> {
    let layout = Layout::new(name_servers, fleet);
    let target = |host, has_disk| Target { host, has_disk };
    let mut targets: Vec<Target> = layout.name_servers().map(|host| target(host, false)).collect();
    let mut brokers: Vec<HostId> = Vec::new();
    for (at, broker) in fleet.brokers.iter().enumerate() {
        brokers.push(layout.master(at));
        brokers.extend(broker.slave.then(|| layout.slave(at)));
    }
    let apps: Vec<HostId> = (0..fleet.apps.len()).map(|at| layout.app(at)).collect();
    // As many times as to make brokers half of the victims, however many applications there are.
    let weight = (apps.len() / brokers.len().max(1)).max(1);
    targets.extend(brokers.iter().flat_map(|host| vec![target(*host, true); weight]));
    targets.extend(apps.iter().map(|host| target(*host, false)));
    let peers = targets.iter().map(|target| target.host).collect();
    let plan = FaultPlan {
        count_max: scenario.faults_max(),
        exact: scenario.exact,
        from: scenario.faults_from(),
        until: scenario.faults_until(),
        kinds: scenario.fault_kinds().to_vec(),
        moments: Moment::or_usual(scenario.moments()),
        targets,
        peers,
    };
    let mut entries = fault::draw(rng, &plan);
    entries.extend(calm_stops(rng, scenario, &apps));
    if flush == Flush::Async {
        // What such a loss may take is judged in worlds with one broker group. Here nothing that was acknowledged may be missing.
        entries.retain(|entry| {
            !matches!(&entry.fault, Fault::PowerLoss { hosts, .. } if hosts.iter().any(|host| brokers.contains(host)))
        });
    }
    entries
}

/// From the end of the faults until connections, locks and routes are as if there had been none.
const CALM_AFTER: Duration = Duration::from_secs(165);
/// Between two stops: the second begins when everything is shared out again.
const STOPS_APART: Duration = Duration::from_secs(50);

/// Some applications stop, one after another, and come back, when nothing else has gone wrong for a while.
fn calm_stops(rng: &mut Rng, scenario: &Scenario, apps: &[HostId]) -> Vec<FaultEntry> {
    let mut at = scenario.faults_until() + CALM_AFTER;
    let mut stops = Vec::new();
    for _ in 0..1 + rng.below(2) {
        let host = one_of(rng, apps);
        let begins = at + Duration::from_nanos(rng.below(5_000_000_000));
        let down = Duration::from_nanos(1_000_000 + rng.below(10_000_000_000));
        stops.push(FaultEntry { at: begins, fault: Fault::CleanStop { host, down }, disabled: false });
        at = at + STOPS_APART;
    }
    stops
}
