//! The broker program on disks that fail it: full, read-only, no descriptors left. What was acknowledged stays, what cannot be stored
//! is refused with a code that clients know, and reads go on.

#![cfg(target_os = "linux")] // it mounts small disks, which wants root: without it the tests of full and read-only disks say so and pass
#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gantry_core::wire::Command as Packet;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{Header, PullMessageRequest, SendMessageRequest, pull_sys_flag};
use program::{Gantry, ask, free_broker_port, free_port, gantry, refused, start};
use rustix::process::Signal;

/// A small file system of its own, gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match done {
            Ok(done) if done.status.success() => Some(SmallDisk(at.into())),
            Ok(done) => {
                eprintln!("not tried: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(error) => {
                eprintln!("not tried: {error}");
                None
            }
        }
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn conf(home: &Path, root: &Path, further: &str) -> (PathBuf, u16) {
    let port = free_broker_port();
    let text = format!(
        "brokerName=b\nlistenPort={port}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\n\
         namesrvAddr=127.0.0.1:{}\nstorePathRootDir={}\nmappedFileSizeCommitLog=1048576\n\
         maxMessageSize=65536\nmaxIndexNum=1000\nmaxHashSlotNum=100\ngantryReserveBytes=1048576\n{further}",
        free_port(),
        root.display()
    );
    let path = home.join("broker.conf");
    fs::write(&path, text).unwrap();
    (path, port)
}

fn broker(path: &Path) -> Command {
    let mut command = gantry(["broker", "-c"]);
    command.arg(path).env("HOME", path.parent().unwrap());
    command
}

fn send(port: u16, topic: &'static str, body: Vec<u8>) -> Packet {
    let header = SendMessageRequest {
        producer_group: "g".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        ..SendMessageRequest::default()
    };
    ask(port, Packet::request(request_code::SEND_MESSAGE, header.to_ext()).with_body(body))
}

/// The code and the bytes of a pull at an offset of the topic's only queue.
fn pull(port: u16, topic: &'static str, offset: i64) -> (i32, Vec<u8>) {
    let header = PullMessageRequest {
        consumer_group: "G".into(),
        topic: topic.into(),
        queue_offset: offset,
        max_msg_nums: 1,
        sys_flag: pull_sys_flag::SUBSCRIPTION,
        subscription: Some("*".into()),
        ..PullMessageRequest::default()
    };
    let answer = ask(port, Packet::request(request_code::PULL_MESSAGE, header.to_ext()));
    (answer.code, answer.body.to_vec())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends numbered messages until one is refused: how many were taken, and the refusal.
fn send_until_refused(port: u16, mut serial: u64) -> (u64, Packet) {
    loop {
        let mut body = serial.to_be_bytes().to_vec();
        body.resize(60_000, b'x');
        let answer = send(port, "T", body);
        if answer.code != response_code::SUCCESS {
            return (serial, answer);
        }
        serial += 1;
        assert!(serial < 1000, "the disk is never full");
    }
}

fn check_all(port: u16, count: u64) {
    for serial in 0..count {
        let (code, body) = pull(port, "T", serial as i64);
        assert_eq!(code, response_code::SUCCESS, "message {serial}");
        assert!(
            body.windows(9).any(|bytes| bytes[..8] == serial.to_be_bytes() && bytes[8] == b'x'),
            "{serial}"
        );
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_serves_what_it_has() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let Some(_disk) = SmallDisk::mount(&root, "24m") else { return };
    // Without the early warning, so that writes meet the end of the disk itself.
    let (path, port) =
        conf(home.path(), &root, "cleanFileForciblyEnable=false\ndiskSpaceWarningLevelRatio=100\n");
    let running = start(broker(&path), 1);
    assert_eq!(send(port, "other", b"first".to_vec()).code, response_code::SUCCESS);
    let (taken, refusal) = send_until_refused(port, 0);
    assert_eq!(refusal.code, response_code::SERVICE_NOT_AVAILABLE, "{:?}", refusal.remark);
    assert!(refusal.remark.unwrap_or_default().contains("disk is full"));
    assert!(taken > 100, "{taken}");
    // Others are not harmed, and all of it is there.
    assert_eq!(pull(port, "other", 0).0, response_code::SUCCESS);
    check_all(port, taken);
    // A death on the full disk loses nothing, and the start after it needs no room, or says so.
    running.signal(Signal::KILL);
    let _ = running.wait();
    let running = start(broker(&path), 1);
    check_all(port, taken);
    running.signal(Signal::KILL);
    let _ = running.wait();
    // With more room it goes on where it was.
    let _ = Command::new("mount").args(["-o", "remount,size=40m"]).arg(&root).status();
    let running = start(broker(&path), 1);
    let (more, _) = send_until_refused(port, taken);
    assert!(more > taken);
    check_all(port, more);
    drop(running);
}

#[test]
fn above_the_warning_level_sends_are_refused_until_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let Some(_disk) = SmallDisk::mount(&root, "64m") else { return };
    let (path, port) = conf(home.path(), &root, "cleanFileForciblyEnable=false\ncleanResourceInterval=500\n");
    let running = start(broker(&path), 1);
    assert_eq!(send(port, "T", b"first".to_vec()).code, response_code::SUCCESS);
    let ballast = root.join("ballast");
    fs::write(&ballast, vec![1; 57 << 20]).unwrap();
    until("it is refused", || send(port, "T", b"more".to_vec()).code == response_code::SERVICE_NOT_AVAILABLE);
    assert_eq!(pull(port, "T", 0).0, response_code::SUCCESS);
    fs::remove_file(&ballast).unwrap();
    until("it is taken again", || send(port, "T", b"more".to_vec()).code == response_code::SUCCESS);
    let log = running.stop();
    assert!(log.contains("nearly full") && log.contains("room again"), "{log}");
}

fn listing(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_read_only_store_is_refused_by_name_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let Some(disk) = SmallDisk::mount(&root, "64m") else { return };
    let (path, port) = conf(home.path(), &root, "");
    let running = start(broker(&path), 1);
    assert_eq!(send(port, "T", b"hello".to_vec()).code, response_code::SUCCESS);
    running.stop();
    let before = listing(&root);
    disk.remount("ro");
    let said = refused(broker(&path));
    assert!(said.contains("Read-only file system") && said.contains(root.to_str().unwrap()), "{said}");
    assert_eq!(listing(&root), before, "nothing was changed");
    disk.remount("rw");
    let running = start(broker(&path), 1);
    assert_eq!(pull(port, "T", 0).0, response_code::SUCCESS);
    running.stop();
}

#[test]
fn a_broker_without_descriptors_serves_whom_it_has_and_recovers() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let (path, port) = conf(home.path(), &root, "");
    let mut command = Command::new("sh");
    let plain = broker(&path);
    command.arg("-c").arg("ulimit -n 64; exec \"$0\" \"$@\"").arg(plain.get_program()).args(plain.get_args());
    command.env("HOME", home.path()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let running: Gantry = start(command, 1);
    assert_eq!(send(port, "T", b"early".to_vec()).code, response_code::SUCCESS);
    let held: Vec<TcpStream> =
        (0..100).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    assert!(held.len() > 60, "{}", held.len());
    std::thread::sleep(Duration::from_millis(500));
    drop(held);
    until("it serves new clients again", || send(port, "T", b"late".to_vec()).code == response_code::SUCCESS);
    assert_eq!(pull(port, "T", 0).0, response_code::SUCCESS);
    running.stop();
}
