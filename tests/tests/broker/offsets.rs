//! Committed offsets, and what survives which death.

use std::time::Duration;

use gantry_core::broker::BrokerConfig;
use gantry_core::wire::Command;
use gantry_core::wire::code::{request_code, response_code as code};
use gantry_core::wire::request::{
    Header, PullMessageRequest, QueryConsumerOffsetRequest, QueryConsumerOffsetResponse,
};

use crate::harness::{World, commit, config, heartbeat, pull, pull_header, send};

fn query(group: &str, topic: &str, queue_id: i32) -> Command {
    let header = QueryConsumerOffsetRequest {
        consumer_group: group.to_owned().into(),
        topic: topic.to_owned().into(),
        queue_id,
        set_zero_if_not_found: None,
    };
    Command::request(request_code::QUERY_CONSUMER_OFFSET, header.to_ext())
}

fn offset(answer: &Command) -> Result<i64, i32> {
    match answer.code {
        code::SUCCESS => Ok(QueryConsumerOffsetResponse::decode(&answer.ext).expect("header").offset),
        other => Err(other),
    }
}

/// A broker with ten messages in T-0 and the group G.
fn filled() -> World {
    let mut world = World::new(config());
    let conn = world.connect(1);
    for _ in 0..10 {
        world.call(conn, send("T", 0, "", "m"));
    }
    world.call(conn, heartbeat("c", "G", "T", "*", 1));
    world
}

#[test]
fn a_group_that_never_committed_starts_by_javas_rule() {
    let mut world = filled();
    let conn = world.connect(2);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(0), "young and in memory");
    assert_eq!(offset(&world.call(conn, query("G", "T", 1))), Err(code::QUERY_NOT_FOUND), "empty");
    world.disk().set_cold_ratio(1000);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Err(code::QUERY_NOT_FOUND), "not in memory");
    // What the page cache says no to, but is near the end of the log.
    let mut world = world.kill_with(|config| BrokerConfig { memory_bytes: 1 << 30, ..config });
    world.disk().set_cold_ratio(0);
    world.run();
    let conn = world.connect(2);
    world.disk().set_cold_ratio(1000);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(0), "just written");
}

#[test]
fn commits_are_checked() {
    let mut world = filled();
    let conn = world.connect(2);
    for (group, topic, queue, expect) in [
        ("G", "T", 0, code::SUCCESS),
        ("nobody", "T", 0, code::SUBSCRIPTION_GROUP_NOT_EXIST),
        ("G", "nothing", 0, code::TOPIC_NOT_EXIST),
        ("G", "T", 4, code::INVALID_PARAMETER),
        ("G", "T", -1, code::INVALID_PARAMETER),
    ] {
        assert_eq!(world.call(conn, commit(group, topic, queue, 5)).code, expect, "{group} {topic} {queue}");
    }
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(5));
    assert_eq!(world.call(conn, commit("G", "T", 0, 3)).code, code::SUCCESS);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(3), "clients may go back");
}

#[test]
fn a_pull_commits_what_it_says() {
    let mut world = filled();
    let conn = world.connect(2);
    for (flag, expect) in [(4, Ok(0)), (4 | 1, Ok(7))] {
        let header = PullMessageRequest { sys_flag: flag, commit_offset: 7, ..pull_header("T", 0, 0) };
        world.call(conn, Command::request(request_code::PULL_MESSAGE, header.to_ext()));
        assert_eq!(offset(&world.call(conn, query("G", "T", 0))), expect);
    }
}

#[test]
fn kill_forgets_no_commit() {
    let mut world = filled();
    // Deaths at different times after the file was written, with commits before and after.
    for (round, wait_ms) in [0, 1, 4_999, 5_000, 5_001, 12_000].into_iter().enumerate() {
        let conn = world.connect(2);
        let value = 1 + round as i64;
        world.call(conn, commit("G", "T", 0, value));
        world.pass(Duration::from_millis(wait_ms));
        world.call(conn, commit("%RETRY%".len().to_string().as_str(), "T", 0, 1));
        world.call(conn, commit("G", "T", 0, value));
        world.call(conn, commit("G", "T", 1, value));
        world = world.kill();
        world.run();
        let conn = world.connect(2);
        assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(value), "after {wait_ms} ms");
        // Queue 1 is empty: nothing beyond its end is kept.
        assert_eq!(offset(&world.call(conn, query("G", "T", 1))), Ok(0));
    }
}

