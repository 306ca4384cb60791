//! How replication goes, and which epochs this log is made of: codes 907, 1007.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::super::Broker;
use super::super::reply::{Answer, Refusal};
use super::super::upstream::KEEPS;
use crate::io::Now;
use crate::wire::body::{self, EpochEntryCache};
use crate::wire::code::response_code;
use crate::wire::{Command, Ext};

impl Broker {
    pub(super) fn on_get_ha_status(&self, now: Now, request: &Command) -> Result<Answer, Refusal> {
        self.check_store()?;
        let status = self.replication.status(now, &self.store);
        let answer = Command::response(request, response_code::SUCCESS, Ext::None);
        Ok(Answer::Now(answer.with_body(body::encode(&status))))
    }

    /// RocketMQ's answer, and for a slave whether an acknowledgement here promises that a message outlives the loss of
    /// power or of the disk: then a slave that has more than this log throws nothing away.
    pub(super) fn on_get_epochs(&mut self, request: &Command) -> Result<Answer, Refusal> {
        self.check_store()?;
        let end = self.store.written();
        let cache = EpochEntryCache {
            broker_id: self.config.broker_id,
            broker_name: self.config.broker_name.clone(),
            cluster_name: self.config.cluster_name.clone(),
            epoch_list: self.epochs.entries(end),
            max_offset: end,
        };
        let keeps = if self.keeps_promises_of_slaves() { "true" } else { "false" };
        let ext = Ext::Fields(Vec::from([(Cow::Borrowed(KEEPS), Cow::Borrowed(keeps))]));
        let answer = Command::response(request, response_code::SUCCESS, ext);
        Ok(Answer::Now(answer.with_body(body::encode(&cache))))
    }
}
