//! Free TCP ports on the loopback interface, and this machine's other address.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Below the range from which systems take the ports of outgoing connections: a broker that comes
/// back on its port after an outage must not find one of its own clients sitting on it.
const RANGE: Range<u16> = 15_000..30_000;

/// Ports handed out by this process, lest two callers get the same one before either listens on it.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// An address of this machine that is not of loopback: such a one is not believed of a base.
///
/// # Errors
/// It has none.
pub fn own_address() -> Result<IpAddr> {
    // Nothing is sent: the system says which address it would be sent from.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).context("this machine has a loopback address only")?;
    Ok(socket.local_addr()?.ip())
}

/// A port on 127.0.0.1 nobody listens on, never the same twice within this process.
pub fn free_port() -> Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = RANGE.end - RANGE.start;
    // Processes that start together begin at different places.
    let random = RandomState::new().hash_one(std::process::id());
    let first = u16::try_from(random % u64::from(span))?;
    let port = (0..span)
        .map(|step| RANGE.start + (first + step) % span)
        .find(|port| !taken.contains(port) && is_free(*port))
        .context("no free port on 127.0.0.1")?;
    taken.insert(port);
    Ok(port)
}

/// Whether nobody listens on this port of 127.0.0.1.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_all_different() -> Result<()> {
        let ports = (0..100).map(|_| free_port()).collect::<Result<HashSet<_>>>()?;
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| is_free(*port)));
        Ok(())
    }
}
