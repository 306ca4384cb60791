//! What becomes of a send: with everything well, and with servers that are gone, stuck or ignorant.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_core::client::{
    Batching, ClientCommand, ClientConfig, ClientEvent, Message, ProducerConfig, Receipt, RequestId, Send,
    SendError, SendStatus, Target,
};
use gantry_core::wire::body::MessageQueue;

use crate::world::{Id, World, address};

pub(crate) fn config(name_servers: &[u16], producer: ProducerConfig) -> ClientConfig {
    ClientConfig {
        client_id: "127.0.0.1@test".into(),
        name_servers: name_servers.iter().map(|port| address(*port).into()).collect(),
        origin: [127, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        producer: Some(producer),
        consumer: None,
    }
}

fn start(world: &mut World, name_servers: &[u16]) {
    world.start_client(1, config(name_servers, ProducerConfig::new("P")));
}

pub(crate) fn send(world: &mut World, id: u64, messages: Vec<Message>, target: Target) {
    let send = Send { id: RequestId(id), messages, target, oneway: false, timeout: None };
    world.command(1, ClientCommand::Send(send));
}

pub(crate) type Results = Vec<(u64, Result<Vec<Receipt>, SendError>)>;

pub(crate) fn results(world: &mut World) -> Results {
    let sent = |event| match event {
        ClientEvent::Sent { id, result } => Some((id.0, result)),
        ClientEvent::Queues { .. }
        | ClientEvent::Delivered(_)
        | ClientEvent::Assigned { .. }
        | ClientEvent::Progress(_)
        | ClientEvent::Answered { .. }
        | ClientEvent::Checking { .. }
        | ClientEvent::Replied { .. }
        | ClientEvent::Failing(_)
        | ClientEvent::Problem(_)
        | ClientEvent::Stopped => None,
    };
    world.events(1).into_iter().filter_map(sent).collect()
}

/// Sends a message and lets at most the budget pass.
fn send_one(world: &mut World, id: u64, target: Target) -> Result<Receipt, SendError> {
    send(world, id, vec![Message::new("T", format!("m{id}"))], target);
    world.pass(Duration::from_millis(3_001));
    let mut results = results(world);
    assert_eq!(results.len(), 1, "one result for one send");
    let (found, result) = results.remove(0);
    assert_eq!(found, id);
    result.map(|mut receipts| receipts.remove(0))
}

#[test]
fn messages_go_round_the_queues_of_all_brokers() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    start(&mut world, &[9876]);
    let mut queues = BTreeSet::new();
    for id in 0..8 {
        let receipt = send_one(&mut world, id, Target::RoundRobin).expect("all is well");
        assert_eq!((receipt.status, receipt.queue_offset), (SendStatus::Ok, 0), "{receipt:?}");
        assert_eq!((receipt.message_id.len(), receipt.offset_id.len()), (32, 32));
        queues.insert(receipt.queue);
    }
    assert_eq!(queues.len(), 8, "each queue once: {queues:?}");
}

#[test]
fn a_key_and_a_queue_choose_their_queue() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    start(&mut world, &[9876]);
    let key = || Target::Hash("order-7".into());
    let first = send_one(&mut world, 1, key()).expect("all is well");
    let second = send_one(&mut world, 2, key()).expect("all is well");
    let at = gantry_core::wire::message::java_hash("order-7").unsigned_abs() % 8;
    let expect = MessageQueue::new("T", if at < 4 { "b10911" } else { "b10921" }, (at % 4) as i32);
    assert_eq!((first.queue, first.queue_offset), (expect.clone(), 0));
    assert_eq!((second.queue, second.queue_offset), (expect, 1));
    let wanted = MessageQueue::new("T", "b10921", 2);
    let third = send_one(&mut world, 3, Target::Queue(wanted.clone())).expect("all is well");
    assert_eq!(third.queue, wanted);
    let missing = send_one(&mut world, 4, Target::Queue(MessageQueue::new("T", "nobody", 0)));
    assert!(matches!(missing, Err(SendError::NoQueue(_))), "{missing:?}");
}

