//! A slave becomes the master while it runs.
//!
//! Asked for by UPDATE_BROKER_CONFIG with `brokerRole` (so by `mqadmin updateBrokerConfig` and `gantry admin promote`), which
//! also makes the role stay: the host writes it into the file that the broker is started with. A start with another role does the
//! same in the store. [`Broker::promote`] is what an election calls.
//!
//! Steps, each durable before the next: the slave follows nobody any more; the head of a record whose rest never came is
//! forgotten; an epoch begins at the end of the log; what the log carries of the old master's tables is taken; from then on it is written and name servers are told. Until then it serves
//! as the slave that it was. The old master finds the parting of the logs by the epochs when it comes back as a slave.
//!
//! Absent on purpose: whether the old master is gone. One that still runs and is cut off acknowledges nothing alone under
//! SYNC_MASTER; what it wrote for itself is kept aside when it follows. The way back, from master to slave, is a restart.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::register::MASTER_ID;
use super::reply::Refusal;
use super::{Broker, BrokerEvent, BrokerRole};
use crate::io::{ConnId, Disk, Effect, Env, Now};
use crate::probe::Probe;
use crate::wire::Command;
use crate::wire::code::response_code;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The epoch is to begin, at the end of the log.
    Tail,
    /// The new epoch goes to the disk.
    Epoch,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Promotion {
    role: BrokerRole,
    step: Step,
    /// Who is told when it is done.
    asked: Option<(ConnId, Command)>,
}

impl Broker {
    /// Whether a slave is on its way to be the master.
    pub(super) fn is_promoting(&self) -> bool {
        self.promotion.is_some()
    }

    /// Makes this slave the master, with `role`. `asked` is answered when it is.
    pub(super) fn promote<D: Disk>(
        &mut self,
        now: Now,
        role: BrokerRole,
        asked: Option<(ConnId, Command)>,
        env: &mut Env<'_, D, BrokerEvent>,
    ) -> Result<(), Refusal> {
        let busy = |why: &str| {
            Err(Refusal::new(response_code::SYSTEM_BUSY, format!("not made the master now: {why}")))
        };
        if !self.is_serving() {
            return busy("the broker is starting or stopping");
        }
        if self.cut.is_some() {
            return busy("its log is on its way back to where it is its master's");
        }
        if self.promotion.is_some() {
            return busy("that is under way already");
        }
        tracing::warn!(?role, log_end = self.store.log_end(), "this slave is made the master");
        self.replication.leave_master(now, env);
        self.upstream.leave(now.mono, env);
        self.store.drop_partial();
        self.promotion = Some(Promotion { role, step: Step::Tail, asked });
        Ok(())
    }

    /// Goes on with a promotion.
    pub(super) fn settle_promotion<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        match &mut self.promotion {
            Some(Promotion { step: step @ Step::Tail, .. }) => {
                self.epochs.begin(self.store.log_end(), &mut env.rng.fork("epoch"));
                self.is_epoch_begun = true;
                self.taken_back = None;
                *step = Step::Epoch;
            }
            // The master may have deleted a topic at a place that this log has not reached.
            Some(Promotion { step: Step::Epoch, .. }) if self.epochs.is_durable() => {
                if !self.is_carried(now, env) || !self.settle_shorter_log(now, env.out) {
                    return;
                }
                // The old master's groups may have been farther than what it gave away.
                if self.taken_back.is_none() {
                    self.take_back();
                }
                if self.is_taken_back(now, env) {
                    self.become_master(now, env);
                }
            }
            Some(Promotion { step: Step::Epoch, .. }) | None => {}
        }
    }

    fn become_master<D: Disk>(&mut self, now: Now, env: &mut Env<'_, D, BrokerEvent>) {
        let Some(Promotion { role, asked, .. }) = self.promotion.take() else { return };
        self.replication.become_master(role);
        (self.config.role, self.config.broker_id) = (role, MASTER_ID);
        self.config.shown.remove("brokerRole");
        self.config.shown.remove("brokerId");
        Probe::Promoted.reached();
        // They are where they belong now.
        self.offsets.all_are_home();
        self.register.register_all(now.mono);
        let role = match role {
            BrokerRole::AsyncMaster => "ASYNC_MASTER",
            BrokerRole::SyncMaster => "SYNC_MASTER",
            BrokerRole::Slave => "SLAVE",
        };
        let settings: Vec<(String, String)> =
            [("brokerRole", role), ("brokerId", "0")].map(|(name, value)| (name.into(), value.into())).into();
        env.out.push(Effect::Emit(BrokerEvent::SettingsChanged { settings }));
        tracing::warn!(role, log_end = self.store.log_end(), "this broker is the master now");
        if let Some((conn, answer)) = asked {
            self.conns.send(conn, answer, env);
        }
    }
}
