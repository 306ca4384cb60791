//! What the host of a consumer decides by itself: to reject, to pause, what to commit and when.

use std::time::Duration;

use gantry_core::client::{
    ClientCommand, ClientEvent, ConsumerConfig, Delivery, Found, Question, RequestId, Target, Verdict,
};
use gantry_core::wire::body::{MessageModel, MessageQueue};

use crate::consumer::{all_consumed, bodies, consume, consumer, group, produce};
use crate::world::{Id, World};

fn queue(id: i32) -> MessageQueue {
    MessageQueue::new("T", "b10911", id)
}

fn assigned() -> ConsumerConfig {
    ConsumerConfig { assigned: Some((0..4).map(queue).collect()), ..group() }
}

fn all_but_seven(delivery: &Delivery) -> Option<Verdict> {
    let is_bad = delivery.messages[0].body[..] == *b"7";
    Some(if is_bad { Verdict::Reject } else { Verdict::Consumed })
}

#[test]
fn what_is_rejected_lies_in_the_dead_letter_queue_at_once() {
    let kinds = [
        ("shared", group()),
        ("shared, in order", ConsumerConfig { orderly: true, ..group() }),
        ("assigned", assigned()),
        ("assigned, in order", ConsumerConfig { orderly: true, ..assigned() }),
    ];
    for (name, config) in kinds {
        let mut world = World::new(&[9876], &[10911]);
        produce(&mut world, 0..1, &Target::RoundRobin, None);
        produce(&mut world, 1..20, &Target::Queue(queue(1)), None);
        world.start_client(1, consumer(1, config.clone()));
        let seen = consume(&mut world, &[1], Duration::from_secs(10), all_but_seven);
        let mut came: Vec<u64> = seen[&1].bodies.iter().map(|(body, _)| *body).collect();
        came.retain(|body| *body > 0);
        assert_eq!(came, (1..20).collect::<Vec<u64>>(), "{name}: each once");
        assert_eq!(world.stored(10911, "%DLQ%G"), 1, "{name}");
        world.kill(Id::Client(1));
        world.start_client(2, consumer(2, config));
        let seen = consume(&mut world, &[2], Duration::from_secs(10), all_consumed);
        assert_eq!(seen[&2].bodies, [], "{name}: it is committed as the others are");
    }
}

#[test]
fn a_broadcast_is_done_with_what_is_rejected() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..8, &Target::RoundRobin, None);
    let config = ConsumerConfig { model: MessageModel::Broadcasting, ..group() };
    world.start_client(1, consumer(1, config));
    let seen = consume(&mut world, &[1], Duration::from_secs(10), all_but_seven);
    assert_eq!(seen[&1].bodies.len(), 8);
    assert_eq!(seen[&1].progress.values().sum::<i64>(), 8);
    assert_eq!(world.stored(10911, "%DLQ%G"), 0);
}

#[test]
fn a_rejected_message_that_no_broker_takes_back_is_not_lost() {
    for orderly in [false, true] {
        let mut world = World::new(&[9876], &[10911]);
        produce(&mut world, 0..1, &Target::RoundRobin, None);
        produce(&mut world, 7..10, &Target::Queue(queue(1)), None);
        world.start_client(1, consumer(1, ConsumerConfig { orderly, ..group() }));
        let mut held = None;
        consume(&mut world, &[1], Duration::from_secs(3), |delivery| {
            let verdict = all_but_seven(delivery);
            held = held.or((verdict == Some(Verdict::Reject)).then_some(delivery.id));
            verdict.filter(|verdict| *verdict == Verdict::Consumed)
        });
        world.kill(Id::Broker(10911));
        world.command(1, ClientCommand::Settle(held.expect("it came"), Verdict::Reject));
        world.pass(Duration::from_secs(2));
        world.start_broker(10911, &[9876]);
        consume(&mut world, &[1], Duration::from_secs(60), all_but_seven);
        assert_eq!(world.stored(10911, "%DLQ%G"), 1, "in order: {orderly}");
    }
}

#[test]
fn nothing_comes_of_a_paused_queue_until_it_is_resumed() {
    for config in [group(), ConsumerConfig { orderly: true, ..group() }, assigned()] {
        let mut world = World::new(&[9876], &[10911]);
        produce(&mut world, 0..1, &Target::RoundRobin, None);
        world.start_client(1, consumer(1, config));
        consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
        // A pull of it is under way: what that brings has to wait too.
        world.command(1, ClientCommand::Pause(vec![queue(1), queue(9)]));
        produce(&mut world, 10..20, &Target::Queue(queue(1)), None);
        produce(&mut world, 20..30, &Target::Queue(queue(2)), None);
        let seen = consume(&mut world, &[1], Duration::from_secs(60), all_consumed);
        assert_eq!(bodies(&seen[&1]), (20..30).collect());
        world.command(1, ClientCommand::Resume(vec![queue(1)]));
        let seen = consume(&mut world, &[1], Duration::from_millis(100), all_consumed);
        assert_eq!(bodies(&seen[&1]), (10..20).collect());
        produce(&mut world, 30..40, &Target::Queue(queue(1)), None);
        let seen = consume(&mut world, &[1], Duration::from_millis(100), all_consumed);
        assert_eq!(bodies(&seen[&1]), (30..40).collect(), "it goes on");
    }
}

