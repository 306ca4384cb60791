//! The client library and `gantry produce` as their users meet them, against `gantry standalone` over loopback.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gantry_net::client::{
    Batching, BuildError, ConsumeError, Consumer, Message, Producer, SendError, SendStatus, Start, Target,
};
use program::start_standalone;
use rustix::process::{Pid, Signal, kill_process};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The first send may come before the broker is in the routes.
async fn first(producer: &Producer) {
    for _ in 0..100 {
        if producer.send(Message::new("T", "first")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the broker never serves");
}

#[test]
fn messages_are_sent_singly_in_batches_and_from_many_tasks() {
    let cluster = start_standalone();
    block_on(async {
        let builder = Producer::builder().group("P").name_servers(&cluster.namesrv);
        let producer = builder.clone().build().await.unwrap();
        first(&producer).await;
        let receipt = producer.send(Message::new("T", "b").with_tag("t").with_key("k")).await.unwrap();
        assert_eq!((receipt.status, receipt.message_id.len()), (SendStatus::Ok, 32));
        let queues = producer.queues("T").await.unwrap();
        assert_eq!(queues.len(), 4);
        let to_last = Target::Queue(queues[3].clone());
        assert_eq!(producer.send_to(Message::new("T", "b"), to_last).await.unwrap().queue, queues[3]);
        let batch =
            producer.send_batch((0..10).map(|n| Message::new("T", format!("{n}"))).collect()).await.unwrap();
        assert_eq!(batch[9].queue_offset, batch[0].queue_offset + 9);
        producer.send_oneway(Message::new("T", "b")).await.unwrap();
        producer.stop().await;
        assert_eq!(producer.send(Message::new("T", "b")).await, Err(SendError::Stopped));

        let producer = builder.batching(Batching::default()).build().await.unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let producer = producer.clone();
                tokio::spawn(async move { producer.send(Message::new("T", format!("{n}"))).await })
            })
            .collect();
        let mut places = BTreeSet::new();
        for task in tasks {
            let receipt = task.await.unwrap().unwrap();
            places.insert((receipt.queue, receipt.queue_offset));
        }
        assert_eq!(places.len(), 200, "each has a place of its own");
    });
}

#[test]
fn a_dropped_future_gives_up_the_answer_and_nothing_else() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
        let queue = producer.queues("T").await.unwrap().remove(2);
        for _ in 0..10 {
            let send = producer.send_to(Message::new("T", "b"), Target::Queue(queue.clone()));
            let _gone = tokio::time::timeout(Duration::ZERO, send).await;
        }
        let last = producer.send_to(Message::new("T", "b"), Target::Queue(queue)).await.unwrap();
        assert!(last.queue_offset >= 10, "{last:?}");
    });
}

#[test]
fn errors_say_what_to_do() {
    block_on(async {
        let nobody = Producer::builder().group("P").name_servers("127.0.0.1:1").build().await.unwrap();
        let error = nobody.send(Message::new("T", "b")).await.unwrap_err();
        assert!(matches!(&error, SendError::NoNameServer(servers) if servers == "127.0.0.1:1"), "{error}");
        let wrong = Producer::builder().group("P").name_servers("localhost").build().await.unwrap_err();
        assert!(matches!(wrong, BuildError::NameServer(_)), "{wrong}");
        let wrong =
            Producer::builder().group("a group").name_servers("localhost:1").build().await.unwrap_err();
        assert!(matches!(wrong, BuildError::Group(_)), "{wrong}");
        let wrong = Consumer::builder().group("G").name_servers("localhost:1").build().await.unwrap_err();
        assert!(matches!(wrong, BuildError::NoSubscription), "{wrong}");
    });
}

#[test]
fn a_cancelled_recv_loses_nothing_and_a_stopped_consumer_says_so() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
        for n in 0..50 {
            producer.send(Message::new("U", n.to_string())).await.unwrap();
        }
        let builder = Consumer::builder().group("G").name_servers(&cluster.namesrv).subscribe("U", "*");
        let mut consumer = builder.start(Start::First).in_flight_max(7).build().await.unwrap();
        let mut came = Vec::new();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while came.len() < 50 {
            assert!(std::time::Instant::now() < end, "only {came:?} come");
            // Most of these end before a message is there, some at the very moment.
            let taken = tokio::time::timeout(Duration::from_micros(300), consumer.recv()).await;
            if let Ok(message) = taken {
                let message = message.unwrap();
                came.push(String::from_utf8_lossy(&message.body).into_owned());
                message.ack();
            }
        }
        let all: BTreeSet<&String> = came.iter().collect();
        assert_eq!(all.len(), 50, "each once: {came:?}");
        consumer.stop().await;
        assert!(matches!(consumer.recv().await, Err(ConsumeError::Stopped)));
    });
}

