//! What clients go on doing while servers and clients around them are killed: real processes, over loopback.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gantry_net::client::{Consumer, Message, MessageQueue, Producer, Receipt, SendError, Start, Target};
use program::{Gantry, free_broker_port, free_port, gantry, start, start_standalone};
use rustix::process::Signal;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn start_namesrv(home: &Path, port: u16) -> Gantry {
    // Each keeps its settings in its own.
    let home = home.join(format!("namesrv-{port}"));
    fs::create_dir_all(&home).unwrap();
    let path = home.join("namesrv.conf");
    fs::write(&path, format!("listenPort={port}\nbindAddress=127.0.0.1\n")).unwrap();
    let mut command = gantry(["namesrv", "-c"]);
    command.arg(path).env("HOME", home);
    let namesrv = start(command, 2);
    assert_eq!(namesrv.lines.len(), 2, "the name server starts: {:?}", namesrv.lines);
    namesrv
}

fn start_broker(home: &Path, name: &str, name_servers: &str) -> Gantry {
    let (port, root) = (free_broker_port(), home.join(name));
    let path = home.join(format!("{name}.conf"));
    let text = format!(
        "brokerName={name}\nlistenPort={port}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\n\
         namesrvAddr={name_servers}\nstorePathRootDir={}\nmappedFileSizeCommitLog=1048576\n\
         maxMessageSize=65536\nmaxIndexNum=1000\nmaxHashSlotNum=100\n",
        root.display()
    );
    fs::write(&path, text).unwrap();
    let mut command = gantry(["broker", "-c"]);
    command.arg(path).env("HOME", home);
    let broker = start(command, 1);
    assert_eq!(broker.lines.len(), 1, "the broker starts: {:?}", broker.lines);
    broker
}

/// Two brokers and their name server, which end with it.
struct Pair {
    address: String,
    a: Gantry,
    _b: Gantry,
    _namesrv: Gantry,
    _home: tempfile::TempDir,
}

fn start_pair() -> Pair {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let namesrv = start_namesrv(home.path(), port);
    let (a, b) = (start_broker(home.path(), "a", &address), start_broker(home.path(), "b", &address));
    Pair { address, a, _b: b, _namesrv: namesrv, _home: home }
}

fn kill(server: Gantry) {
    server.signal(Signal::KILL);
    server.wait();
}

async fn send(producer: &Producer, body: u32) -> Result<Receipt, SendError> {
    producer.send(Message::new("T", body.to_string())).await
}

