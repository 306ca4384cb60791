//! A producer that wants each message stored once: what becomes of sends whose answer is lost.

use std::time::Duration;

use gantry_core::client::{Message, ProducerConfig, Receipt, SendError, Target};

use crate::producer::{config, results, send};
use crate::world::{Id, World};

const BROKERS: [u16; 2] = [10911, 10921];

/// A producer that has sent something to each broker, so that it knows them.
fn start(world: &mut World, idempotent: bool) {
    world.start_client(1, config(&[9876], ProducerConfig { idempotent, ..ProducerConfig::new("P") }));
    for id in 0..8 {
        one(world, id, Message::new("T", "first"), Target::RoundRobin, 100).expect("all is well");
    }
}

/// Sends a message and lets so many ms pass; `None` while there is no result.
fn try_one(
    world: &mut World,
    id: u64,
    message: Message,
    target: Target,
    ms: u64,
) -> Option<Result<Receipt, SendError>> {
    send(world, id, vec![message], target);
    world.pass(Duration::from_millis(ms));
    result(world)
}

fn result(world: &mut World) -> Option<Result<Receipt, SendError>> {
    let (_, result) = results(world).pop()?;
    Some(result.map(|mut receipts| receipts.remove(0)))
}

fn one(world: &mut World, id: u64, message: Message, target: Target, ms: u64) -> Result<Receipt, SendError> {
    try_one(world, id, message, target, ms).expect("a result")
}

fn stored(world: &World) -> i64 {
    world.brokers.keys().map(|port| world.stored(*port, "T")).sum()
}

#[test]
fn what_a_stuck_broker_has_taken_is_stored_once() {
    for (idempotent, copies) in [(true, 1), (false, 2)] {
        let mut world = World::new(&[9876], &BROKERS);
        start(&mut world, idempotent);
        let before = stored(&world);
        for port in BROKERS {
            world.freeze(Id::Broker(port));
        }
        // Its share of the time passes, and the request lies in a broker's buffer.
        let early = try_one(&mut world, 8, Message::new("T", "m"), Target::RoundRobin, 1_200);
        assert_eq!(early, None);
        for port in BROKERS {
            world.thaw(Id::Broker(port));
        }
        world.pass(Duration::from_millis(500));
        result(&mut world).expect("a result").expect("all is well again");
        assert_eq!(stored(&world) - before, copies, "idempotent: {idempotent}");
    }
}

#[test]
fn a_send_survives_the_restart_of_its_broker() {
    for idempotent in [true, false] {
        let mut world = World::new(&[9876], &[10911]);
        start(&mut world, idempotent);
        world.freeze(Id::Broker(10911));
        assert_eq!(try_one(&mut world, 8, Message::new("T", "m"), Target::RoundRobin, 100), None);
        world.thaw(Id::Broker(10911));
        world.kill(Id::Broker(10911));
        world.pass(Duration::from_secs(1));
        world.start_broker(10911, &[9876]);
        world.pass(Duration::from_secs(1));
        let result = result(&mut world).expect("a result");
        if idempotent {
            result.expect("stored by the second life");
        } else {
            assert!(result.expect_err("given up").may_be_stored());
        }
    }
}

#[test]
fn other_brokers_take_it_in_the_last_third_of_the_time() {
    let mut world = World::new(&[9876], &BROKERS);
    start(&mut world, true);
    // Which one is next is known from where the last one went.
    let probe = one(&mut world, 8, Message::new("T", "m"), Target::RoundRobin, 100).expect("all is well");
    let next = one(&mut world, 9, Message::new("T", "m"), Target::Queue(probe.queue.clone()), 100);
    assert_eq!(next.expect("all is well").queue, probe.queue);
    let port = if probe.queue.broker_name == "b10911" { 10911 } else { 10921 };
    world.freeze(Id::Broker(port));
    let fixed = try_one(&mut world, 10, Message::new("T", "m"), Target::Queue(probe.queue), 2_999);
    assert_eq!(fixed, None, "a chosen queue is tried to the end");
    world.pass(Duration::from_millis(2));
    assert!(result(&mut world).expect("a result").expect_err("stuck").may_be_stored());
    let mut waited = 0;
    for id in 11..19 {
        match try_one(&mut world, id, Message::new("T", "m"), Target::RoundRobin, 1_990) {
            Some(result) => assert!(result.is_ok()),
            None => {
                waited += 1;
                world.pass(Duration::from_millis(200));
                result(&mut world).expect("a result").expect("another broker took it");
            }
        }
    }
    assert!(waited > 0, "some went to the stuck one first");
}

#[test]
fn a_broker_that_does_not_do_it_is_left_as_ever() {
    let mut world = World::new(&[9876], &[]);
    for port in BROKERS {
        world.start_broker_with(port, &[9876], |config| config.store.index = false);
    }
    world.pass(Duration::from_secs(1));
    start(&mut world, true);
    for port in BROKERS {
        world.freeze(Id::Broker(port));
        let sent = try_one(&mut world, u64::from(port), Message::new("T", "m"), Target::RoundRobin, 1_100);
        sent.expect("the other one takes it at once").expect("all is well");
        world.thaw(Id::Broker(port));
        world.pass(Duration::from_secs(4));
    }
}

#[test]
fn a_key_of_the_application_is_one_message() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, true);
    let message = || Message::new("T", "m").with_unique_key("order-7");
    let first = one(&mut world, 8, message(), Target::RoundRobin, 100).expect("all is well");
    let second = one(&mut world, 9, message(), Target::RoundRobin, 100).expect("all is well");
    assert_eq!(first, second);
    assert_ne!(one(&mut world, 10, Message::new("T", "m"), Target::RoundRobin, 100), Ok(second));
}
