//! What a group makes of its messages: shared out, taken over, tried again, kept in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_core::client::{
    ClientCommand, ClientConfig, ClientEvent, ConsumeError, ConsumerConfig, Delivery, Filter, Message,
    ProducerConfig, RequestId, Send, Start, Strategy, Target, Verdict,
};
use gantry_core::wire::body::{MessageModel, MessageQueue};

use crate::producer::config;
use crate::world::{Id, World};

const PRODUCER: usize = 100;

pub(crate) fn consumer(n: usize, consumer: ConsumerConfig) -> ClientConfig {
    ClientConfig {
        client_id: format!("127.0.0.1@c{n}"),
        producer: None,
        consumer: Some(consumer),
        ..config(&[9876], ProducerConfig::new("P"))
    }
}

pub(crate) fn group() -> ConsumerConfig {
    let subscriptions = vec![("T".to_string(), Filter::all())];
    ConsumerConfig { subscriptions, start: Start::First, ..ConsumerConfig::new("G") }
}

/// Sends bodies `begin..end`, round the queues or all to one.
pub(crate) fn produce(world: &mut World, numbers: std::ops::Range<u64>, target: &Target, tag: Option<&str>) {
    if !world.clients.contains_key(&PRODUCER) {
        let producer =
            ClientConfig { client_id: "127.0.0.1@p".into(), ..config(&[9876], ProducerConfig::new("P")) };
        world.start_client(PRODUCER, producer);
    }
    let count = numbers.end - numbers.start;
    for n in numbers {
        let mut message = Message::new("T", n.to_string());
        if let Some(tag) = tag {
            message = message.with_tag(tag);
        }
        let send = Send {
            id: RequestId(n),
            messages: vec![message],
            target: target.clone(),
            oneway: false,
            timeout: None,
        };
        world.command(PRODUCER, ClientCommand::Send(send));
    }
    world.pass(Duration::from_secs(1));
    let sent = world.events(PRODUCER);
    let sent = sent.iter().filter(|event| matches!(event, ClientEvent::Sent { result: Ok(_), .. }));
    assert_eq!(sent.count() as u64, count);
}

/// What a consumer saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Body and tries before, in order.
    pub(crate) bodies: Vec<(u64, i32)>,
    queues: BTreeMap<String, Vec<MessageQueue>>,
    problems: Vec<String>,
    failing: Vec<ConsumeError>,
    pub(crate) progress: BTreeMap<MessageQueue, i64>,
    stopped: bool,
}

/// Lets time pass; deliveries are settled as `judge` says.
pub(crate) fn consume(
    world: &mut World,
    clients: &[usize],
    time: Duration,
    mut judge: impl FnMut(&Delivery) -> Option<Verdict>,
) -> BTreeMap<usize, Seen> {
    let mut all: BTreeMap<usize, Seen> = clients.iter().map(|n| (*n, Seen::default())).collect();
    let end = world.now() + time;
    loop {
        world.run();
        let mut settled = 0;
        for (n, seen) in &mut all {
            for event in world.events(*n) {
                match event {
                    ClientEvent::Delivered(delivery) => {
                        for message in &delivery.messages {
                            let body =
                                std::str::from_utf8(&message.body).expect("text").parse().expect("a number");
                            seen.bodies.push((body, message.reconsume_times));
                        }
                        if let Some(verdict) = judge(&delivery) {
                            settled += 1;
                            world.command(*n, ClientCommand::Settle(delivery.id, verdict));
                        }
                    }
                    ClientEvent::Assigned { topic, queues } => drop(seen.queues.insert(topic, queues)),
                    ClientEvent::Problem(problem) => seen.problems.push(problem),
                    ClientEvent::Failing(error) => seen.failing.push(error),
                    ClientEvent::Progress(progress) => seen.progress = progress,
                    ClientEvent::Stopped => seen.stopped = true,
                    ClientEvent::Sent { .. }
                    | ClientEvent::Queues { .. }
                    | ClientEvent::Replied { .. }
                    | ClientEvent::Checking { .. }
                    | ClientEvent::Answered { .. } => {}
                }
            }
        }
        if settled > 0 {
            continue;
        }
        if world.now() >= end {
            return all;
        }
        world.pass(Duration::from_millis(20));
    }
}

pub(crate) fn all_consumed(_: &Delivery) -> Option<Verdict> {
    Some(Verdict::Consumed)
}

