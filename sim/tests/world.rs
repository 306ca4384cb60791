//! The world itself, with the smallest machines that show it: one asks, one answers, and both write down what they see.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use gantry_core::io::{
    CREDIT_BYTES, CloseReason, ConnId, Disk as _, Effect, Env, FileKind, Input, Machine, Now, Peer, Protocol,
};
use gantry_core::time::{Duration, Instant};
use gantry_core::wire::{Command, Ext, Packet};
use gantry_disk::MemoryDisk;
use gantry_sim::fault::{Death, Fault, FaultEntry, Way};
use gantry_sim::history::{Report, Tell};
use gantry_sim::process::Process;
use gantry_sim::world::{
    Fact, HostId, HostPlan, IDLE_LIMIT_S, Life, NetworkOptions, Observer, Violation, World, WorldOptions,
};

const ASKER: HostId = HostId(0);
const ANSWERER: HostId = HostId(1);
const ASK_EVERY: Duration = Duration::from_secs(10);
const CODE: i32 = 7_000;

/// What the asker lived through.
#[derive(Clone, PartialEq, Debug)]
enum Note {
    Opened,
    Answered(i32),
    Drained,
    Closed(CloseReason),
}

impl Tell for Note {
    fn report(self) -> Option<Report> {
        Some(Report::Broken { what: format!("{self:?}") })
    }
}

/// Asks every ten seconds, or sends everything at once.
struct Asker {
    conn: Option<ConnId>,
    dialled: u64,
    asked: i32,
    burst_bytes: usize,
    next: Instant,
}

impl Asker {
    fn new(now: Now, burst_bytes: usize) -> Asker {
        Asker { conn: None, dialled: 0, asked: 0, burst_bytes, next: now.mono }
    }

    fn ask(&mut self, conn: ConnId, env: &mut Env<'_, MemoryDisk, Note>) {
        self.asked += 1;
        let mut command = Command::request(CODE, Ext::None).with_body(vec![7; self.burst_bytes]);
        command.opaque = self.asked;
        env.send(conn, command);
    }
}

impl Machine<MemoryDisk> for Asker {
    type Command = ();
    type Event = Note;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Note>) {
        let note = match input {
            Input::Start
            | Input::Wake
            | Input::Command(())
            | Input::Synced { .. }
            | Input::Fetched { .. } => return,
            Input::Opened { conn, .. } => {
                self.conn = Some(conn);
                Note::Opened
            }
            Input::Received { packet: Packet::Command(command), .. } => Note::Answered(command.opaque),
            Input::Received { .. } => unreachable!("remoting only"),
            Input::Drained { .. } => Note::Drained,
            Input::Closed { why, .. } => {
                self.conn = None;
                Note::Closed(why)
            }
        };
        env.out.push(Effect::Emit(note));
    }

    fn settle(&mut self, now: Now, env: &mut Env<'_, MemoryDisk, Note>) {
        if now.mono < self.next {
            return;
        }
        self.next = now.mono + ASK_EVERY;
        match self.conn {
            Some(conn) => self.ask(conn, env),
            None => {
                let conn = ConnId::dialled(self.dialled);
                self.dialled += 1;
                let peer = Peer { address: "10.0.0.2:9876".into(), protocol: Protocol::Remoting };
                env.out.push(Effect::Dial { conn, peer });
            }
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        Some((self.next, "ask"))
    }
}

/// Answers each request after writing it down, and counts.
struct Answerer {
    file: Option<gantry_core::io::FileId>,
    len: u64,
}

impl Machine<MemoryDisk> for Answerer {
    type Command = ();
    type Event = Note;

