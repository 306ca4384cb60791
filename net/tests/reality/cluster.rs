//! A name server, a master and its slave, each a `gantry` process, with proxies in front of them, and what goes wrong with them.
//!
//! The master says that it lives at 127.0.0.2, where proxies listen for 127.0.0.1: so clients and the slave come through them.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gantry_core::rng::Rng;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::{Command as Packet, Ext};
use gantry_sim::check::outside::What;
use gantry_sim::history::topic_name;
use gantry_sim::plan::CAST;
use gantry_sim::world::HostId;
use rustix::process::Signal;

use super::history::History;
use super::program::{Gantry, ask, free_broker_port, free_port, gantry, start};
use super::proxy::Proxy;

/// Something that goes wrong. Those of clients are theirs to carry out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// `kill -9`, and a start after this time.
    KillMaster(Duration),
    KillNameServer(Duration),
    /// SIGSTOP for this time.
    StopMaster(Duration),
    StopNameServer(Duration),
    /// Clients lose their connections to the broker.
    CutClients,
    /// Nothing passes between clients and broker.
    HoldClients(Duration),
    /// The next answer of the broker is lost.
    LoseAnswer,
    /// The broker loses its connection to the name server.
    CutRegistration,
    /// Nothing passes between broker and name server.
    HoldRegistration(Duration),
    /// A member leaves its group and another one comes.
    ReplaceMember,
    KillSlave(Duration),
    StopSlave(Duration),
    /// The slave loses its connections for the log.
    CutReplication,
    /// The next that the master sends of its log is lost, and the connection with it.
    LosePartOfLog,
    /// Nothing of the log passes.
    HoldReplication(Duration),
}

impl Fault {
    fn draw(kind: u64, rng: &mut Rng) -> Fault {
        let mut up_to = |millis: u64| Duration::from_millis(rng.below(millis));
        match kind {
            0 => Fault::KillMaster(up_to(700)),
            1 => Fault::StopMaster(up_to(2_500)),
            2 => Fault::KillNameServer(up_to(700)),
            3 => Fault::StopNameServer(up_to(2_500)),
            4 => Fault::CutClients,
            5 => Fault::HoldClients(up_to(2_500)),
            6 => Fault::LoseAnswer,
            7 => Fault::CutRegistration,
            8 => Fault::HoldRegistration(up_to(2_500)),
            9 => Fault::ReplaceMember,
            10 => Fault::KillSlave(up_to(700)),
            11 => Fault::StopSlave(up_to(2_500)),
            12 => Fault::CutReplication,
            13 => Fault::LosePartOfLog,
            14 => Fault::HoldReplication(up_to(2_500)),
            // So long that its route must be seen to go.
            _ => Fault::KillMaster(Duration::from_millis(3_000)),
        }
    }

    /// What goes wrong in so long a time, each after a pause: everything once and a master's death thrice, in any order, and then
    /// whatever is drawn.
    pub(crate) fn draw_all(rng: &mut Rng, time: Duration) -> Vec<(Duration, Fault)> {
        const KINDS: u64 = 16;
        let mut kinds: Vec<u64> = (0..KINDS).chain([0]).collect();
        for last in (1..kinds.len()).rev() {
            kinds.swap(last, usize::try_from(rng.below(last as u64 + 1)).unwrap());
        }
        let mut kinds = kinds.into_iter();
        let (mut faults, mut at) = (Vec::new(), Duration::ZERO);
        while at < time {
            let pause = Duration::from_millis(100 + rng.below(900));
            let other = rng.below(KINDS);
            let fault = Fault::draw(kinds.next().unwrap_or(other), rng);
            at += pause + fault.lasts();
            faults.push((pause, fault));
        }
        faults
    }

    fn lasts(self) -> Duration {
        match self {
            Fault::KillMaster(time)
            | Fault::KillNameServer(time)
            | Fault::StopMaster(time)
            | Fault::StopNameServer(time)
            | Fault::HoldClients(time)
            | Fault::HoldRegistration(time)
            | Fault::KillSlave(time)
            | Fault::StopSlave(time)
            | Fault::HoldReplication(time) => time,
            Fault::CutClients
            | Fault::LoseAnswer
            | Fault::CutRegistration
            | Fault::ReplaceMember
            | Fault::CutReplication
            | Fault::LosePartOfLog => Duration::ZERO,
        }
    }
}

