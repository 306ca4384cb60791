//! Registration, routes, expiry.

use super::*;
use crate::wire::body::{BrokerData, ClusterInfo, QueueData, perm};
use crate::wire::request::RegisterBrokerResponse;

const SCAN: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(120);

#[test]
fn a_registered_topic_has_a_route() {
    let mut rig = Rig::started();
    assert_eq!(rig.route("T"), None);
    rig.register(1, &Broker::master());
    let answer = rig.ask(2, request(request_code::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")]));
    assert_eq!(
        answer.body,
        r#"{"brokerDatas":[{"brokerAddrs":{"0":"a:1"},"brokerName":"broker-a","cluster":"c","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#
    );
    let answer = rig.ask(2, request(request_code::GET_ROUTEINFO_BY_TOPIC, &[("topic", "V")]));
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (
            17,
            Some(concat!(
                "No topic route info in name server for the topic: V\n",
                "See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
            ))
        )
    );
}

#[test]
fn what_a_broker_maps_of_a_static_topic_is_in_its_route_until_the_broker_goes() {
    let mut rig = Rig::started();
    let broker = Broker::master();
    let of = |name: &str| serde_json::json!({"bname": name, "currIdMap": {"0": 1}, "topic": "T", "totalQueues": 8});
    let mut body = broker.body();
    let mappings = [("T".into(), of("broker-a")), ("U".into(), of("broker-z"))];
    body.topic_config_serialize_wrapper.topic_queue_mapping_info_map = Some(BTreeMap::from(mappings));
    let body = body::encode(&body);
    let header = broker.header(&body).to_ext();
    assert_eq!(rig.ask(1, Command::request(request_code::REGISTER_BROKER, header).with_body(body)).code, 0);
    let mapped =
        |rig: &mut Rig, topic| rig.route(topic).and_then(|route| route.topic_queue_mapping_by_broker);
    assert_eq!(mapped(&mut rig, "T"), Some(BTreeMap::from([("broker-a".into(), of("broker-a"))])));
    assert_eq!(mapped(&mut rig, "U"), None, "of a broker that is not known");
    rig.close(1);
    rig.register(2, &broker);
    assert_eq!(mapped(&mut rig, "T"), None);
}

#[test]
fn both_forms_of_registration_are_taken_and_broken_ones_are_not() {
    let mut rig = Rig::started();
    rig.register(1, &Broker { compressed: true, ..Broker::master() });
    assert!(rig.route("U").is_some());
    let broker = Broker { name: "b", addr: "b:1", ..Broker::master() };
    let mut torn = broker.registration();
    torn.body = torn.body.slice(..torn.body.len() - 1);
    assert_eq!(rig.ask(2, torn.clone()).remark.as_deref(), Some("crc32 not match"));
    torn.ext = broker.header(&torn.body).to_ext();
    let answer = rig.ask(2, torn);
    assert_eq!(answer.code, 1);
    assert!(answer.remark.is_some_and(|remark| remark.starts_with("malformed body")));
    let cluster: ClusterInfo =
        body::decode(&rig.ask(2, request(request_code::GET_BROKER_CLUSTER_INFO, &[])).body)
            .expect("a cluster");
    assert_eq!(cluster.broker_addr_table.len(), 1);
}

#[test]
fn a_broker_goes_with_the_connection_that_registered_it_last() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    rig.close(2);
    assert!(rig.route("T").is_some());
    rig.register(3, &Broker::master());
    rig.close(1);
    assert!(rig.route("T").is_some(), "it had come back over another connection");
    rig.close(3);
    assert_eq!(rig.route("T"), None);
    assert_eq!(Machine::<SmallFiles>::deadline(&rig.machine), None, "nothing is left to wait for");
}

#[test]
fn a_silent_broker_goes_after_its_time_and_not_before() {
    for (timeout_ms, silence) in
        [(None, SILENCE), (Some(30_000), Duration::from_secs(30)), (Some(-1), SILENCE)]
    {
        let mut rig = Rig::started();
        rig.register(1, &Broker { timeout_ms, ..Broker::master() });
        assert_eq!(rig.pass(silence), []);
        assert!(rig.route("T").is_some());
        assert_eq!(rig.pass(SCAN), [Effect::Close { conn: ConnId::accepted(1) }]);
        assert_eq!(rig.route("T"), None);
    }
}

#[test]
fn whatever_a_broker_says_keeps_it() {
    let version = body::encode(&DataVersion::default());
    for code in
        [request_code::BROKER_HEARTBEAT, request_code::QUERY_DATA_VERSION, request_code::REGISTER_BROKER]
    {
        let mut rig = Rig::started();
        rig.register(1, &Broker::master());
        for _ in 0..5 {
            rig.pass(Duration::from_secs(100));
            let word = match code {
                request_code::REGISTER_BROKER => Broker::master().registration(),
                _ => Broker::master().named(code).with_body(version.clone()),
            };
            assert_eq!(rig.ask(1, word).code, 0);
        }
        assert!(rig.route("T").is_some(), "{code}");
    }
}