#[test]
fn a_queue_that_comes_back_is_no_longer_paused() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    world.start_client(1, consumer(1, assigned()));
    consume(&mut world, &[1], Duration::from_secs(5), all_consumed);
    world.command(1, ClientCommand::Pause(vec![queue(1)]));
    world.command(1, ClientCommand::Assign(vec![queue(2)]));
    world.pass(Duration::from_secs(1));
    world.command(1, ClientCommand::Assign(vec![queue(1)]));
    produce(&mut world, 10..20, &Target::Queue(queue(1)), None);
    let seen = consume(&mut world, &[1], Duration::from_secs(2), all_consumed);
    assert_eq!(bodies(&seen[&1]), (10..20).collect());
}

fn ask(world: &mut World, question: Question) -> Found {
    world.events(1);
    world.command(1, ClientCommand::Ask { id: RequestId(77), question });
    world.pass(Duration::from_secs(1));
    let answer = |event: ClientEvent| {
        let ClientEvent::Answered { id: RequestId(77), result } = event else { panic!("no answer") };
        result.expect("it is answered")
    };
    let answers: Vec<Found> = world.events(1).into_iter().map(answer).collect();
    assert_eq!(answers.len(), 1);
    answers[0].clone()
}

#[test]
fn nothing_is_committed_but_what_the_host_commits() {
    let by_hand = || ConsumerConfig { auto_commit: false, ..group() };
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let restart = |world: &mut World| {
        world.start_client(1, consumer(1, by_hand()));
        bodies(&consume(world, &[1], Duration::from_secs(20), all_consumed)[&1])
    };
    assert_eq!(restart(&mut world), (0..4).collect());
    world.command(1, ClientCommand::Seek(queue(2), 1));
    world.command(1, ClientCommand::Stop);
    world.pass(Duration::from_secs(3));
    assert_eq!(restart(&mut world), (0..4).collect(), "neither by pulls nor by the seek or the stop");
    world.command(1, ClientCommand::Commit);
    world.pass(Duration::from_secs(1));
    world.kill(Id::Client(1));
    assert_eq!(restart(&mut world), [].into());
    // One queue goes back by hand, for whoever comes next.
    assert_eq!(ask(&mut world, Question::Commit("G".into(), queue(1), 0)), Found::Committed);
    assert_eq!(ask(&mut world, Question::Committed("G".into(), queue(1))), Found::Offset(Some(0)));
    world.kill(Id::Client(1));
    assert_eq!(restart(&mut world).len(), 1, "the one of that queue");
    // What it had consumed counts once it is committed, also over an older offset by hand.
    world.command(1, ClientCommand::Commit);
    world.pass(Duration::from_secs(1));
    ask(&mut world, Question::Commit("G".into(), queue(1), 0));
    world.command(1, ClientCommand::Commit);
    world.pass(Duration::from_secs(1));
    world.kill(Id::Client(1));
    assert_eq!(restart(&mut world), [].into());
}

#[test]
fn of_a_broadcast_the_host_commits_what_it_keeps() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    let config = ConsumerConfig { model: MessageModel::Broadcasting, auto_commit: false, ..group() };
    world.start_client(1, consumer(1, config));
    let seen = consume(&mut world, &[1], Duration::from_secs(20), all_consumed);
    assert_eq!((seen[&1].bodies.len(), seen[&1].progress.len()), (4, 0));
    world.command(1, ClientCommand::Commit);
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    assert_eq!(seen[&1].progress, (0..4).map(|id| (queue(id), 1)).collect());
    world.command(
        1,
        ClientCommand::Ask { id: RequestId(1), question: Question::Commit("G".into(), queue(3), 0) },
    );
    let seen = consume(&mut world, &[1], Duration::from_secs(1), all_consumed);
    assert_eq!(seen[&1].progress[&queue(3)], 0);
    assert_eq!(ask(&mut world, Question::Committed("G".into(), queue(3))), Found::Offset(Some(0)));
    assert_eq!(ask(&mut world, Question::Committed("G".into(), queue(2))), Found::Offset(Some(1)));
}