fn produce(namesrv: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args(["produce", "-n", namesrv]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it read all of it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn lines_become_messages() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let plain = produce(&cluster.namesrv, &["T", "--tag", "t"], "a\nb\nc\n");
    assert!(plain.status.success() && plain.stdout.is_empty(), "{}", text(&plain.stderr));
    let lines = "{\"body\":\"x\",\"keys\":[\"k\"],\"properties\":{\"p\":\"v\"}}\n{\"body\":\"y\"}\n";
    let json = produce(&cluster.namesrv, &["T", "--json"], lines);
    assert!(json.status.success(), "{}", text(&json.stderr));
    let stored = text(&json.stdout);
    assert_eq!(stored.lines().filter(|line| line.contains("\"status\":\"Ok\"")).count(), 2, "{stored}");
    let keyed = produce(&cluster.namesrv, &["T", "-K", ":"], "k:1\nk:2\nother:3\n");
    assert!(keyed.status.success(), "{}", text(&keyed.stderr));
    let wrong = produce(&cluster.namesrv, &["T", "--json"], "{\"body\":\"x\"}\nno json\n");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("line 2: not as --json wants it"), "{}", text(&wrong.stderr));
    assert_eq!(produce("127.0.0.1:1", &["T"], "a\n").status.code(), Some(1));
    assert_eq!(produce("127.0.0.1:1", &["T", "--delay-level", "19"], "a\n").status.code(), Some(2));
}

fn consume(namesrv: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args(["consume", "-n", namesrv]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn messages_become_lines() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines = |output: &Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut lines: Vec<String> = text(&output.stdout).lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    let long = "x".repeat(10_000);
    produce(&cluster.namesrv, &["L", "--tag", "t", "-k", "k"], &format!("a\nb\n{long}\n"));
    produce(&cluster.namesrv, &["L", "--tag", "u"], "c\n");
    let run = |arguments: &[&str]| consume(&cluster.namesrv, arguments);
    assert_eq!(lines(&run(&["L"])), ["a", "b", "c", &long]);
    assert_eq!(lines(&run(&["L", "--filter", "u || v", "-f", "%t %g [%k] %S:%s\\n"])), ["L u [] 1:c"]);
    assert_eq!(lines(&run(&["L", "--count", "2"])).len(), 2);
    assert_eq!(lines(&run(&["L", "--from", "1h"])).len(), 4);
    assert_eq!(lines(&run(&["L", "--from", "4000000000000"])), [""; 0]);
    let json = lines(&run(&["L", "--json", "--filter", "u"]));
    assert!(json[0].contains("\"body\":\"c\"") && json[0].contains("\"tag\":\"u\""), "{json:?}");
    // A group reads each message once.
    assert_eq!(lines(&run(&["L", "--group", "readers"])), ["a", "b", "c", &long]);
    produce(&cluster.namesrv, &["L"], "d\n");
    assert_eq!(lines(&run(&["L", "--group", "readers"])), ["d"]);
    assert_eq!(lines(&run(&["L", "--group", "readers"])), [""; 0]);

    let unknown = run(&["nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("topic nowhere does not exist"), "{}", text(&unknown.stderr));
    assert_eq!(run(&["nowhere", "--group", "readers"]).status.code(), Some(1));
    assert_eq!(consume("127.0.0.1:1", &["L"]).status.code(), Some(1));
    assert_eq!(run(&["L", "--from", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_followed_topic_is_written_as_it_grows() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
    });
    for group in [&["--group", "followers"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command.args(["consume", "-n", &cluster.namesrv, "T", "--follow"]).args(group);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut follower = Follower(command.spawn().unwrap());
        let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
        // The second run meets the message of the first, before or after.
        let mut comes =
            |text: &str| assert!(lines.by_ref().take(3).any(|line| line.unwrap() == text), "{text}");
        comes("first");
        let next = format!("next{}", group.len());
        produce(&cluster.namesrv, &["T"], &format!("{next}\n"));
        comes(&next);
        let pid = Pid::from_raw(i32::try_from(follower.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        assert!(follower.0.wait().unwrap().success(), "an interruption is its end");
    }
}

#[test]
fn a_bench_tells_its_figures() {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
    });
    let bench = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        let (what, more) = arguments.split_first().unwrap();
        command.args(["bench", what, "-n", &cluster.namesrv, "--json"]).args(more);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let sent = bench(&["produce", "--messages", "500", "--in-flight", "20"]);
    assert_eq!((sent["messages"].as_u64(), sent["failures"].as_u64()), (Some(500), Some(0)), "{sent}");
    let longest = |which: &str| sent[which]["max"].as_u64().unwrap();
    // A correction adds those that should have been sent meanwhile, none of which waits longer.
    assert_eq!(longest("correctedLatencyMicros"), longest("latencyMicros"), "{sent}");
    assert!(longest("latencyMicros") > 50, "a send takes a way to the broker and back: {sent}");
    let paced = bench(&["produce", "--messages", "100", "--rate", "200"]);
    assert!(paced["seconds"].as_f64().unwrap() > 0.45, "{paced}");
    let taken = bench(&["consume"]);
    // Each run sent one message before it began to measure.
    assert_eq!(taken["messages"].as_u64(), Some(602), "{taken}");
}

/// Ends with the test, also when that fails.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
