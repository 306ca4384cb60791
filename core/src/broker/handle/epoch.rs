//! How replication goes, and which epochs this log is made of: codes 907, 1007.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::super::ha::known::KnownSlave;
use super::super::reply::{Answer, Refusal};
use super::super::store::FlushMode;
use super::super::upstream::{CARRIES, HOME, KEEPS, LOG_MIN, SLAVE};
use super::super::{Broker, BrokerEvent};
use crate::io::{Disk, Env, Now};
use crate::wire::body::{self, EpochEntryCache};
use crate::wire::code::response_code;
use crate::wire::{Command, Ext};

/// The longest address of a slave.
const ADDRESS_BYTES_MAX: usize = 300;

impl Broker {
    pub(super) fn on_get_ha_status(&self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        self.check_store()?;
        let status = self.replication.status(now, &self.store);
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&status))))
    }

    /// RocketMQ's answer, and for a slave whether an acknowledgement here promises that a message outlives the loss of
    /// power or of the disk: then a slave that has more than this log throws nothing away. Also where this log begins: a
    /// slave that lacks its beginning acknowledges nothing. A master that has crashed and looks for what it lost is told the
    /// last word: what its former life sent and is still under way to this slave must not come behind it.
    pub(super) fn on_get_epochs<D: Disk>(
        &mut self,
        now: Now,
        request: &Command,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<Answer, Refusal> {
        self.check_store()?;
        self.note_slave(request)?;
        if request.ext.get(HOME).is_some() {
            self.replication.end_stream(now, env);
        }
        let end = self.store.written();
        let cache = EpochEntryCache {
            broker_id: self.config.broker_id,
            broker_name: self.config.broker_name.clone(),
            cluster_name: self.config.cluster_name.clone(),
            epoch_list: self.epochs.entries(end),
            max_offset: end,
        };
        let keeps = if self.keeps_promises_of_slaves() { "true" } else { "false" };
        let min = Cow::Owned(self.store.log_min().to_string());
        let mut fields =
            Vec::from([(Cow::Borrowed(KEEPS), Cow::Borrowed(keeps)), (Cow::Borrowed(LOG_MIN), min)]);
        if self.config.metadata_in_log {
            fields.push((Cow::Borrowed(CARRIES), Cow::Borrowed("true")));
        }
        let ext = Ext::Fields(fields);
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Answer::Now(answer.with_body(body::encode(&cache))))
    }

    /// Writes down who may come to hold what this log could lose; until that is durable the slave is to ask again.
    fn note_slave(&mut self, request: &Command) -> Result<(), Refusal> {
        self.carry.attach();
        let is_needed = self.replication.is_sync() && self.config.store.flush == FlushMode::Async;
        let [Some(address), Some(ha_address)] = SLAVE.map(|name| request.ext.get(name)) else {
            return Ok(());
        };
        if !is_needed || address.len().max(ha_address.len()) > ADDRESS_BYTES_MAX {
            return Ok(());
        }
        self.known.note(KnownSlave { address: address.into_owned(), ha_address: ha_address.into_owned() });
        if self.known.file.is_clean() {
            return Ok(());
        }
        Err(Refusal::new(response_code::SYSTEM_BUSY, "the list of slaves is being written: ask again"))
    }
}
