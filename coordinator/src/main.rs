//! The `coordinator` binary.

fn main() -> std::process::ExitCode {
    galen_coordinator::cli::main()
}