struct Role {
    host: HostId,
    /// Of the program's roles.
    role: &'static str,
    name: &'static str,
    lives: u32,
    process: Option<Gantry>,
}

pub(crate) struct Cluster {
    home: PathBuf,
    history: History,
    broker_port: u16,
    namesrv: Role,
    master: Role,
    slave: Role,
    /// Between clients and broker.
    front: Proxy,
    /// Between slave and broker.
    replication: Proxy,
    /// Between broker and name server.
    registration: Proxy,
    /// Between slave and name server.
    slave_registration: Proxy,
    /// Between clients and name server.
    names: Proxy,
}

impl Cluster {
    pub(crate) fn start(home: &Path, history: &History) -> Cluster {
        let (namesrv_port, broker_port) = (free_port(), free_broker_port());
        let local = |host: u8, port: u16| SocketAddr::from(([127, 0, 0, host], port));
        let name_server = local(1, namesrv_port);
        let watched = || Proxy::new(local(1, 0), name_server, Some(history));
        let role = |host, role, name| Role { host, role, name, lives: 0, process: None };
        let mut cluster = Cluster {
            home: home.to_owned(),
            history: history.clone(),
            broker_port,
            namesrv: role(CAST.name_server, "namesrv", "namesrv"),
            master: role(CAST.master, "broker", "master"),
            slave: role(CAST.follower, "broker", "slave"),
            front: Proxy::new(local(2, broker_port), local(1, broker_port), None),
            replication: Proxy::new(local(2, broker_port + 1), local(1, broker_port + 1), None),
            registration: watched(),
            slave_registration: watched(),
            names: watched(),
        };
        cluster.configure("namesrv", &format!("listenPort={namesrv_port}\nbindAddress=127.0.0.1\n"));
        cluster.configure_master("SYNC_MASTER", "store");
        let (slave_port, registers_at) = (free_broker_port(), cluster.slave_registration.address);
        let slave = format!("brokerId=1\nlistenPort={slave_port}\nbrokerIP1=127.0.0.1\n");
        cluster.configure_broker("slave", registers_at, "SLAVE", "slave-store", &slave);
        for role in [&mut cluster.namesrv, &mut cluster.master, &mut cluster.slave] {
            role.start(home, history);
        }
        cluster.make_topic();
        cluster
    }

    fn configure(&self, name: &str, text: &str) {
        fs::write(self.home.join(name).with_extension("conf"), text).unwrap();
    }

    fn configure_broker(&self, name: &str, names: SocketAddr, role: &str, store: &str, further: &str) {
        let text = format!(
            "brokerName=broker-a\nbrokerRole={role}\nbindAddress=127.0.0.1\nnamesrvAddr={names}\n\
             storePathRootDir={}\nmappedFileSizeCommitLog=1048576\nmaxMessageSize=65536\nmaxIndexNum=1000\n\
             maxHashSlotNum=100\nautoCreateTopicEnable=false\n{further}",
            self.home.join(store).display()
        );
        self.configure(name, &text);
    }

    fn configure_master(&self, role: &str, store: &str) {
        let port = self.broker_port;
        let further = format!("brokerId=0\nlistenPort={port}\nbrokerIP1=127.0.0.2\nbrokerIP2=127.0.0.2\n");
        self.configure_broker("master", self.registration.address, role, store, &further);
    }

    /// The master dies for good, and the slave goes with it: what it has in its store becomes the master's.
    pub(crate) fn take_over(&mut self) {
        self.master.die(&self.history);
        self.slave.die(&self.history);
        self.configure_master("ASYNC_MASTER", "slave-store");
        self.master.start(&self.home, &self.history);
    }

    /// Where clients find the master.
    pub(crate) fn master(&self) -> SocketAddr {
        self.front.address
    }

