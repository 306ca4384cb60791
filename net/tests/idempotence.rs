//! Idempotent sends while their broker is killed, with real processes over loopback: no message twice, and none missing.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gantry_net::client::{Consumer, Message, Producer, Start};
use program::{Gantry, free_broker_port, free_port, gantry, start};

/// Sends under way.
const TASKS: usize = 32;
/// How often the broker is killed.
const KILLS: usize = 4;

fn broker_conf(home: &Path, names: u16, port: u16) -> PathBuf {
    let root = home.join("store");
    let path = home.join("broker.conf");
    let text = format!(
        "brokerName=b\nlistenPort={port}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\nnamesrvAddr=127.0.0.1:{names}\n\
         storePathRootDir={}\nmappedFileSizeCommitLog=67108864\nmaxIndexNum=100000\nmaxHashSlotNum=10000\n",
        root.display()
    );
    fs::write(&path, text).unwrap();
    path
}

fn start_broker(home: &Path, conf: &Path) -> Gantry {
    let mut command = gantry(["broker", "-c"]);
    command.arg(conf).env("HOME", home).stderr(Stdio::null());
    start(command, 1)
}

fn start_names(home: &Path, port: u16) -> Gantry {
    let path = home.join("namesrv.conf");
    fs::write(&path, format!("listenPort={port}\nbindAddress=127.0.0.1\n")).unwrap();
    let mut command = gantry(["namesrv", "-c"]);
    command.arg(path).env("HOME", home).stderr(Stdio::null());
    start(command, 2)
}

/// Kills the broker while messages are sent; how often each acknowledged message is stored.
async fn copies() -> BTreeMap<String, usize> {
    let home = tempfile::tempdir().unwrap();
    let (names, port) = (free_port(), free_broker_port());
    let _names = start_names(home.path(), names);
    let conf = broker_conf(home.path(), names, port);
    let mut broker = start_broker(home.path(), &conf);
    let addresses = format!("127.0.0.1:{names}");
    let builder = Producer::builder().group("P").name_servers(&addresses).no_compression();
    let producer = builder.idempotent(true).timeout(Duration::from_secs(60)).build().await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (producer, is_over, sent) = (producer.clone(), is_over.clone(), sent.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let body = format!("{task}-{number}");
                    // An application that does not give up.
                    while producer.send(Message::new("T", body.clone())).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    number += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                number
            })
        })
        .collect();
    for _ in 0..KILLS {
        let before = sent.load(Ordering::Relaxed);
        while sent.load(Ordering::Relaxed) < before + 20 * TASKS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The death of a process that had no time for anything.
        drop(broker);
        broker = start_broker(home.path(), &conf);
    }
    is_over.store(true, Ordering::Relaxed);
    let mut copies = BTreeMap::new();
    for (task, ended) in tasks.into_iter().enumerate() {
        let count: usize = ended.await.unwrap();
        copies.extend((0..count).map(|number| (format!("{task}-{number}"), 0)));
    }
    let builder = Consumer::builder().group("G").name_servers(&addresses);
    let mut consumer = builder.subscribe("T", "*").start(Start::First).build().await.unwrap();
    // Everything came when nothing more comes for a while.
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(5), consumer.recv()).await {
        let message = message.unwrap();
        let body = String::from_utf8_lossy(&message.body).into_owned();
        *copies.get_mut(&body).expect("an acknowledged message") += 1;
        message.ack();
    }
    copies
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_killed_broker_has_each_message_once() {
    let copies = block_on(copies());
    assert!(copies.len() > KILLS * 20 * TASKS, "{}", copies.len());
    let wrong: Vec<_> = copies.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "of {} messages: {wrong:?}", copies.len());
}
