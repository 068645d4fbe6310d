//! HELLO and WELCOME with one server, each way.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::rand;
use braidcast_client::control::Host;
use braidcast_transport::handshake::Greeting;
use braidcast_transport::limits::WELCOME_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// A HELLO is repeated after these waits, as PROTOCOL.md's section 2.1 has it, but not as often.
const HELLO_WAITS: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(1_200)];
/// How long a connection and an answer over it may take together.
const TCP_WITHIN: Duration = Duration::from_secs(3);
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// Greets over UDP, or says why that does not work.
pub(super) async fn over_udp(host: &Host) -> Result<(), String> {
    let greeting = greeting(host)?;
    let here: SocketAddr = if host.address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let failed = |error| format!("UDP to it fails: {error}; is it running, and does a firewall refuse its port?");
    let socket = UdpSocket::bind(here).await.map_err(failed)?;
    socket.connect(host.address).await.map_err(failed)?;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    for wait in HELLO_WAITS {
        socket.send(greeting.hello()).await.map_err(failed)?;
        let welcomed = timeout(wait, async {
            loop {
                let length = socket.recv(&mut datagram).await?;
                if greeting.handle_welcome(&datagram[..length]).is_some() {
                    return Ok(());
                }
            }
        });
        match welcomed.await {
            Ok(outcome) => return outcome.map_err(failed),
            Err(_) => continue,
        }
    }
    Err("no answer over UDP; does a firewall drop datagrams to its port, or those of 1,260 bytes?".to_owned())
}

/// Greets over TCP, or says why that does not work.
pub(super) async fn over_tcp(host: &Host) -> Result<(), String> {
    let greeting = greeting(host)?;
    let welcomed = timeout(TCP_WITHIN, async {
        let mut stream = TcpStream::connect(host.address).await?;
        stream.write_all(greeting.hello()).await?;
        let mut welcome = [0; WELCOME_BYTES];
        stream.read_exact(&mut welcome).await?;
        Ok::<_, io::Error>(greeting.handle_welcome(&welcome).is_some())
    });
    match welcomed.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("what answers over TCP is not the server".to_owned()),
        Ok(Err(error)) => Err(format!("TCP to it fails: {error}; was it started with `--tcp off`?")),
        Err(_) => Err("no answer over TCP; does a firewall drop what goes to its port?".to_owned()),
    }
}

fn greeting(host: &Host) -> Result<Greeting, String> {
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| "the system's random source failed".to_owned())?;
    Greeting::new(&host.ticket, host.session_secret.clone(), random)
        .map_err(|_| "the master's ticket is too long; are all parts of the same version?".to_owned())
}
