//! Another member of the group with this one's client id.
//!
//! The list of members names each id once, so both would take the same share. The list of connections tells them apart. A
//! connection of this client's own that broke a while ago may still be in it, so nothing is said until that is over.

use super::*;
use crate::wire::body::ConsumerConnection;
use crate::wire::request::GetConsumerConnectionListRequest;

/// Between two looks when all is well.
const LOOK: Duration = Duration::from_secs(60);
/// Before a finding is looked at once more.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// What is known of a twin.
#[derive(Debug, Default)]
pub(super) struct Twins {
    at: Option<Instant>,
    /// In how many looks it was seen, one after the other.
    seen: u32,
}

impl Consumer {
    /// Somebody came: look at once.
    pub(in super::super) fn expect_twins(&mut self) {
        self.twins.at = None;
    }

    pub(super) fn look_for_twins<D: Disk>(&mut self, broker: &Arc<str>, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        if self.twins.at.is_some_and(|at| at > now) {
            return;
        }
        self.twins.at = Some(now + LOOK);
        let header = GetConsumerConnectionListRequest { consumer_group: self.config.group.clone() };
        let command = Command::request(request_code::GET_CONSUMER_CONNECTION_LIST, header.to_ext());
        tools.call(broker, command, ANSWER, Errand::Twins(broker.clone()));
    }

    pub(super) fn on_twins<D: Disk>(
        &mut self,
        broker: &Arc<str>,
        outcome: &Outcome,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let now = tools.now.mono;
        let Outcome::Reply(reply) = outcome else { return };
        let Ok(list) = body::decode::<ConsumerConnection>(&reply.body) else { return };
        let own = list.connection_set.iter().filter(|connection| connection.client_id == self.client_id);
        let addresses: Vec<&str> = own.map(|connection| connection.client_addr.as_str()).collect();
        if addresses.len() < 2 || tools.calls.may_count_twice(now, broker) {
            self.twins.seen = 0;
            return;
        }
        self.twins.seen += 1;
        match self.twins.seen {
            1 => {
                self.twins.at = Some(now + LOOK_AGAIN);
                self.rebalance_at = self.rebalance_at.min(now + LOOK_AGAIN);
            }
            2 => {
                let error = ConsumeError::DuplicateId {
                    client_id: self.client_id.clone(),
                    group: self.config.group.clone(),
                    addresses: addresses.join(" and "),
                };
                tools.env.out.push(Effect::Emit(ClientEvent::Failing(error)));
            }
            _ => {}
        }
    }
}
