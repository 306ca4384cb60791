//! Routes as a client keeps them.

use std::sync::Arc;

use gantry_core::wire::Command;
use serde_json::Value;

use super::requests::reply;

/// Where a topic's messages go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The master's address.
    pub master: Arc<str>,
    /// Writable queues.
    pub queues: i32,
}

/// What a name server said about a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteReply {
    /// This.
    Known(Route),
    /// There is none, or it has no master.
    Unknown,
    /// Something that is no answer.
    Broken(String),
}

/// Reads the answer to [`super::requests::route`].
pub fn read(command: &Command) -> RouteReply {
    match command.code {
        reply::SUCCESS => {}
        reply::TOPIC_NOT_EXIST => return RouteReply::Unknown,
        code => return RouteReply::Broken(format!("route: code {code}, remark {:?}", command.remark)),
    }
    let Ok(body) = serde_json::from_slice::<Value>(&command.body) else {
        return RouteReply::Broken("route: the body is not JSON".to_owned());
    };
    let (Some(brokers), Some(queues)) = (body["brokerDatas"].as_array(), body["queueDatas"].as_array())
    else {
        return RouteReply::Broken(format!("route: no brokers or queues in {body}"));
    };
    for queue in queues {
        let writable = queue["perm"].as_i64().unwrap_or(0) & 2 != 0;
        let broker = brokers.iter().find(|broker| broker["brokerName"] == queue["brokerName"]);
        let master = broker.and_then(|broker| broker["brokerAddrs"]["0"].as_str());
        if let (true, Some(master), Some(count)) = (writable, master, queue["writeQueueNums"].as_i64()) {
            return RouteReply::Known(Route { master: master.into(), queues: count as i32 });
        }
    }
    RouteReply::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_core::wire::{Command, Ext};

    fn check(code: i32, body: &str, expect: RouteReply) {
        let command = Command::request(code, Ext::None).with_body(body.to_owned());
        assert_eq!(read(&command), expect);
    }

    #[test]
    fn a_route_names_the_master_and_its_queues() {
        let body = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.2:10911","1":"10.0.0.3:10911"},"brokerName":"b"}],
            "queueDatas":[{"brokerName":"b","perm":6,"writeQueueNums":4,"readQueueNums":4}]}"#;
        check(0, body, RouteReply::Known(Route { master: "10.0.0.2:10911".into(), queues: 4 }));
        check(0, &body.replace("\"0\"", "\"2\""), RouteReply::Unknown);
        check(17, "", RouteReply::Unknown);
        check(0, "{}", RouteReply::Broken("route: no brokers or queues in {}".to_owned()));
    }
}
