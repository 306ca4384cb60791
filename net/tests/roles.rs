//! `gantry namesrv` and `gantry broker` as RocketMQ's users meet them: their flags and files, what they print, and how they end.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::request::{Header, SendMessageRequest};
use gantry_core::wire::{Command as Packet, Ext};
use program::{Gantry, ask, free_broker_port, free_port, gantry, refused, start};
use rustix::process::Signal;

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A role with a file of settings, at home in `home`.
fn with_file(role: &str, home: &Path, path: &Path) -> Command {
    let mut command = gantry([role, "-c"]);
    command.arg(path).env("HOME", home);
    command
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(15), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn text(answer: &Packet) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn route(namesrv: u16) -> Packet {
    let topic = Ext::Fields(vec![("topic".into(), "TBW102".into())]);
    ask(namesrv, Packet::request(request_code::GET_ROUTEINFO_BY_TOPIC, topic))
}

fn update(port: u16, code: i32, settings: &str) -> Packet {
    ask(port, Packet::request(code, Ext::None).with_body(settings.as_bytes().to_vec()))
}

fn shown(port: u16, code: i32) -> String {
    text(&ask(port, Packet::request(code, Ext::None)))
}

fn start_namesrv(home: &Path) -> (Gantry, u16) {
    let port = free_port();
    let path = file(home, "namesrv.conf", &format!("listenPort={port}\nbindAddress=127.0.0.1\n"));
    let namesrv = start(with_file("namesrv", home, &path), 2);
    let expect = [
        format!("load config properties file OK, {}", path.display()),
        format!("The Name Server boot success. serializeType=JSON, address 127.0.0.1:{port}"),
    ];
    assert_eq!(namesrv.lines, expect);
    (namesrv, port)
}

fn broker_conf(home: &Path, name: &str, port: u16, namesrv: u16, further: &str) -> PathBuf {
    let root = home.join(name);
    let text = format!(
        "brokerName=b\nlistenPort={port}\nbindAddress=127.0.0.1\nbrokerIP1=127.0.0.1\n\
         namesrvAddr=127.0.0.1:{namesrv}\nstorePathRootDir={}\nmappedFileSizeCommitLog=1048576\n\
         maxMessageSize=65536\nmaxIndexNum=1000\nmaxHashSlotNum=100\n{further}",
        root.display()
    );
    file(home, &format!("{name}.conf"), &text)
}

fn send(port: u16) -> Packet {
    send_to(port, "T")
}

fn send_to(port: u16, topic: &'static str) -> Packet {
    let header = SendMessageRequest {
        producer_group: "g".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        ..SendMessageRequest::default()
    };
    ask(port, Packet::request(request_code::SEND_MESSAGE, header.to_ext()).with_body(b"hello".to_vec()))
}

fn log_end(port: u16) -> i64 {
    let answer = ask(port, Packet::request(request_code::GET_BROKER_RUNTIME_INFO, Ext::None));
    let text = text(&answer);
    let Some((_, rest)) = text.split_once("\"commitLogMaxOffset\":\"") else { return -1 };
    rest.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn a_cluster_of_files_starts_serves_and_stops() {
    let home = tempfile::tempdir().unwrap();
    let (namesrv, namesrv_port) = start_namesrv(home.path());
    let port = free_broker_port();
    let path = broker_conf(home.path(), "master", port, namesrv_port, "brokerRole=SYNC_MASTER\n");
    let master = start(with_file("broker", home.path(), &path), 1);
    let expect = format!(
        "The broker[b, 127.0.0.1:{port}] boot success. serializeType=JSON and name server is \
         127.0.0.1:{namesrv_port}"
    );
    assert_eq!(master.lines, [expect]);
    until("the master is in the route", || route(namesrv_port).code == response_code::SUCCESS);

    let slave_port = free_broker_port();
    let further = "brokerRole=SLAVE\nbrokerId=1\n";
    let path = broker_conf(home.path(), "slave", slave_port, namesrv_port, further);
    let slave = start(with_file("broker", home.path(), &path), 1);
    until("the slave is in the route", || text(&route(namesrv_port)).contains(&slave_port.to_string()));
    // The slave found its master through the name server: what is sent is on both.
    until("a send that reached the slave", || send(port).code == response_code::SUCCESS);
    until("the slave has the master's log", || log_end(slave_port) == log_end(port) && log_end(port) > 0);

    slave.stop();
    assert!(!text(&route(namesrv_port)).contains(&slave_port.to_string()));
    master.stop();
    assert_eq!(route(namesrv_port).code, response_code::TOPIC_NOT_EXIST);
    // A clean stop leaves no mark of an unclean one.
    assert!(home.path().join("master/checkpoint").exists() && !home.path().join("master/abort").exists());
    let log = namesrv.stop();
    assert!(!log.contains("ERROR") && !log.contains("connection of a broker closed"), "{log}");
}

#[test]
fn settings_in_effect_are_printed() {
    let home = tempfile::tempdir().unwrap();
    let text = "brokerClusterName = C\nbrokerRole=SLAVE\nbrokerId=2\nbrokerNmae=x\nsendMessageThreadPoolNums=16\n\
                brokerIP1=10.1.2.3\nlistenPort=20911\nflushDiskType=SYNC_FLUSH\n";
    let path = file(home.path(), "b.conf", text);
    let print = |flags: &[&str]| {
        let mut command = with_file("broker", home.path(), &path);
        let output = command.args(flags).env("NAMESRV_ADDR", "10.0.0.1:9876").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let all = print(&["-p"]);
    let store = format!("storePathRootDir={}/store", home.path().display());
    for line in [
        "brokerClusterName=C",
        "brokerRole=SLAVE",
        "brokerId=2",
        "brokerIP1=10.1.2.3",
        "listenPort=20911",
        "bindAddress=0.0.0.0",
        "haListenPort=20912",
        "flushDiskType=SYNC_FLUSH",
        "namesrvAddr=10.0.0.1:9876",
        "mappedFileSizeCommitLog=1073741824",
        "sendMessageThreadPoolNums=16",
        &store,
    ] {
        assert!(all.lines().any(|printed| printed == line), "{line}: {all}");
    }
    let important = print(&["-m", "-n", "10.0.0.2:9876;10.0.0.3:9876"]);
    assert!(important.contains("namesrvAddr=10.0.0.2:9876;10.0.0.3:9876\n"), "{important}");
    assert!(!important.contains("mappedFileSizeCommitLog"), "{important}");

    let path = file(home.path(), "n.conf", "listenPort=19876\nscanNotActiveBrokerInterval=7000\n");
    let output = with_file("namesrv", home.path(), &path).arg("-p").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for line in ["listenPort=19876", "bindAddress=0.0.0.0", "scanNotActiveBrokerInterval=7000"] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
}

#[test]
fn wrong_settings_are_named_with_their_place() {
    let home = tempfile::tempdir().unwrap();
    let check = |role: &str, text: &str, expect: &[&str]| {
        let path = file(home.path(), "wrong.conf", text);
        let log = refused(with_file(role, home.path(), &path));
        for expect in expect {
            assert!(log.contains(expect), "{expect}: {log}");
        }
    };
    check(
        "broker",
        "# c\nflushDiskType=SOMETIMES\n",
        &["wrong.conf:2: flushDiskType=SOMETIMES", "ASYNC_FLUSH"],
    );
    check("broker", "listenPort=99999", &["wrong.conf:1: listenPort=99999: expected a port"]);
    check("broker", "brokerRole=SLAVE", &["wrong.conf:1: a slave's brokerId must be above 0"]);
    check("broker", "\naclEnable=true", &["wrong.conf:2: aclEnable=true: access control is not there"]);
    check("broker", "brokerIP1=no such host", &["wrong.conf:1: brokerIP1=no such host"]);
    check(
        "namesrv",
        "scanNotActiveBrokerInterval=soon",
        &["wrong.conf:1: scanNotActiveBrokerInterval", "soon"],
    );
    check("namesrv", "bindAddress=here", &["wrong.conf:1: bindAddress=here: expected an IP address"]);
    let missing = home.path().join("missing.conf");
    assert!(refused(with_file("broker", home.path(), &missing)).contains("missing.conf: cannot be read"));
}

#[test]
fn without_a_file_a_broker_is_local_and_says_what_it_was_told_in_vain() {
    let home = tempfile::tempdir().unwrap();
    let port = free_broker_port();
    let mut command = gantry(["broker", "--port", &port.to_string()]);
    command.env("HOME", home.path()).env("ROCKETMQ_HOME", "/opt/rocketmq");
    let broker = start(command, 1);
    assert!(broker.lines[0].ends_with(&format!(", 127.0.0.1:{port}] boot success. serializeType=JSON")));
    // Another one on the same store is refused by name, whatever its ports.
    let mut second = gantry(["broker", "--port", &free_broker_port().to_string()]);
    second.env("HOME", home.path());
    let store = home.path().join("store");
    let log = refused(second);
    assert!(log.contains(store.to_str().unwrap()), "{log}");
    let log = broker.stop();
    assert!(
        log.contains("listening to this machine only") && log.contains("no name server is given"),
        "{log}"
    );

    let port = free_broker_port();
    let further = "brokerNmae=x\nsendMessageThreadPoolNums=3\nuseTLS=false\n";
    let path = broker_conf(home.path(), "told", port, 1, further);
    let mut command = with_file("broker", home.path(), &path);
    command.arg("--log-dir").arg(home.path().join("logs"));
    let broker = start(command, 1);
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().1, "");
    let log = fs::read_to_string(home.path().join("logs/gantry.log")).unwrap();
    for expect in [
        "told.conf:11: there is no setting brokerNmae: did you mean brokerName?",
        "sendMessageThreadPoolNums",
    ] {
        assert!(log.contains(expect), "{expect}: {log}");
    }
}

#[test]
fn a_log_elsewhere_is_found_again_and_never_left_behind() {
    let home = tempfile::tempdir().unwrap();
    let port = free_broker_port();
    let elsewhere = format!("storePathCommitLog={}/fast disk\n", home.path().display());
    let path = broker_conf(home.path(), "b", port, 1, &elsewhere);
    let broker = start(with_file("broker", home.path(), &path), 1);
    until("a send", || send(port).code == response_code::SUCCESS);
    let end = log_end(port);
    broker.stop();
    assert!(home.path().join("fast disk/00000000000000000000").exists());
    let broker = start(with_file("broker", home.path(), &path), 1);
    assert_eq!(log_end(port), end);
    broker.stop();
    // Without the setting it is found all the same; with another one it would be left behind.
    let path = broker_conf(home.path(), "b", port, 1, "");
    let broker = start(with_file("broker", home.path(), &path), 1);
    assert_eq!(log_end(port), end);
    broker.stop();
    let other = format!("storePathCommitLog={}/other\n", home.path().display());
    let path = broker_conf(home.path(), "b", port, 1, &other);
    let log = refused(with_file("broker", home.path(), &path));
    assert!(log.contains("storePathCommitLog=") && log.contains("holds a log"), "{log}");
}

#[test]
fn settings_changed_online_are_in_effect_and_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let (namesrv, namesrv_port) = start_namesrv(home.path());
    let port = free_broker_port();
    let path = broker_conf(home.path(), "b", port, namesrv_port, "# kept\nautoCreateTopicEnable=true\n");
    let broker = start(with_file("broker", home.path(), &path), 1);
    let change = |settings: &str| update(port, request_code::UPDATE_BROKER_CONFIG, settings);
    let settings = || shown(port, request_code::GET_BROKER_CONFIG);

    until("a send makes its topic", || send(port).code == response_code::SUCCESS);
    assert_eq!(change("brokerPermission=4\nautoCreateTopicEnable=false\nmaxMessageSize=1000\n").code, 0);
    assert_eq!(send_to(port, "U").code, response_code::TOPIC_NOT_EXIST);
    for line in ["brokerPermission=4\n", "autoCreateTopicEnable=false\n", "maxMessageSize=1000\n"] {
        assert!(settings().contains(line), "{line}");
        assert!(fs::read_to_string(&path).unwrap().contains(line), "{line}");
    }
    assert!(fs::read_to_string(&path).unwrap().contains("# kept\n"));
    until("name servers hear of the permission", || text(&route(namesrv_port)).contains("\"perm\":4"));
    let before = settings();
    for (wrong, code, remark) in [
        ("brokerPermision=6", response_code::SYSTEM_ERROR, "the nearest is brokerPermission"),
        ("brokerPermission=6\nslaveTimeout=x", response_code::SYSTEM_ERROR, "slaveTimeout=x: expected"),
        ("rocketmqHome=/", response_code::NO_PERMISSION, "black list"),
    ] {
        let answer = change(wrong);
        assert_eq!(answer.code, code, "{wrong}");
        assert!(answer.remark.as_deref().unwrap().contains(remark), "{answer:?}");
    }
    assert_eq!(settings(), before);
    broker.stop();
    let broker = start(with_file("broker", home.path(), &path), 1);
    assert_eq!(settings(), before);
    broker.stop();

    let change = |settings: &str| update(namesrv_port, request_code::UPDATE_NAMESRV_CONFIG, settings);
    assert_eq!(change("orderMessageEnable=true").code, 0);
    assert_eq!(change("kvConfigPath=/x").code, response_code::NO_PERMISSION);
    let settings = shown(namesrv_port, request_code::GET_NAMESRV_CONFIG);
    assert!(settings.contains("orderMessageEnable=true\n"), "{settings}");
    assert!(
        fs::read_to_string(home.path().join("namesrv.conf")).unwrap().contains("orderMessageEnable=true\n")
    );
    namesrv.stop();
}

#[test]
fn a_slave_is_made_the_master_and_stays_it() {
    let home = tempfile::tempdir().unwrap();
    let (namesrv, namesrv_port) = start_namesrv(home.path());
    let (port, slave_port) = (free_broker_port(), free_broker_port());
    let path = broker_conf(home.path(), "master", port, namesrv_port, "brokerRole=SYNC_MASTER\n");
    let master = start(with_file("broker", home.path(), &path), 1);
    let slave = broker_conf(home.path(), "slave", slave_port, namesrv_port, "brokerRole=SLAVE\nbrokerId=1\n");
    let slave_runs = start(with_file("broker", home.path(), &slave), 1);
    until("a send that reached the slave", || send(port).code == response_code::SUCCESS);
    master.stop();

    let address = format!("127.0.0.1:{slave_port}");
    let promoted = gantry(["admin", "promote", &address, "--role", "ASYNC_MASTER"]).output().unwrap();
    assert!(promoted.status.success(), "{promoted:?}");
    assert_eq!(send(slave_port).code, response_code::SUCCESS);
    until("it is the master in the route", || {
        text(&route(namesrv_port)).replace('"', "").contains(&format!("0:{address}"))
    });
    let kept = fs::read_to_string(&slave).unwrap();
    assert!(kept.contains("brokerRole=ASYNC_MASTER\n") && kept.contains("brokerId=0\n"), "{kept}");
    slave_runs.stop();
    let again = start(with_file("broker", home.path(), &slave), 1);
    assert_eq!(send(slave_port).code, response_code::SUCCESS);
    again.stop();
    namesrv.stop();
}
