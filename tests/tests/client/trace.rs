//! Traces: what they say, when they leave, and that they are in nobody's way.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::client::{
    ClientCommand, ClientEvent, ConsumerConfig, Filter, ProducerConfig, TRACE_TOPIC, TraceConfig, Verdict,
};

use crate::consumer::{consume, consumer, group, produce};
use crate::producer::config;
use crate::world::{Id, World};

const PRODUCER: usize = 100;
const READER: usize = 2;

fn trace() -> Option<TraceConfig> {
    Some(TraceConfig { topic: TRACE_TOPIC.into(), origin: [9; 10] })
}

/// A traced producer, and who reads the traces.
fn world() -> World {
    let mut world = World::new(&[9876], &[10911]);
    let producer = ProducerConfig { trace: trace(), ..ProducerConfig::new("P") };
    world.start_client(PRODUCER, config(&[9876], producer));
    let subscriptions = vec![(TRACE_TOPIC.to_string(), Filter::all())];
    // Traced too, which must come to nothing.
    let reader = ConsumerConfig { group: "R".into(), subscriptions, trace: trace(), ..group() };
    world.start_client(READER, consumer(2, reader));
    world
}

/// The notes that come in this time, by kind, and how many messages carry them.
fn notes(world: &mut World, time: Duration) -> (BTreeMap<String, Vec<Vec<String>>>, usize) {
    world.pass(time);
    let (mut notes, mut count) = (BTreeMap::<String, Vec<Vec<String>>>::new(), 0);
    for event in world.events(READER) {
        let ClientEvent::Delivered(delivery) = event else { continue };
        for message in &delivery.messages {
            count += 1;
            let text = std::str::from_utf8(&message.body).expect("text");
            assert!(text.ends_with('\u{2}'), "{text:?}");
            for note in text.trim_end_matches('\u{2}').split('\u{2}') {
                let fields: Vec<String> = note.split('\u{1}').map(ToString::to_string).collect();
                assert!(message.keys().any(|key| fields.iter().any(|field| field == key)), "{message:?}");
                notes.entry(fields[0].clone()).or_default().push(fields);
            }
        }
        world.command(READER, ClientCommand::Settle(delivery.id, Verdict::Consumed));
    }
    (notes, count)
}

#[test]
fn notes_leave_by_ten_or_after_five_seconds() {
    let mut world = world();
    produce(&mut world, 0..4, &Default::default(), Some("t"));
    let (early, _) = notes(&mut world, Duration::from_millis(3_500));
    assert!(early.is_empty(), "{early:?}");
    // A topic that is new is found by its readers a while later.
    let (found, count) = notes(&mut world, Duration::from_secs(31));
    assert_eq!((found["Pub"].len(), count), (4, 1));
    let first = &found["Pub"][0];
    assert_eq!(first.len(), 14);
    assert_eq!((first[3].as_str(), first[4].as_str(), first[6].as_str()), ("P", "T", "t"));
    assert_eq!(first[8..12], ["127.0.0.1:10911", "1", "0", "0"]);
    assert_eq!(first[13], "true");
    produce(&mut world, 100..125, &Default::default(), None);
    let (found, count) = notes(&mut world, Duration::from_millis(200));
    assert_eq!((found["Pub"].len(), count), (20, 2), "full batches leave at once");
    let (found, count) = notes(&mut world, Duration::from_secs(6));
    assert_eq!((found["Pub"].len(), count), (5, 1));
    let (found, _) = notes(&mut world, Duration::from_secs(60));
    assert!(found.is_empty(), "traces are not traced: {found:?}");
}

#[test]
fn a_consumer_says_when_it_began_and_how_it_went() {
    let mut world = world();
    produce(&mut world, 0..3, &Default::default(), None);
    notes(&mut world, Duration::from_secs(40));
    world.start_client(1, consumer(1, ConsumerConfig { trace: trace(), ..group() }));
    consume(&mut world, &[1], Duration::from_secs(5), |delivery| {
        let is_bad = &delivery.messages[0].body[..] == b"1";
        Some(if is_bad { Verdict::Later(18) } else { Verdict::Consumed })
    });
    let (found, _) = notes(&mut world, Duration::from_secs(6));
    assert!(!found.contains_key("Pub"));
    let (before, after) = (&found["SubBefore"], &found["SubAfter"]);
    assert_eq!((before.len(), after.len()), (3, 3));
    for note in before {
        assert_eq!(note.len(), 8, "{note:?}");
        assert_eq!((note[3].as_str(), note[6].as_str(), note[7].as_str()), ("G", "0", "null"));
        let mut own = after.iter().filter(|after| after[1] == note[4]);
        assert_eq!(own.next().expect("its end")[2], note[5], "the same message");
        assert_eq!(own.next(), None);
    }
    let mut ends: Vec<(&str, &str)> = after.iter().map(|note| (note[4].as_str(), note[6].as_str())).collect();
    ends.sort_unstable();
    assert_eq!(ends, [("false", "4"), ("true", "0"), ("true", "0")]);
    assert!(after.iter().all(|note| note.len() == 9 && note[8] == "G"), "{after:?}");
}

#[test]
fn a_client_that_stops_sends_its_last_notes_and_waits_for_no_broker_that_is_gone() {
    let mut world = world();
    produce(&mut world, 0..3, &Default::default(), None);
    world.command(PRODUCER, ClientCommand::Stop);
    world.run();
    assert!(matches!(world.events(PRODUCER)[..], [ClientEvent::Stopped]));
    let (found, _) = notes(&mut world, Duration::from_secs(40));
    assert_eq!(found["Pub"].len(), 3);

    let producer = ProducerConfig { trace: trace(), ..ProducerConfig::new("P") };
    world.start_client(PRODUCER, config(&[9876], producer));
    produce(&mut world, 3..6, &Default::default(), None);
    world.freeze(Id::Broker(10911));
    world.command(PRODUCER, ClientCommand::Stop);
    world.pass(Duration::from_secs(5));
    assert!(matches!(world.events(PRODUCER)[..], [ClientEvent::Stopped]));
}
