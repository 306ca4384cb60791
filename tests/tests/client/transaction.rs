//! Transactions as brokers meet them: marked half messages, ends that name their place, questions that are answered where they
//! were asked. Gantry's broker does not serve them; what one that does would ask is put in its mouth.

use std::time::Duration;

use gantry_core::client::{
    AUTO_CREATE_TOPIC, ClientCommand, ClientEvent, Half, Message, MessageError, ProducerConfig, Receipt,
    RequestId, Resolution, SendError, SendHalf, SendStatus,
};
use gantry_core::wire::Command;
use gantry_core::wire::body::{self, HeartbeatData, MessageQueue};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::message::{Draft, Place, sys_flag};
use gantry_core::wire::request::{
    CheckTransactionStateRequest, EndTransactionRequest, Header, SendMessageRequest,
};

use crate::producer::config;
use crate::world::{Id, World};

const PRODUCER: usize = 1;

fn world() -> World {
    let mut world = World::new(&[9876], &[10911, 10921]);
    world.listen();
    let producer = ProducerConfig { topics: vec![AUTO_CREATE_TOPIC.into()], ..ProducerConfig::new("P") };
    world.start_client(PRODUCER, config(&[9876], producer));
    world.pass(Duration::from_secs(1));
    world
}

fn send_half(world: &mut World, message: Message) -> Result<Vec<Receipt>, SendError> {
    let half = SendHalf { id: RequestId(7), message, timeout: None };
    world.command(PRODUCER, ClientCommand::SendHalf(half));
    world.pass(Duration::from_secs(1));
    let mut events = world.events(PRODUCER);
    match events.pop() {
        Some(ClientEvent::Sent { id: RequestId(7), result }) if events.is_empty() => result,
        last => panic!("one result: {events:?}, {last:?}"),
    }
}

#[test]
fn all_brokers_know_the_group_before_anything_is_sent() {
    let mut world = world();
    let beats = world.heard(request_code::HEART_BEAT);
    let told: Vec<Id> = beats.iter().map(|(to, _)| *to).collect();
    assert_eq!(told, [Id::Broker(10911), Id::Broker(10921)]);
    for (_, beat) in &beats {
        let beat: HeartbeatData = body::decode(&beat.body).expect("a heartbeat");
        assert_eq!(beat.producer_data_set.len(), 1);
        assert_eq!(beat.producer_data_set[0].group_name, "P");
    }
}