#[test]
fn a_key_with_the_smallest_hash_goes_where_rocketmq_sends_it() {
    let mut world = World::new(&[9876], &[10911, 10921, 10931]);
    start(&mut world, &[9876]);
    // Its hash is -2^31, whose rest by 12 queues is -8. The absolute value must be that of the rest: the hash has none.
    let receipt = send_one(&mut world, 1, Target::Hash("polygenelubricants".into())).expect("sent");
    assert_eq!(receipt.queue, MessageQueue::new("T", "b10931", 0), "the ninth");
}

#[test]
fn a_batch_lies_together() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    let messages = (0..5).map(|n| Message::new("T", format!("{n}"))).collect();
    send(&mut world, 1, messages, Target::RoundRobin);
    world.pass(Duration::from_secs(1));
    let results = results(&mut world);
    let [(1, Ok(receipts))] = &results[..] else { panic!("{results:?}") };
    let offsets: Vec<i64> = receipts.iter().map(|receipt| receipt.queue_offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    let ids: BTreeSet<&str> = receipts.iter().map(|receipt| receipt.offset_id.as_str()).collect();
    assert_eq!(ids.len(), 5, "each has its own place");
}

#[test]
fn single_sends_gather_by_time_and_by_size() {
    let mut world = World::new(&[9876], &[10911]);
    let batching = Batching { delay: Duration::from_millis(10), bytes: 50 };
    world.start_client(
        1,
        config(&[9876], ProducerConfig { batching: Some(batching), ..ProducerConfig::new("P") }),
    );
    send(&mut world, 0, vec![Message::new("T", "first, to learn the route")], Target::RoundRobin);
    world.pass(Duration::from_secs(1));
    assert_eq!(results(&mut world).len(), 1);
    for id in 1..=3 {
        send(&mut world, id, vec![Message::new("T", "0123456789")], Target::RoundRobin);
    }
    world.pass(Duration::from_millis(9));
    assert_eq!(results(&mut world).len(), 0, "they wait for company");
    world.pass(Duration::from_millis(1));
    let by_time = results(&mut world);
    let places: Vec<_> = by_time
        .iter()
        .map(|(id, result)| {
            let [receipt] = &result.as_ref().expect("all is well")[..] else {
                panic!("one receipt a message")
            };
            (*id, receipt.queue.queue_id, receipt.queue_offset)
        })
        .collect();
    let queue = places[0].1;
    let offset = places[0].2;
    assert_eq!(places, [(1, queue, offset), (2, queue, offset + 1), (3, queue, offset + 2)]);
    for id in 4..=8 {
        send(&mut world, id, vec![Message::new("T", "0123456789")], Target::RoundRobin);
    }
    world.run();
    assert_eq!(results(&mut world).len(), 5, "a full batch leaves at once");
}

#[test]
fn a_broker_that_is_gone_is_passed_over_within_the_budget() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    start(&mut world, &[9876]);
    send_one(&mut world, 0, Target::RoundRobin).expect("all is well");
    world.kill(Id::Broker(10911));
    for id in 1..9 {
        let receipt = send_one(&mut world, id, Target::RoundRobin).expect("the other one takes it");
        assert_eq!(receipt.queue.broker_name, "b10921");
    }
    // A queue that was named is not left for another: order is worth more than success.
    let fixed = send_one(&mut world, 9, Target::Queue(MessageQueue::new("T", "b10911", 0)));
    assert!(
        matches!(fixed, Err(SendError::NoQueue(_) | SendError::Failed { may_be_stored: false, .. })),
        "{fixed:?}"
    );
}

#[test]
fn a_broker_that_is_stuck_costs_a_part_of_the_budget() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    start(&mut world, &[9876]);
    for id in 0..8 {
        send_one(&mut world, id, Target::RoundRobin).expect("all is well");
    }
    world.freeze(Id::Broker(10911));
    let mut slow = 0;
    for id in 8..16 {
        send(&mut world, id, vec![Message::new("T", "b")], Target::RoundRobin);
        let begin = world.now();
        let mut found = Vec::new();
        while found.is_empty() && world.now().since(begin) < Duration::from_millis(3_001) {
            world.pass(Duration::from_millis(10));
            found = results(&mut world);
        }
        let (_, result) = found.remove(0);
        assert_eq!(result.expect("the other one takes it")[0].queue.broker_name, "b10921");
        slow += usize::from(world.now().since(begin) > Duration::from_millis(500));
    }
    assert!(slow > 0, "some were tried at the stuck one first");
}

