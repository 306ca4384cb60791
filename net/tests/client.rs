//! The client library and `gantry produce` as their users meet them, against `gantry standalone` over loopback.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gantry_net::client::{Batching, BuildError, Message, Producer, SendError, SendStatus, Target};

/// A cluster of one process, killed when dropped.
struct Standalone {
    child: Child,
    namesrv: String,
    _data: tempfile::TempDir,
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> (u16, u16) {
    let namesrv = TcpListener::bind("127.0.0.1:0").unwrap();
    loop {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = broker.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port.saturating_add(1))).is_ok() {
            return (namesrv.local_addr().unwrap().port(), port);
        }
    }
}

fn standalone() -> Standalone {
    let data = tempfile::tempdir().unwrap();
    let (namesrv, broker) = free_ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args([
        "standalone",
        "--namesrv-port",
        &namesrv.to_string(),
        "--broker-port",
        &broker.to_string(),
    ]);
    command.arg("--data").arg(data.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(2).count();
    assert_eq!(lines, 2, "it started");
    Standalone { child, namesrv: format!("127.0.0.1:{namesrv}"), _data: data }
}

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
    let cluster = standalone();
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
        let mut places = std::collections::BTreeSet::new();
        for task in tasks {
            let receipt = task.await.unwrap().unwrap();
            places.insert((receipt.queue, receipt.queue_offset));
        }
        assert_eq!(places.len(), 200, "each has a place of its own");
    });
}

#[test]
fn a_dropped_future_gives_up_the_answer_and_nothing_else() {
    let cluster = standalone();
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
    let cluster = standalone();
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