#[test]
fn a_half_message_is_marked_and_refused_by_who_does_not_serve_it() {
    let mut world = world();
    let refused = send_half(&mut world, Message::new("T", "b").with_key("k"));
    let Err(SendError::Refused { code, reason, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*code, response_code::MESSAGE_ILLEGAL);
    assert!(reason.contains("TRAN_MSG"), "{reason}");
    let sent = world.heard(request_code::SEND_MESSAGE_V2);
    let [(_, sent)] = &sent[..] else { panic!("it is not tried again: {sent:?}") };
    let header: SendMessageRequest<'_> = sent.header().expect("a header");
    assert_eq!(header.sys_flag, sys_flag::TRANSACTION_PREPARED);
    for part in ["TRAN_MSG\u{1}true\u{2}", "PGROUP\u{1}P\u{2}", "KEYS\u{1}k\u{2}", "UNIQ_KEY\u{1}"] {
        assert!(header.properties.contains(part), "{part:?} in {:?}", header.properties);
    }
    let delayed = send_half(&mut world, Message::new("T", "b").with_delay_level(2));
    assert_eq!(delayed, Err(SendError::Message(MessageError::DelayedHalf)));
}

fn ends(world: &mut World) -> Vec<(Id, EndTransactionRequest)> {
    let ends = world.heard(request_code::END_TRANSACTION);
    assert!(ends.iter().all(|(_, end)| end.is_oneway()), "nobody answers it");
    ends.iter().map(|(to, end)| (*to, end.header().expect("a header"))).collect()
}

#[test]
fn an_end_names_the_place_of_its_half_message() {
    let mut world = world();
    let receipt = |broker: &str, offset_id: &str| Receipt {
        status: SendStatus::Ok,
        message_id: "ID".into(),
        offset_id: offset_id.into(),
        queue: MessageQueue::new("T", broker, 3),
        queue_offset: 5,
    };
    assert_eq!(Half::of(&receipt("b10921", "")), None);
    let half = Half::of(&receipt("b10921", "7F00000100002AA90000000000000102")).expect("a place");
    for resolution in [Resolution::Commit, Resolution::RollBack, Resolution::Unknown] {
        world.command(PRODUCER, ClientCommand::End(half.clone(), resolution));
    }
    world.run();
    let ends = ends(&mut world);
    let expect = |commit_or_rollback| EndTransactionRequest {
        topic: Some("T".into()),
        producer_group: "P".into(),
        tran_state_table_offset: 5,
        commit_log_offset: 0x102,
        commit_or_rollback,
        from_transaction_check: Some(false),
        msg_id: "ID".into(),
        transaction_id: Some("ID".into()),
    };
    let expect: Vec<_> = [8, 12, 0].map(|end| (Id::Broker(10921), expect(end))).into();
    assert_eq!(ends, expect);
    assert!(world.events(PRODUCER).is_empty());
    let nowhere = Half::of(&receipt("gone", "7F00000100002AA90000000000000102")).expect("a place");
    world.command(PRODUCER, ClientCommand::End(nowhere, Resolution::Commit));
    world.run();
    assert!(matches!(&world.events(PRODUCER)[..], [ClientEvent::Problem(_)]));
}

fn question(group: &str) -> Command {
    let properties = format!("UNIQ_KEY\u{1}ID\u{2}PGROUP\u{1}{group}\u{2}TRAN_MSG\u{1}true\u{2}");
    let host = "127.0.0.1:10911".parse().expect("an address");
    let draft = Draft {
        topic: "T",
        queue_id: 2,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"b",
        properties: properties.as_bytes(),
    };
    let mut record = Vec::new();
    draft.encode(Place { queue_offset: 9, physical_offset: 900, store_timestamp: 2 }, &mut record);
    let header = CheckTransactionStateRequest {
        topic: Some("T".into()),
        tran_state_table_offset: 9,
        commit_log_offset: 900,
        msg_id: Some("ID".into()),
        transaction_id: Some("ID".into()),
        offset_msg_id: None,
    };
    Command::request(request_code::CHECK_TRANSACTION_STATE, header.to_ext()).with_body(record).oneway()
}

#[test]
fn a_question_is_answered_to_who_asked() {
    let mut world = world();
    for (broker, resolution, expect) in
        [(10911, Resolution::Commit, 8), (10921, Resolution::RollBack, 12), (10921, Resolution::Unknown, 0)]
    {
        world.ask_client(broker, PRODUCER, question("P"));
        world.run();
        let mut events = world.events(PRODUCER);
        let Some(ClientEvent::Checking { half, message }) = events.pop() else { panic!("{events:?}") };
        assert_eq!((message.topic.as_str(), &message.body[..], message.queue.queue_id), ("T", &b"b"[..], 2));
        assert_eq!((half.message_id(), message.id()), ("ID", "ID".to_string()));
        assert_eq!(ends(&mut world), [], "nothing is said before the host has spoken");
        world.command(PRODUCER, ClientCommand::End(half, resolution));
        world.run();
        let expect = EndTransactionRequest {
            topic: Some("T".into()),
            producer_group: "P".into(),
            tran_state_table_offset: 9,
            commit_log_offset: 900,
            commit_or_rollback: expect,
            from_transaction_check: Some(true),
            msg_id: "ID".into(),
            transaction_id: Some("ID".into()),
        };
        assert_eq!(ends(&mut world), [(Id::Broker(broker), expect)]);
    }
    world.ask_client(10911, PRODUCER, question("others"));
    let garbled = Command { body: b"no record"[..].into(), ..question("P") };
    world.ask_client(10911, PRODUCER, garbled);
    world.run();
    assert!(world.events(PRODUCER).is_empty(), "what is not asked of this group is not answered");
}
