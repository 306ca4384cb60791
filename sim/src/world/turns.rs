//! Lives and turns: when a machine is called, and what becomes of what it wants.

use gantry_core::io::DiskError;
use gantry_core::node::Turn;
use gantry_core::time::{Duration, Instant};
use gantry_disk::{PendingKind, Ticket};

use super::faults::Sprung;
use super::{Event, Fact, HostId, Kind, Life, Observer, Violation, World};
use crate::fault::Death;
use crate::log;
use crate::process::{Output, ProbeOptions, Seen};

/// From the arrival of an input to the turn that takes it, at most.
const TURN_DELAY_MAX: Duration = Duration::from_micros(100);
/// A deadline is served at most this late: timers of real runtimes count milliseconds.
const TIMER_LATE_MAX: Duration = Duration::from_millis(1);
/// A machine that gave itself up is started again after this.
const FAILED_RESTART: Duration = Duration::from_secs(1);
/// A machine whose deadline has passed so many turns in a row, in which it did nothing that shows, runs in a busy loop. Work in
/// small steps (a recovery, a search) takes fewer.
const SPINS_MAX: u32 = 1_000;

impl<O: Observer> World<O> {
    /// Begins a life, unless one is under way.
    pub(super) fn start(&mut self, id: HostId) {
        if let Some(dark_until) = self.dark_until(id) {
            return self.engine.schedule(dark_until, Event::Start { host: id });
        }
        if !self.hosts[id.0].powered {
            let since = self.hosts[id.0].dark_since;
            self.hosts[id.0].powered = true;
            self.answer_void(id, since);
        }
        let now = self.host_now(id);
        let host = &mut self.hosts[id.0];
        if host.process.is_some() {
            return;
        }
        let Some(mut disk) = host.disk.take() else { return };
        disk.revive();
        host.doom = None;
        host.gave_up = false;
        host.paused = false;
        host.paused_until = Instant::ZERO;
        host.life += 1;
        host.known_tickets.clear();
        let options = ProbeOptions {
            tap: host.plan.tapped || self.options.trace,
            check_invariants: self.options.check_invariants,
        };
        let rng = host.machine_rng.fork(&format!("life {}", host.life));
        let number = host.life;
        let at = self.engine.now();
        host.process = Some((host.plan.spawn)(Life { now, disk, rng, options, number, at }));
        self.digest.word(0x10 + id.0 as u64);
        self.trace_with(id, |out| out.push_str(&format!("starts (life {number})")));
        self.tell(id, Fact::Started { life: number });
        self.schedule_turn(id, self.engine.now());
    }

    /// Ends a life.
    pub(super) fn die(&mut self, id: HostId, death: Death) {
        let Some(process) = self.hosts[id.0].process.take() else { return };
        self.trace_with(id, |out| out.push_str(&format!("dies ({death})")));
        self.digest.word(0x20 + id.0 as u64);
        let mut disk = process.into_disk();
        // Dead from here on: a later revival decides what became of replacements under way.
        disk.kill();
        let host = &mut self.hosts[id.0];
        host.disk = Some(disk);
        host.turn_at = None;
        host.paused = false;
        self.tell(id, Fact::Died(death));
        match death {
            Death::Process => self.close_all(id),
            Death::Power => self.fall_silent(id),
        }
    }

    /// Lets the host take a turn at `at`, if it would not take one earlier anyway.
    pub(super) fn schedule_turn(&mut self, id: HostId, at: Instant) {
        let host = &mut self.hosts[id.0];
        if host.process.is_none() || host.turn_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        host.turn_at = Some(at);
        self.set_alarm(id, at);
    }

    /// Most turns move the next one to later: the alarm that is set does for both.
    fn set_alarm(&mut self, id: HostId, at: Instant) {
        let alarms = &mut self.hosts[id.0].alarms;
        if alarms.last().is_none_or(|next| *next > at) {
            alarms.push(at);
            self.engine.schedule(at, Event::Alarm { host: id });
        }
    }

