//! The client library and `gantry produce` as their users meet them, against `gantry standalone` over loopback.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gantry_net::client::{
    Batching, BuildError, ConsumeError, Consumer, Message, Producer, PullConsumer, SendError, SendStatus,
    Start, Target,
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
    assert!(
        text(&wrong.stderr).contains("line 2, column 2: not as --json wants it"),
        "{}",
        text(&wrong.stderr)
    );
    assert_eq!(produce("127.0.0.1:1", &["T"], "a\n").status.code(), Some(1));
    assert_eq!(produce("127.0.0.1:1", &["T", "--delay-level", "19"], "a\n").status.code(), Some(2));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Its lines, of a program that ended well.
fn objects(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn start_serving() -> program::Standalone {
    let cluster = start_standalone();
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        first(&producer).await;
    });
    cluster
}

#[test]
fn what_consume_writes_produce_reads() {
    let cluster = start_serving();
    let run = |arguments: &[&str]| consume(&cluster.namesrv, arguments);
    let lines = concat!(
        r#"{"body":"x","tag":"t","keys":["k","l"],"properties":{"p":"v"},"flag":7}"#,
        "\n",
        r#"{"bodyHex":"ff00fe","properties":{"q":"w"}}"#,
        "\n"
    );
    assert_eq!(objects(&produce(&cluster.namesrv, &["A", "--json"], lines)).len(), 2);
    let read = run(&["A", "--json"]);
    // A member of a group writes the same.
    let group = run(&["A", "--json", "--group", "copiers"]);
    for (topic, lines) in [("B", &read), ("C", &group)] {
        objects(&produce(&cluster.namesrv, &[topic, "--json"], &text(&lines.stdout)));
    }
    let facts = |topic: &str| {
        let mut objects = objects(&run(&[topic, "--json"]));
        objects.sort_by_key(|object| object["bodyHex"].to_string());
        let ids: BTreeSet<String> =
            objects.iter().map(|object| object["properties"]["UNIQ_KEY"].to_string()).collect();
        for object in &mut objects {
            for own in [
                "bornTimestamp",
                "messageId",
                "offsetId",
                "queueId",
                "queueOffset",
                "storeTimestamp",
                "topic",
            ] {
                assert!(object.as_object_mut().unwrap().remove(own).is_some(), "{object}");
            }
            object["properties"].as_object_mut().unwrap().remove("UNIQ_KEY");
        }
        (objects, ids)
    };
    let (original, ids) = facts("A");
    assert_eq!(
        (&original[0]["bodyHex"], &original[1]["flag"]),
        (&"ff00fe".into(), &7.into()),
        "{original:?}"
    );
    for topic in ["B", "C"] {
        let (copy, other_ids) = facts(topic);
        assert_eq!(copy, original);
        assert!(
            other_ids.is_disjoint(&ids) && other_ids.len() == 2,
            "a copy is another message: {other_ids:?}"
        );
    }
    let wrong =
        produce(&cluster.namesrv, &["A", "--json"], "{\"body\":\"x\"}\n{\"body\":\"x\", \"tga\":\"t\"}\n");
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(said.contains("line 2, column 18: not as --json wants it: unknown field `tga`"), "{said}");
}

