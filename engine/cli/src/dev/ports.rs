//! Ports that stay the same across restarts.
//!
//! They are taken from below the range that the kernel gives to outgoing connections (32,768 up by default), so that
//! none of these sits on a port while its owner is down.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{DevError, LOOPBACK};

/// The first port that is tried.
pub(super) const FIRST: u16 = 20_000;
/// The last.
pub(super) const LAST: u16 = 32_767;
/// A part that was killed a moment ago lets its port go within this.
const RELEASE_WAIT: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(20);

/// `count` ports that are free, looked for from a random place on.
pub(super) fn choose(count: usize, except: &[u16]) -> Result<Vec<u16>, DevError> {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| DevError::NoRandomness)?;
    let start = u16::from_be_bytes(random) % (LAST - FIRST + 1);
    let all = (FIRST..=LAST).cycle().skip(start.into()).take((FIRST..=LAST).len());
    let ports: Vec<u16> = all.filter(|port| !except.contains(port) && is_free(*port)).take(count).collect();
    if ports.len() == count { Ok(ports) } else { Err(DevError::NoPort) }
}

/// Waits a moment for `port` to become free; says whether it did.
pub(super) async fn wait_free(port: u16) -> bool {
    let give_up = Instant::now() + RELEASE_WAIT;
    while !is_free(port) {
        if Instant::now() > give_up {
            return false;
        }
        sleep(RELEASE_POLL).await;
    }
    true
}

/// Free for TCP and for UDP: a media server answers on both.
fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((LOOPBACK, port));
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ports_differ_and_leave_out_what_is_taken() {
        let ports = choose(5, &[]).expect("some are free");
        let mut unique = ports.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 5);
        let _held = UdpSocket::bind((LOOPBACK, ports[0])).expect("it was free");
        assert!(!is_free(ports[0]));
        assert!(!choose(5, &ports[1..]).expect("some are free").iter().any(|port| ports.contains(port)));
    }

    #[tokio::test]
    async fn a_port_that_is_let_go_is_waited_for() {
        let port = choose(1, &[]).expect("some are free")[0];
        let held = TcpListener::bind((LOOPBACK, port)).expect("it was free");
        let release = std::thread::spawn(move || {
            std::thread::sleep(RELEASE_POLL * 5);
            drop(held);
        });
        assert!(wait_free(port).await);
        release.join().expect("no panic");
    }
}