#[test]
fn a_paused_name_server_listens_once_more() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    // The process is held up far beyond the silence it would tolerate.
    rig.now += Duration::from_secs(600);
    assert_eq!(rig.turn([]), [], "nobody is dropped for a silence that was its own");
    rig.ask(1, Broker::master().named(request_code::BROKER_HEARTBEAT));
    assert_eq!(rig.pass(SCAN), []);
    assert!(rig.route("T").is_some());
    rig.now += Duration::from_secs(600);
    assert_eq!(rig.turn([]), []);
    assert_eq!(rig.pass(SCAN), [Effect::Close { conn: ConnId::accepted(1) }], "it stayed silent");
}

#[test]
fn a_slave_learns_its_master_and_keeps_the_name_alive() {
    let mut rig = Rig::started();
    let answer = rig.register(1, &Broker::master());
    assert_eq!(answer.header(), Ok(RegisterBrokerResponse::default()));
    let answer = rig.register(2, &Broker::slave());
    let master =
        RegisterBrokerResponse { ha_server_addr: Some("ha-a:1".into()), master_addr: Some("a:1".into()) };
    assert_eq!(answer.header(), Ok(master));
    rig.close(1);
    let route = rig.route("T").expect("the slave's");
    assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(1, "a:2".into())]));
    assert_eq!(route.queue_datas[0].perm, 6);
    rig.ask(2, Broker::slave().named(request_code::UNREGISTER_BROKER));
    assert_eq!(rig.route("T"), None);
}

#[test]
fn only_a_slave_of_5_x_adds_topics() {
    let mut rig = Rig::started();
    let old = Broker { acting_master: None, ..Broker::slave() };
    rig.register(1, &old);
    assert_eq!(rig.route("T"), None);
    rig.register(1, &Broker { acting_master: Some(false), ..Broker::slave() });
    assert!(rig.route("T").is_some(), "one of 5.x that is alone may act as master");
}

#[test]
fn a_single_topic_of_a_broker_not_registered_is_refused() {
    let mut rig = Rig::started();
    let single = Broker { topics: vec![topic("T")], ..Broker::master() };
    let answer = rig.ask(1, single.registration());
    assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("register broker failed")));
    assert!(rig.machine.tables.brokers.is_empty());
    rig.register(1, &Broker::master());
    let single = Broker { topics: vec![topic("V")], version: 2, ..Broker::master() };
    rig.register(1, &single);
    assert!(rig.route("T").is_some() && rig.route("V").is_some());
}

#[test]
fn a_lost_change_is_made_good_by_the_next_full_registration() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    // Version 2 widened T and got lost; version 3 added V and came alone.
    rig.register(1, &Broker { version: 3, topics: vec![topic("V")], ..Broker::master() });
    let wide = TopicConfig { write_queue_nums: 8, ..topic("T") };
    rig.register(1, &Broker { version: 3, topics: vec![wide, topic("U"), topic("V")], ..Broker::master() });
    assert_eq!(rig.route("T").expect("a route").queue_datas[0].write_queue_nums, 8);
}

#[test]
fn write_permission_stays_away_until_the_broker_changes_something() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    let answer = rig.ask(9, request(request_code::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "broker-a")]));
    assert_eq!(answer.ext.get("wipeTopicCount").as_deref(), Some("2"));
    let is_writable = |(_, queues): (&str, QueueData)| queues.perm & perm::WRITE != 0;
    assert!(!rig.machine.topics_of("broker-a").any(is_writable), "whoever looks at its topics sees it too");
    rig.register(1, &Broker::master());
    assert_eq!(rig.perms("T"), [("broker-a".into(), 4)]);
    rig.register(1, &Broker { version: 2, ..Broker::master() });
    assert_eq!(rig.perms("T"), [("broker-a".into(), 6)]);
    rig.ask(9, request(request_code::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "broker-a")]));
    let answer = rig.ask(9, request(request_code::ADD_WRITE_PERM_OF_BROKER, &[("brokerName", "broker-a")]));
    assert_eq!(answer.ext.get("addTopicCount").as_deref(), Some("2"));
    assert_eq!(rig.perms("T"), [("broker-a".into(), 6)]);
    let answer = rig.ask(9, request(request_code::WIPE_WRITE_PERM_OF_BROKER, &[("brokerName", "nobody")]));
    assert_eq!((answer.code, answer.ext.get("wipeTopicCount").as_deref()), (0, Some("0")));
}

#[test]
fn data_versions_are_compared() {
    let mut rig = Rig::started();
    let ask = |rig: &mut Rig, counter| {
        let version = DataVersion { counter, state_version: 0, timestamp: 0 };
        let query =
            Broker::master().named(request_code::QUERY_DATA_VERSION).with_body(body::encode(&version));
        let answer = rig.ask(1, query);
        (answer.ext.get("changed").as_deref() == Some("true"), body::decode::<DataVersion>(&answer.body).ok())
    };
    assert_eq!(ask(&mut rig, 1), (true, None));
    rig.register(1, &Broker::master());
    let known = Some(DataVersion { counter: 1, state_version: 0, timestamp: 0 });
    assert_eq!(ask(&mut rig, 1), (false, known));
    assert_eq!(ask(&mut rig, 2), (true, known));
}