pub(crate) fn bodies(seen: &Seen) -> BTreeSet<u64> {
    seen.bodies.iter().map(|(body, _)| *body).collect()
}

#[test]
fn a_group_shares_the_queues_and_a_stop_gives_them_back_at_once() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    produce(&mut world, 0..8, &Target::RoundRobin, None);
    for n in 1..=3 {
        world.start_client(n, consumer(n, group()));
    }
    let seen = consume(&mut world, &[1, 2, 3], Duration::from_secs(5), all_consumed);
    let mut owned: Vec<&MessageQueue> =
        seen.values().filter_map(|seen| seen.queues.get("T")).flatten().collect();
    owned.sort();
    assert_eq!(owned.len(), 8, "no gap");
    owned.dedup();
    assert_eq!(owned.len(), 8, "no overlap");
    let read: BTreeSet<u64> = seen.values().flat_map(bodies).collect();
    assert_eq!(read, (0..8).collect());
    produce(&mut world, 8..80, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[1, 2, 3], Duration::from_secs(1), all_consumed);
    let read: Vec<u64> = seen.values().flat_map(|seen| seen.bodies.iter().map(|(body, _)| *body)).collect();
    assert_eq!(read.len(), 72, "once settled, each message once");
    assert!(seen.values().all(|seen| !seen.bodies.is_empty()), "each has a share");

    world.command(3, ClientCommand::Stop);
    let seen = consume(&mut world, &[1, 2, 3], Duration::from_secs(1), all_consumed);
    assert!(seen[&3].stopped);
    let shares: Vec<usize> = [1, 2].iter().map(|n| seen[n].queues["T"].len()).collect();
    assert_eq!(shares, [4, 4], "the others have all within a second");
    produce(&mut world, 80..160, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(1), all_consumed);
    let read: Vec<u64> = seen.values().flat_map(|seen| seen.bodies.iter().map(|(body, _)| *body)).collect();
    assert_eq!(read.len(), 80, "what the third consumed is not consumed again");
}

#[test]
fn a_group_begins_at_its_time_also_in_young_queues() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..8, &Target::RoundRobin, None);
    world.pass(Duration::from_secs(10));
    let middle = world.wall().0;
    world.pass(Duration::from_secs(10));
    produce(&mut world, 8..16, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, ConsumerConfig { start: Start::Time(middle), ..group() }));
    // One is sent back. The retry topic is made by that, and found later: it begins with what made it.
    let seen = consume(&mut world, &[1], Duration::from_secs(60), |delivery| {
        let is_bad = &delivery.messages[0].body[..] == b"9" && delivery.messages[0].reconsume_times == 0;
        Some(if is_bad { Verdict::Later(1) } else { Verdict::Consumed })
    });
    assert_eq!(bodies(&seen[&1]), (8..16).collect(), "{:?}", seen[&1].problems);
    assert!(seen[&1].bodies.contains(&(9, 1)) && seen[&1].bodies.len() == 9, "{:?}", seen[&1].bodies);
    // Behind the last message of a queue there is nothing, and what comes then is consumed.
    let late = ConsumerConfig { group: "H".into(), start: Start::Time(world.wall().0), ..group() };
    world.start_client(2, consumer(2, late));
    let seen = consume(&mut world, &[2], Duration::from_secs(5), all_consumed);
    assert_eq!(seen[&2].bodies, []);
    produce(&mut world, 16..24, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[2], Duration::from_secs(5), all_consumed);
    assert_eq!(bodies(&seen[&2]), (16..24).collect());
}

#[test]
fn a_new_group_takes_all_of_young_queues() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let last = |name: &str| ConsumerConfig { group: name.into(), start: Start::Last, ..group() };
    world.start_client(1, consumer(1, last("H")));
    let seen = consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
    assert_eq!(bodies(&seen[&1]), (0..4).collect(), "the queues are as young as the group");
}