    /// Where clients find the name server.
    pub(crate) fn names(&self) -> SocketAddr {
        self.names.address
    }

    fn make_topic(&self) {
        let fields = [
            ("topic", topic_name(0)),
            ("defaultTopic", "TBW102".to_owned()),
            ("readQueueNums", super::QUEUES.to_string()),
            ("writeQueueNums", super::QUEUES.to_string()),
            ("perm", "6".to_owned()),
            ("topicFilterType", "SINGLE_TAG".to_owned()),
            ("topicSysFlag", "0".to_owned()),
            ("order", "false".to_owned()),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let made = ask(
            self.broker_port,
            Packet::request(request_code::UPDATE_AND_CREATE_TOPIC, Ext::Fields(fields)),
        );
        assert_eq!(made.code, response_code::SUCCESS, "{:?}", made.remark);
    }

    pub(crate) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::KillMaster(down) => self.master.kill(&self.home, &self.history, down),
            Fault::KillNameServer(down) => self.namesrv.kill(&self.home, &self.history, down),
            Fault::StopMaster(time) => self.master.pause(&self.history, time),
            Fault::StopNameServer(time) => self.namesrv.pause(&self.history, time),
            Fault::CutClients => self.front.cut(),
            Fault::CutRegistration => self.registration.cut(),
            Fault::LoseAnswer => self.front.lose_answer(),
            Fault::HoldClients(time) => hold(&self.front, time),
            Fault::HoldRegistration(time) => hold(&self.registration, time),
            Fault::ReplaceMember => {}
            Fault::KillSlave(down) => self.slave.kill(&self.home, &self.history, down),
            Fault::StopSlave(time) => self.slave.pause(&self.history, time),
            Fault::CutReplication => self.replication.cut(),
            Fault::LosePartOfLog => self.replication.lose_answer(),
            Fault::HoldReplication(time) => hold(&self.replication, time),
        }
    }

    /// Ends those that are left as an operator does; what all of them logged.
    pub(crate) fn stop(mut self) -> Vec<String> {
        [&mut self.master, &mut self.namesrv, &mut self.slave].map(|role| role.stop(&self.home)).into()
    }
}

fn hold(proxy: &Proxy, time: Duration) {
    proxy.hold(true);
    std::thread::sleep(time);
    proxy.hold(false);
}

impl Role {
    fn log(&self, home: &Path) -> PathBuf {
        home.join(self.name).with_extension("log")
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = gantry([self.role, "-c"]);
        let log: File = OpenOptions::new().create(true).append(true).open(self.log(home)).unwrap();
        command
            .arg(home.join(self.name).with_extension("conf"))
            .env("HOME", home.join(self.name))
            .stderr(log);
        command
    }

    fn start(&mut self, home: &Path, history: &History) {
        fs::create_dir_all(home.join(self.name)).unwrap();
        self.lives += 1;
        history.add(self.host, What::Started(self.lives));
        let process = start(self.command(home), 1);
        assert_eq!(process.lines.len(), 1, "the {} starts: see {}", self.name, self.log(home).display());
        self.process = Some(process);
    }

    fn kill(&mut self, home: &Path, history: &History, down: Duration) {
        self.die(history);
        std::thread::sleep(down);
        self.start(home, history);
    }

    fn die(&mut self, history: &History) {
        // Dropping it is `kill -9`, and waits for the end.
        self.process = None;
        history.add(self.host, What::Died);
    }

    fn pause(&mut self, history: &History, time: Duration) {
        let process = self.process.as_ref().unwrap();
        process.signal(Signal::STOP);
        history.add(self.host, What::Paused);
        std::thread::sleep(time);
        history.add(self.host, What::Resumed);
        process.signal(Signal::CONT);
    }

    fn stop(&mut self, home: &Path) -> String {
        let status = self.process.take().map(|mut process| {
            process.signal(Signal::TERM);
            process.child.wait().unwrap()
        });
        let log = fs::read_to_string(self.log(home)).unwrap();
        assert!(status.is_none_or(|status| status.success()), "the {} ends well: {log}", self.name);
        log
    }
}