#[test]
fn messages_are_produced_and_written_as_the_options_say() {
    let cluster = start_serving();
    let run = |arguments: &[&str]| consume(&cluster.namesrv, arguments);
    let put = |arguments: &[&str], input: &str| {
        let done = produce(&cluster.namesrv, arguments, input);
        assert!(done.status.success(), "{}", text(&done.stderr));
    };
    put(&["D", "-D", "\\0", "-k", "key", "-p", "name=value"], "a\nb\0c\0");
    let framed = run(&["D", "-f", "%R%s"]).stdout;
    let mut bodies = BTreeSet::new();
    let mut rest = &framed[..];
    while let Some((size, more)) = rest.split_first_chunk::<4>() {
        let (body, after) = more.split_at(u32::from_be_bytes(*size) as usize);
        bodies.insert(text(body));
        rest = after;
    }
    assert_eq!(bodies, BTreeSet::from(["a\nb".to_owned(), "c".to_owned()]));
    let fields = run(&["D", "-f", "%K %{name} [%{none}] %r %B %c\\x3b", "--count", "1"]);
    let fields = text(&fields.stdout);
    let (words, end) = fields.split_at(fields.len() - 1);
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!((&words[..4], end), (&["3", "value", "[]", "0"][..], ";"), "{fields}");
    let ms = |text: &str| text.parse::<i64>().unwrap();
    assert!(ms(words[4]) <= ms(words[5]) && ms(words[4]) > 1_700_000_000_000, "{fields}");

    put(&["Once", "--idempotent"], "x\n");
    let once = objects(&run(&["Once", "--json"]));
    assert!(once[0]["properties"]["GANTRY_ONCE"].is_string(), "{once:?}");

    put(&["Late", "--json"], "{\"body\":\"x\",\"delayLevel\":1}\n");
    let late = &objects(&run(&["Late", "--json", "--count", "1"]))[0];
    let waited = late["storeTimestamp"].as_i64().unwrap() - late["bornTimestamp"].as_i64().unwrap();
    assert!(waited >= 900, "delivered after {waited} ms");
    // The broker says that it does not serve these; what is read wrongly would be delivered at once.
    for (arguments, input) in [
        (&["Late", "--deliver-at", "1h"][..], "x\n"),
        (&["Late", "--json"], "{\"body\":\"x\",\"deliverAt\":4000000000000}\n"),
    ] {
        let refused = produce(&cluster.namesrv, arguments, input);
        assert!(text(&refused.stderr).contains("TIMER_DELIVER_MS"), "{}", text(&refused.stderr));
        assert_eq!(refused.status.code(), Some(1));
    }
    for wrong in [
        &["--deliver-at", "soon"][..],
        &["--compression", "rar"],
        &["--deliver-at", "1h", "--delay-level", "1"],
    ] {
        assert_eq!(produce(&cluster.namesrv, &[&["Late"], wrong].concat(), "x\n").status.code(), Some(2));
    }
    let refused = run(&["D", "--sql", "name = 'value'"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("the broker refused"), "{}", text(&refused.stderr));
}

#[test]
fn bodies_are_compressed_as_wanted() {
    let cluster = start_serving();
    let body = "x".repeat(10_000);
    block_on(async {
        let producer = Producer::builder().group("P").name_servers(&cluster.namesrv).build().await.unwrap();
        let reader = PullConsumer::builder().group("G").name_servers(&cluster.namesrv).build().await.unwrap();
        let places = async |topic: &str| {
            let mut places = Vec::new();
            for queue in reader.queues(topic).await.unwrap() {
                let pulled = reader.pull(&queue, 0, "*", Duration::ZERO).await.unwrap();
                places.extend(pulled.messages.into_iter().map(|one| (one.physical_offset, one.body)));
            }
            places.sort_unstable();
            places
        };
        for kind in ["zlib", "lz4", "zstd", "none"] {
            let done = produce(&cluster.namesrv, &[kind, "--compression", kind], &format!("{body}\n"));
            assert!(done.status.success(), "{}", text(&done.stderr));
            producer.send(Message::new(kind, "behind it")).await.unwrap();
            let places = places(kind).await;
            assert_eq!(places[0].1, body);
            let bytes = places[1].0 - places[0].0;
            assert_eq!(bytes < 1000, kind != "none", "{kind} takes {bytes} bytes");
        }
    });
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
    let rows = sent["correctedLatencyDistribution"].as_array().unwrap();
    let last = rows.last().unwrap();
    assert!(rows.len() > 5 && last["percentile"] == 100.0 && last["count"].as_u64() >= Some(500), "{rows:?}");
    assert_eq!(sent["failedLatencyMicros"]["max"].as_u64(), Some(0), "{sent}");
    let once = bench(&["produce", "once", "--messages", "100", "--idempotent", "--batch"]);
    assert_eq!(once["messages"].as_u64(), Some(100), "{once}");
    let paced = bench(&["produce", "--messages", "100", "--rate", "200"]);
    assert!(paced["seconds"].as_f64().unwrap() > 0.45, "{paced}");
    let taken = bench(&["consume"]);
    // Each run sent one message before it began to measure.
    assert_eq!(taken["messages"].as_u64(), Some(602), "{taken}");
}

#[test]
fn live_figures_fall_to_nothing_in_a_stall_and_failed_sends_are_timed() {
    let cluster = start_serving();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args([
        "bench",
        "produce",
        "-n",
        &cluster.namesrv,
        "--json",
        "--seconds",
        "11",
        "--in-flight",
        "4",
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut bench = Follower(command.spawn().unwrap());
    let mut lines = BufReader::new(bench.0.stderr.take().unwrap()).lines();
    let mut until = |what: &str, is_wanted: &dyn Fn(&str) -> bool| {
        // A line a second, until it ends.
        let found =
            lines.by_ref().map(Result::unwrap).find(|line| line.contains(" msg/s") && is_wanted(line));
        assert!(found.is_some(), "no line {what}");
    };
    let is_still = |line: &str| line.contains(", 0 msg/s, ");
    until("while it sends", &|line| !is_still(line));
    cluster.gantry.signal(Signal::STOP);
    until("while nothing moves", &is_still);
    until("while sends fail", &|line| !line.contains(", 0 failed"));
    cluster.gantry.signal(Signal::CONT);
    until("when it goes on", &|line| !is_still(line));
    let mut result = String::new();
    bench.0.stdout.take().unwrap().read_to_string(&mut result).unwrap();
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert!(result["failures"].as_u64() >= Some(1), "{result}");
    assert!(result["failedLatencyMicros"]["max"].as_u64() > Some(2_500_000), "{result}");
    assert!(result["lastFailure"].is_string(), "{result}");
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
