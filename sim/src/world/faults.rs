//! Faults take effect, and end.

use gantry_core::time::{Duration, Instant};
use gantry_disk::CAPACITY_DEFAULT_BYTES;

use super::{Event, Fact, HostId, Observer, World};
use crate::commit_log::Log;
use crate::fault::{DEATH_WINDOW, Death, DiskOperation, FAILED_SYNC_WINDOW, Fault, Moment, STOP_WINDOW, Way};
use crate::probe::FaultProbe;

/// Who keeps silent for longer is given up by others.
const EXPIRY: Duration = Duration::from_secs(120);

/// A death that waits for a disk operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doom {
    /// Of which fault.
    index: usize,
    death: Death,
    /// Until the next life.
    down: Duration,
}

/// A death that waits for a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trap {
    doom: Doom,
    moment: Moment,
    /// How many are still to come.
    left: u32,
    mid_turn: bool,
    /// Only from this life on.
    life: u32,
}

/// What a turn has sprung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sprung {
    /// The host dies in it.
    MidTurn,
    /// The host dies after it.
    AfterTurn,
}

/// What a fault found when it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// The life it aimed at.
    life: u32,
}

impl<O: Observer> World<O> {
    pub(super) fn on_fault(&mut self, index: usize) {
        let fault = self.faults[index].fault.clone();
        self.digest.word(0x40 + index as u64);
        if self.tracer.is_some() {
            let names: Vec<&str> = self.hosts.iter().map(|host| host.plan.name.as_str()).collect();
            let text = fault.describe(&names);
            self.trace_fault(index, &text);
        }
        let now = self.engine.now();
        match fault {
            Fault::ProcessDeath { host, operation, down } => {
                self.doom(host, operation, Doom { index, death: Death::Process, down });
            }
            Fault::PowerLoss { hosts, operation, down, .. } => {
                let place = self.fault_places[index];
                let Some(host) = hosts.get(place) else { return };
                let operation = if place == 0 { operation } else { 0 };
                self.doom(*host, operation, Doom { index, death: Death::Power, down });
            }
            Fault::Reset { a, b } => self.reset_between(a, b),
            Fault::Partition { a, b, way, lasts } => {
                self.cut(a, b);
                if way == Way::Both {
                    self.cut(b, a);
                }
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::Isolation { host, lasts } => {
                self.isolate(host);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::Pause { host, lasts } => self.pause(host, index, lasts),
            Fault::CleanStop { host, down } => self.ask_to_stop(host, index, down),
            Fault::Latency { a, b, extra, lasts } => {
                self.slow_down(a, b, extra.as_nanos() as u64);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::FailedSync { host, count } => {
                self.hosts[host.0].failing_syncs = count;
                self.engine.schedule(now + FAILED_SYNC_WINDOW, Event::FaultEnds { index });
            }
            Fault::DiskLoss { host, down } => {
                self.die(host, Death::Process);
                let rng = self.fault_rng.fork(&format!("{index} on {}", host.0));
                *self.disk(host) = self.hosts[host.0].plan.new_disk(rng);
                // It takes all that a power loss could, and more.
                self.tell(host, Fact::PowerLost);
                self.engine.schedule(now + down, Event::Start { host });
            }
            Fault::AtMoment { host, moment, nth, mid_turn, death, down } => {
                let dies_before = moment.is_of_next_life();
                let life = self.hosts[host.0].life + u32::from(dies_before);
                let doom = Doom { index, death, down };
                self.hosts[host.0].traps.push(Trap { doom, moment, left: nth, mid_turn, life });
                let mut until = now + DEATH_WINDOW;
                if dies_before {
                    self.fulfil(host, Doom { death: Death::Process, ..doom });
                    until = until + down;
                }
                self.engine.schedule(until, Event::FaultEnds { index });
            }
            Fault::JointDeath { hosts, down } => {
                for host in hosts {
                    self.fulfil(host, Doom { index, death: Death::Process, down });
                }
            }
            Fault::HalfOpen { open, gone } => self.forget_between(open, gone),
            Fault::DialRefusal { host, lasts } => {
                self.hosts[host.0].refusals += 1;
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::Clogging { hosts, apart, lasts } => self.clog_next(index, &hosts, apart, lasts),
            Fault::Bandwidth { a, b, bytes_per_s, lasts } => {
                self.narrow(a, b, bytes_per_s);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::Deafness { host, lasts } => {
                self.hosts[host.0].deafness += 1;
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::ClockDrift { host, by_ppm, lasts } => {
                self.hosts[host.0].skew.drift(now, by_ppm);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::ClockJump { host, by_ms, lasts } => {
                self.hosts[host.0].skew.jump(by_ms);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::SlowDisk { host, extra, lasts } => {
                self.hosts[host.0].disk_delay_nanos += extra.as_nanos() as u64;
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::FullDisk { host, spare_bytes, lasts } => {
                let disk = self.disk(host);
                disk.set_capacity(disk.used() + spare_bytes);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::NoDescriptors { host, per_mille, lasts } => {
                self.disk(host).set_no_descriptors(per_mille);
                self.hosts[host.0].without_descriptors += 1;
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::LyingSyncs { host, lasts } => {
                self.disk(host).lie_syncs(u32::MAX);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
            Fault::BitFlips { host, count } => self.flip_bits(host, index, count),
            Fault::DamagedBody { host } => self.damage_body(host, index),
            Fault::DiskErrors { host, operation, count, lasts } => {
                self.let_fail(host, operation, count);
                self.engine.schedule(now + lasts, Event::FaultEnds { index });
            }
        }
    }

    pub(super) fn on_fault_ends(&mut self, index: usize) {
        match self.faults[index].fault.clone() {
            Fault::ProcessDeath { host, .. } => self.end_waiting(host, index),
            Fault::PowerLoss { hosts, .. } => {
                if let Some(host) = hosts.first() {
                    self.end_waiting(*host, index);
                }
            }
            Fault::Reset { .. }
            | Fault::BitFlips { .. }
            | Fault::DamagedBody { .. }
            | Fault::HalfOpen { .. }
            | Fault::JointDeath { .. }
            | Fault::DiskLoss { .. } => {}
            Fault::AtMoment { host, .. } => self.hosts[host.0].traps.retain(|trap| trap.doom.index != index),
            Fault::FailedSync { host, .. } => self.hosts[host.0].failing_syncs = 0,
            Fault::Partition { a, b, way, .. } => {
                self.mend(a, b);
                if way == Way::Both {
                    self.mend(b, a);
                }
            }
            Fault::Isolation { host, .. } => self.rejoin(host),
            Fault::Clogging { hosts, .. } => {
                self.fault_places[index] -= 1;
                self.rejoin(hosts[self.fault_places[index]]);
            }
            Fault::DialRefusal { host, .. } => self.hosts[host.0].refusals -= 1,
            Fault::Bandwidth { a, b, bytes_per_s, .. } => self.widen(a, b, bytes_per_s),
            Fault::Deafness { host, .. } => {
                self.hosts[host.0].deafness -= 1;
                self.hear_again(host);
            }
            Fault::ClockDrift { host, by_ppm, .. } => {
                let now = self.engine.now();
                self.hosts[host.0].skew.drift(now, -by_ppm);
            }
            Fault::ClockJump { host, by_ms, .. } => self.hosts[host.0].skew.jump(-by_ms),
            Fault::Pause { host, .. } => self.resume(host, index),
            Fault::CleanStop { host, down } => self.end_stopped(host, index, down),
            Fault::Latency { a, b, extra, .. } => self.speed_up(a, b, extra.as_nanos() as u64),
            Fault::SlowDisk { host, extra, .. } => {
                self.hosts[host.0].disk_delay_nanos -= extra.as_nanos() as u64;
            }
            Fault::FullDisk { host, .. } => {
                let capacity = self.hosts[host.0].plan.disk_bytes.unwrap_or(CAPACITY_DEFAULT_BYTES);
                self.disk(host).set_capacity(capacity);
                self.restart_failed(host);
            }
            Fault::NoDescriptors { host, .. } => {
                self.hosts[host.0].without_descriptors -= 1;
                if self.hosts[host.0].without_descriptors == 0 {
                    self.disk(host).set_no_descriptors(0);
                    self.restart_failed(host);
                }
            }
            Fault::LyingSyncs { host, .. } => self.disk(host).lie_syncs(0),
            Fault::DiskErrors { host, operation, .. } => {
                self.let_fail(host, operation, 0);
                self.restart_failed(host);
            }
        }
    }

    /// Each of any byte of any file: a small file is hit as often as a large one.
    fn flip_bits(&mut self, host: HostId, index: usize, count: u32) {
        let mut rng = self.fault_rng.fork(&format!("{index} on {}", host.0));
        let disk = self.disk(host);
        let files: Vec<(String, u64)> = disk.files().filter(|(_, len)| *len > 0).collect();
        for _ in 0..if files.is_empty() { 0 } else { count } {
            let (path, len) = &files[rng.below(files.len() as u64) as usize];
            // Most of a large file is room that nothing was written to.
            let within = if rng.one_in(2) { *len } else { (*len).min(4096) };
            disk.flip_bit(path, rng.below(within), rng.below(8) as u8);
        }
    }

    /// Of any message of the workloads' that is whole, so that no body is mended by a second turn of the same bit.
    fn damage_body(&mut self, host: HostId, index: usize) {
        let mut rng = self.fault_rng.fork(&format!("{index} on {}", host.0));
        let disk = self.disk(host);
        let bodies = Log::on(disk).map_or(Vec::new(), |log| log.bodies());
        if bodies.is_empty() {
            return;
        }
        let body = &bodies[rng.below(bodies.len() as u64) as usize];
        let at = body.within.start + rng.below(body.within.end - body.within.start);
        disk.flip_bit(&body.path, at, rng.below(8) as u8);
        self.tell(host, Fact::BodyDamaged { physical: body.record });
    }

    fn let_fail(&mut self, host: HostId, operation: DiskOperation, count: u32) {
        let disk = self.disk(host);
        match operation {
            DiskOperation::Write => disk.fail_writes(count),
            DiskOperation::Read => disk.fail_reads(count),
        }
    }

    /// Whoever mended the disk starts what gave itself up for it.
    fn restart_failed(&mut self, host: HostId) {
        if std::mem::take(&mut self.hosts[host.0].gave_up) {
            self.start(host);
        }
    }

    /// Cuts the next host of several off; the last cut sets when they come back.
    fn clog_next(&mut self, index: usize, hosts: &[HostId], apart: Duration, lasts: Duration) {
        let (now, place) = (self.engine.now(), self.fault_places[index]);
        let Some(host) = hosts.get(place) else { return };
        self.isolate(*host);
        self.fault_places[index] += 1;
        if place + 1 < hosts.len() {
            return self.engine.schedule(now + apart, Event::FaultBegins { index });
        }
        for later in 0..hosts.len() as u32 {
            self.engine.schedule(now + lasts + apart * later, Event::FaultEnds { index });
        }
    }

    fn isolate(&mut self, host: HostId) {
        for other in self.others(host) {
            self.cut(host, other);
            self.cut(other, host);
        }
    }

    fn rejoin(&mut self, host: HostId) {
        for other in self.others(host) {
            self.mend(host, other);
            self.mend(other, host);
        }
    }

    /// The process reads again, if it stands and hears.
    fn hear_again(&mut self, id: HostId) {
        if self.hosts[id.0].deafness == 0 && !self.hosts[id.0].paused {
            self.read_unread(id);
        }
    }

    fn others(&self, host: HostId) -> Vec<HostId> {
        (0..self.hosts.len()).map(HostId).filter(|other| *other != host).collect()
    }

    /// Lets a host die in a disk operation from now on, or at once.
    fn doom(&mut self, id: HostId, operation: u64, doom: Doom) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        match &mut host.process {
            Some(process) if operation > 0 => {
                process.disk().kill_at_operation(operation);
                // A later doom takes the place of one that still waits; the next death fulfils it.
                host.doom = Some(doom);
                self.engine.schedule(now + DEATH_WINDOW, Event::FaultEnds { index: doom.index });
            }
            Some(_) => {
                FaultProbe::DiedBetweenTurns.reached();
                self.fulfil(id, doom);
            }
            None => self.fulfil(id, doom),
        }
    }

    /// The operation did not come: the death does.
    fn end_waiting(&mut self, id: HostId, index: usize) {
        if let Some(doom) = self.hosts[id.0].doom.take_if(|doom| doom.index == index) {
            self.fulfil(id, doom);
        }
    }

    /// The process died in a disk operation.
    pub(super) fn on_killed(&mut self, id: HostId) {
        FaultProbe::DiedInTurn.reached();
        match self.hosts[id.0].doom.take() {
            Some(doom) => self.fulfil(id, doom),
            None => self.die(id, Death::Process),
        }
    }

    /// Whether a death has waited for this turn; then it is the host's doom.
    pub(super) fn spring(&mut self, id: HostId) -> Option<Sprung> {
        let host = &mut self.hosts[id.0];
        let (seen, life) = (&self.seen, host.life);
        let is_due = |trap: &mut Trap| {
            if trap.life <= life && trap.moment.is_in(seen) {
                trap.left -= 1;
            }
            trap.left == 0
        };
        let at = host.traps.iter_mut().position(is_due)?;
        let trap = host.traps.remove(at);
        host.doom = Some(trap.doom);
        let (sprung, probe) = if trap.mid_turn {
            (Sprung::MidTurn, FaultProbe::DiedMidMoment)
        } else {
            (Sprung::AfterTurn, FaultProbe::DiedAfterMoment)
        };
        probe.reached();
        Some(sprung)
    }

    fn fulfil(&mut self, id: HostId, doom: Doom) {
        match doom.death {
            Death::Process => {
                if self.hosts[id.0].process.is_some() {
                    self.die(id, Death::Process);
                    self.engine.schedule(self.engine.now() + doom.down, Event::Start { host: id });
                }
            }
            Death::Power => {
                self.lose_power(id, doom.index, doom.down);
                self.lose_power_of_next(doom.index);
            }
        }
    }

    fn lose_power_of_next(&mut self, index: usize) {
        self.fault_places[index] += 1;
        if let Fault::PowerLoss { hosts, apart, .. } = &self.faults[index].fault
            && self.fault_places[index] < hosts.len()
        {
            let at = self.engine.now() + *apart;
            self.engine.schedule(at, Event::FaultBegins { index });
        }
    }

    fn lose_power(&mut self, id: HostId, index: usize, down: Duration) {
        let now = self.engine.now();
        let waits =
            self.hosts[id.0].process.as_mut().is_some_and(|process| process.disk().pending().count() > 0);
        let probe = if waits { FaultProbe::PowerLostUnsynced } else { FaultProbe::PowerLostIdle };
        probe.reached();
        self.die(id, Death::Power);
        // Also of a host whose process was already gone: what its page cache still held is lost now.
        self.fall_silent(id);
        let mut rng = self.fault_rng.fork(&format!("{index} on {}", id.0));
        let host = &mut self.hosts[id.0];
        if let Some(disk) = &mut host.disk {
            disk.power_loss(&mut rng);
        }
        host.dark_since = now;
        host.dark_until = host.dark_until.max(now + down);
        self.engine.schedule(now + down, Event::Start { host: id });
        self.tell(id, Fact::PowerLost);
    }

    fn ask_to_stop(&mut self, id: HostId, index: usize, down: Duration) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        let Some(process) = &mut host.process else { return };
        process.ask_to_stop();
        self.fault_marks[index].life = host.life;
        self.engine.schedule(now + STOP_WINDOW, Event::FaultEnds { index });
        self.tell(id, Fact::AskedToStop { down });
        self.wake(id);
    }

    fn end_stopped(&mut self, id: HostId, index: usize, down: Duration) {
        let host = &self.hosts[id.0];
        if host.process.is_some() && host.life == self.fault_marks[index].life {
            self.die(id, Death::Process);
            self.engine.schedule(self.engine.now() + down, Event::Start { host: id });
        }
    }

    fn pause(&mut self, id: HostId, index: usize, lasts: Duration) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        if host.process.is_none() {
            return;
        }
        self.fault_marks[index].life = host.life;
        host.paused_until = host.paused_until.max(now + lasts);
        self.engine.schedule(now + lasts, Event::FaultEnds { index });
        let is_long = lasts > EXPIRY;
        (if is_long { FaultProbe::PausedLong } else { FaultProbe::PausedShort }).reached();
        if !host.paused {
            host.paused = true;
            self.tell(id, Fact::Paused);
        }
    }

    fn resume(&mut self, id: HostId, index: usize) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        if !host.paused || host.life != self.fault_marks[index].life || host.paused_until > now {
            return;
        }
        host.paused = false;
        host.turn_at = None;
        self.trace_with(id, |out| out.push_str("goes on"));
        self.tell(id, Fact::Resumed);
        self.hear_again(id);
        self.schedule_turn(id, now);
    }

    /// Whether the power of a host has to come back before it can start.
    pub(super) fn dark_until(&self, id: HostId) -> Option<Instant> {
        let host = &self.hosts[id.0];
        (!host.powered && host.dark_until > self.engine.now()).then_some(host.dark_until)
    }
}
