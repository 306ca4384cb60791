//! What has happened when a future of the client library is dropped: each is polled so often as a draw says, and dropped.
//!
//! The draws have a fixed seed; when a future gets its answer depends on the machine, so what is checked holds for each number of
//! polls.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gantry_core::rng::Rng;
use gantry_net::client::{
    ConsumeError, Consumer, Incoming, Message, Producer, PullConsumer, Resolution, Start, Target,
};
use program::{Standalone, start_standalone};

const LIMIT: Duration = Duration::from_secs(60);
/// Between two polls: some answers come meanwhile, others do not.
const PAUSE: Duration = Duration::from_micros(300);
const POLLS_MAX: u64 = 6;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Polls a future so often, also when nothing has woken it, and drops it.
async fn polled<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let output = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = output {
            return Some(output);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// Repeats until it is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "never {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn producer(cluster: &Standalone) -> Producer {
    let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
    // The first send may come before the broker is in the routes.
    until("served", async || producer.send(Message::new("T", "first")).await.ok()).await;
    producer
}

async fn puller(cluster: &Standalone) -> PullConsumer {
    PullConsumer::builder().group("G").name_servers(&cluster.namesrv).build().await.unwrap()
}

fn body(message: &Incoming) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// How often each body is in a topic.
async fn stored(puller: &PullConsumer, topic: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for queue in puller.queues(topic).await.unwrap() {
        let (mut next, end) = (0, puller.max_offset(&queue).await.unwrap());
        while next < end {
            let pulled = puller.pull(&queue, next, "*", Duration::ZERO).await.unwrap();
            for message in pulled.messages {
                *found.entry(String::from_utf8_lossy(&message.body).into_owned()).or_insert(0) += 1;
            }
            next = pulled.next_offset;
        }
    }
    found
}

#[test]
fn a_dropped_send_is_sent_once_if_it_was_ever_polled() {
    let cluster = start_standalone();
    let mut draws = Rng::from_seed(1);
    block_on(async {
        let (producer, puller) = (producer(&cluster).await, puller(&cluster).await);
        producer.send(Message::new("Sent", "first")).await.unwrap();
        let queue = producer.queues("Sent").await.unwrap().remove(1);
        let mut expect = BTreeMap::from([("first".to_owned(), 1)]);
        let mut dropped = 0;
        for number in 0..200 {
            let polls = draws.below(POLLS_MAX);
            let bodies = [format!("{number}"), format!("{number}b")];
            let message = |body: &String| Message::new("Sent", body.clone());
            let (bodies, is_answered) = match number % 4 {
                0 => {
                    let send = producer.send(message(&bodies[0]));
                    (&bodies[..1], polled(send, polls).await.is_some())
                }
                1 => {
                    let send = producer.send_to(message(&bodies[0]), Target::Queue(queue.clone()));
                    (&bodies[..1], polled(send, polls).await.is_some())
                }
                2 => {
                    let send = producer.send_batch(bodies.iter().map(message).collect());
                    (&bodies[..], polled(send, polls).await.is_some())
                }
                _ => {
                    let send = producer.send_oneway(message(&bodies[0]));
                    (&bodies[..1], polled(send, polls).await.is_some())
                }
            };
            dropped += usize::from(!is_answered && polls > 0);
            if polls > 0 {
                expect.extend(bodies.iter().map(|body| (body.clone(), 1)));
            }
        }
        // How many an answer does not overtake depends on the machine.
        assert!(dropped > 0, "none was dropped on its way");
        // Nobody answers for what goes one way: it may arrive a moment later.
        producer.stop().await;
        until("stored", async || (stored(&puller, "Sent").await == expect).then_some(())).await;
    });
}