#[test]
fn a_killed_consumer_loses_nothing() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    for n in 1..=2 {
        world.start_client(n, consumer(n, group()));
    }
    consume(&mut world, &[1, 2], Duration::from_secs(5), all_consumed);
    produce(&mut world, 10..50, &Target::RoundRobin, None);
    // The second one takes messages and never says what became of them.
    let mut count = 0;
    let seen = consume(&mut world, &[1, 2], Duration::from_millis(100), |_| {
        count += 1;
        (count % 2 == 0).then_some(Verdict::Consumed)
    });
    let mut read: BTreeSet<u64> = bodies(&seen[&1]);
    world.kill(Id::Client(2));
    let seen = consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
    read.extend(bodies(&seen[&1]));
    assert_eq!(seen[&1].queues["T"].len(), 4);
    assert!(read.is_superset(&bodies(&seen[&1])) && (10..50).all(|body| read.contains(&body)), "{read:?}");
}

#[test]
fn what_is_sent_back_comes_again_and_ends_in_the_dead_letter_queue() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, ConsumerConfig { reconsume_max: Some(2), ..group() }));
    let seen = consume(&mut world, &[1], Duration::from_secs(60), |delivery| {
        let is_bad = &delivery.messages[0].body[..] == b"3";
        assert_eq!(delivery.messages[0].topic, "T");
        Some(if is_bad { Verdict::Later(1) } else { Verdict::Consumed })
    });
    let tries: Vec<i32> =
        seen[&1].bodies.iter().filter(|(body, _)| *body == 3).map(|(_, tries)| *tries).collect();
    assert_eq!(tries, [0, 1, 2], "{:?}", seen[&1].problems);
    assert_eq!(seen[&1].bodies.len(), 6, "the others came once");
}

#[test]
fn ordered_queues_never_reorder() {
    let mut world = World::new(&[9876], &[10911]);
    let queue = Target::Queue(MessageQueue::new("T", "b10911", 1));
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    produce(&mut world, 1..50, &queue, None);
    world.start_client(1, consumer(1, ConsumerConfig { orderly: true, ..group() }));
    let mut failed = 0;
    let seen = consume(&mut world, &[1], Duration::from_secs(10), |delivery| {
        let fails = &delivery.messages[0].body[..] == b"7" && delivery.messages[0].reconsume_times < 2;
        failed += i32::from(fails);
        Some(if fails { Verdict::Later(0) } else { Verdict::Consumed })
    });
    assert_eq!(failed, 2);
    let order: Vec<u64> = seen[&1].bodies.iter().map(|(body, _)| *body).filter(|body| *body != 0).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.len(), 49 + 2);
    // A second one joins while messages flow: the queue moves or stays, and order holds over both.
    world.start_client(2, consumer(2, ConsumerConfig { orderly: true, ..group() }));
    produce(&mut world, 50..90, &queue, None);
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(70), all_consumed);
    for seen in seen.values() {
        assert!(seen.bodies.is_sorted(), "{:?}", seen.bodies);
    }
    let read: BTreeSet<u64> = seen.values().flat_map(bodies).collect();
    assert!((50..90).all(|body| read.contains(&body)), "{read:?}");
}

#[test]
fn an_ordered_queue_that_comes_back_waits_for_what_is_still_held() {
    let mut world = World::new(&[9876], &[10911]);
    let queue = MessageQueue::new("T", "b10911", 3);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    produce(&mut world, 10..13, &Target::Queue(queue.clone()), None);
    let member = |n| consumer(n, ConsumerConfig { orderly: true, ..group() });
    world.start_client(1, member(1));
    let mut held = None;
    consume(&mut world, &[1], Duration::from_secs(5), |delivery| {
        let is_first = &delivery.messages[0].body[..] == b"10";
        held = held.or(is_first.then_some(delivery.id));
        (!is_first).then_some(Verdict::Consumed)
    });
    let held = held.expect("the first of them came");
    // Another one gets the queue, but not its lock, and gives it back.
    world.start_client(2, member(2));
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(10), all_consumed);
    assert!(seen[&2].queues["T"].contains(&queue), "{:?}", seen[&2].queues);
    assert_eq!(seen[&2].bodies, []);
    world.command(2, ClientCommand::Stop);
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(10), all_consumed);
    assert!(seen[&1].queues["T"].contains(&queue), "{:?}", seen[&1].queues);
    assert_eq!(seen[&1].bodies, [], "nothing of it while the application is at it");
    world.command(1, ClientCommand::Settle(held, Verdict::Consumed));
    let seen = consume(&mut world, &[1], Duration::from_secs(10), all_consumed);
    assert_eq!(seen[&1].bodies, [(10, 0), (11, 0), (12, 0)], "from where the group had come");
    produce(&mut world, 13..14, &Target::Queue(queue), None);
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    assert_eq!(seen[&1].bodies, [(13, 0)], "its lock did not go back with the old delivery");
}

