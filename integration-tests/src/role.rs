//! One executable that can be every program of a federation.
//!
//! `cargo run --bin quickstart` builds the quickstart and the libraries that it links, but not the executables of other packages, so
//! on a fresh clone there is no `coordinator` and no `party` to start. The quickstart therefore starts itself again in a role:
//! `quickstart @party PEAK serve --dir D` runs exactly what `party serve --dir D` runs, the command line of `galen-party`,
//! in a process of its own. Integration tests find that executable as `env!("CARGO_BIN_EXE_quickstart")`.

use galen_core::telemetry;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Environment variable of a process that ends when its standard input does.
const TETHERED: &str = "GALEN_TETHERED";

/// What a process of a federation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator's daemon and commands.
    Coordinator,
    /// A hospital's daemon and commands.
    Party,
}

impl Role {
    const ALL: [Self; 2] = [Self::Coordinator, Self::Party];

    /// Name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Party => "party",
        }
    }

    /// First argument that asks for the role. No option or path of the quickstart begins like this.
    fn word(self) -> OsString {
        OsString::from(format!("@{}", self.program()))
    }
}

/// Plays a role if the command line asks for one; call it first in `main`.
pub fn play(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    let word = args.next()?;
    let role = Role::ALL.into_iter().find(|role| role.word() == word)?;
    let peak = PathBuf::from(args.next()?);
    if std::env::var_os(TETHERED).is_some() {
        tether();
    }
    let args = [OsString::from(role.program())].into_iter().chain(args);
    let code = match role {
        Role::Coordinator => galen_coordinator::cli::main_from(args),
        Role::Party => galen_party::cli::main_from(args),
    };
    // Only a report misses it if it cannot be written.
    let _ = std::fs::write(peak, telemetry::peak_rss_bytes().unwrap_or(0).to_string());
    Some(code)
}

/// Ends this process when the one that started it is gone, however that ended: the other end of standard input then closes.
fn tether() {
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|len| len > 0) {}
        std::process::exit(1);
    });
}

/// The executable that plays roles.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// An executable whose `main` begins with [`play`].
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self(executable.into())
    }

    /// A command in a role; when the process ends by itself, its largest memory in bytes is in the file `peak`. It is tethered: its
    /// standard input must stay open as long as it shall live.
    pub fn command(&self, role: Role, peak: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(role.word()).arg(peak).env(TETHERED, "1");
        command
    }
}
