//! Heartbeats, who is there, and queue locks.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_core::io::{CREDIT_BYTES, ConnId, Input};
use gantry_core::wire::body::{
    self, GetConsumerListByGroupResponseBody, LockBatchRequestBody, LockBatchResponseBody, MessageQueue,
};
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::request::{
    GetConsumerListByGroupRequest, Header, NotifyConsumerIdsChangedRequest, PullMessageRequest,
    UnregisterClientRequest,
};
use gantry_core::wire::{Command, Ext};

use crate::harness::{World, config, heartbeat, pull_header, send};

fn members(world: &mut World, conn: ConnId) -> Result<Vec<String>, i32> {
    let header = GetConsumerListByGroupRequest { consumer_group: "G".into() };
    let answer =
        world.call(conn, Command::request(request_code::GET_CONSUMER_LIST_BY_GROUP, header.to_ext()));
    if answer.code != code::SUCCESS {
        return Err(answer.code);
    }
    let list: GetConsumerListByGroupResponseBody = body::decode(&answer.body).expect("a list");
    Ok(list.consumer_id_list)
}

/// How many times a client was told that the members of G changed.
fn told(world: &mut World, conn: ConnId) -> usize {
    let pushed = world.pushed(conn);
    for request in &pushed {
        assert_eq!(request.code, request_code::NOTIFY_CONSUMER_IDS_CHANGED);
        assert!(request.is_oneway());
        let header = NotifyConsumerIdsChangedRequest::decode(&request.ext).expect("header");
        assert_eq!(header.consumer_group, "G");
    }
    pushed.len()
}

#[test]
fn members_are_told_of_every_change() {
    let mut world = World::new(config());
    let (a, b) = (world.connect(1), world.connect(2));
    assert_eq!(members(&mut world, a), Err(code::SYSTEM_ERROR));
    world.call(a, heartbeat("a", "G", "T", "*", 1));
    assert_eq!(told(&mut world, a), 1);
    world.call(b, heartbeat("b", "G", "T", "*", 1));
    assert_eq!((told(&mut world, a), told(&mut world, b)), (1, 1));
    world.call(b, heartbeat("b", "G", "T", "*", 1));
    assert_eq!((told(&mut world, a), told(&mut world, b)), (0, 0), "nothing changed");
    assert_eq!(members(&mut world, a), Ok(vec!["a".into(), "b".into()]));
    // A connection that closes.
    world.close(b);
    world.run();
    assert_eq!(told(&mut world, a), 1);
    assert_eq!(members(&mut world, a), Ok(vec!["a".into()]));
    // One that says goodbye.
    let c = world.connect(3);
    world.call(c, heartbeat("c", "G", "T", "*", 1));
    told(&mut world, a);
    let header = UnregisterClientRequest {
        client_id: "c".into(),
        producer_group: Some("P".into()),
        consumer_group: Some("G".into()),
    };
    world.call(c, Command::request(request_code::UNREGISTER_CLIENT, header.to_ext()));
    assert_eq!(told(&mut world, a), 1);
    // A topic that comes or goes.
    world.call(a, heartbeat("a", "G", "U", "*", 2));
    assert_eq!(told(&mut world, a), 1);
}

#[test]
fn silent_members_expire_and_the_others_hear_of_it() {
    let mut world = World::new(config());
    let (a, b) = (world.connect(1), world.connect(2));
    world.call(a, heartbeat("a", "G", "T", "*", 1));
    world.call(b, heartbeat("b", "G", "T", "*", 1));
    told(&mut world, a);
    for _ in 0..4 {
        world.pass(Duration::from_secs(30));
        world.call(a, heartbeat("a", "G", "T", "*", 1));
    }
    assert_eq!(members(&mut world, a).map(|list| list.len()), Ok(2), "120 s are not over");
    world.pass(Duration::from_secs(11));
    assert_eq!(members(&mut world, a), Ok(vec!["a".into()]));
    assert_eq!(told(&mut world, a), 1);
    assert_eq!(world.wires().closed, [b]);
}

#[test]
fn a_broker_that_was_paused_hears_its_clients_first() {
    let mut world = World::new(config());
    let a = world.connect(1);
    world.call(a, heartbeat("a", "G", "T", "*", 1));
    world.advance(Duration::from_secs(300));
    assert_eq!(members(&mut world, a), Ok(vec!["a".into()]));
    world.advance(Duration::from_secs(10));
    assert_eq!(members(&mut world, a), Err(code::SYSTEM_ERROR));
}

#[test]
fn a_client_that_does_not_read_is_told_when_it_does() {
    let mut world = World::new(config());
    let (a, b) = (world.connect(1), world.connect(2));
    world.call(a, heartbeat("a", "G", "T", "*", 1));
    // Answers count against the credit of a connection.
    for _ in 0..CREDIT_BYTES / 128 {
        world.post(a, Command::request(9999, Ext::None));
    }
    world.run();
    told(&mut world, a);
    for n in 0..3 {
        world.call(b, heartbeat("b", "G", if n == 1 { "U" } else { "T" }, "*", n));
    }
    assert_eq!(told(&mut world, a), 0);
    world.input(Input::Drained { conn: a });
    world.run();
    assert_eq!(told(&mut world, a), 1, "once for all changes");
}

#[test]
fn the_heartbeats_subscription_filters() {
    let mut world = World::new(config());
    let a = world.connect(1);
    world.call(a, send("T", 0, "TAGS\u{1}x\u{2}", "m"));
    world.call(a, heartbeat("a", "G", "T", "y", 5));
    for (version, expect) in [
        (5, code::PULL_RETRY_IMMEDIATELY),
        (6, code::SUBSCRIPTION_NOT_LATEST),
        (0, code::PULL_RETRY_IMMEDIATELY),
    ] {
        let header = PullMessageRequest {
            sys_flag: 0,
            subscription: None,
            sub_version: version,
            ..pull_header("T", 0, 0)
        };
        let answer = world.call(a, Command::request(request_code::PULL_MESSAGE, header.to_ext()));
        assert_eq!(answer.code, expect, "{version}");
    }
}

#[test]
fn queues_are_locked_for_one_client() {
    let mut world = World::new(config());
    let (a, b) = (world.connect(1), world.connect(2));
    world.call(a, send("T", 0, "", "m"));
    let request = |client: &str| LockBatchRequestBody {
        client_id: client.into(),
        consumer_group: "G".into(),
        mq_set: [("T", "b", 0), ("T", "b", 9), ("T", "other", 0), ("nothing", "b", 0)]
            .map(|(topic, broker, queue)| MessageQueue::new(topic, broker, queue))
            .into_iter()
            .collect(),
        only_this_broker: false,
    };
    let ours = BTreeSet::from([MessageQueue::new("T", "b", 0)]);
    let lock = |world: &mut World, conn: ConnId, client: &str| {
        let request = Command::request(request_code::LOCK_BATCH_MQ, Ext::None)
            .with_body(body::encode(&request(client)));
        let answer = world.call(conn, request);
        let locked: LockBatchResponseBody = body::decode(&answer.body).expect("a set");
        locked.lock_ok_mq_set
    };
    assert_eq!(lock(&mut world, a, "a"), ours);
    assert_eq!(lock(&mut world, b, "b"), BTreeSet::new());
    let unlock =
        Command::request(request_code::UNLOCK_BATCH_MQ, Ext::None).with_body(body::encode(&request("a")));
    world.call(a, unlock);
    assert_eq!(lock(&mut world, b, "b"), ours);
}
