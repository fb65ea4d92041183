//! An HTTPS client as an API server is one: one CA, keep-alive, HTTP/1.1.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, client::conn};
use hyper_util::rt::TokioIo;
use juicefs_sidecar::tls::{Identity, provider};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Everything read from the socket so far, encrypted as it came.
pub(crate) type Tape = Arc<Mutex<Vec<u8>>>;

/// A connection to a webhook server: kept alive, one request after another.
pub(crate) struct Connection(conn::http1::SendRequest<Full<Bytes>>);

/// Who to talk to, and whom to trust.
#[derive(Clone)]
pub(crate) struct Server {
    /// The TLS port.
    pub(crate) address: SocketAddr,
    /// The CA's certificate, PEM.
    pub(crate) ca: String,
    /// Who we are, where that is asked for.
    pub(crate) identity: Option<Arc<Identity>>,
}

impl Server {
    /// A verified TLS connection that offers these protocols.
    pub(crate) async fn tls(&self, protocols: &[&[u8]]) -> io::Result<(TlsStream<Taped>, Tape)> {
        self.tls_from([127, 0, 0, 1].into(), protocols).await
    }

    /// The same as another peer, from another of this machine's own addresses.
    pub(crate) async fn tls_from(
        &self,
        peer: IpAddr,
        protocols: &[&[u8]],
    ) -> io::Result<(TlsStream<Taped>, Tape)> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match self.identity.as_deref().map(Identity::duplicate) {
            None => config.with_no_client_auth(),
            Some(own) => config.with_client_auth_cert(own.chain, own.key).map_err(io::Error::other)?,
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(peer, 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let tape = Tape::default();
        let stream = Taped { stream, tape: Arc::clone(&tape) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        Ok((TlsConnector::from(Arc::new(config)).connect(name, stream).await?, tape))
    }

    /// An HTTP/1.1 connection.
    pub(crate) async fn http1(&self) -> io::Result<(Connection, Tape)> {
        let (stream, tape) = self.tls(&[b"http/1.1"]).await?;
        let (sender, connection) =
            conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok((Connection(sender), tape))
    }
}

impl Connection {
    /// Sends one review as an API server does and waits for the whole answer.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Response<Bytes>, hyper::Error> {
        let request = Request::post(format!("{path}?timeout=10s"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("user-agent", "kube-apiserver-admission")
            .body(Full::new(body))
            .expect("a request");
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

/// A socket that keeps what was read from it.
pub(crate) struct Taped {
    stream: TcpStream,
    tape: Tape,
}

impl AsyncRead for Taped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let tape = &mut *self.tape.lock().expect("a tape");
        // Enough for the tests; a load run would keep gigabytes.
        if tape.len() < 1 << 20 {
            tape.extend_from_slice(&buffer.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Taped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