#[test]
fn a_lonely_broker_that_is_stuck_leaves_the_outcome_open() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    send_one(&mut world, 0, Target::RoundRobin).expect("all is well");
    world.freeze(Id::Broker(10911));
    let error = send_one(&mut world, 1, Target::RoundRobin).expect_err("nobody answers");
    assert!(error.may_be_stored(), "{error}");
    world.thaw(Id::Broker(10911));
    world.pass(Duration::from_secs(5));
    send_one(&mut world, 2, Target::RoundRobin).expect("it serves again");
}

#[test]
fn slow_brokers_are_left_alone() {
    let mut world = World::new(&[9876], &[10911, 10921]);
    let producer = ProducerConfig { avoid_slow_brokers: true, ..ProducerConfig::new("P") };
    world.start_client(1, config(&[9876], producer));
    for id in 0..8 {
        send_one(&mut world, id, Target::RoundRobin).expect("all is well");
    }
    world.freeze(Id::Broker(10911));
    // Whoever met it once does not meet it again for ten seconds.
    let mut waits = Vec::new();
    for id in 8..16 {
        send(&mut world, id, vec![Message::new("T", "b")], Target::RoundRobin);
        let begin = world.now();
        while results(&mut world).is_empty() {
            world.pass(Duration::from_millis(10));
        }
        waits.push(world.now().since(begin) > Duration::from_millis(500));
    }
    assert_eq!(waits.iter().filter(|slow| **slow).count(), 1, "{waits:?}");
}

#[test]
fn name_servers_are_changed_when_one_fails_and_not_needed_once_the_route_is_known() {
    let mut world = World::new(&[9876, 9877, 9878], &[10911]);
    world.kill(Id::NameServer(9876));
    world.freeze(Id::NameServer(9877));
    start(&mut world, &[9876, 9877, 9878]);
    send_one(&mut world, 0, Target::RoundRobin).expect("the third one tells");
    world.kill(Id::NameServer(9878));
    world.kill(Id::NameServer(9877));
    for id in 1..40 {
        send_one(&mut world, id, Target::RoundRobin).expect("the route is known from before");
    }
    // What is not known from before names the servers.
    send(&mut world, 99, vec![Message::new("Other", "b")], Target::RoundRobin);
    world.pass(Duration::from_millis(3_001));
    let results = results(&mut world);
    let [(99, Err(SendError::NoNameServer(servers)))] = &results[..] else { panic!("{results:?}") };
    assert!(servers.contains("127.0.0.1:9877"), "{servers}");
    world.thaw(Id::NameServer(9877));
    world.start_name_server(9877);
    world.pass(Duration::from_secs(35));
    send(&mut world, 100, vec![Message::new("Other", "b")], Target::RoundRobin);
    world.pass(Duration::from_millis(3_001));
    let results = self::results(&mut world);
    assert!(matches!(&results[..], [(100, Ok(_))]), "{results:?}");
}