#[test]
fn tags_choose_and_offsets_are_kept() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..10, &Target::RoundRobin, Some("a"));
    produce(&mut world, 10..20, &Target::RoundRobin, Some("b"));
    produce(&mut world, 20..30, &Target::RoundRobin, None);
    let wants = |tags: &str| ConsumerConfig {
        subscriptions: vec![("T".into(), Filter::Tags(tags.into()))],
        ..group()
    };
    world.start_client(1, consumer(1, wants("a || c")));
    let seen = consume(&mut world, &[1], Duration::from_secs(8), all_consumed);
    assert_eq!(bodies(&seen[&1]), (0..10).collect());
    world.kill(Id::Client(1));
    world.kill(Id::Broker(10911));
    world.start_broker(10911, &[9876]);
    world.pass(Duration::from_secs(2));
    world.start_client(2, consumer(2, wants("a || c")));
    produce(&mut world, 30..34, &Target::RoundRobin, Some("c"));
    let seen = consume(&mut world, &[2], Duration::from_secs(8), all_consumed);
    assert_eq!(bodies(&seen[&2]), (30..34).collect(), "the group goes on where it was");
}

#[test]
fn everybody_gets_a_broadcast() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..10, &Target::RoundRobin, None);
    for n in 1..=2 {
        world.start_client(n, consumer(n, ConsumerConfig { model: MessageModel::Broadcasting, ..group() }));
    }
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(5), all_consumed);
    assert_eq!((bodies(&seen[&1]), bodies(&seen[&2])), ((0..10).collect(), (0..10).collect()));
}

#[test]
fn a_broadcast_goes_on_where_the_client_had_come() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..12, &Target::RoundRobin, None);
    let all = || ConsumerConfig { model: MessageModel::Broadcasting, ..group() };
    world.start_client(1, consumer(1, all()));
    // One message of the first life stays with the application.
    let mut seen = consume(&mut world, &[1], Duration::from_secs(6), |delivery| {
        (&delivery.messages[0].body[..] != b"11").then_some(Verdict::Consumed)
    });
    let told = seen.remove(&1).expect("it ran").progress;
    assert_eq!((told.len(), told.values().sum::<i64>()), (4, 11), "{told:?}");
    produce(&mut world, 12..13, &Target::RoundRobin, None);
    consume(&mut world, &[1], Duration::from_millis(100), all_consumed);
    world.command(1, ClientCommand::Stop);
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    let told = seen[&1].progress.clone();
    assert_eq!(told.values().sum::<i64>(), 12, "a stop tells what came since: {told:?}");
    world.kill(Id::Client(1));
    world.start_client(2, consumer(1, ConsumerConfig { offsets: told, ..all() }));
    let seen = consume(&mut world, &[2], Duration::from_secs(6), all_consumed);
    assert_eq!(bodies(&seen[&2]), BTreeSet::from([11]), "what was consumed does not come again");
}

#[test]
fn two_members_of_one_id_are_told() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, group()));
    consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
    world.start_client(2, consumer(1, group()));
    let seen = consume(&mut world, &[1, 2], Duration::from_secs(30), all_consumed);
    for n in [1, 2] {
        let [ConsumeError::DuplicateId { client_id, group, addresses }] = &seen[&n].failing[..] else {
            panic!("client {n} is told once: {:?}", seen[&n].failing);
        };
        assert_eq!((client_id.as_str(), group.as_str()), ("127.0.0.1@c1", "G"));
        assert_eq!(addresses.matches("127.0.0.1:").count(), 2, "{addresses}");
    }
    // A client that came back while its broker still counts its old connection is no twin of itself.
    world.kill(Id::Client(2));
    world.kill(Id::Broker(10911));
    world.start_broker(10911, &[9876]);
    let seen = consume(&mut world, &[1], Duration::from_secs(120), all_consumed);
    assert_eq!(seen[&1].failing, []);
}