    pub(super) fn on_alarm(&mut self, id: HostId) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        host.alarms.pop();
        if host.paused {
            // What ends the pause sets another.
            return;
        }
        match host.turn_at {
            None => {}
            Some(at) if at > now => self.set_alarm(id, at),
            Some(_) => self.take_turn(id),
        }
    }

    /// Something arrived: a turn follows soon.
    pub(super) fn wake(&mut self, id: HostId) {
        if self.hosts[id.0].turn_at == Some(self.engine.now()) {
            return;
        }
        let delay = self.hosts[id.0].turn_rng.below(TURN_DELAY_MAX.as_nanos() as u64);
        let at = self.engine.now() + Duration::from_nanos(delay);
        self.schedule_turn(id, at);
    }

    fn take_turn(&mut self, id: HostId) {
        let host = &mut self.hosts[id.0];
        host.turn_at = None;
        let inputs = 1 + host.turn_rng.below(self.options.turn_inputs_max) as usize;
        let now = host.skew.now(self.engine.now());
        let Some(mut process) = self.hosts[id.0].process.take() else { return };
        self.stats.turns += 1;
        self.digest.word(self.engine.now().as_nanos());
        self.digest.word(id.0 as u64);
        let operations = process.disk().operations();
        let turn = process.turn(now, inputs);
        process.take_seen(&mut self.seen);
        let sprung = if process.disk().is_dead() { None } else { self.spring(id) };
        if sprung == Some(Sprung::MidTurn) {
            process.disk().kill();
        }
        let kept = !process.disk().is_dead();
        self.show_seen(id, kept);
        self.show_log(id, kept);
        let mut outputs = std::mem::take(process.outputs());
        if kept {
            process.take_reports(&mut self.reports);
        }
        let is_silent =
            outputs.is_empty() && self.reports.is_empty() && process.disk().operations() == operations;
        self.show_reports(id);
        let (machine, disk) = (process.machine(), process.peek_disk());
        self.tell(id, Fact::TurnEnded { kept, machine, disk, wall: now.wall });
        self.hosts[id.0].process = Some(process);
        if !kept {
            self.on_killed(id);
            return;
        }
        self.perform(id, &mut outputs);
        // The buffer goes back, so that a turn allocates none.
        if let Some(process) = &mut self.hosts[id.0].process {
            *process.outputs() = outputs;
        }
        self.watch_disk(id);
        if sprung == Some(Sprung::AfterTurn) {
            self.on_killed(id);
            return;
        }
        match turn {
            Turn::Idle { deadline: None } => {}
            Turn::Idle { deadline: Some((at, why)) } => {
                let now = self.engine.now();
                let host = &mut self.hosts[id.0];
                let late = host.turn_rng.below(TIMER_LATE_MAX.as_nanos() as u64);
                let at = host.skew.real(at);
                host.spins = if is_silent && at <= now { host.spins + 1 } else { 0 };
                if host.spins == SPINS_MAX {
                    self.find_busy_loop(why);
                }
                self.schedule_turn(id, at.max(now) + Duration::from_nanos(late));
            }
            Turn::More => self.wake(id),
            Turn::Failed { reason, restart } => self.on_failed(id, &reason, restart),
        }
    }

    fn find_busy_loop(&mut self, why: &str) {
        let what = format!("the machine was called {SPINS_MAX} times for \"{why}\" and did nothing");
        self.violation.get_or_insert(Violation { kind: Kind::Liveness, checker: "busy loop", what });
    }

    fn on_failed(&mut self, id: HostId, reason: &str, restart: bool) {
        self.tell(id, Fact::Failed { reason, restart });
        self.die(id, Death::Process);
        self.hosts[id.0].gave_up = !restart;
        if restart {
            self.engine.schedule(self.engine.now() + FAILED_RESTART, Event::Start { host: id });
        }
    }

    fn perform(&mut self, id: HostId, outputs: &mut Vec<Output>) {
        for output in outputs.drain(..) {
            match output {
                Output::Dial(conn, peer) => self.dial(id, conn, &peer),
                Output::Send(conn, packet) => self.send(id, conn, packet),
                Output::Close(conn) => self.close(id, conn),
            }
        }
        self.flush(id);
    }

    /// Schedules the completion of what the turn began.
    fn watch_disk(&mut self, id: HostId) {
        let now = self.engine.now();
        let host = &mut self.hosts[id.0];
        let Some(process) = &mut host.process else { return };
        for pending in process.disk().pending() {
            if host.known_tickets.contains(&pending.ticket) {
                continue;
            }
            host.known_tickets.push(pending.ticket);
            let delay = completion_nanos(pending.kind, &mut host.disk_rng) + host.disk_delay_nanos;
            let at = now + Duration::from_nanos(delay);
            self.engine.schedule(at, Event::DiskDone { host: id, life: host.life, ticket: pending.ticket });
        }
    }

    pub(super) fn on_disk_done(&mut self, id: HostId, life: u32, ticket: Ticket) {
        let host = &mut self.hosts[id.0];
        if host.life != life {
            return;
        }
        let Some(process) = &mut host.process else { return };
        host.known_tickets.retain(|known| *known != ticket);
        let mut result: Result<(), DiskError> = Ok(());
        if matches!(ticket, Ticket::Sync(_)) && host.failing_syncs > 0 {
            host.failing_syncs -= 1;
            result = Err(DiskError::Io);
        }
        if !process.disk().complete(ticket, result) {
            return;
        }
        // The disk may have known better.
        let result = process.disk().last_result().unwrap_or(Ok(()));
        self.digest.word(self.engine.now().as_nanos() ^ 0x30);
        self.tell(id, Fact::DiskCompleted { ticket, result });
        self.wake(id);
    }

    /// Shows what entered, and what left if it did.
    fn show_seen(&mut self, id: HostId, kept: bool) {
        let seen = std::mem::take(&mut self.seen);
        for what in &seen {
            let settled = matches!(what, Seen::Settled);
            if settled && !kept {
                break;
            }
            self.trace_seen(id, what);
            if self.hosts[id.0].plan.tapped && !settled {
                self.tell(id, Fact::Seen(what));
            }
        }
        self.seen = seen;
        self.seen.clear();
    }

    /// Shows log lines, but not the dying words of a process whose disk was taken away in the turn.
    fn show_log(&mut self, id: HostId, kept: bool) {
        for line in log::take() {
            self.trace_with(id, |out| out.push_str(&format!("log {line}")));
            if kept {
                self.tell(id, Fact::Log(&line));
            }
        }
    }

    fn show_reports(&mut self, id: HostId) {
        let reports = std::mem::take(&mut self.reports);
        for report in &reports {
            self.trace_with(id, |out| out.push_str(&format!("tells {report:?}")));
            self.tell(id, Fact::Report(report));
        }
        self.reports = reports;
        self.reports.clear();
    }
}

/// How long the device takes: mostly fast, sometimes slow, rarely very slow.
fn completion_nanos(kind: PendingKind, rng: &mut gantry_core::rng::Rng) -> u64 {
    const MICRO: u64 = 1_000;
    const MILLI: u64 = 1_000 * MICRO;
    let usual = match kind {
        PendingKind::Fetch => 50 * MICRO + rng.below(2 * MILLI),
        PendingKind::File | PendingKind::Dir | PendingKind::Replace => 200 * MICRO + rng.below(8 * MILLI),
    };
    let slow = match rng.below(100) {
        0 => rng.below(500 * MILLI),
        1..=5 => rng.below(50 * MILLI),
        _ => 0,
    };
    usual + slow
}
