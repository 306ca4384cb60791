//! `gantry admin`: what an operator asks of servers that run.
//!
//! Exit codes: 0, it is done; 1, it is not, and the line on standard error says why.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BufMut;
use clap::{Subcommand, ValueEnum};
use gantry_core::io::Protocol;
use gantry_core::wire::code::{request_code, response_code};
use gantry_core::wire::{Command, Ext, Link, Packet};

/// A server is waited for this long: a promotion ends when a new epoch is on the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
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
    Promote {
        /// The slave, host:port as clients reach it
        broker: String,
        /// What it is to be
        #[arg(long, value_enum)]
        role: Role,
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
    let Verb::Promote { broker, role } = &options.verb;
    let role = match role {
        Role::Async => "ASYNC_MASTER",
        Role::Sync => "SYNC_MASTER",
    };
    let change = Command::request(request_code::UPDATE_BROKER_CONFIG, Ext::None);
    let answer = ask(broker, change.with_body(format!("brokerRole={role}\n").into_bytes()))?;
    let remark = answer.remark.as_deref().unwrap_or_default();
    if answer.code != response_code::SUCCESS {
        return Err(format!("{broker}: {remark} (code {})", answer.code));
    }
    // A broker that is no slave keeps the setting for its next start, and says the same.
    let shown = ask(broker, Command::request(request_code::GET_BROKER_RUNTIME_INFO, Ext::None))?;
    if !String::from_utf8_lossy(&shown.body).contains("\"brokerActive\":\"true\"") {
        return Err(format!("{broker}: took the request and is not the master"));
    }
    println!("{broker} is the master ({role})");
    Ok(())
}

/// Asks a server one thing.
fn ask(server: &str, request: Command) -> Result<Command, String> {
    let fail = |error: std::io::Error| format!("{server}: {error}");
    let address: SocketAddr = server
        .to_socket_addrs()
        .map_err(fail)?
        .next()
        .ok_or_else(|| format!("{server}: no address of this name"))?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).map_err(fail)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(fail)?;
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
