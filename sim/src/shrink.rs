//! Making a failing world small: what can be left out while the same checker still fails is left out.
//!
//! Faults first, then clients, then messages and the applications of fleets, then the durations of faults are halved, then the end is drawn near. Each step
//! runs the world again; nothing here is drawn by chance.

use std::rc::Rc;

use gantry_core::time::Duration;

use crate::check::ClientKind;
use crate::fault::{Fault, FaultEntry};
use crate::plan::Plan;
use crate::run;
use crate::workload::client::AppPlan;

/// A failing plan on its way to become small.
pub struct Shrinker<'a> {
    plan: Plan,
    checker: &'static str,
    runs: u64,
    progress: &'a mut dyn FnMut(&str),
}

/// A duration is not halved below this.
const SHORT: Duration = Duration::from_millis(1);

/// Makes `plan` small; `None` when it does not fail. `progress` is told of each step. Besides the plan, how many worlds ran.
pub fn shrink(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Option<(Plan, u64)> {
    let (_, violation) = run::run(plan).violation?;
    let mut shrinker = Shrinker { plan: plan.clone(), checker: violation.checker, runs: 1, progress };
    shrinker.all();
    Some((shrinker.plan, shrinker.runs))
}

impl Shrinker<'_> {
    fn all(&mut self) {
        let faults: Vec<usize> = (0..self.plan.faults.len()).collect();
        self.drop_from("faults", faults, |plan, kept| plan.keep_faults(kept));
        // Their chance comes from their places in the list: it may fail only while those left out stay there.
        self.attempt("the list of faults", |plan| plan.faults.retain(|entry| !entry.disabled));
        let clients = self.plan.clients.clone();
        self.drop_from("clients", clients, |plan, kept| plan.clients = kept.to_vec());
        self.attempt("what absent clients would do", forget_absent);
        let sends = self.plan.producer.sends.clone();
        self.drop_from("sends", sends, |plan, kept| Rc::make_mut(&mut plan.producer).sends = kept.to_vec());
        let sends = self.plan.delayer.to_vec();
        self.drop_from("delayed sends", sends, |plan, kept| plan.delayer = Rc::new(kept.to_vec()));
        let sends = self.plan.retrier.sends.clone();
        self.drop_from("retried sends", sends, |plan, kept| {
            Rc::make_mut(&mut plan.retrier).sends = kept.to_vec();
        });
        self.fleet();
        for index in 0..self.plan.faults.len() {
            while self.attempt("the duration of a fault", |plan| halve(&mut plan.faults[index])) {}
        }
        // A fleet is judged when everything has settled: its world must last.
        if self.plan.fleet.is_none()
            && let Some((at, _)) = run::run(&self.plan).violation
        {
            self.attempt("the end", |plan| plan.ends_at = plan.ends_at.min(at + Duration::from_secs(1)));
        }
    }

    /// Applications, their sends, and topics that grow.
    fn fleet(&mut self) {
        let Some(fleet) = self.plan.fleet.clone() else { return };
        let is_there = |at: &usize| !fleet.apps[*at].left_out;
        let apps: Vec<usize> = (0..fleet.apps.len()).filter(is_there).collect();
        self.drop_from("applications", apps, |plan, kept| {
            for (at, app) in plan.fleet.iter_mut().flat_map(|fleet| fleet.apps.iter_mut()).enumerate() {
                app.left_out = !kept.contains(&at);
            }
        });
        self.drop_from_apps("sends", &fleet.apps, |app| &app.sends, |app| &mut app.sends);
        self.drop_from_apps("seeks", &fleet.apps, |app| &app.seeks, |app| &mut app.seeks);
        self.drop_from("growth", fleet.growth, |plan, kept| {
            plan.fleet.iter_mut().for_each(|fleet| fleet.growth = kept.to_vec());
        });
    }

    /// Leaves out of what each application does.
    fn drop_from_apps<T: Clone>(
        &mut self,
        what: &str,
        apps: &[AppPlan],
        read: impl Fn(&AppPlan) -> &Vec<T>,
        write: impl Fn(&mut AppPlan) -> &mut Vec<T>,
    ) {
        let all = apps.iter().enumerate();
        let all = all.flat_map(|(at, app)| read(app).iter().map(move |one| (at, one.clone()))).collect();
        self.drop_from(what, all, |plan, kept| {
            for (at, app) in plan.fleet.iter_mut().flat_map(|fleet| fleet.apps.iter_mut()).enumerate() {
                *write(app) = kept.iter().filter(|(of, _)| *of == at).map(|(_, one)| one.clone()).collect();
            }
        });
    }

    /// Keeps a change if the same checker still fails.
    fn attempt(&mut self, what: &str, change: impl FnOnce(&mut Plan)) -> bool {
        let mut smaller = self.plan.clone();
        change(&mut smaller);
        if smaller.to_toml() == self.plan.to_toml() {
            return false;
        }
        self.runs += 1;
        let fails =
            run::run(&smaller).violation.is_some_and(|(_, violation)| violation.checker == self.checker);
        if fails {
            self.plan = smaller;
            (self.progress)(&format!("run {}: shorter by {what}", self.runs));
        }
        fails
    }

    /// Leaves out stretches of a list: halves first, then ever smaller ones.
    fn drop_from<T: Clone>(&mut self, what: &str, items: Vec<T>, put: impl Fn(&mut Plan, &[T])) {
        let mut kept = items;
        let mut chunk = kept.len();
        while chunk > 0 {
            let mut at = 0;
            while at < kept.len() {
                let mut rest = kept.clone();
                rest.drain(at..(at + chunk).min(kept.len()));
                let text = format!("{chunk} of {} {what}", kept.len());
                if self.attempt(&text, |plan| put(plan, &rest)) {
                    kept = rest;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
    }
}

/// Leaves out the scripts of clients that the world does not have. (Those that consume in order keep their places among the hosts.)
fn forget_absent(plan: &mut Plan) {
    let clients = plan.clients.clone();
    let has = |client| clients.contains(&client);
    Rc::make_mut(&mut plan.manager).retain(|_| has(ClientKind::Manager) || has(ClientKind::Recreator));
    Rc::make_mut(&mut plan.administrator).retain(|_| has(ClientKind::Administrator));
    Rc::make_mut(&mut plan.babbler).retain(|_| has(ClientKind::Babbler));
    Rc::make_mut(&mut plan.asker).retain(|_| has(ClientKind::Asker));
    Rc::make_mut(&mut plan.insister).retain(|_| has(ClientKind::Insister));
    Rc::make_mut(&mut plan.delayer).retain(|_| has(ClientKind::Delayer));
    plan.resets.retain(|_| has(ClientKind::Resetter));
}

fn halve(entry: &mut FaultEntry) {
    let lasts = match &mut entry.fault {
        Fault::ProcessDeath { down, .. }
        | Fault::PowerLoss { down, .. }
        | Fault::JointDeath { down, .. }
        | Fault::CleanStop { down, .. }
        | Fault::DiskLoss { down, .. }
        | Fault::AtMoment { down, .. } => down,
        Fault::Partition { lasts, .. }
        | Fault::Isolation { lasts, .. }
        | Fault::Pause { lasts, .. }
        | Fault::Latency { lasts, .. }
        | Fault::SlowDisk { lasts, .. }
        | Fault::FullDisk { lasts, .. }
        | Fault::LyingSyncs { lasts, .. }
        | Fault::DialRefusal { lasts, .. }
        | Fault::NoDescriptors { lasts, .. }
        | Fault::Clogging { lasts, .. }
        | Fault::Bandwidth { lasts, .. }
        | Fault::Deafness { lasts, .. }
        | Fault::ClockJump { lasts, .. }
        | Fault::ClockDrift { lasts, .. }
        | Fault::DiskErrors { lasts, .. } => lasts,
        Fault::Reset { .. }
        | Fault::BitFlips { .. }
        | Fault::DamagedBody { .. }
        | Fault::HalfOpen { .. }
        | Fault::FailedSync { .. } => {
            return;
        }
    };
    if *lasts / 2 >= SHORT {
        *lasts /= 2;
    }
}
