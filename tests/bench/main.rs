//! What a message costs `gantry standalone`, beside the least that a server could cost: a bare epoll echo of the same
//! byte counts. See `tests/bench/speed` for the way to start it.
//!
//! Everything is measured interleaved in one run and told as a ratio: on a shared machine the same program costs more
//! than half as much again ten minutes later.

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod cold;
#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod echo;
#[cfg(target_os = "linux")]
mod frame;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod register;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod strace;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    #[derive(Parser)]
    #[command(about = "Measures what a message costs gantry, beside a bare epoll echo")]
    enum Job {
        /// Measure gantry beside the echo.
        Compare(compare::Options),
        /// Be the echo.
        Echo(echo::Options),
        /// Be the shell alone: parse, answer, store nothing.
        Bare(bare::Options),
        /// Measure what a reader of cold history does to hot senders.
        Cold(cold::Options),
        /// Be the broker alone, without sockets, and say what a message costs.
        Machine(machine::Options),
        /// Count what registrations cost a broker and its name server.
        Register(register::Options),
        /// Load a server and say how fast it answers.
        Load(load::Options),
    }

    let done = match Job::parse() {
        Job::Compare(options) => compare::run(&options),
        Job::Echo(options) => echo::run(&options),
        Job::Bare(options) => bare::run(&options),
        Job::Cold(options) => cold::run(&options),
        Job::Machine(options) => machine::run(&options),
        Job::Register(options) => register::run(&options),
        Job::Load(options) => load::main(&options),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-speed: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("gantry-speed reads what Linux tells of a process's CPU time");
}
