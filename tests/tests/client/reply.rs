//! Requests that wait for a reply, and those that wait in vain.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::client::{
    ClientCommand, ClientConfig, ClientEvent, Message, MessageError, ProducerConfig, Received, Request,
    RequestError, RequestId, Send, SendError, Target, Verdict,
};

use crate::consumer::{consumer, group, produce};
use crate::producer::config;
use crate::world::{Id, World};

const ASKER: usize = 1;
const ANSWERER: usize = 2;
const CONSUMER: usize = 3;

fn named(name: &str) -> ClientConfig {
    ClientConfig { client_id: format!("127.0.0.1@{name}"), ..config(&[9876], ProducerConfig::new(name)) }
}

fn world() -> World {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    world.start_client(ASKER, named("asker"));
    world.start_client(ANSWERER, named("answerer"));
    world.start_client(CONSUMER, consumer(3, group()));
    world.pass(Duration::from_secs(3));
    world
}

fn ask(world: &mut World, id: u64, timeout: Duration) {
    let message = Message::new("T", format!("question {id}"));
    let request = Request { id: RequestId(id), message, target: Target::RoundRobin, timeout };
    world.command(ASKER, ClientCommand::Request(request));
}

/// What the consumer has got since the last call of this; all of it is done.
fn consumed(world: &mut World) -> Vec<Arc<Received>> {
    let mut all = Vec::new();
    for event in world.events(CONSUMER) {
        if let ClientEvent::Delivered(delivery) = event {
            world.command(CONSUMER, ClientCommand::Settle(delivery.id, Verdict::Consumed));
            all.extend(delivery.messages);
        }
    }
    all
}

fn answer(world: &mut World, request: &Received) {
    let reply = Message::new("", format!("answer to {:?}", request.body)).into_reply(request);
    let (id, messages) = (RequestId(1), vec![reply.expect("it is a request")]);
    let send = Send { id, messages, target: Target::RoundRobin, oneway: false, timeout: None };
    world.command(ANSWERER, ClientCommand::Send(send));
}

fn replies(world: &mut World) -> Vec<(u64, Result<Received, RequestError>)> {
    let replied = |event| {
        let ClientEvent::Replied { id, result } = event else {
            panic!("nothing else is told of a request: {event:?}")
        };
        (id.0, result)
    };
    world.events(ASKER).into_iter().map(replied).collect()
}

#[test]
fn each_request_gets_its_own_reply() {
    let mut world = world();
    assert_eq!(consumed(&mut world).len(), 1, "the first message of the topic");
    for id in 0..8 {
        ask(&mut world, id, Duration::from_secs(10));
    }
    world.pass(Duration::from_secs(1));
    let mut requests = consumed(&mut world);
    assert_eq!(requests.len(), 8);
    // Answered in another order than asked.
    requests.reverse();
    for request in &requests {
        answer(&mut world, request);
    }
    // A second answer is nobody's.
    answer(&mut world, &requests[0]);
    world.pass(Duration::from_secs(1));
    let mut replies = replies(&mut world);
    replies.sort_by_key(|(id, _)| *id);
    for (id, (found, reply)) in (0..8).zip(&replies) {
        let body = reply.as_ref().map(|reply| reply.body.clone());
        assert_eq!((*found, body), (id, Ok(format!("answer to b\"question {id}\"").into())));
    }
    assert_eq!(replies.len(), 8);
}

#[test]
fn a_request_ends_in_time_and_with_its_client() {
    let mut world = world();
    ask(&mut world, 1, Duration::from_millis(700));
    world.pass(Duration::from_millis(699));
    assert_eq!(replies(&mut world), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(replies(&mut world), [(1, Err(RequestError::NoReply(Duration::from_millis(700))))]);
    let late = consumed(&mut world).pop().expect("it was stored");
    answer(&mut world, &late);
    world.pass(Duration::from_secs(1));
    assert_eq!(replies(&mut world), [], "a reply that comes too late is nobody's");

    let plain = produce_plain(&mut world);
    assert_eq!(Message::new("", "x").into_reply(&plain), Err(MessageError::NoRequest));

    world.kill(Id::Broker(10911));
    ask(&mut world, 2, Duration::from_secs(20));
    world.pass(Duration::from_secs(4));
    let lost = replies(&mut world);
    assert!(matches!(&lost[..], [(2, Err(RequestError::Send(SendError::Failed { .. })))]), "{lost:?}");
    world.start_broker(10911, &[9876]);
    world.pass(Duration::from_secs(2));
    ask(&mut world, 3, Duration::from_secs(20));
    world.pass(Duration::from_secs(1));
    world.command(ASKER, ClientCommand::Stop);
    world.run();
    let ended = world.events(ASKER);
    let expect = Err(RequestError::Stopped);
    assert!(
        matches!(&ended[..], [ClientEvent::Replied { id: RequestId(3), result }, ..] if *result == expect),
        "{ended:?}"
    );
}

fn produce_plain(world: &mut World) -> Arc<Received> {
    produce(world, 100..101, &Target::RoundRobin, None);
    consumed(world).pop().expect("it is consumed")
}
