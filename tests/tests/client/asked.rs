//! What brokers ask of a consumer for administrators.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_core::client::{ClientCommand, ClientEvent, ConsumerConfig, Target, Verdict};
use gantry_core::wire::Command;
use gantry_core::wire::body::{
    self, ConsumeMessageDirectlyResult, ConsumerRunningInfo, GetConsumerStatusBody, MessageQueue, MqMap,
    ResetOffsetBody,
};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::message::{Draft, Place};
use gantry_core::wire::request::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest, Header,
    ResetOffsetRequest, UpdateConsumerOffsetRequest,
};

use crate::consumer::{all_consumed, bodies, consume, consumer, group, produce};
use crate::world::World;

const CONSUMER: usize = 1;

fn world(config: ConsumerConfig) -> World {
    let mut world = World::new(&[9876], &[10911]);
    world.listen();
    produce(&mut world, 0..8, &Target::RoundRobin, None);
    world.start_client(CONSUMER, consumer(1, config));
    let seen = consume(&mut world, &[CONSUMER], Duration::from_secs(7), all_consumed);
    assert_eq!(bodies(&seen[&CONSUMER]), (0..8).collect());
    world
}

fn reset(group: &str, topic: &str, offsets: BTreeMap<MessageQueue, i64>) -> Command {
    let header = ResetOffsetRequest {
        group: group.into(),
        topic: topic.into(),
        queue_id: None,
        offset: None,
        timestamp: 0,
        is_force: true,
    };
    let body = ResetOffsetBody { offset_table: MqMap(offsets) };
    Command::request(request_code::RESET_CONSUMER_CLIENT_OFFSET, header.to_ext())
        .with_body(body.encode())
        .oneway()
}

fn to_zero() -> BTreeMap<MessageQueue, i64> {
    (0..4).map(|queue| (MessageQueue::new("T", "b10911", queue), 0)).collect()
}

