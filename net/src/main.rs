//! The `gantry` program: one module for each subcommand, in `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
