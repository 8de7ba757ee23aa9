//! Whole federations as separate processes: what the quickstart and the multi-node tests are built from.
//!
//! A [`folder::StudyFolder`] is a study with its hospitals' data. A [`Federation`] lays it out below one root folder as operator
//! and hospitals would (`init`, `study freeze`, `study sign`), and starts, kills and stops the daemons, each an operating system
//! process of its own that talks to the others over real UDP sockets on loopback. [`watch`] waits for things to happen and fails
//! with everybody's last words when nothing moves. [`oracle`] recomputes outside the protocol what the encrypted sums must be.
//!
//! The processes are the executable of [`role`]: it plays coordinator or party by running that daemon's own command line.

pub mod answers;
pub mod federation;
pub mod folder;
pub mod job;
pub mod oracle;
pub mod ports;
pub mod process;
pub mod role;
pub mod scene;
pub mod served;
pub mod sim;
pub mod watch;

pub use federation::Federation;
pub use folder::StudyFolder;
pub use role::{Program, Role};
pub use watch::Snapshot;