/// The first send may come before the brokers are in the routes.
async fn first(producer: &Producer) {
    let begin = Instant::now();
    while let Err(error) = send(producer, 0).await {
        assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn running_clients_outlive_all_name_servers_and_new_ones_work_once_one_is_back() {
    let home = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let both = ports.map(|port| format!("127.0.0.1:{port}")).join(";");
    let name_servers = ports.map(|port| start_namesrv(home.path(), port));
    let _broker = start_broker(home.path(), "a", &both);
    block_on(async {
        let producers = Producer::builder().group("P").name_servers(&both);
        let producer = producers.clone().build().await.unwrap();
        first(&producer).await;
        let consumers = Consumer::builder().group("G").name_servers(&both).subscribe("T", "*");
        let mut consumer = consumers.start(Start::First).build().await.unwrap();
        let take = async |consumer: &mut Consumer, body: u32| {
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                let message = tokio::time::timeout(Duration::from_secs(20), consumer.recv()).await;
                let message = message.unwrap_or_else(|_| panic!("{body} does not come")).unwrap();
                let found: u32 = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
                message.ack();
                if found == body {
                    return;
                }
                assert!(Instant::now() < end, "{body} does not come, {found} does");
            }
        };
        take(&mut consumer, 0).await;
        name_servers.into_iter().for_each(kill);
        // Longer than a route is believed without being asked for again, and a consumer divides queues several times meanwhile.
        let begin = Instant::now();
        let mut body = 0;
        while begin.elapsed() < Duration::from_secs(40) {
            body += 1;
            send(&producer, body).await.unwrap();
            take(&mut consumer, body).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let newcomer = producers.build().await.unwrap();
        let refused = send(&newcomer, 1000).await;
        assert!(matches!(refused, Err(SendError::NoNameServer(_))), "{refused:?}");
        let _back = start_namesrv(home.path(), ports[1]);
        let begin = Instant::now();
        while let Err(error) = send(&newcomer, 1000).await {
            assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        take(&mut consumer, 1000).await;
        for producer in [producer, newcomer] {
            producer.stop().await;
        }
        consumer.stop().await;
    });
}

#[test]
fn sends_move_from_a_killed_broker_in_time_and_the_route_follows() {
    let Pair { address, a, _b, _namesrv, _home } = start_pair();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&address).build().await.unwrap();
        let brokers = async |topic: &str| -> BTreeSet<String> {
            let queues = producer.queues(topic).await.unwrap_or_default();
            queues.into_iter().map(|queue| queue.broker_name).collect()
        };
        on_both(&producer).await;
        let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut used = BTreeSet::new();
        for _ in 0..16 {
            used.insert(send(&producer, 2).await.unwrap().queue.broker_name);
        }
        assert_eq!(used, both, "both are used");
        // Many are under way, some of them to the one that dies.
        let under_way: Vec<_> = (0..64)
            .map(|_| {
                let producer = producer.clone();
                tokio::spawn(async move {
                    let mut longest = Duration::ZERO;
                    let end = Instant::now() + Duration::from_secs(3);
                    while Instant::now() < end {
                        let begin = Instant::now();
                        send(&producer, 3).await.unwrap();
                        longest = longest.max(begin.elapsed());
                    }
                    longest
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        kill(a);
        let killed = Instant::now();
        for task in under_way {
            let longest = task.await.unwrap();
            assert!(longest <= Duration::from_secs(3), "a send took {longest:?}");
        }
        while brokers("T").await.contains("a") {
            assert!(killed.elapsed() < Duration::from_secs(30), "the route still names the dead broker");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        producer.stop().await;
    });
}

#[test]
fn what_a_killed_consumer_had_is_taken_over() {
    let cluster = start_standalone();
    let (tell, told) = mpsc::channel();
    let member = |name: &'static str| {
        let mut command = gantry(["consume", "-n", &cluster.namesrv, "T", "--group", "G", "--follow"]);
        let mut child = command.spawn().unwrap();
        let (out, tell) = (child.stdout.take().unwrap(), tell.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = tell.send((name, line.parse::<u32>().unwrap()));
            }
        });
        Gantry { child, lines: Vec::new() }
    };
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
        let (one, _two) = (member("one"), member("two"));
        // Until both have queues.
        let (mut seen, mut active) = (BTreeSet::new(), BTreeSet::new());
        let begin = Instant::now();
        let mut body = 0;
        while active.len() < 2 {
            assert!(begin.elapsed() < Duration::from_secs(60), "only {active:?} consumes");
            body += 1;
            send(&producer, body).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            for (name, body) in told.try_iter() {
                seen.insert(body);
                active.insert(name);
            }
        }
        let settled = body;
        while body < settled + 1000 {
            body += 1;
            send(&producer, body).await.unwrap();
            if body == settled + 300 {
                one.signal(Signal::KILL);
            }
            if body.is_multiple_of(10) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        kill(one);
        let mut missing: BTreeSet<u32> = (1..=body).filter(|body| !seen.contains(body)).collect();
        let end = Instant::now() + Duration::from_secs(60);
        while !missing.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let (_, body) = told.recv_timeout(left).unwrap_or_else(|_| panic!("{missing:?} never come"));
            missing.remove(&body);
        }
        // All queues are the survivor's.
        let last: BTreeSet<u32> = (body + 1..=body + 8).collect();
        for body in &last {
            send(&producer, *body).await.unwrap();
        }
        let mut of_two = BTreeSet::new();
        while !last.is_subset(&of_two) {
            let (name, body) =
                told.recv_timeout(Duration::from_secs(20)).expect("the survivor has all queues");
            if name == "two" {
                of_two.insert(body);
            }
        }
        producer.stop().await;
    });
}

