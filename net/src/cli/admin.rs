//! `gantry admin`: what an operator asks of servers that run.
//!
//! Exit codes: 0, it is done; 1, it is not, and the line on standard error says why.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BufMut;
use clap::{Subcommand, ValueEnum};
use gantry_core::broker::ha::compare::{Lead, lead};
use gantry_core::io::Protocol;
use gantry_core::settings::parse_properties;
use gantry_core::wire::body::{self, ClusterInfo, EpochEntryCache};
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::{Command, Ext, Link, Packet};

/// A server is waited for this long: a promotion ends when a new epoch is on the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Whether others of the group hold more is asked of those that answer within this.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 16 * 1024;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a slave the master of its group, without a restart
    ///
    /// Its role and id change, in its file of settings too. The old master is started with brokerRole=SLAVE afterwards: what
    /// it wrote and the new one never had is kept aside in its diverged/ directory, and it follows.
    ///
    /// Refused when another broker of the group, as the name servers know it, answers and holds messages that this one does not,
    /// or when the group's master answers: what only they hold would be lost to consumers.
    Promote {
        /// The slave, host:port as clients reach it
        broker: String,
        /// What it is to be
        #[arg(long, value_enum)]
        role: Role,
        /// Do it all the same, and say what only others hold
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Slaves follow it, nobody waits for them
    #[value(name = "ASYNC_MASTER")]
    Async,
    /// What it acknowledges is on a slave too (inSyncReplicas)
    #[value(name = "SYNC_MASTER")]
    Sync,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let Verb::Promote { broker, role, force } = &options.verb;
    let losses = losses(broker)?;
    for loss in &losses {
        eprintln!("{loss}");
    }
    if !losses.is_empty() && !force {
        return Err(format!("{broker} is not made the master: see above; --force does it all the same"));
    }
    let role = match role {
        Role::Async => "ASYNC_MASTER",
        Role::Sync => "SYNC_MASTER",
    };
    let change = Command::request(request_code::UPDATE_BROKER_CONFIG, Ext::None);
    let answer = ask(broker, ANSWER_TIMEOUT, change.with_body(format!("brokerRole={role}\n").into_bytes()))?;
    let remark = answer.remark.as_deref().unwrap_or_default();
    if answer.code != response_code::SUCCESS {
        return Err(format!("{broker}: {remark} (code {})", answer.code));
    }
    // A broker that is no slave keeps the setting for its next start, and says the same.
    let shown =
        ask(broker, ANSWER_TIMEOUT, Command::request(request_code::GET_BROKER_RUNTIME_INFO, Ext::None))?;
    if !String::from_utf8_lossy(&shown.body).contains("\"brokerActive\":\"true\"") {
        return Err(format!("{broker}: took the request and is not the master"));
    }
    println!("{broker} is the master ({role})");
    Ok(())
}

/// Why this broker should not become the master of its group: what others of it hold, as far as they answer.
fn losses(broker: &str) -> Result<Vec<String>, String> {
    let own = epochs(broker, ANSWER_TIMEOUT)?;
    let mut losses = Vec::new();
    for (id, address) in others(broker, &own)? {
        let other = match epochs(&address, COMPARE_TIMEOUT) {
            Ok(other) => other,
            Err(error) => {
                eprintln!("not compared: {error}");
                continue;
            }
        };
        // What it is now, and not what a name server remembers.
        if other.broker_id == 0 {
            losses.push(format!(
                "{address} (id {id}) is the master and alive: stop it, or start it with brokerRole=SLAVE, before another takes its place"
            ));
        }
        match lead(&own, &other) {
            Lead::None => {}
            Lead::More(bytes) => losses.push(format!(
                "{address} (id {id}) holds {bytes} bytes of log more than {broker}: promote that one"
            )),
            Lead::Parted { at, bytes } => losses.push(format!(
                "{address} (id {id}) holds {bytes} bytes of log that part from those of {broker} at {at}"
            )),
            Lead::Unknown => losses.push(format!(
                "{address} (id {id}) holds {} bytes of another log than {broker}",
                other.max_offset
            )),
        }
    }
    Ok(losses)
}

/// What a broker's log consists of.
fn epochs(broker: &str, timeout: Duration) -> Result<EpochEntryCache, String> {
    let answer = ask(broker, timeout, Command::request(request_code::GET_BROKER_EPOCH_CACHE, Ext::None))?;
    if answer.code != response_code::SUCCESS {
        let remark = answer.remark.as_deref().unwrap_or_default();
        return Err(format!("{broker}: does not tell its epochs: {remark} (code {})", answer.code));
    }
    body::decode(&answer.body).map_err(|error| format!("{broker}: epochs: {error}"))
}

/// The other brokers of a broker's group, by id, as the first of its name servers says that answers.
fn others(broker: &str, own: &EpochEntryCache) -> Result<Vec<(i64, String)>, String> {
    let answer = ask(broker, ANSWER_TIMEOUT, Command::request(request_code::GET_BROKER_CONFIG, Ext::None))?;
    let settings = parse_properties(&String::from_utf8_lossy(&answer.body));
    let setting = settings.iter().rfind(|setting| setting.name == "namesrvAddr");
    let servers = setting.map_or("", |setting| setting.value.as_str());
    for server in servers.split(';').filter(|server| !server.is_empty()) {
        let request = Command::request(request_code::GET_BROKER_CLUSTER_INFO, Ext::None);
        let answer = match ask(server, COMPARE_TIMEOUT, request) {
            Ok(answer) => answer,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let info: ClusterInfo = body::decode(&answer.body).map_err(|error| format!("{server}: {error}"))?;
        let group = info.broker_addr_table.get(&own.broker_name);
        let addresses = group.map(|group| &group.broker_addrs).into_iter().flatten();
        // Its own address may be written otherwise; it holds no more than itself.
        let others = addresses.filter(|(id, address)| **id != own.broker_id && address.as_str() != broker);
        return Ok(others.map(|(id, address)| (*id, address.clone())).collect());
    }
    eprintln!("no name server of {broker} answers: it is compared with nobody");
    Ok(Vec::new())
}

/// Asks a server one thing.
fn ask(server: &str, timeout: Duration, request: Command) -> Result<Command, String> {
    let fail = |error: std::io::Error| format!("{server}: {error}");
    let address: SocketAddr = server
        .to_socket_addrs()
        .map_err(fail)?
        .next()
        .ok_or_else(|| format!("{server}: no address of this name"))?;
    let mut stream = TcpStream::connect_timeout(&address, timeout).map_err(fail)?;
    stream.set_read_timeout(Some(timeout)).map_err(fail)?;
    let mut out = Vec::new();
    Link::encode(&Packet::Command(Command { opaque: 1, ..request }), &mut out);
    stream.write_all(&out).map_err(fail)?;
    let mut link = Link::new(Protocol::Remoting);
    let mut buffer = [0; READ_BYTES];
    loop {
        match link.decode().map_err(|error| format!("{server}: {error}"))? {
            Some(Packet::Command(answer)) => return Ok(answer),
            Some(Packet::HaReport { .. } | Packet::HaBlock { .. }) => {
                return Err(format!("{server}: speaks another protocol: give the port of the clients"));
            }
            None => {}
        }
        let read = stream.read(&mut buffer).map_err(fail)?;
        if read == 0 {
            return Err(format!("{server}: closed the connection without an answer"));
        }
        link.incoming().put_slice(&buffer[..read]);
    }
}
