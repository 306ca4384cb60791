//! Key-value configuration, settings, lists, and what no handler sees.

use super::*;
use crate::wire::body::{GetBrokerMemberGroupResponseBody, KVTable, QueueData, TopicList};

fn put(key: &str, value: &str) -> Command {
    request(
        request_code::PUT_KV_CONFIG,
        &[("namespace", "ORDER_TOPIC_CONFIG"), ("key", key), ("value", value)],
    )
}

fn get(key: &str) -> Command {
    request(request_code::GET_KV_CONFIG, &[("namespace", "ORDER_TOPIC_CONFIG"), ("key", key)])
}

/// The only replacement asked for.
fn replacement(effects: &[Effect<Event>]) -> (SyncId, String, String) {
    match effects {
        [Effect::Replace { id, path, bytes }] => {
            (*id, path.clone(), String::from_utf8(bytes.to_vec()).expect("text"))
        }
        other => panic!("one replacement, not {other:?}"),
    }
}

fn answers(effects: Vec<Effect<Event>>) -> Vec<(ConnId, i32, Option<String>)> {
    let answers = effects.into_iter().map(|effect| {
        let Effect::Send { conn, packet: Packet::Command(answer) } = effect else {
            panic!("an answer, not {effect:?}")
        };
        (conn, answer.code, answer.remark)
    });
    answers.collect()
}

#[test]
fn a_value_is_confirmed_when_it_is_durable() {
    let mut rig = Rig::started();
    let effects = rig.turn([
        received(1, put("T", "a:4")),
        received(2, put("U", "b:4")),
        received(3, put("V", "c:1").oneway()),
    ]);
    let (id, path, content) = replacement(&effects);
    assert_eq!(path, "kvConfig.json");
    assert_eq!(content, r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"a:4","U":"b:4","V":"c:1"}}}"#);
    assert_eq!(rig.ask(3, get("T")).ext.get("value").as_deref(), Some("a:4"));
    let answered = answers(rig.turn([Input::Synced { id, result: Ok(()) }]));
    assert_eq!(answered, [(ConnId::accepted(1), 0, None), (ConnId::accepted(2), 0, None)]);
    // The next life has it.
    let mut next = Rig::over(&[("kvConfig.json", content.as_bytes())], NameServerConfig::default());
    assert_eq!(next.ask(1, get("U")).ext.get("value").as_deref(), Some("b:4"));
    let list =
        next.ask(1, request(request_code::GET_KVLIST_BY_NAMESPACE, &[("namespace", "ORDER_TOPIC_CONFIG")]));
    assert_eq!(body::decode::<KVTable>(&list.body).map(|list| list.table.len()), Ok(3));
    let deletion =
        request(request_code::DELETE_KV_CONFIG, &[("namespace", "ORDER_TOPIC_CONFIG"), ("key", "U")]);
    let (_, _, content) = replacement(&next.turn([received(1, deletion)]));
    assert_eq!(content, r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"a:4","V":"c:1"}}}"#);
}

#[test]
fn what_is_not_there_is_22() {
    let mut rig = Rig::started();
    let answer = rig.ask(1, get("T"));
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (22, Some("No config item, Namespace: ORDER_TOPIC_CONFIG Key: T"))
    );
    let list = rig.ask(1, request(request_code::GET_KVLIST_BY_NAMESPACE, &[("namespace", "N")]));
    assert_eq!((list.code, list.remark.as_deref()), (22, Some("No config item, Namespace: N")));
}

