//! Questions about queues and pulls by hand: what is found, and what is said when nothing is.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::client::{
    AskError, ClientCommand, ClientConfig, ClientEvent, Filter, Found, ProducerConfig, Pull, Pulled,
    Question, RequestId, Target,
};
use gantry_core::wire::body::MessageQueue;

use crate::consumer::produce;
use crate::producer::config;
use crate::world::{Id, World};

fn queue(id: i32) -> MessageQueue {
    MessageQueue::new("T", "b10911", id)
}

fn asker() -> ClientConfig {
    ClientConfig { producer: None, ..config(&[9876], ProducerConfig::new("P")) }
}

/// Asks, lets `time` pass, and takes the answers.
fn ask(world: &mut World, time: Duration, questions: &[Question]) -> Vec<Result<Found, AskError>> {
    for (question, id) in questions.iter().zip(0..) {
        world.command(1, ClientCommand::Ask { id: RequestId(id), question: question.clone() });
    }
    world.pass(time);
    let answers = world.events(1).into_iter().filter_map(|event| match event {
        ClientEvent::Answered { id, result } => Some((id.0, result)),
        ClientEvent::Sent { .. }
        | ClientEvent::Queues { .. }
        | ClientEvent::Replied { .. }
        | ClientEvent::Delivered(_)
        | ClientEvent::Assigned { .. }
        | ClientEvent::Progress(_)
        | ClientEvent::Failing(_)
        | ClientEvent::Problem(_)
        | ClientEvent::Checking { .. }
        | ClientEvent::Stopped => None,
    });
    let answers: BTreeMap<u64, _> = answers.collect();
    answers.into_values().collect()
}

fn pull(offset: i64, tags: &str, wait: Duration) -> Question {
    let (group, messages_max) = ("G".to_string(), 32);
    Question::Pull(Pull {
        group,
        queue: queue(0),
        offset,
        messages_max,
        filter: Filter::Tags(tags.into()),
        wait,
    })
}

fn pulled(answer: &Result<Found, AskError>) -> &Pulled {
    match answer {
        Ok(Found::Pulled(pulled)) => pulled,
        Ok(Found::Queues(_) | Found::Offset(_) | Found::Committed) | Err(_) => panic!("{answer:?}"),
    }
}

#[test]
fn queues_and_offsets_are_found() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..1, &Target::RoundRobin, None);
    produce(&mut world, 1..9, &Target::Queue(queue(0)), Some("a"));
    produce(&mut world, 9..11, &Target::Queue(queue(0)), Some("b"));
    world.start_client(1, asker());
    let group = || "G".to_string();
    let questions = [
        Question::ReadableQueues("T".into()),
        Question::MinOffset(queue(0)),
        Question::MaxOffset(queue(0)),
        Question::OffsetAt(queue(0), 0),
        Question::Committed(group(), queue(0)),
        Question::Commit(group(), queue(0), 3),
    ];
    let answers = ask(&mut world, Duration::from_millis(10), &questions);
    let Ok(Found::Offset(Some(max))) = answers[2] else { panic!("{answers:?}") };
    assert!(max >= 10, "{max}");
    let expect = [
        Ok(Found::Queues((0..4).map(queue).collect())),
        Ok(Found::Offset(Some(0))),
        Ok(Found::Offset(Some(max))),
        Ok(Found::Offset(Some(0))),
        Ok(Found::Offset(None)),
        Ok(Found::Committed),
    ];
    assert_eq!(answers, expect);
    let later = ask(&mut world, Duration::from_millis(10), &[Question::Committed(group(), queue(0))]);
    assert_eq!(later, [Ok(Found::Offset(Some(3)))]);

    let answers = ask(&mut world, Duration::from_millis(10), &[pull(0, "*", Duration::ZERO)]);
    assert_eq!(pulled(&answers[0]).messages.len() as i64, max);
    let answers = ask(&mut world, Duration::from_millis(10), &[pull(0, "b || c", Duration::ZERO)]);
    let found = pulled(&answers[0]);
    assert_eq!((found.messages.len(), found.next_offset, found.max_offset), (2, max, max));
    let answers = ask(&mut world, Duration::from_millis(10), &[pull(max + 5, "*", Duration::ZERO)]);
    assert_eq!((pulled(&answers[0]).moved, pulled(&answers[0]).next_offset), (true, max));

    // A pull that waits is answered by the next message.
    assert_eq!(ask(&mut world, Duration::from_secs(2), &[pull(max, "*", Duration::from_secs(10))]), []);
    produce(&mut world, 20..21, &Target::Queue(queue(0)), None);
    assert_eq!(pulled(&ask(&mut world, Duration::ZERO, &[])[0]).messages.len(), 1);
}

#[test]
fn what_cannot_be_found_is_named() {
    let mut world = World::new(&[9876], &[10911]);
    produce(&mut world, 0..4, &Target::RoundRobin, None);
    world.start_client(1, asker());
    let second = Duration::from_secs(1);
    let elsewhere = MessageQueue::new("T", "nobody", 0);
    let questions = [Question::ReadableQueues("U".into()), Question::MaxOffset(elsewhere)];
    let expect = [Err(AskError::UnknownTopic("U".into())), Err(AskError::NoBroker("nobody".into()))];
    assert_eq!(ask(&mut world, second, &questions), expect);
    world.freeze(Id::Broker(10911));
    let answers = ask(&mut world, 4 * second, &[Question::MaxOffset(queue(0))]);
    assert_eq!(answers, [Err(AskError::NoAnswer("b10911".into()))]);
    world.kill(Id::NameServer(9876));
    let answers = ask(&mut world, 4 * second, &[Question::ReadableQueues("V".into())]);
    assert_eq!(answers, [Err(AskError::NoNameServer("127.0.0.1:9876".into()))]);
    world.command(1, ClientCommand::Stop);
    let answers = ask(&mut world, second, &[Question::ReadableQueues("T".into())]);
    assert_eq!(answers, [Err(AskError::Stopped)]);
}