#[test]
fn a_dropped_request_leaves_the_other_replies_alone() {
    let cluster = start_standalone();
    let (mut draws, mut of_answers) = (Rng::from_seed(2), Rng::from_seed(6));
    block_on(async {
        let (asker, answerer) = (producer(&cluster).await, producer(&cluster).await);
        let builder = Consumer::builder().group("answerers").name_servers(&cluster.namesrv);
        let mut questions = builder.subscribe("Asked", "*").start(Start::First).build().await.unwrap();
        let answers = tokio::spawn(async move {
            while let Ok(question) = questions.recv().await {
                let reply = Message::new("", format!("to {}", body(&question)));
                // A reply that was polled goes out, also when it is dropped.
                let _gone = polled(answerer.reply(&question, reply), 1 + of_answers.below(POLLS_MAX)).await;
                question.ack();
            }
        });
        for number in 0..60 {
            let gone = asker.request(Message::new("Asked", format!("dropped {number}")), LIMIT);
            let gone = polled(gone, draws.below(POLLS_MAX)).await;
            let wanted = format!("to dropped {number}");
            assert!(gone.is_none_or(|reply| reply.unwrap().body == wanted), "{number}");
            let reply = asker.request(Message::new("Asked", number.to_string()), LIMIT).await.unwrap();
            assert_eq!(reply.body, format!("to {number}"));
        }
        answers.abort();
    });
}

#[test]
fn a_dropped_begin_leaves_its_producer_at_work() {
    let cluster = start_standalone();
    let mut draws = Rng::from_seed(3);
    block_on(async {
        drop(producer(&cluster).await);
        let builder = Producer::builder().group("P").name_servers(&cluster.namesrv);
        let producer = builder.transactional(|_| async { Resolution::RollBack }).build().await.unwrap();
        for number in 0..40 {
            let begun = producer.begin(Message::new("Begun", "half"));
            let _gone = polled(begun, draws.below(POLLS_MAX)).await;
            producer.plain().send(Message::new("Begun", number.to_string())).await.unwrap();
        }
        producer.stop().await;
        let found = stored(&puller(&cluster).await, "Begun").await;
        assert_eq!((found.len(), found.get("half")), (40, None), "no half message is seen: {found:?}");
    });
}

#[test]
fn a_dropped_pull_loses_nothing_and_a_dropped_commit_is_made() {
    let cluster = start_standalone();
    let mut draws = Rng::from_seed(4);
    block_on(async {
        let (producer, puller) = (producer(&cluster).await, puller(&cluster).await);
        producer.send(Message::new("Pulled", "first")).await.unwrap();
        let queue = producer.queues("Pulled").await.unwrap().remove(0);
        let mut next = puller.max_offset(&queue).await.unwrap();
        for number in 0..30 {
            // Long polls, of which brokers still hold some when the message comes.
            for _ in 0..3 {
                let pull = puller.pull(&queue, next, "*", LIMIT);
                let _gone = polled(pull, draws.below(POLLS_MAX)).await;
                let _gone = polled(puller.queues("Pulled"), draws.below(POLLS_MAX)).await;
                let _gone = polled(puller.offset_at(&queue, 0), draws.below(POLLS_MAX)).await;
            }
            let message = Message::new("Pulled", number.to_string());
            producer.send_to(message, Target::Queue(queue.clone())).await.unwrap();
            let pulled = puller.pull(&queue, next, "*", LIMIT).await.unwrap();
            let bodies: Vec<_> = pulled.messages.iter().map(|one| one.body.clone()).collect();
            assert_eq!(bodies, [number.to_string()]);
            next = pulled.next_offset;
            let polls = draws.below(POLLS_MAX);
            let _gone = polled(puller.commit(&queue, next), polls).await;
            if polls > 0 {
                let committed = async || puller.committed(&queue).await.unwrap();
                until("committed", async || (committed().await == Some(next)).then_some(())).await;
            }
        }
        // Only who has been polled has stopped.
        let _gone = polled(puller.stop(), 0).await;
        puller.max_offset(&queue).await.unwrap();
        let _gone = polled(puller.stop(), 1).await;
        until("stopped", async || puller.max_offset(&queue).await.err()).await;
    });
}