#[test]
fn a_topic_that_is_not_there_is_named_once_and_waited_for() {
    let mut world = World::new(&[9876], &[10911]);
    world.start_client(1, consumer(1, group()));
    let seen = consume(&mut world, &[1], Duration::from_secs(20), all_consumed);
    assert_eq!(seen[&1].failing, [ConsumeError::UnknownTopic("T".into())]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[1], Duration::from_secs(40), all_consumed);
    assert_eq!((bodies(&seen[&1]), &seen[&1].failing[..]), ((0..4).collect(), &[][..]));
}

#[test]
fn what_a_broker_will_never_grant_is_an_error_and_said_once() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let subscriptions = vec![("T".into(), Filter::Sql("a > 1".into()))];
    world.start_client(1, consumer(1, ConsumerConfig { subscriptions, ..group() }));
    let seen = consume(&mut world, &[1], Duration::from_secs(10), all_consumed);
    let [ConsumeError::Refused { reason, broker, .. }] = &seen[&1].failing[..] else {
        panic!("{:?} {:?}", seen[&1].failing, seen[&1].problems);
    };
    assert!(broker == "b10911" && reason.contains("SQL92"), "{reason}");
    assert_eq!(seen[&1].bodies, []);
}

#[test]
fn chosen_queues_are_read_from_where_the_host_says() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    let queue = |id| MessageQueue::new("T", "b10911", id);
    produce(&mut world, 10..20, &Target::Queue(queue(1)), None);
    produce(&mut world, 20..30, &Target::Queue(queue(2)), None);
    let chosen =
        |ids: &[i32]| ConsumerConfig { assigned: Some(ids.iter().map(|id| queue(*id)).collect()), ..group() };
    let own = |seen: &Seen| bodies(seen).into_iter().filter(|body| *body > 0).collect::<Vec<_>>();
    world.start_client(1, consumer(1, chosen(&[1])));
    // One comes again, to the same client.
    let seen = consume(&mut world, &[1], Duration::from_secs(3), |delivery| {
        let fails = &delivery.messages[0].body[..] == b"15" && delivery.messages[0].reconsume_times == 0;
        Some(if fails { Verdict::Later(1) } else { Verdict::Consumed })
    });
    assert_eq!(own(&seen[&1]), (10..20).collect::<Vec<_>>());
    assert!(seen[&1].bodies.contains(&(15, 1)), "{:?}", seen[&1].bodies);
    let end = 10 + i64::from(bodies(&seen[&1]).contains(&0));
    world.command(1, ClientCommand::Seek(queue(1), end - 3));
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    assert_eq!(own(&seen[&1]), [17, 18, 19], "again from there");
    world.command(1, ClientCommand::Assign(vec![queue(2)]));
    world.command(1, ClientCommand::Seek(queue(2), 4));
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    let came = own(&seen[&1]);
    assert!(came.ends_with(&[25, 26, 27, 28, 29]) && came.len() < 10, "{came:?}");
    produce(&mut world, 30..31, &Target::Queue(queue(1)), None);
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    assert_eq!(own(&seen[&1]), [0; 0], "the first queue is given back");
    // What was consumed is committed for the group.
    world.kill(Id::Client(1));
    world.start_client(2, consumer(2, chosen(&[1, 2])));
    let seen = consume(&mut world, &[2], Duration::from_secs(2), all_consumed);
    assert!(own(&seen[&2]).contains(&30) && !own(&seen[&2]).contains(&19), "{:?}", seen[&2].bodies);
}

#[test]
fn a_commit_is_made_when_asked_for() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, group()));
    consume(&mut world, &[1], Duration::from_millis(4_500), all_consumed);
    produce(&mut world, 4..5, &Target::RoundRobin, None);
    consume(&mut world, &[1], Duration::from_millis(20), all_consumed);
    world.command(1, ClientCommand::Commit);
    world.pass(Duration::from_millis(1));
    world.kill(Id::Client(1));
    world.start_client(2, consumer(2, group()));
    let seen = consume(&mut world, &[2], Duration::from_secs(5), all_consumed);
    assert_eq!(seen[&2].bodies, [], "nothing comes again");
}