    fn step(&mut self, _now: Now, input: Input<()>, env: &mut Env<'_, MemoryDisk, Note>) {
        match input {
            Input::Start => {
                let file = env
                    .disk
                    .open("asked", FileKind::Journal)
                    .or_else(|_| env.disk.create("asked", 0, FileKind::Journal));
                self.file = file.ok();
                self.len = self.file.map_or(0, |file| env.disk.len(file).unwrap_or(0));
            }
            Input::Received { conn, packet: Packet::Command(command) } => {
                let Some(file) = self.file else { return };
                let _ = env.disk.write(file, self.len, &[1]);
                self.len += 1;
                env.send(conn, Command::response(&command, 0, Ext::None));
            }
            Input::Closed { why: CloseReason::Idle, .. } => {
                env.out.push(Effect::Emit(Note::Closed(CloseReason::Idle)));
            }
            Input::Received { .. }
            | Input::Opened { .. }
            | Input::Drained { .. }
            | Input::Closed { .. }
            | Input::Synced { .. }
            | Input::Fetched { .. }
            | Input::Wake
            | Input::Command(()) => {}
        }
    }

    fn settle(&mut self, _now: Now, _env: &mut Env<'_, MemoryDisk, Note>) {}

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

type Notes = Rc<RefCell<Vec<(u64, String)>>>;

struct Keeper(Notes);

impl Observer for Keeper {
    fn observe(&mut self, at: Instant, host: HostId, fact: Fact<'_>) -> Option<Violation> {
        let text = if let Fact::Report(Report::Broken { what }) = fact {
            what.clone()
        } else if host == ANSWERER
            && let Fact::Died(death) = fact
        {
            format!("Died({death:?})")
        } else if host == ANSWERER
            && let Fact::Started { life: 2.. } = fact
        {
            "Restarted".to_owned()
        } else {
            return None;
        };
        self.0.borrow_mut().push((at.as_nanos() / 1_000_000_000, text));
        None
    }
}

fn secs(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}

struct Run {
    seed: u64,
    cut_frames: bool,
    burst_bytes: usize,
    faults: Vec<(u64, Fault)>,
    disabled: Vec<usize>,
    secs: u64,
}

impl Default for Run {
    fn default() -> Self {
        Run { seed: 1, cut_frames: false, burst_bytes: 0, faults: Vec::new(), disabled: Vec::new(), secs: 60 }
    }
}

struct Ran {
    notes: Vec<(u64, String)>,
    digest: u64,
    written: usize,
}

fn run(run: Run) -> Ran {
    let notes: Notes = Rc::default();
    let plan = |name: &str, last, listens, spawn| HostPlan {
        name: name.to_owned(),
        ip: Ipv4Addr::new(10, 0, 0, last),
        listens,
        starts: Instant::ZERO,
        tapped: true,
        cold_per_mille: 0,
        disk_bytes: None,
        spawn,
    };
    let burst_bytes = run.burst_bytes;
    let plans = vec![
        plan(
            "asker",
            1,
            Vec::new(),
            Box::new(move |life: Life| {
                let asker = Asker::new(life.now, burst_bytes);
                life.run(asker)
            }) as Box<dyn Fn(Life) -> Box<dyn Process>>,
        ),
        plan(
            "answerer",
            2,
            vec![(9876, Protocol::Remoting)],
            Box::new(|life: Life| life.run(Answerer { file: None, len: 0 })),
        ),
    ];
    let faults = run
        .faults
        .into_iter()
        .enumerate()
        .map(|(index, (at, fault))| FaultEntry {
            at: secs(at),
            fault,
            disabled: run.disabled.contains(&index),
        })
        .collect();
    let options = WorldOptions {
        network: NetworkOptions {
            cut_frames: run.cut_frames,
            idle_limit_s: IDLE_LIMIT_S,
            latency_nanos_max: 1_000_000,
        },
        check_invariants: true,
        turn_inputs_max: 256,
        trace: false,
    };
    let mut world = World::new(run.seed, plans, faults, options, Keeper(notes.clone()));
    world.run(secs(run.secs));
    let written = world.disk(ANSWERER).peek("asked").map_or(0, |bytes| bytes.len());
    let digest = world.digest();
    Ran { notes: notes.take(), digest, written }
}

fn check(ran: &Ran, expect: &[(u64, &str)]) {
    let expect: Vec<(u64, String)> = expect.iter().map(|(at, text)| (*at, (*text).to_owned())).collect();
    assert_eq!(ran.notes, expect);
}

#[test]
fn each_question_is_answered_however_the_bytes_are_cut() {
    let expect = [(0, "Opened"), (10, "Answered(1)"), (20, "Answered(2)"), (30, "Answered(3)")];
    for seed in 0..20 {
        for cut_frames in [false, true] {
            let ran = run(Run { seed, cut_frames, secs: 35, ..Run::default() });
            check(&ran, &expect);
            assert_eq!(ran.written, 3);
        }
    }
}

#[test]
fn a_seed_names_its_run() {
    let of = |seed| run(Run { seed, cut_frames: true, ..Run::default() }).digest;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn a_dead_process_is_noticed_at_once_and_refuses_until_it_is_back() {
    let fault = Fault::ProcessDeath { host: ANSWERER, operation: 0, down: Duration::from_secs(20) };
    let ran = run(Run { faults: vec![(15, fault)], secs: 55, ..Run::default() });
    check(
        &ran,
        &[
            (0, "Opened"),
            (10, "Answered(1)"),
            (15, "Died(Process)"),
            (15, "Closed(Peer)"),
            (20, "Closed(DialFailed)"),
            (30, "Closed(DialFailed)"),
            (35, "Restarted"),
            (40, "Opened"),
            (50, "Answered(2)"),
        ],
    );
}

#[test]
fn a_death_in_a_disk_operation_takes_the_answer_with_it() {
    let fault = Fault::ProcessDeath { host: ANSWERER, operation: 2, down: Duration::from_secs(1) };
    let mut written = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let ran = run(Run { seed, faults: vec![(5, fault.clone())], secs: 21, ..Run::default() });
        let at = |secs, text: &str| (secs, text.to_owned());
        assert_eq!(ran.notes[1], at(10, "Answered(1)"));
        assert_eq!(ran.notes[2], at(20, "Died(Process)"));
        assert_eq!(ran.notes[3], at(20, "Closed(Peer)"));
        written.insert(ran.written);
    }
    assert_eq!(written.into_iter().collect::<Vec<_>>(), [1, 2], "the operation happens, or not");
}

#[test]
fn lost_power_is_silence_until_it_is_back() {
    let fault = Fault::PowerLoss {
        hosts: vec![ANSWERER],
        operation: 0,
        apart: Duration::ZERO,
        down: Duration::from_secs(50),
    };
    let ran = run(Run { faults: vec![(15, fault)], secs: 140, ..Run::default() });
    let notes: Vec<&str> = ran.notes.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(notes[..5], ["Opened", "Answered(1)", "Died(Power)", "Restarted", "Closed(Peer)"]);
    assert!(ran.notes[4].0 >= 65, "{:?}", ran.notes);
}

#[test]
fn the_other_end_of_a_host_without_power_idles_out() {
    let fault = Fault::PowerLoss {
        hosts: vec![ASKER],
        operation: 0,
        apart: Duration::ZERO,
        down: Duration::from_secs(400),
    };
    let ran = run(Run { faults: vec![(15, fault)], secs: 300, ..Run::default() });
    check(&ran, &[(0, "Opened"), (10, "Answered(1)"), (130, "Closed(Idle)")]);
}

#[test]
fn what_was_sent_through_a_cut_cable_arrives_after_it() {
    let fault = Fault::Partition { a: ASKER, b: ANSWERER, way: Way::Forward, lasts: Duration::from_secs(20) };
    let ran = run(Run { faults: vec![(15, fault)], secs: 100, ..Run::default() });
    let answers: Vec<&(u64, String)> =
        ran.notes.iter().filter(|(_, text)| text.starts_with("Answered")).collect();
    assert_eq!(answers.len(), 9, "{answers:?}");
    assert!(answers[1].0 >= 35, "held up: {answers:?}");
    assert!(!ran.notes.iter().any(|(_, text)| text.starts_with("Closed")));
}

#[test]
fn a_paused_process_answers_when_it_goes_on() {
    let fault = Fault::Pause { host: ANSWERER, lasts: Duration::from_secs(25) };
    let ran = run(Run { faults: vec![(15, fault)], secs: 45, ..Run::default() });
    check(
        &ran,
        &[(0, "Opened"), (10, "Answered(1)"), (40, "Answered(2)"), (40, "Answered(3)"), (40, "Answered(4)")],
    );
}

#[test]
fn a_reset_is_seen_by_both_ends() {
    let ran =
        run(Run { faults: vec![(15, Fault::Reset { a: ASKER, b: ANSWERER })], secs: 35, ..Run::default() });
    check(
        &ran,
        &[(0, "Opened"), (10, "Answered(1)"), (15, "Closed(Peer)"), (20, "Opened"), (30, "Answered(2)")],
    );
}

#[test]
fn credit_comes_back_when_everything_sent_has_left() {
    let ran = run(Run { burst_bytes: CREDIT_BYTES as usize, secs: 15, ..Run::default() });
    check(&ran, &[(0, "Opened"), (10, "Drained"), (10, "Answered(1)")]);
    let ran = run(Run { burst_bytes: CREDIT_BYTES as usize / 2, secs: 25, ..Run::default() });
    check(&ran, &[(0, "Opened"), (10, "Answered(1)"), (20, "Drained"), (20, "Answered(2)")]);
}

#[test]
fn a_fault_left_out_leaves_the_others_as_they_were() {
    let faults = || {
        vec![
            (12, Fault::Reset { a: ASKER, b: ANSWERER }),
            (33, Fault::ProcessDeath { host: ANSWERER, operation: 0, down: Duration::from_secs(1) }),
        ]
    };
    let only_second = run(Run { faults: faults(), disabled: vec![0], ..Run::default() });
    assert!(only_second.notes.contains(&(33, format!("Died({:?})", Death::Process))));
    assert!(!only_second.notes.iter().any(|(at, _)| *at == 12));
}

#[test]
fn a_pause_that_outlives_its_process_does_not_hold_up_the_next_one() {
    let faults = vec![
        (12, Fault::Pause { host: ANSWERER, lasts: Duration::from_secs(200) }),
        (13, Fault::ProcessDeath { host: ANSWERER, operation: 0, down: Duration::from_secs(1) }),
        (22, Fault::Pause { host: ANSWERER, lasts: Duration::from_secs(1) }),
    ];
    let ran = run(Run { faults, secs: 55, ..Run::default() });
    let answers = ran.notes.iter().filter(|(_, text)| text.starts_with("Answered"));
    assert_eq!(answers.map(|(at, _)| *at).collect::<Vec<_>>(), [10, 30, 40, 50]);
}

#[test]
fn who_has_not_heard_of_the_end_of_a_connection_hears_as_it_sends() {
    let fault = Fault::HalfOpen { open: ASKER, gone: ANSWERER };
    let ran = run(Run { faults: vec![(15, fault)], secs: 45, ..Run::default() });
    check(
        &ran,
        &[(0, "Opened"), (10, "Answered(1)"), (20, "Closed(Peer)"), (30, "Opened"), (40, "Answered(3)")],
    );
}

#[test]
fn who_takes_no_connections_keeps_those_that_there_are() {
    let refusal = Fault::DialRefusal { host: ANSWERER, lasts: Duration::from_secs(20) };
    let reset = Fault::Reset { a: ASKER, b: ANSWERER };
    let ran = run(Run { faults: vec![(5, refusal), (15, reset)], secs: 45, ..Run::default() });
    check(
        &ran,
        &[
            (0, "Opened"),
            (10, "Answered(1)"),
            (15, "Closed(Peer)"),
            (20, "Closed(DialFailed)"),
            (30, "Opened"),
            (40, "Answered(2)"),
        ],
    );
}

#[test]
fn who_reads_nothing_answers_everything_later() {
    let fault = Fault::Deafness { host: ANSWERER, lasts: Duration::from_secs(25) };
    let ran = run(Run { faults: vec![(15, fault)], secs: 45, ..Run::default() });
    check(
        &ran,
        &[(0, "Opened"), (10, "Answered(1)"), (40, "Answered(2)"), (40, "Answered(3)"), (40, "Answered(4)")],
    );
}

#[test]
fn a_narrow_link_takes_its_time_for_each_byte() {
    let (lasts, bytes_per_s) = (Duration::from_secs(100), 1_000);
    let fault = Fault::Bandwidth { a: ASKER, b: ANSWERER, bytes_per_s, lasts };
    let ran = run(Run { burst_bytes: 25_000, faults: vec![(5, fault)], secs: 70, ..Run::default() });
    let answers: Vec<&(u64, String)> =
        ran.notes.iter().filter(|(_, text)| text.starts_with("Answered")).collect();
    let expect = [(35, "Answered(1)".to_owned()), (60, "Answered(2)".to_owned())];
    assert_eq!(answers, expect.iter().collect::<Vec<_>>());
}

#[test]
fn clogged_hosts_come_back_the_last_one_first() {
    let hosts = vec![ASKER, ANSWERER];
    let (apart, lasts) = (Duration::from_secs(2), Duration::from_secs(20));
    let fault = Fault::Clogging { hosts, apart, lasts };
    assert_eq!(fault.lasts(), Duration::from_secs(28));
    let ran = run(Run { faults: vec![(15, fault)], secs: 100, ..Run::default() });
    let answers: Vec<&(u64, String)> =
        ran.notes.iter().filter(|(_, text)| text.starts_with("Answered")).collect();
    assert_eq!(answers.len(), 9, "{answers:?}");
    assert!(answers[1].0 >= 39, "both are back after 15 s, 2 s, 20 s and 2 s: {answers:?}");
}

#[test]
fn processes_that_die_together_die_in_one_instant() {
    let fault = Fault::JointDeath { hosts: vec![ASKER, ANSWERER], down: Duration::from_secs(10) };
    let ran = run(Run { faults: vec![(15, fault)], secs: 40, ..Run::default() });
    let later: Vec<&str> =
        ran.notes.iter().filter(|(at, _)| *at >= 15).map(|(_, text)| text.as_str()).collect();
    // Nobody lives to hear of it: the asker's first word afterwards is that of its next life.
    assert_eq!(later, ["Died(Process)", "Restarted", "Opened", "Answered(1)"]);
}

/// Wants to be called at once, for ever, and does nothing then; or not before it has slept.
struct Spinner {
    sleeps: Duration,
    wakes_at: Instant,
}

impl Machine<MemoryDisk> for Spinner {
    type Command = ();
    type Event = Note;

    fn step(&mut self, _now: Now, _input: Input<()>, _env: &mut Env<'_, MemoryDisk, Note>) {}

    fn settle(&mut self, now: Now, _env: &mut Env<'_, MemoryDisk, Note>) {
        if self.wakes_at <= now.mono {
            self.wakes_at = now.mono + self.sleeps;
        }
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        Some((self.wakes_at, "nothing"))
    }
}

fn spin(sleeps: Duration) -> Option<Violation> {
    let plan = HostPlan {
        name: "spinner".to_owned(),
        ip: Ipv4Addr::new(10, 0, 0, 1),
        listens: Vec::new(),
        starts: Instant::ZERO,
        tapped: false,
        cold_per_mille: 0,
        disk_bytes: None,
        spawn: Box::new(move |life: Life| life.run(Spinner { sleeps, wakes_at: Instant::ZERO })),
    };
    let options = WorldOptions {
        network: NetworkOptions {
            cut_frames: false,
            idle_limit_s: IDLE_LIMIT_S,
            latency_nanos_max: 1_000_000,
        },
        check_invariants: true,
        turn_inputs_max: 256,
        trace: false,
    };
    let mut world = World::new(1, vec![plan], Vec::new(), options, Keeper(Rc::default()));
    world.run(secs(60)).cloned()
}

#[test]
fn a_machine_that_wants_to_be_called_again_and_again_for_nothing_is_found() {
    let found = spin(Duration::ZERO).expect("a busy loop");
    assert_eq!(found.checker, "busy loop");
    assert!(found.what.contains("nothing"), "{found:?}");
    assert_eq!(spin(Duration::from_millis(10)), None, "a timer is none");
}