#[test]
fn a_consumer_goes_on_where_it_is_put() {
    for orderly in [false, true] {
        let mut world = world(ConsumerConfig { orderly, ..group() });
        produce(&mut world, 8..12, &Target::RoundRobin, None);
        // They are with the application when the reset comes.
        let held = consume(&mut world, &[CONSUMER], Duration::from_millis(500), |_| None);
        assert_eq!(bodies(&held[&CONSUMER]), (8..12).collect());
        for nothing in [
            reset("others", "T", to_zero()),
            reset("G", "U", to_zero()),
            Command { body: b"{"[..].into(), ..reset("G", "T", to_zero()) },
        ] {
            world.ask_client(10911, CONSUMER, nothing);
        }
        let seen = consume(&mut world, &[CONSUMER], Duration::from_secs(6), |_| None);
        assert_eq!(bodies(&seen[&CONSUMER]), BTreeSet::new(), "that was not asked of it");
        world.heard(0);
        world.ask_client(10911, CONSUMER, reset("G", "T", to_zero()));
        world.run();
        let commits = world.heard(request_code::UPDATE_CONSUMER_OFFSET);
        let offsets: Vec<(i32, i64)> = commits
            .iter()
            .map(|(_, commit)| commit.header::<UpdateConsumerOffsetRequest<'_>>().expect("a header"))
            .filter(|commit| commit.topic == "T")
            .map(|commit| (commit.queue_id, commit.commit_offset))
            .collect();
        assert_eq!(offsets, [(0, 0), (1, 0), (2, 0), (3, 0)], "the new place is committed at once");
        let seen = consume(&mut world, &[CONSUMER], Duration::from_secs(6), all_consumed);
        assert_eq!(bodies(&seen[&CONSUMER]), (0..12).collect(), "all of them come again");
        assert_eq!(seen[&CONSUMER].bodies.len(), 12, "once");
    }
}

#[test]
fn what_was_handed_out_before_a_reset_does_not_count() {
    let mut world = world(group());
    produce(&mut world, 8..12, &Target::RoundRobin, None);
    world.pass(Duration::from_millis(500));
    let delivered = |event| if let ClientEvent::Delivered(delivery) = event { Some(delivery) } else { None };
    let early: Vec<_> = world.events(CONSUMER).into_iter().filter_map(delivered).collect();
    assert_eq!(early.len(), 4);
    world.ask_client(10911, CONSUMER, reset("G", "T", to_zero()));
    world.run();
    for delivery in early {
        world.command(CONSUMER, ClientCommand::Settle(delivery.id, Verdict::Consumed));
    }
    world.run();
    let again: Vec<_> = world.events(CONSUMER).into_iter().filter_map(delivered).collect();
    assert_eq!(again.len(), 12);
    world.heard(0);
    world.pass(Duration::from_secs(6));
    let commits = world.heard(request_code::UPDATE_CONSUMER_OFFSET);
    let offsets = commits.iter().map(|(_, commit)| {
        commit.header::<UpdateConsumerOffsetRequest<'_>>().expect("a header").commit_offset
    });
    assert_eq!(offsets.max(), Some(0), "nothing of it is done, and the place is told once more");
}

/// What the consumer answers to a broker.
fn answer(world: &mut World, question: Command) -> Command {
    world.heard(0);
    world.ask_client(10911, CONSUMER, Command { opaque: 4711, ..question });
    world.run();
    let mut answers = world.answers();
    answers.retain(|answer| answer.opaque == 4711);
    assert_eq!(answers.len(), 1, "one answer");
    answers.remove(0)
}

#[test]
fn a_consumer_says_where_it_is_and_how_it_does() {
    let mut world = world(group());
    let status = |group: &str| {
        let header = GetConsumerStatusRequest { topic: "T".into(), group: group.into(), client_addr: None };
        Command::request(request_code::GET_CONSUMER_STATUS_FROM_CLIENT, header.to_ext())
    };
    let told = answer(&mut world, status("G"));
    let told: GetConsumerStatusBody = body::decode(&told.body).expect("a body");
    let offsets: Vec<i64> = told.message_queue_table.0.values().copied().collect();
    assert_eq!(offsets, [2, 2, 2, 2]);
    let told = answer(&mut world, status("others"));
    let told: GetConsumerStatusBody = body::decode(&told.body).expect("a body");
    assert!(told.message_queue_table.0.is_empty());

    produce(&mut world, 8..12, &Target::RoundRobin, None);
    let info = |group: &str| {
        let header = GetConsumerRunningInfoRequest {
            consumer_group: group.into(),
            client_id: "127.0.0.1@c1".into(),
            jstack_enable: None,
        };
        Command::request(request_code::GET_CONSUMER_RUNNING_INFO, header.to_ext())
    };
    let told = answer(&mut world, info("G"));
    assert_eq!(told.code, response_code::SUCCESS);
    let told: ConsumerRunningInfo = body::decode(&told.body).expect("a body");
    assert_eq!(told.properties["PROP_CONSUMEORDERLY"], "false");
    assert_eq!(told.properties["PROP_CONSUME_TYPE"], "CONSUME_PASSIVELY");
    let topics: Vec<&str> = told.subscription_set.iter().map(|wanted| wanted.topic.as_str()).collect();
    assert_eq!(topics, ["T", "%RETRY%G"]);
    let lane = &told.mq_table.0[&MessageQueue::new("T", "b10911", 0)];
    assert_eq!((lane.commit_offset, lane.cached_msg_count), (2, 1));
    assert_eq!((lane.cached_msg_min_offset, lane.cached_msg_max_offset), (2, 2));
    assert_eq!(answer(&mut world, info("others")).code, response_code::SYSTEM_ERROR);
}

fn direct(group: &str) -> Command {
    let host = "127.0.0.1:10911".parse().expect("an address");
    let draft = Draft {
        topic: "elsewhere",
        queue_id: 2,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"77",
        properties: b"UNIQ_KEY\x01ID\x02",
    };
    let mut record = Vec::new();
    draft.encode(Place { queue_offset: 9, physical_offset: 900, store_timestamp: 2 }, &mut record);
    let header = ConsumeMessageDirectlyResultRequest {
        consumer_group: group.into(),
        client_id: Some("127.0.0.1@c1".into()),
        msg_id: Some("ID".into()),
        broker_name: Some("b10911".into()),
        topic: None,
        topic_sys_flag: None,
        group_sys_flag: None,
    };
    Command::request(request_code::CONSUME_MESSAGE_DIRECTLY, header.to_ext()).with_body(record)
}

#[test]
fn a_message_is_consumed_here_and_now() {
    let mut world = world(group());
    for (verdict, expect) in [(Verdict::Consumed, "CR_SUCCESS"), (Verdict::Later(0), "CR_LATER")] {
        world.heard(0);
        world.ask_client(10911, CONSUMER, Command { opaque: 4711, ..direct("G") });
        world.run();
        assert!(world.answers().iter().all(|answer| answer.opaque != 4711), "it is not consumed yet");
        let delivered: Vec<_> = world.events(CONSUMER);
        let [ClientEvent::Delivered(delivery)] = &delivered[..] else { panic!("{delivered:?}") };
        let [message] = &delivery.messages[..] else { panic!("{delivery:?}") };
        assert_eq!(
            (message.topic.as_str(), &message.body[..], message.id().as_str()),
            ("elsewhere", &b"77"[..], "ID")
        );
        assert_eq!((message.queue.broker_name.as_str(), message.queue.queue_id), ("b10911", 2));
        world.pass(Duration::from_millis(250));
        world.command(CONSUMER, ClientCommand::Settle(delivery.id, verdict));
        world.run();
        let answers = world.answers();
        let answer = answers.iter().find(|answer| answer.opaque == 4711).expect("it is told");
        let told: ConsumeMessageDirectlyResult = body::decode(&answer.body).expect("a body");
        assert_eq!((told.consume_result.as_deref(), told.spent_time_mills), (Some(expect), 250));
    }
    assert_eq!(answer(&mut world, direct("others")).code, response_code::SYSTEM_ERROR);
}