#[test]
fn an_address_or_an_id_that_changes_hands_leaves_nothing_behind() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    rig.register(2, &Broker::slave());
    // The slave becomes the master, at its own address.
    rig.close(1);
    rig.register(2, &Broker { addr: "a:2", version: 2, ..Broker::master() });
    let addrs = |rig: &mut Rig| rig.route("T").map(|route| route.broker_datas[0].broker_addrs.clone());
    assert_eq!(addrs(&mut rig), Some(BTreeMap::from([(0, "a:2".into())])));
    // The master moves to another address without a word from the old one.
    rig.register(3, &Broker { addr: "a:3", version: 2, ..Broker::master() });
    assert_eq!(addrs(&mut rig), Some(BTreeMap::from([(0, "a:3".into())])));
    // That address comes back under another name and cluster.
    let renamed = Broker { name: "broker-b", cluster: "d", addr: "a:3", ..Broker::master() };
    rig.register(4, &renamed);
    assert_eq!(rig.perms("T"), [("broker-b".into(), 6)]);
    rig.register(4, &Broker { cluster: "e", ..renamed });
    let clusters: Vec<_> = rig.machine.tables.clusters.keys().collect();
    assert_eq!(clusters, ["e"]);
}

#[test]
fn an_older_broker_cannot_take_the_place_of_a_newer_one() {
    let mut rig = Rig::started();
    let mut newer = Broker::master().body();
    newer.topic_config_serialize_wrapper.data_version.state_version = 2;
    let newer = body::encode(&newer);
    let header = Broker::master().header(&newer);
    rig.ask(1, Command::request(request_code::REGISTER_BROKER, header.to_ext()).with_body(newer));
    let answer = rig.register(2, &Broker { addr: "a:9", ..Broker::master() });
    assert_eq!(answer.code, 0, "RocketMQ says nothing");
    let route = rig.route("T").expect("a route");
    assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(0, "a:1".into())]));
}

#[test]
fn an_acting_master_is_shown_for_reading() {
    let config = NameServerConfig { support_acting_master: true, ..NameServerConfig::default() };
    let mut rig = Rig::over(&[], config);
    let (master, slave) = (
        Broker { acting_master: Some(true), ..Broker::master() },
        Broker { acting_master: Some(true), ..Broker::slave() },
    );
    rig.register(1, &master);
    rig.register(2, &slave);
    rig.close(1);
    let route = rig.route("T").expect("a route");
    assert_eq!(route.broker_datas[0].broker_addrs, BTreeMap::from([(0, "a:2".into())]));
    assert_eq!(route.queue_datas[0].perm, 4);
}

#[test]
fn a_zone_sees_its_own_brokers_and_those_without_a_master() {
    let mut rig = Rig::started();
    let brokers = [
        (Broker::master(), "z1"),
        (Broker { name: "broker-b", addr: "b:1", ..Broker::master() }, "z2"),
        (Broker { name: "broker-c", addr: "c:1", id: 1, ..Broker::master() }, "z2"),
    ];
    for (conn, (broker, zone)) in brokers.iter().enumerate() {
        let mut registration = broker.registration();
        if let Ext::Fields(fields) = &mut registration.ext {
            fields.push(("__ZONE_NAME".into(), (*zone).into()));
        }
        assert_eq!(rig.ask(conn as u64, registration).code, 0);
    }
    let names = |rig: &mut Rig, mode, zone| {
        let fields = [("topic", "T"), ("__ZONE_MODE", mode), ("__ZONE_NAME", zone)];
        let answer = rig.ask(9, request(request_code::GET_ROUTEINFO_BY_TOPIC, &fields));
        let route: TopicRouteData = body::decode(&answer.body).expect("a route");
        let brokers: Vec<_> =
            route.broker_datas.iter().map(|BrokerData { broker_name, .. }| broker_name.clone()).collect();
        let queues: Vec<_> = route.queue_datas.into_iter().map(|queues| queues.broker_name).collect();
        assert_eq!(brokers, queues);
        brokers.join(" ")
    };
    assert_eq!(names(&mut rig, "true", "Z1"), "broker-a broker-c");
    assert_eq!(names(&mut rig, "true", "z3"), "broker-c");
    assert_eq!(names(&mut rig, "false", "z1"), "broker-a broker-b broker-c");
    assert_eq!(names(&mut rig, "true", " "), "broker-a broker-b broker-c");
}

#[test]
fn routes_may_wait_for_brokers_to_come_back() {
    let config = NameServerConfig { need_wait_for_service: true, ..NameServerConfig::default() };
    let mut rig = Rig::over(&[], config);
    rig.register(1, &Broker::master());
    let ask = |rig: &mut Rig| rig.ask(1, request(request_code::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")]));
    assert_eq!(ask(&mut rig).remark.as_deref(), Some("name server not ready"));
    rig.pass(Duration::from_secs(45));
    assert_eq!(ask(&mut rig).code, 0);
}
