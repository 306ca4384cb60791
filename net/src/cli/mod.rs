//! The command line: what may be asked, and how it begins and ends.
//!
//! A subcommand says which services run in this process ([`process`]); everything else is theirs. Standard output carries
//! the lines that RocketMQ's scripts wait for, standard error the log.

mod process;
mod roles;
mod standalone;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
}

#[derive(Subcommand)]
enum Role {
    /// Run a name server and a broker in one process
    Standalone(standalone::Options),
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    begin_log();
    let outcome = match arguments.role {
        Role::Standalone(options) => standalone::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Not through the log: whoever started it must see why it ended, whatever the log's level.
            eprintln!("gantry: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn begin_log() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_thread_names(true)
        .with_env_filter(filter)
        .init();
}
