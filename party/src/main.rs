//! `party`: a hospital's commands. `party --help` is the place to start.

fn main() -> std::process::ExitCode {
    galen_party::cli::main()
}