#[test]
fn a_value_that_could_not_be_saved_is_not_confirmed() {
    let mut rig = Rig::started();
    let (id, _, _) = replacement(&rig.turn([received(1, put("T", "a:4"))]));
    let answered = answers(rig.turn([Input::Synced { id, result: Err(DiskError::Full) }]));
    let remark = "in effect, but kvConfig.json could not be saved: no space left on the disk";
    assert_eq!(answered, [(ConnId::accepted(1), 1, Some(remark.into()))]);
    let (_, _, content) = replacement(&rig.turn([received(1, put("U", "b:4"))]));
    assert!(content.contains("\"T\"") && content.contains("\"U\""), "the next change writes both");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_left_alone() {
    for (path, content, expect) in [
        ("kvConfig.json", &br#"{"configTable":{"N":{"k":"v""#[..], "kvConfig.json: malformed body"),
        ("kvConfig.json", b"", "kvConfig.json: malformed body"),
        (
            "namesrv.properties",
            b"scanNotActiveBrokerInterval=x",
            "namesrv.properties: scanNotActiveBrokerInterval wants",
        ),
        ("namesrv.properties", b"\xff", "namesrv.properties: invalid utf-8"),
    ] {
        let (_, effects) = Rig::try_over(&[(path, content)], NameServerConfig::default());
        match &effects[..] {
            [Effect::Fail { reason, restart: false }] => assert!(reason.starts_with(expect), "{reason}"),
            other => panic!("a failure, not {other:?}"),
        }
    }
}

#[test]
fn order_is_told_to_brokers_and_if_wished_to_clients() {
    let kv: &[(&str, &[u8])] =
        &[("kvConfig.json", br#"{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"broker-a:4"}}}"#)];
    for order_message_enable in [false, true] {
        let mut rig = Rig::over(kv, NameServerConfig { order_message_enable, ..NameServerConfig::default() });
        assert_eq!(rig.register(1, &Broker::master()).body, r#"{"table":{"T":"broker-a:4"}}"#);
        let conf = rig.route("T").expect("a route").order_topic_conf;
        assert_eq!(conf.as_deref(), order_message_enable.then_some("broker-a:4"));
    }
}

#[test]
fn settings_are_changed_saved_and_found_again() {
    let mut rig = Rig::started();
    let update =
        |text: &'static str| Command::request(request_code::UPDATE_NAMESRV_CONFIG, Ext::None).with_body(text);
    let change = update("enableTopicList=false\nnoSuch=1\nscanNotActiveBrokerInterval=5000");
    let (id, path, content) = replacement(&rig.turn([received(1, change)]));
    assert_eq!(
        (path.as_str(), content.as_str()),
        ("namesrv.properties", "enableTopicList=false\nscanNotActiveBrokerInterval=5000\n")
    );
    assert_eq!(answers(rig.turn([Input::Synced { id, result: Ok(()) }])), [(ConnId::accepted(1), 0, None)]);
    let config = rig.ask(1, Command::request(request_code::GET_NAMESRV_CONFIG, Ext::None));
    let text = core::str::from_utf8(&config.body).expect("text");
    assert!(
        text.contains("enableTopicList=false\n") && text.contains("orderMessageEnable=false\n"),
        "{text}"
    );
    let next = Rig::over(&[(&path, content.as_bytes())], NameServerConfig::default());
    assert_eq!(next.machine.config(), rig.machine.config());
    for (text, code) in [("kvConfigPath=/x\nenableTopicList=true", 16), ("enableTopicList=maybe", 1)] {
        assert_eq!(rig.ask(1, update(text)).code, code, "{text}");
        assert_eq!(next.machine.config(), rig.machine.config());
    }
    let list = rig.ask(1, request(request_code::GET_TOPICS_BY_CLUSTER, &[("cluster", "c")]));
    assert_eq!((list.code, list.remark.as_deref()), (1, Some("disable")));
}

#[test]
fn topics_are_listed() {
    let mut rig = Rig::started();
    let unit = |name, flag| TopicConfig { topic_sys_flag: flag, ..topic(name) };
    let topics = vec![unit("N", 0), unit("Unit", 1), unit("Sub", 2), unit("Both", 3)];
    rig.register(1, &Broker { topics, ..Broker::master() });
    rig.register(2, &Broker { name: "broker-b", cluster: "d", addr: "b:1", ..Broker::master() });
    for (code, fields, expect) in [
        (request_code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[][..], "Both N Sub T U Unit"),
        (request_code::GET_TOPICS_BY_CLUSTER, &[("cluster", "d")], "T U"),
        (request_code::GET_TOPICS_BY_CLUSTER, &[("cluster", "x")], ""),
        (request_code::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[], "broker-a broker-b c d"),
        (request_code::GET_UNIT_TOPIC_LIST, &[], "Both Unit"),
        (request_code::GET_HAS_UNIT_SUB_TOPIC_LIST, &[], "Both Sub"),
        (request_code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, &[], "Sub"),
    ] {
        let list: TopicList = body::decode(&rig.ask(3, request(code, fields)).body).expect("a list");
        assert_eq!(list.topic_list.join(" "), expect, "{code}");
        let system = code == request_code::GET_SYSTEM_TOPIC_LIST_FROM_NS;
        assert_eq!(list.broker_addr.as_deref(), system.then_some("a:1"));
    }
}

#[test]
fn topics_are_deleted_and_registered() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    rig.register(2, &Broker { name: "broker-b", cluster: "d", addr: "b:1", ..Broker::master() });
    rig.ask(3, request(request_code::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T"), ("clusterName", "d")]));
    assert_eq!(rig.perms("T"), [("broker-a".into(), 6)]);
    rig.ask(3, request(request_code::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T"), ("clusterName", "x")]));
    assert_eq!(rig.perms("T"), [("broker-a".into(), 6)]);
    rig.ask(3, request(request_code::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T")]));
    assert_eq!(rig.perms("T"), []);
    for (broker_name, expect) in [("broker-b", vec![("broker-b".into(), 4)]), ("broker-x", vec![])] {
        let queues = QueueData { broker_name: broker_name.into(), perm: 4, ..QueueData::default() };
        let route = TopicRouteData { queue_datas: vec![queues], ..TopicRouteData::default() };
        let registration = request(request_code::REGISTER_TOPIC_IN_NAMESRV, &[("topic", broker_name)]);
        assert_eq!(rig.ask(3, registration.with_body(body::encode(&route))).code, 0);
        assert_eq!(rig.perms(broker_name), expect);
    }
}

#[test]
fn a_topic_that_is_no_longer_registered_may_be_dropped() {
    for delete_topic_with_broker_registration in [false, true] {
        let config =
            NameServerConfig { delete_topic_with_broker_registration, ..NameServerConfig::default() };
        let mut rig = Rig::over(&[], config);
        rig.register(1, &Broker::master());
        rig.register(1, &Broker { topics: vec![topic("U"), topic("V")], version: 2, ..Broker::master() });
        assert_eq!(rig.route("T").is_some(), !delete_topic_with_broker_registration);
        assert!(rig.route("U").is_some() && rig.route("V").is_some());
    }
}

#[test]
fn members_of_a_broker_name_are_listed() {
    let mut rig = Rig::started();
    rig.register(1, &Broker::master());
    rig.register(2, &Broker::slave());
    for (name, expect) in [("broker-a", "a:1 a:2"), ("broker-x", "")] {
        let fields = [("clusterName", "c"), ("brokerName", name)];
        let answer = rig.ask(3, request(request_code::GET_BROKER_MEMBER_GROUP, &fields));
        let body: GetBrokerMemberGroupResponseBody = body::decode(&answer.body).expect("a group");
        let group = body.broker_member_group.expect("always there");
        assert_eq!((group.cluster.as_str(), group.broker_name.as_str()), ("c", name));
        assert_eq!(group.broker_addrs.into_values().collect::<Vec<_>>().join(" "), expect);
    }
}

#[test]
fn what_cannot_be_served_is_answered_or_passed_over() {
    let mut rig = Rig::started();
    let answer = rig.ask(1, request(request_code::SEND_MESSAGE, &[]));
    assert_eq!((answer.code, answer.remark.as_deref()), (3, Some(" request type 10 not supported")));
    let answer = rig.ask(1, request(request_code::GET_ROUTEINFO_BY_TOPIC, &[]));
    assert_eq!((answer.code, answer.remark.as_deref()), (1, Some("the custom field <topic> is null")));
    let oneway = request(request_code::GET_ROUTEINFO_BY_TOPIC, &[]).oneway();
    assert_eq!(rig.turn([received(1, oneway)]), []);
    let stray = Command::response(&request(105, &[]), 0, Ext::None);
    assert_eq!(rig.turn([received(1, stray)]), []);
    let conn = ConnId::accepted(1);
    let wrong = Input::Received { conn, packet: Packet::HaReport { offset: 0 } };
    assert_eq!(rig.turn([wrong]), [Effect::Close { conn }]);
    assert_eq!(rig.turn([Input::Synced { id: SyncId(77), result: Ok(()) }]), []);
}

#[test]
fn it_stops_when_everything_is_saved() {
    let mut rig = Rig::started();
    let stop = || Input::Command(NameServerCommand::Stop);
    let (id, _, _) = replacement(&rig.turn([received(1, put("T", "a:4")), stop()]));
    let effects = rig.turn([Input::Synced { id, result: Ok(()) }]);
    assert_eq!(effects.last(), Some(&Effect::Emit(Event::Stopped)));
    assert_eq!(effects.len(), 2);
    assert_eq!(Rig::started().turn([stop()]), [Effect::Emit(Event::Stopped)]);
}
