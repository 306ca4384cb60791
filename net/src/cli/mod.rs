//! The command line: what may be asked, and how it begins and ends.
//!
//! A subcommand says which services run in this process ([`process`]); everything else is theirs. Standard output carries
//! the lines that RocketMQ's scripts wait for, standard error the log.

mod address;
mod admin;
mod bench;
mod broker;
mod consume;
mod format;
mod input;
mod log;
mod namesrv;
mod process;
mod produce;
mod roles;
mod settings;
mod standalone;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "gantry",
    version,
    about = "A RocketMQ-compatible message broker cluster",
    after_help = "RUST_LOG sets how much is logged (error, warn, info, debug, trace; default info)."
)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
    /// Write the log to files in this directory, 64 MiB each, eleven at most [default: to standard error]
    #[arg(long, global = true, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Role {
    /// Run a name server and a broker in one process
    Standalone(standalone::Options),
    /// Run a name server, with the flags and files of RocketMQ's mqnamesrv
    Namesrv(namesrv::Options),
    /// Run a broker, master or slave, with the flags and files of RocketMQ's mqbroker
    Broker(broker::Options),
    /// Send messages: one a line of standard input
    Produce(produce::Options),
    /// Ask something of a server that runs
    Admin(admin::Options),
    /// Read messages: one a line of standard output
    Consume(consume::Options),
    /// Measure how fast messages are taken or given
    Bench(bench::Options),
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = log::begin(arguments.log_dir.as_deref()).and_then(|()| match arguments.role {
        Role::Standalone(options) => standalone::run(&options),
        Role::Namesrv(options) => namesrv::run(&options),
        Role::Broker(options) => broker::run(&options),
        Role::Produce(options) => produce::run(&options),
        Role::Admin(options) => admin::run(&options),
        Role::Consume(options) => consume::run(&options),
        Role::Bench(options) => bench::run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Not through the log: whoever started it must see why it ended, whatever the log's level.
            eprintln!("gantry: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The home of this user, where RocketMQ's stores are.
fn home() -> Result<PathBuf, String> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .ok_or_else(|| String::from("HOME is not set: say with --data where the files are to be"))
}