#[test]
fn a_new_broker_is_found_with_the_next_refresh() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    send_one(&mut world, 0, Target::RoundRobin).expect("all is well");
    let tells_all = |world: &mut World, id| {
        world.command(1, ClientCommand::WritableQueues { id: RequestId(id), topic: "T".into() });
        world.run();
        match &world.events(1)[..] {
            [ClientEvent::Queues { queues: Ok(queues), .. }] => queues.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(tells_all(&mut world, 1), 4);
    // The topic is made on a second broker by a message that another client sends there.
    world.start_broker(10921, &[9876]);
    world.pass(Duration::from_secs(2));
    world.start_client(2, config(&[9876], ProducerConfig::new("P2")));
    let there = Target::Queue(MessageQueue::new("TBW102", "b10921", 0));
    let learn = Send {
        id: RequestId(1),
        messages: vec![Message::new("TBW102", "b")],
        target: there,
        oneway: false,
        timeout: None,
    };
    world.command(2, ClientCommand::Send(learn));
    world.pass(Duration::from_secs(1));
    let there = Target::Queue(MessageQueue::new("T", "b10921", 0));
    let make = Send {
        id: RequestId(2),
        messages: vec![Message::new("T", "b")],
        target: there,
        oneway: false,
        timeout: None,
    };
    world.command(2, ClientCommand::Send(make));
    world.pass(Duration::from_secs(1));
    let made = world.events(2);
    assert!(matches!(made.last(), Some(ClientEvent::Sent { result: Ok(_), .. })), "{made:?}");
    world.pass(Duration::from_secs(31));
    assert_eq!(tells_all(&mut world, 2), 8);
}

#[test]
fn a_topic_that_nobody_has_made_is_sent_to_the_brokers_there_are_now() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    // Its queues are guessed, and their broker goes before anything is sent there.
    world.command(1, ClientCommand::WritableQueues { id: RequestId(0), topic: "N".into() });
    world.run();
    let guessed = world.events(1);
    assert!(matches!(&guessed[..], [ClientEvent::Queues { queues: Ok(queues), .. }] if queues.len() == 4));
    world.kill(Id::Broker(10911));
    world.start_broker(10921, &[9876]);
    // A name server takes the first broker's topics away within 130 s, and the guess is looked at twice a minute.
    world.pass(Duration::from_secs(165));
    world.events(1);
    let there = Send {
        id: RequestId(1),
        messages: vec![Message::new("N", "b")],
        target: Target::RoundRobin,
        oneway: false,
        timeout: None,
    };
    world.command(1, ClientCommand::Send(there));
    world.run();
    let results = results(&mut world);
    let [(1, Ok(receipts))] = &results[..] else { panic!("{results:?}") };
    assert_eq!(receipts[0].queue.broker_name, "b10921");
}

#[test]
fn oneway_wants_no_answer_and_errors_say_what_to_do() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    let message = vec![Message::new("T", "b")];
    let oneway =
        Send { id: RequestId(1), messages: message, target: Target::RoundRobin, oneway: true, timeout: None };
    world.command(1, ClientCommand::Send(oneway));
    world.pass(Duration::from_secs(1));
    let results = results(&mut world);
    let [(1, Ok(receipts))] = &results[..] else { panic!("{results:?}") };
    assert_eq!(receipts[0].status, SendStatus::Unacknowledged);
    send(&mut world, 2, vec![Message::new("T", "")], Target::RoundRobin);
    send(&mut world, 3, vec![Message::new("T", "a"), Message::new("U", "b")], Target::RoundRobin);
    send(&mut world, 4, vec![Message::new("SCHEDULE_TOPIC_XXXX", "a")], Target::RoundRobin);
    world.pass(Duration::from_millis(3_001));
    for (id, result) in self::results(&mut world) {
        let text = result.expect_err("it cannot be sent").to_string();
        let expect = ["empty", "one topic", "SCHEDULE_TOPIC_XXXX"];
        assert!(text.contains(expect[id as usize - 2]), "{id}: {text}");
    }
}

#[test]
fn a_stop_lets_sends_end_and_leaves() {
    let mut world = World::new(&[9876], &[10911]);
    start(&mut world, &[9876]);
    for id in 0..10 {
        send(&mut world, id, vec![Message::new("T", "b")], Target::RoundRobin);
    }
    world.command(1, ClientCommand::Stop);
    send(&mut world, 10, vec![Message::new("T", "b")], Target::RoundRobin);
    world.pass(Duration::from_millis(50));
    let events = world.events(1);
    let sent = events.iter().filter(|event| matches!(event, ClientEvent::Sent { result: Ok(_), .. })).count();
    assert_eq!(sent, 10);
    assert!(matches!(events.last(), Some(ClientEvent::Stopped)), "{events:?}");
    let stopped =
        |event: &&ClientEvent| matches!(event, ClientEvent::Sent { result: Err(SendError::Stopped), .. });
    assert_eq!(events.iter().filter(stopped).count(), 1);
}
