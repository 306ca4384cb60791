//! Changes that name the version they build on, and when the whole table is asked for.

use super::*;
use crate::wire::body::RegistrationChange;

const CONN: u64 = 1;

fn change(base: i64, version: i64, topics: &[&str], gone: &[&str]) -> Command {
    let topics = topics.iter().map(|name| topic(name)).collect();
    let broker = Broker { version, topics, ..Broker::master() };
    let base = DataVersion { counter: base, state_version: 0, timestamp: 0 };
    let gone = gone.iter().map(ToString::to_string).collect();
    let body = RegisterBrokerBody { gantry_change: Some(RegistrationChange { base, gone }), ..broker.body() };
    let body = body::encode(&body);
    Command::request(request_code::REGISTER_BROKER, broker.header(&body).to_ext()).with_body(body)
}

/// Whether the server says that it has another version.
fn is_behind(rig: &mut Rig, conn: u64, counter: i64) -> bool {
    let version = DataVersion { counter, state_version: 0, timestamp: 0 };
    let query = Broker::master().named(request_code::QUERY_DATA_VERSION).with_body(body::encode(&version));
    let answer = rig.ask(conn, query);
    assert_eq!(answer.ext.get("gantryTakesChanges").as_deref(), Some("true"));
    answer.ext.get("changed").as_deref() == Some("true")
}

#[test]
fn a_change_is_taken_on_top_of_what_it_builds_on_only() {
    for (conn, base, taken) in [(CONN, 1, true), (CONN, 0, false), (CONN, 2, false), (2, 1, false)] {
        let mut rig = Rig::started();
        rig.register(CONN, &Broker::master());
        let answer = rig.ask(conn, change(base, 2, &["V"], &[]));
        assert_eq!(answer.code == 0, taken, "{conn} {base}");
        assert_eq!(rig.route("V").is_some(), taken);
        assert_eq!(is_behind(&mut rig, CONN, 2), !taken, "its version is taken with it");
        assert!(is_behind(&mut rig, 2, 2), "over another connection it must register");
        // Once more: it does not build on itself.
        assert_ne!(rig.ask(conn, change(base, 2, &["V"], &[])).code, 0);
    }
    let mut rig = Rig::started();
    assert_ne!(rig.ask(CONN, change(0, 1, &["T", "U"], &[])).code, 0, "all topics come first");
    assert_eq!(rig.route("T"), None);
}

#[test]
fn what_is_gone_goes_if_the_setting_says_so() {
    for deletes in [false, true] {
        let config = NameServerConfig {
            delete_topic_with_broker_registration: deletes,
            ..NameServerConfig::default()
        };
        let mut rig = Rig::over(&[], config);
        rig.register(CONN, &Broker::master());
        assert_eq!(rig.ask(CONN, change(1, 2, &[], &["T"])).code, 0);
        assert_eq!((rig.route("T").is_none(), rig.route("U").is_none()), (deletes, false));
    }
}

#[test]
fn a_change_is_a_sign_of_life_and_restores_the_permission_of_its_topics() {
    let mut rig = Rig::started();
    rig.register(CONN, &Broker::master());
    rig.ask(9, request(request_code::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "broker-a")]));
    rig.pass(Duration::from_secs(100));
    rig.ask(CONN, change(1, 2, &["U"], &[]));
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.perms("T"), [("broker-a".into(), 4)]);
    assert_eq!(rig.perms("U"), [("broker-a".into(), 6)]);
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.route("U"), None);
}

#[test]
fn what_others_do_to_its_topics_has_the_whole_table_asked_for() {
    let route = TopicRouteData {
        queue_datas: vec![crate::wire::body::QueueData {
            broker_name: "broker-a".into(),
            perm: 6,
            read_queue_nums: 9,
            write_queue_nums: 9,
            ..Default::default()
        }],
        ..TopicRouteData::default()
    };
    let register =
        request(request_code::REGISTER_TOPIC_IN_NAMESRV, &[("topic", "T")]).with_body(body::encode(&route));
    let delete = request(request_code::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T")]);
    let elsewhere =
        request(request_code::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T"), ("clusterName", "other")]);
    let setting = Command::request(request_code::UPDATE_NAMESRV_CONFIG, Ext::None)
        .with_body(b"deleteTopicWithBrokerRegistration=true".to_vec());
    let wipe = request(request_code::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "broker-a")]);
    for (act, wanted) in
        [(register, true), (delete, true), (elsewhere, false), (setting, true), (wipe, false)]
    {
        let mut rig = Rig::started();
        rig.register(CONN, &Broker::master());
        rig.turn([received(9, act.clone())]);
        assert_eq!(is_behind(&mut rig, CONN, 1), wanted, "{act:?}");
        // Until it comes, changes are taken.
        assert_eq!(rig.ask(CONN, change(1, 2, &["V"], &[])).code, 0);
        assert_eq!(is_behind(&mut rig, CONN, 2), wanted);
        rig.register(CONN, &Broker { version: 2, ..Broker::master() });
        assert!(!is_behind(&mut rig, CONN, 2));
        assert_eq!(rig.route("T").map(|route| route.queue_datas[0].read_queue_nums), Some(4));
    }
}

#[test]
fn when_the_master_goes_its_slaves_are_asked_for_all_they_have() {
    let mut rig = Rig::started();
    rig.register(CONN, &Broker::slave());
    let ask = Broker::slave().named(request_code::QUERY_DATA_VERSION);
    let ask = ask.with_body(body::encode(&DataVersion { counter: 1, state_version: 0, timestamp: 0 }));
    rig.register(2, &Broker::master());
    assert_eq!(rig.ask(CONN, ask.clone()).ext.get("changed").as_deref(), Some("false"));
    rig.close(2);
    assert_eq!(rig.ask(CONN, ask).ext.get("changed").as_deref(), Some("true"));
}
