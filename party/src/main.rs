//! `party`: a hospital's commands. `party --help` is the place to start.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