#[test]
fn a_consumer_outlives_its_broker_and_its_name_server() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..10, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, group()));
    let seen = consume(&mut world, &[1], Duration::from_secs(6), all_consumed);
    assert_eq!(bodies(&seen[&1]), (0..10).collect());
    world.kill(Id::NameServer(9876));
    produce(&mut world, 10..20, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[1], Duration::from_secs(40), all_consumed);
    assert_eq!(bodies(&seen[&1]), (10..20).collect(), "nobody needs the name server for what is known");
    world.kill(Id::Broker(10911));
    consume(&mut world, &[1], Duration::from_secs(20), all_consumed);
    world.start_name_server(9876);
    world.start_broker(10911, &[9876]);
    world.pass(Duration::from_secs(5));
    produce(&mut world, 20..30, &Target::RoundRobin, None);
    let seen = consume(&mut world, &[1], Duration::from_secs(30), all_consumed);
    assert!((20..30).all(|body| bodies(&seen[&1]).contains(&body)), "{:?}", seen[&1].bodies);
}

#[test]
fn nothing_is_pulled_beyond_the_limits() {
    let mut world = World::new(&[9876], &[10911]);
    let queue = Target::Queue(MessageQueue::new("T", "b10911", 0));
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    produce(&mut world, 1..200, &queue, None);
    let limits = ConsumerConfig { queue_messages_max: 40, deliveries_max: 5, ..group() };
    world.start_client(1, consumer(1, limits));
    let seen = consume(&mut world, &[1], Duration::from_secs(5), |_| None);
    assert_eq!(seen[&1].bodies.len(), 5, "no more than may be handed out");
}

#[test]
fn what_nobody_has_settled_comes_again_when_a_broker_comes_back_with_less() {
    let mut world = World::new(&[9876], &[10911]);
    let queue = Target::Queue(MessageQueue::new("T", "b10911", 0));
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    produce(&mut world, 1..5, &queue, None);
    world.kill(Id::Broker(10911));
    let older = world.disk(10911).clone();
    world.start_broker(10911, &[9876]);
    world.pass(Duration::from_secs(40));
    produce(&mut world, 5..20, &queue, None);
    let limits = ConsumerConfig { deliveries_max: 1, ..group() };
    world.start_client(1, consumer(1, limits));
    let seen = consume(&mut world, &[1], Duration::from_secs(5), |_| None);
    assert_eq!(seen[&1].bodies.len(), 1, "one is out, the others wait");
    world.kill(Id::Broker(10911));
    *world.disk(10911) = older;
    world.start_broker(10911, &[9876]);
    let seen = consume(&mut world, &[1], Duration::from_secs(90), all_consumed);
    assert!((1..5).all(|body| bodies(&seen[&1]).contains(&body)), "{:?}", seen[&1].bodies);
}

#[test]
fn a_queue_is_not_pulled_far_beyond_a_message_that_takes_long() {
    let mut world = World::new(&[9876], &[10911]);
    let queue = Target::Queue(MessageQueue::new("T", "b10911", 0));
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    produce(&mut world, 1..100, &queue, None);
    let limits = ConsumerConfig { queue_span_max: 10, pull_messages_max: 4, ..group() };
    world.start_client(1, consumer(1, limits));
    let slow = |delivery: &Delivery| (delivery.messages[0].body[..] != *b"1").then_some(Verdict::Consumed);
    let seen = consume(&mut world, &[1], Duration::from_secs(5), slow);
    let count = bodies(&seen[&1]).len();
    assert!((10..=16).contains(&count), "{count} came while one takes long");
}

#[test]
fn fixed_queues_go_to_their_own_topics() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let other = Send {
        id: RequestId(1),
        messages: vec![Message::new("U", "5")],
        target: Target::RoundRobin,
        oneway: false,
        timeout: None,
    };
    world.command(PRODUCER, ClientCommand::Send(other));
    world.pass(Duration::from_secs(1));
    let queue = |topic: &str, id| MessageQueue::new(topic, "b10911", id);
    let fixed: Vec<_> =
        [("T", 0), ("T", 3), ("U", 0), ("U", 1), ("U", 2), ("U", 3)].map(|(t, q)| queue(t, q)).into();
    let subscriptions = ["T", "U"].map(|topic| (topic.to_string(), Filter::all())).into();
    let config = ConsumerConfig { subscriptions, strategy: Strategy::Config(fixed.clone()), ..group() };
    world.start_client(1, consumer(1, config));
    let seen = consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
    assert_eq!(seen[&1].queues["T"], fixed[..2]);
    assert_eq!(seen[&1].queues["U"], fixed[2..]);
    assert_eq!(seen[&1].bodies.len(), 3, "{:?}", seen[&1].bodies);
}