#[test]
fn commits_survive_a_death_while_the_file_is_replaced() {
    let mut world = filled();
    let conn = world.connect(2);
    world.call(conn, commit("G", "T", 0, 1));
    world.pass(Duration::from_secs(6));
    world.call(conn, commit("G", "T", 0, 2));
    world.disk().set_automatic(false);
    world.advance(Duration::from_secs(6));
    assert!(world.disk().pending().count() > 0, "the replacement is under way");
    world.call_now(conn, commit("G", "T", 0, 3));
    // The death decides whether the replacement happened; either way the last commit is there.
    let mut world = world.kill();
    world.run();
    let conn = world.connect(2);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(3));
}

/// Until a life has its own consumerOffset.json the next one reads the journal of the life before, to which nothing is added. However
/// far the disk has come when a commit is acknowledged, the next life knows of it.
#[test]
fn a_commit_right_after_a_start_outlives_the_process() {
    let mut acknowledged = Vec::new();
    for completed in 0..40 {
        let mut world = filled();
        let conn = world.connect(2);
        world.call(conn, commit("G", "T", 0, 4));
        let mut world = world.kill();
        world.disk().set_automatic(false);
        for _ in 0..completed {
            turns(&mut world);
            let first = world.disk().pending().next().map(|operation| operation.ticket);
            first.map(|ticket| world.disk().complete(ticket, Ok(())));
        }
        let conn = world.connect(2);
        let opaque = world.post(conn, commit("G", "T", 0, 7));
        turns(&mut world);
        let is_acknowledged = world.answer(conn, opaque).is_some_and(|answer| answer.code == code::SUCCESS);
        let mut world = world.kill();
        world.run();
        let kept = world.committed("G", "T", 0);
        assert_eq!(kept, Some(if is_acknowledged { 7 } else { 4 }), "{completed} operations were completed");
        acknowledged.push(is_acknowledged);
    }
    assert_eq!((acknowledged[0], acknowledged[39]), (false, true), "both were seen: {acknowledged:?}");
}

/// Turns in which the disk completes nothing.
fn turns(world: &mut World) {
    for _ in 0..20 {
        world.turn();
    }
}

#[test]
fn a_file_that_rocketmq_wrote_makes_the_journal_old() {
    let mut world = filled();
    let conn = world.connect(2);
    world.call(conn, commit("G", "T", 0, 4));
    world.disk().kill();
    world.disk().revive();
    let mut disk = {
        let mut world = world.kill();
        world.run();
        let conn = world.connect(3);
        world.call(conn, commit("G", "T", 0, 5));
        world
    };
    replace(
        &mut disk,
        "config/consumerOffset.json",
        br#"{"dataVersion":{"counter":9,"timestamp":1},"offsetTable":{"T@G":{0:2}}}"#,
    );
    let mut world = disk.kill();
    world.run();
    let conn = world.connect(2);
    assert_eq!(offset(&world.call(conn, query("G", "T", 0))), Ok(2));
}

/// Puts other content into a file, as another program would.
fn replace(world: &mut World, path: &str, bytes: &'static [u8]) {
    use gantry_core::io::{Disk, SyncId};
    world.disk().replace(SyncId(1), path, bytes.into());
    world.disk().complete_all();
    let mut done = Vec::new();
    world.disk().reap(&mut done);
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_overwritten() {
    for path in [
        "config/topics.json",
        "config/subscriptionGroup.json",
        "config/consumerOffset.json",
        "config/delayOffset.json",
    ] {
        let mut world = filled();
        let conn = world.connect(2);
        world.call(conn, commit("G", "T", 0, 4));
        world.pass(Duration::from_secs(6));
        replace(&mut world, path, b"{\"dataVersion\":{\"coun");
        let mut world = world.kill();
        world.run();
        let reason = world.failed.clone().expect("does not start");
        assert!(reason.starts_with(path) && reason.contains("at byte 17"), "{reason}");
        // A backup that is damaged too changes nothing.
        let mut world = world.kill();
        replace(&mut world, &format!("{path}.bak"), b"\x00\xff garbage");
        let before: Vec<(String, u64)> = world.disk().files().collect();
        world.run();
        assert!(world.failed.clone().expect("does not start").starts_with(path));
        assert_eq!(world.disk().files().collect::<Vec<_>>(), before, "nothing is overwritten");
        // With a backup it starts, and keeps the damaged file.
        let mut world = world.kill();
        replace(&mut world, &format!("{path}.bak"), b"{}");
        world.run();
        assert_eq!(world.failed, None);
        assert!(world.disk().peek(&format!("{path}.damaged")).is_some());
        let conn = world.connect(2);
        assert_eq!(world.call(conn, pull("T", 0, 0)).code, code::SUCCESS, "topics come back from the store");
    }
}
