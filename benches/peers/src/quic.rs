//! A file over one QUIC stream, by quinn: what this library can do where nothing is in its way.
//!
//! The server has the file in memory and gives it away in large pieces without a copy; both ends run on one thread,
//! with wide windows, socket buffers as large as the kernel permits, and few acknowledgements.

use std::fs::{self, File};
use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use nix::sys::socket::{setsockopt, sockopt};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig, RecvStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::NAME;

/// Much more than loopback holds, and so much less than the socket's buffer that nothing is lost there: congestion
/// control would fill whatever it may, and quinn recovers slowly from the loss of megabytes.
const WINDOW_BYTES: u32 = 8 << 20;
const WRITE_BYTES: usize = 4 << 20;
const SOCKET_BUFFER_BYTES: usize = 16 << 20;
/// Congestion control starts with this much, so that a transfer of a second or two does not wait for it to grow.
const WINDOW_FIRST_BYTES: u64 = 1 << 20;
/// Acknowledgements come after so many packets: each costs both ends, and nothing is lost on the way.
const ACK_PACKETS: u32 = 30;
const DATAGRAM_BYTES_MAX: u16 = 65_507;
/// Taken out of the stream, and written, at once.
const CHUNKS: usize = 256;
/// The other end has gone.
const IDLE: Duration = Duration::from_secs(20);
/// The last packets, which say that all is well, go out within this.
const CLOSE_WAIT: Duration = Duration::from_millis(5);

/// What the server is told.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// The file that every client gets.
    file: PathBuf,
    /// Where to listen, with segmentation offload and without: port 0 takes two free ones.
    #[arg(long)]
    listen: SocketAddr,
    /// Certificate (PEM).
    #[arg(long)]
    certificate: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
}

/// What the client is told.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The server.
    server: SocketAddr,
    /// The certificate that it must show (PEM).
    #[arg(long)]
    certificate: PathBuf,
    /// Where the file goes.
    #[arg(long)]
    output: PathBuf,
    /// The largest datagram that the server may send.
    #[arg(long)]
    datagram_bytes: u16,
}

/// Serves until it is ended, or whoever started it is.
pub(crate) fn serve(args: &ServeArgs) -> Result<()> {
    // Its standard input ends with its parent.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let content = Bytes::from(fs::read(&args.file).with_context(|| args.file.display().to_string())?);
    let key = PrivateKeyDer::from_pem_file(&args.key).with_context(|| args.key.display().to_string())?;
    let certificate = certificate(&args.certificate)?;
    let endpoint = |has_offload: bool| {
        let mut transport = transport()?;
        transport.enable_segmentation_offload(has_offload);
        let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], key.clone_key())?;
        config.transport_config(Arc::new(transport));
        endpoint(args.listen, DATAGRAM_BYTES_MAX, Some(config))
    };
    runtime()?.block_on(async {
        let (with, without) = (endpoint(true)?, endpoint(false)?);
        println!("quic listening {} {}", with.local_addr()?, without.local_addr()?);
        tokio::join!(accept(&with, &content), accept(&without, &content));
        Ok(())
    })
}

/// Fetches the file.
pub(crate) fn get(args: &GetArgs) -> Result<()> {
    let mut file = File::create(&args.output).with_context(|| args.output.display().to_string())?;
    let config = client(&args.certificate)?;
    runtime()?.block_on(async {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = endpoint(any, args.datagram_bytes, None)?;
        let connection = endpoint.connect_with(config, args.server, NAME)?.await.context("handshake")?;
        let stream = connection.accept_uni().await.context("no stream")?;
        let bytes = receive(stream, &mut file).await?;
        connection.close(VarInt::from_u32(0), b"");
        // Whether the server heard that is its own matter.
        let _ = tokio::time::timeout(CLOSE_WAIT, endpoint.wait_idle()).await;
        println!("{bytes} bytes");
        Ok(())
    })
}

async fn accept(endpoint: &Endpoint, content: &Bytes) {
    while let Some(incoming) = endpoint.accept().await {
        let content = content.clone();
        tokio::spawn(async move {
            if let Err(error) = send(incoming, content).await {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn send(incoming: Incoming, content: Bytes) -> Result<()> {
    let connection = incoming.await.context("handshake")?;
    let mut stream = connection.open_uni().await?;
    for start in (0..content.len()).step_by(WRITE_BYTES) {
        let end = content.len().min(start + WRITE_BYTES);
        stream.write_chunk(content.slice(start..end)).await?;
    }
    stream.finish()?;
    stream.stopped().await?;
    connection.closed().await;
    Ok(())
}

async fn receive(mut stream: RecvStream, file: &mut File) -> Result<u64> {
    let mut chunks = vec![Bytes::new(); CHUNKS];
    let mut bytes = 0;
    while let Some(count) = stream.read_chunks(&mut chunks).await? {
        let mut slices: Vec<IoSlice<'_>> = chunks[..count].iter().map(|chunk| IoSlice::new(chunk)).collect();
        bytes += chunks[..count].iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = file.write_vectored(left).context("writing")?;
            anyhow::ensure!(written > 0, "the output takes no more");
            IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(bytes)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")
}

fn endpoint(address: SocketAddr, datagram_bytes: u16, server: Option<ServerConfig>) -> Result<Endpoint> {
    let socket = UdpSocket::bind(address).with_context(|| address.to_string())?;
    // Beyond the kernel's bound where root may, else up to it.
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES)?;
    }
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(datagram_bytes).context("the size of datagrams")?;
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

fn transport() -> Result<TransportConfig> {
    let mut config = TransportConfig::default();
    let window = VarInt::from_u32(WINDOW_BYTES);
    config.stream_receive_window(window).receive_window(window).send_window(u64::from(WINDOW_BYTES));
    config.max_idle_timeout(Some(IDLE.try_into()?));
    let mut discovery = MtuDiscoveryConfig::default();
    // The client says how much it takes.
    discovery.upper_bound(DATAGRAM_BYTES_MAX);
    config.mtu_discovery_config(Some(discovery));
    let mut cubic = CubicConfig::default();
    cubic.initial_window(WINDOW_FIRST_BYTES);
    config.congestion_controller_factory(Arc::new(cubic));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_PACKETS));
    config.ack_frequency_config(Some(acks));
    Ok(config)
}

/// AES-128-GCM alone, as all others have it; quinn would take AES-256-GCM first.
fn client(path: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(path)?)?;
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()?));
    Ok(config)
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())
}
