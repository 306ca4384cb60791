//! Requests: messages whose sender waits for a reply.
//!
//! A request is an ordinary message that carries the client's id and a correlation id. Whoever consumes it sends a reply to a
//! broker of its cluster, which hands it on over the connection of the client that asked.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};

use super::{Producer, Send, Target, Tools};
use crate::client::error::RequestError;
use crate::client::message::{Message, Properties, Received, property};
use crate::client::{ClientEvent, Receipt, RequestId, SendError};
use crate::io::{Disk, Effect, Env};
use crate::time::{Duration, Instant};
use crate::wire::Command;
use crate::wire::body::MessageQueue;
use crate::wire::request::ReplyMessageRequest;

/// A message whose sender waits for a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Comes back with the reply.
    pub id: RequestId,
    /// What is asked.
    pub message: Message,
    /// Which queue it goes to.
    pub target: Target,
    /// How long a reply is waited for, the sending included.
    pub timeout: Duration,
}

#[derive(Debug)]
struct Waiting {
    owner: RequestId,
    deadline: Instant,
    timeout: Duration,
}

/// The requests without a reply yet, by correlation id.
#[derive(Debug, Default)]
pub(super) struct Replies {
    waiting: BTreeMap<String, Waiting>,
    by_owner: BTreeMap<RequestId, String>,
}

impl Producer {
    /// Takes a request.
    pub(in crate::client) fn on_request<D: Disk>(
        &mut self,
        request: Request,
        client_id: &str,
        tools: &mut Tools<'_, '_, D, ClientEvent>,
    ) {
        let Request { id, message, target, timeout } = request;
        let correlation = self.ids.next(tools.now.wall);
        let message = message
            .with_property(property::CORRELATION_ID, correlation.as_str())
            .with_property(property::REPLY_TO_CLIENT, client_id)
            .with_property(property::TTL, timeout.as_millis().to_string());
        let deadline = tools.now.mono + timeout;
        self.replies.by_owner.insert(id, correlation.clone());
        self.replies.waiting.insert(correlation, Waiting { owner: id, deadline, timeout });
        let timeout = Some(timeout.min(self.config.timeout));
        self.on_send(Send { id, messages: Vec::from([message]), target, oneway: false, timeout }, tools);
    }

    /// Tells the end of a send; of a request's only that it failed.
    pub(super) fn tell<D>(
        &mut self,
        id: RequestId,
        result: Result<Vec<Receipt>, SendError>,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        if self.is_unheard {
            return;
        }
        match (self.replies.by_owner.get(&id).cloned(), result) {
            (None, result) => env.out.push(Effect::Emit(ClientEvent::Sent { id, result })),
            (Some(_), Ok(_)) => {}
            (Some(correlation), Err(error)) => {
                self.replies.finish(&correlation, Err(RequestError::Send(error)), env);
            }
        }
    }

    /// A broker hands over a reply; one that nobody waits for any more is dropped.
    pub(in crate::client) fn on_reply<D>(&mut self, command: &Command, env: &mut Env<'_, D, ClientEvent>) {
        let Ok(header) = command.header::<ReplyMessageRequest>() else { return };
        let reply = received(header, command);
        if let Some(correlation) = reply.property(property::CORRELATION_ID).map(ToString::to_string) {
            self.replies.finish(&correlation, Ok(reply), env);
        }
    }

    pub(super) fn expire_replies<D>(&mut self, now: Instant, env: &mut Env<'_, D, ClientEvent>) {
        let late = self.replies.waiting.iter().filter(|(_, waiting)| waiting.deadline <= now);
        let late: Vec<(String, Duration)> =
            late.map(|(correlation, waiting)| (correlation.clone(), waiting.timeout)).collect();
        for (correlation, timeout) in late {
            self.replies.finish(&correlation, Err(RequestError::NoReply(timeout)), env);
        }
    }

    pub(super) fn stop_replies<D>(&mut self, env: &mut Env<'_, D, ClientEvent>) {
        let all: Vec<String> = self.replies.waiting.keys().cloned().collect();
        for correlation in all {
            self.replies.finish(&correlation, Err(RequestError::Stopped), env);
        }
    }
}

impl Replies {
    fn finish<D>(
        &mut self,
        correlation: &str,
        result: Result<Received, RequestError>,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        if let Some(waiting) = self.waiting.remove(correlation) {
            self.by_owner.remove(&waiting.owner);
            env.out.push(Effect::Emit(ClientEvent::Replied { id: waiting.owner, result }));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }
}

fn received(header: ReplyMessageRequest, command: &Command) -> Received {
    let properties = Properties::of(header.properties.unwrap_or_default().as_bytes());
    Received {
        queue: MessageQueue::new(header.topic.as_str(), "", header.queue_id),
        topic: header.topic,
        queue_offset: -1,
        physical_offset: -1,
        body: command.body.clone(),
        flag: header.flag,
        sys_flag: header.sys_flag,
        reconsume_times: header.reconsume_times.unwrap_or_default(),
        born_timestamp: header.born_timestamp,
        born_host: host(&header.born_host),
        store_timestamp: header.store_timestamp,
        store_host: host(&header.store_host),
        properties,
    }
}

/// Java writes `name/address:port`, where the name may be missing.
fn host(text: &str) -> SocketAddr {
    let address = text.rsplit('/').next().and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}
