//! Free UDP ports on loopback.

use anyhow::bail;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which systems pick ports by themselves, so that nobody takes the port of a coordinator that is being
/// restarted.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A loopback address that nobody listens on. Federations of one process never get the same; those of different processes start at
/// different places.
pub fn free() -> anyhow::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, (FIRST + offset) as u16));
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no free UDP port between {FIRST} and {} on loopback",
        FIRST + COUNT
    )
}
