//! The hostile ones: each kind by tasks of its own, which go on until they are stopped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use juicefs_sidecar::tls::Identity;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::super::{client::Server, control_plane::eventually};

/// Of a loopback network every address is ours; the API server has the first.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
const HEAD: &str = "POST /juicefs/inject-v1-pod?timeout=10s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
/// How HTTP/2 begins; and a frame that asks for an answer, empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How often each kind has done its worst.
#[derive(Debug, Default)]
pub(super) struct Done {
    idle_connections: AtomicUsize,
    slow_heads: AtomicUsize,
    large_bodies: AtomicUsize,
    unfinished_bodies: AtomicUsize,
    wrong_certificates: AtomicUsize,
    prefaces: AtomicUsize,
    to_the_plain_port: AtomicUsize,
}

/// All of them at once; it ends with this value.
pub(super) struct Attack {
    _tasks: JoinSet<()>,
    done: Arc<Done>,
}

/// Whom they know, and what they send.
struct Peers {
    /// As somebody whose certificate is taken.
    insider: Server,
    /// As somebody whose certificate is not.
    stranger: Server,
    plain: SocketAddr,
    large: Vec<u8>,
    done: Arc<Done>,
}

impl Attack {
    /// Begins to attack both ports.
    pub(super) fn begin(insider: &Server, plain: SocketAddr, large: &[u8]) -> Self {
        let certificate = rcgen::generate_simple_self_signed(["kube-apiserver".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let identity = Identity { chain: vec![certificate.cert.der().clone()], key: key.into() };
        let done = Arc::<Done>::default();
        let peers = Arc::new(Peers {
            stranger: Server { identity: Some(Arc::new(identity)), ..insider.clone() },
            insider: insider.clone(),
            plain,
            large: large.to_vec(),
            done: Arc::clone(&done),
        });
        let mut tasks = JoinSet::new();
        // More than there is room for on either port.
        for _ in 0..400 {
            tasks.spawn(Arc::clone(&peers).idle());
        }
        for _ in 0..50 {
            tasks.spawn(Arc::clone(&peers).slow_heads());
            tasks.spawn(Arc::clone(&peers).plain());
        }
        for _ in 0..2 {
            tasks.spawn(Arc::clone(&peers).large_bodies());
            tasks.spawn(Arc::clone(&peers).unfinished_bodies());
            tasks.spawn(Arc::clone(&peers).wrong_certificates());
            tasks.spawn(Arc::clone(&peers).prefaces());
        }
        Self { _tasks: tasks, done }
    }

    /// Waits until each kind has begun.
    pub(super) async fn under_way(&self) {
        eventually("every kind of attack to begin", async || {
            let Done {
                idle_connections,
                slow_heads,
                large_bodies,
                unfinished_bodies,
                wrong_certificates,
                prefaces,
                to_the_plain_port,
            } = &*self.done;
            let kinds = [
                slow_heads,
                large_bodies,
                unfinished_bodies,
                wrong_certificates,
                prefaces,
                to_the_plain_port,
            ];
            let begun = kinds.iter().all(|kind| kind.load(Relaxed) > 0);
            (begun && idle_connections.load(Relaxed) > 300).then_some(())
        })
        .await;
    }

    /// Ends it; what was done.
    pub(super) fn end(self) -> Arc<Done> {
        self.done
    }
}

impl Peers {
    /// Connects and says nothing, again when it is thrown out.
    async fn idle(self: Arc<Self>) {
        loop {
            if let Ok(mut stream) = connect(self.insider.address).await {
                self.done.idle_connections.fetch_add(1, Relaxed);
                until_closed(&mut stream).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A byte of a head now and then.
    async fn slow_heads(self: Arc<Self>) {
        loop {
            if let Ok((mut stream, _)) = self.insider.tls_from(FROM, &[b"http/1.1"]).await {
                self.done.slow_heads.fetch_add(1, Relaxed);
                drip(&mut stream, HEAD.as_bytes()).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A review of three megabytes.
    async fn large_bodies(self: Arc<Self>) {
        loop {
            if let Ok((mut stream, _)) = self.insider.tls_from(FROM, &[b"http/1.1"]).await {
                let sent = async {
                    self.send_large(&mut stream, self.large.len()).await?;
                    stream.read(&mut [0; 64]).await
                };
                let _ = timeout(Duration::from_secs(10), sent).await;
                self.done.large_bodies.fetch_add(1, Relaxed);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Sends the large review, and says that it has this length.
    async fn send_large(&self, stream: &mut (impl AsyncWrite + Unpin), length: usize) -> io::Result<()> {
        stream.write_all(format!("{HEAD}content-length: {length}\r\n\r\n").as_bytes()).await?;
        stream.write_all(&self.large).await?;
        stream.flush().await
    }

    /// All of it but the last byte.
    async fn unfinished_bodies(self: Arc<Self>) {
        loop {
            if let Ok((mut stream, _)) = self.insider.tls_from(FROM, &[b"http/1.1"]).await {
                let sent = self.send_large(&mut stream, self.large.len() + 1);
                let _ = timeout(Duration::from_secs(10), sent).await;
                self.done.unfinished_bodies.fetch_add(1, Relaxed);
                until_closed(&mut stream).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A handshake by somebody whom nobody vouches for.
    async fn wrong_certificates(self: Arc<Self>) {
        loop {
            // With TLS 1.3 the refusal comes when something is read.
            if let Ok((mut stream, _)) = self.stranger.tls_from(FROM, &[b"http/1.1"]).await {
                let _ = stream.write_all(HEAD.as_bytes()).await;
                assert!(!matches!(stream.read(&mut [0; 64]).await, Ok(1..)), "a stranger was answered");
            }
            self.done.wrong_certificates.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// HTTP/2, which is not spoken here, and a flood of its frames.
    async fn prefaces(self: Arc<Self>) {
        loop {
            if let Ok((mut stream, _)) = self.insider.tls_from(FROM, &[b"h2"]).await {
                flood(&mut stream).await;
            } else if let Ok((mut stream, _)) = self.insider.tls_from(FROM, &[]).await {
                flood(&mut stream).await;
            }
            self.done.prefaces.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// All of this on the port for health and metrics, by turns.
    async fn plain(self: Arc<Self>) {
        loop {
            if let Ok(mut stream) = connect(self.plain).await {
                match self.done.to_the_plain_port.fetch_add(1, Relaxed) % 4 {
                    0 => until_closed(&mut stream).await,
                    1 => drip(&mut stream, HEAD.as_bytes()).await,
                    2 => flood(&mut stream).await,
                    _ => {
                        let head = format!("{HEAD}content-length: {}\r\n\r\n", self.large.len());
                        let _ = stream.write_all(head.as_bytes()).await;
                        let _ = timeout(Duration::from_secs(10), stream.write_all(&self.large)).await;
                        until_closed(&mut stream).await;
                    }
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(FROM, 0))?;
    socket.connect(address).await
}

/// Reads until the other side has had enough.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
    while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {}
}

/// Sends a byte five times a second for as long as it is taken.
async fn drip(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn flood(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let frames = [PREFACE, &SETTINGS.repeat(1000)].concat();
    let _ = timeout(Duration::from_secs(10), stream.write_all(&frames)).await;
    let _ = stream.flush().await;
    until_closed(stream).await;
}