/// A broker that neither answers nor closes its connections, as one whose disk hangs. What waits for it waits 3 s at least.
#[test]
fn a_stuck_broker_does_not_hold_up_another() {
    const SILENCE: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(1);
    let Pair { address, a, _b, _namesrv, _home } = start_pair();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&address).build().await.unwrap();
        let queues = on_both(&producer).await;
        let of = |name: &str| -> Vec<MessageQueue> {
            queues.iter().filter(|queue| queue.broker_name == name).cloned().collect()
        };
        let (of_a, of_b) = (of("a"), of("b"));
        let builder = Consumer::builder().group("G").name_servers(&address).subscribe("T", "*");
        let mut consumer = builder.start(Start::First).build().await.unwrap();
        let mut next = 1000;
        let mut post = |queue: &MessageQueue| {
            next += 1;
            let (producer, queue, body) = (producer.clone(), queue.clone(), next);
            let message = Message::new("T", body.to_string());
            (body, async move { producer.send_to(message, Target::Queue(queue)).await })
        };
        let mut wanted = BTreeSet::new();
        for queue in &queues {
            let (body, sent) = post(queue);
            sent.await.unwrap();
            wanted.insert(body);
        }
        // It has all queues, and holds a pull at both brokers.
        let mut consumed = BTreeSet::new();
        while !wanted.is_subset(&consumed) {
            consumed.insert(take(&mut consumer).await);
        }

        a.signal(Signal::STOP);
        let stopped = Instant::now();
        let mut to_stuck = Vec::new();
        let (mut count, mut slowest_send, mut slowest_delivery) = (0, Duration::ZERO, Duration::ZERO);
        while stopped.elapsed() < SILENCE {
            for (stuck, well) in of_a.iter().zip(&of_b) {
                let (body, sent) = post(stuck);
                to_stuck.push((body, tokio::spawn(sent)));
                let (body, sent) = post(well);
                let begin = Instant::now();
                sent.await.unwrap();
                slowest_send = slowest_send.max(begin.elapsed());
                let begin = Instant::now();
                while !consumed.contains(&body) {
                    consumed.insert(take(&mut consumer).await);
                }
                slowest_delivery = slowest_delivery.max(begin.elapsed());
                count += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            slowest_send < LONGEST && slowest_delivery < LONGEST,
            "{slowest_send:?} {slowest_delivery:?}"
        );
        assert!(count > 20, "{count} messages went through");

        a.signal(Signal::CONT);
        // What it has acknowledged in the end comes too; what it was given up for may.
        let mut wanted = BTreeSet::new();
        let mut given_up = 0;
        for (body, sent) in to_stuck {
            match sent.await.unwrap() {
                Ok(_) => {
                    wanted.insert(body);
                }
                Err(error) => {
                    assert!(error.may_be_stored(), "{error}");
                    given_up += 1;
                }
            }
        }
        assert!(given_up > 0, "those that it was silent to for too long are reported");
        for queue in &of_a {
            let begin = Instant::now();
            loop {
                let (body, sent) = post(queue);
                match sent.await {
                    Ok(_) => {
                        wanted.insert(body);
                        break;
                    }
                    Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error}"),
                }
            }
        }
        while !wanted.is_subset(&consumed) {
            consumed.insert(take(&mut consumer).await);
        }
        producer.stop().await;
        consumer.stop().await;
    });
}

/// The next message's body, acknowledged.
async fn take(consumer: &mut Consumer) -> u32 {
    let message = tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await;
    let message = message.expect("a message comes").unwrap();
    let body = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
    message.ack();
    body
}

/// Topic `T` on both brokers, `a` and `b`: its queues.
async fn on_both(producer: &Producer) -> Vec<MessageQueue> {
    let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    let brokers = |queues: &[MessageQueue]| -> BTreeSet<String> {
        queues.iter().map(|queue| queue.broker_name.clone()).collect()
    };
    let until_both = async |topic: &str| {
        let begin = Instant::now();
        loop {
            let queues = producer.queues(topic).await.unwrap_or_default();
            if brokers(&queues) == both {
                return queues;
            }
            assert!(begin.elapsed() < Duration::from_secs(90), "{topic} is on {:?}", brokers(&queues));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until_both("TBW102").await;
    // A topic is made where it is sent to: left to itself, a producer goes on with the first broker that has it.
    for name in &both {
        let queue = MessageQueue { topic: "T".into(), broker_name: name.clone(), queue_id: 0 };
        producer.send_to(Message::new("T", "1"), Target::Queue(queue)).await.unwrap();
    }
    until_both("T").await
}