#[test]
fn dropped_items_come_again_and_dropped_waits_for_them_take_none() {
    let cluster = start_standalone();
    let mut draws = Rng::from_seed(5);
    block_on(async {
        let producer = producer(&cluster).await;
        for number in 0..100 {
            producer.send(Message::new("Taken", number.to_string())).await.unwrap();
        }
        let builder = Consumer::builder().group("takers").name_servers(&cluster.namesrv);
        let builder = builder.subscribe("Taken", "*").start(Start::First).in_flight_max(7);
        let mut consumer = builder.build().await.unwrap();
        let (mut came, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        let begin = Instant::now();
        while came.len() < 100 {
            assert!(begin.elapsed() < LIMIT, "only {} come", came.len());
            let polls = 1 + draws.below(POLLS_MAX);
            let next = polled(consumer.next(), polls).await;
            let Some(message) = next.map(|next| next.unwrap().unwrap()) else { continue };
            // Some are dropped, and come after a first delay of ten seconds.
            if message.reconsume_times == 0 && draws.below(20) == 0 {
                dropped.insert(body(&message), ());
            } else {
                *came.entry(body(&message)).or_insert(0) += 1;
                message.ack();
            }
        }
        assert!(came.values().all(|count| *count == 1), "each is acknowledged once: {came:?}");
        assert!(!dropped.is_empty(), "some were dropped");
        consumer.stop().await;
    });
}

#[test]
fn a_dropped_seek_moves_nothing() {
    let cluster = start_standalone();
    block_on(async {
        let producer = producer(&cluster).await;
        for number in 0..20 {
            producer.send(Message::new("Sought", number.to_string())).await.unwrap();
        }
        let builder = Consumer::builder().group("seekers").name_servers(&cluster.namesrv);
        let builder = builder.subscribe("Sought", "*").start(Start::First);
        let mut consumer = builder.build().await.unwrap();
        let take_all = async |consumer: &mut Consumer| {
            for _ in 0..20 {
                let message = tokio::time::timeout(LIMIT, consumer.recv()).await;
                message.expect("it comes again").unwrap().ack();
            }
        };
        take_all(&mut consumer).await;
        let mut given_up = 0;
        for polls in 0..POLLS_MAX {
            let sought = polled(consumer.seek_to_time("Sought", 0), polls).await;
            if sought.is_some() {
                // It was as fast as that: then all of it is moved.
                take_all(&mut consumer).await;
            } else {
                given_up += 1;
            }
            let more = tokio::time::timeout(Duration::from_millis(300), consumer.recv()).await;
            assert!(more.is_err(), "after {polls} polls {more:?} comes");
        }
        assert!(given_up >= 2, "it is done before it can be dropped");
        consumer.seek_to_time("Sought", 0).await.unwrap();
        take_all(&mut consumer).await;
        consumer.stop().await;
    });
}

#[test]
fn a_dropped_stop_stops() {
    let cluster = start_standalone();
    block_on(async {
        let producer = producer(&cluster).await;
        for number in 0..20 {
            producer.send(Message::new("Left", number.to_string())).await.unwrap();
        }
        let builder = Consumer::builder().group("leavers").name_servers(&cluster.namesrv);
        let builder = builder.subscribe("Left", "*").start(Start::First).in_flight_max(5);
        let mut last: Option<Consumer> = None;
        for polls in 1..4 {
            let mut consumer = builder.clone().build().await.unwrap();
            if let Some(mut last) = last.take() {
                // Its drop would stop it too: it must be gone before.
                until("stopped", async || match last.recv().await {
                    Ok(message) => {
                        message.ack();
                        None
                    }
                    Err(error) => {
                        assert_eq!(error, ConsumeError::Stopped);
                        Some(())
                    }
                })
                .await;
            }
            let message = tokio::time::timeout(LIMIT, consumer.recv()).await;
            // Not acknowledged: the next member has it too, and all others.
            drop(message.expect("the queues are free").unwrap());
            let _gone = polled(consumer.stop(), 0).await;
            assert!(!consumer.assigned().is_empty(), "what was never polled has done nothing");
            let _gone = polled(consumer.stop(), polls).await;
            last = Some(consumer);
        }
        let _gone = polled(producer.stop(), 1).await;
        until("stopped", async || producer.send(Message::new("Left", "x")).await.err()).await;
    });
}
