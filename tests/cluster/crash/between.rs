//! What stands between the controller and those it writes to, lets everything through, and kills the controller after
//! the step that it was told.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use hyper::{
    Method, Request, Response,
    body::{Body, Bytes, Incoming},
    client::conn::http1,
    header::HOST,
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use juicefs_sidecar::tls::provider;
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::control_plane::ControlPlane;

/// The steps that the controller takes in what others can see.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The controller, and how many steps it has yet to live.
    victim: Option<(Pid, usize)>,
    taken: Vec<String>,
}

impl Steps {
    /// From now on a controller takes so many steps, and dies.
    pub(super) fn arm(&self, victim: Pid, steps: usize) {
        let mut state = self.0.lock().unwrap();
        state.victim = Some((victim, steps));
        state.taken.clear();
    }

    /// Nobody is killed any more. The steps since, and whether somebody was.
    pub(super) fn disarm(&self) -> (Vec<String>, bool) {
        let mut state = self.0.lock().unwrap();
        let killed = state.victim.take().is_some_and(|(_, left)| left == 0);
        (std::mem::take(&mut state.taken), killed)
    }

    /// Whether the controller has been killed.
    pub(super) fn killed(&self) -> bool {
        matches!(self.0.lock().unwrap().victim, Some((_, 0)))
    }

    /// A step is taken. Whether it was the last one: then the controller is no more, and hears nothing of it.
    fn take(&self, step: String) -> bool {
        let mut state = self.0.lock().unwrap();
        let Some((victim, left)) = &mut state.victim else { return false };
        // Others were on their way when it died.
        if *left == 0 {
            return true;
        }
        *left -= 1;
        let (victim, dies) = (*victim, *left == 0);
        if dies {
            kill_process(victim, Signal::KILL).unwrap();
        }
        state.taken.push(step);
        dies
    }
}

/// Stands before the API server of a kubeconfig. The kubeconfig that leads here.
pub(super) async fn api_server(plane: &ControlPlane, kubeconfig: &Path, steps: &Steps) -> PathBuf {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let (_, address) = text.split_once("https://").unwrap();
    let address = address.split('"').next().unwrap().to_owned();
    let tls = trusting(&plane.state().join("pki/ca.crt"));
    let server = format!("https://{address}");
    let upstream = Arc::new(Upstream { address, tls });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let path = kubeconfig.with_extension("between");
    std::fs::write(&path, text.replace(&server, &here)).unwrap();
    let steps = steps.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (steps, upstream) = (steps.clone(), Arc::clone(&upstream));
            tokio::spawn(async move {
                let answer = |request| {
                    let (steps, upstream) = (steps.clone(), Arc::clone(&upstream));
                    async move { upstream.pass(request, &steps).await }
                };
                // It ends when the controller does.
                let _ =
                    server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    path
}

struct Upstream {
    address: String,
    tls: Arc<ClientConfig>,
}

fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth())
}

impl Upstream {
    /// Passes a request on, each by a connection of its own, and its answer back, unless nobody is there any more.
    async fn pass(&self, mut request: Request<Incoming>, steps: &Steps) -> io::Result<Response<Incoming>> {
        let step = step(&request);
        let host = self.address.parse().map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
        let mut sender = self.connect().await?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if step.is_some_and(|step| steps.take(format!("{step}: {}", answer.status().as_u16()))) {
            return Err(io::Error::other("whoever asked is gone"));
        }
        Ok(answer)
    }

    async fn connect<B: Body<Data = Bytes, Error = hyper::Error> + Send + 'static>(
        &self,
    ) -> io::Result<http1::SendRequest<B>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (host, _) = self.address.rsplit_once(':').unwrap();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A write, but for questions that are asked by one, and for the registration, which comes whenever it likes.
fn step<B>(request: &Request<B>) -> Option<String> {
    let path = request.uri().path();
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(request.method());
    let others = ["/authorization.k8s.io/", "/admissionregistration.k8s.io/"];
    (writes && !others.iter().any(|group| path.contains(group)))
        .then(|| format!("{} {path}", request.method()))
}

/// Stands before a worker, by a socket of its own.
pub(super) fn worker(worker: PathBuf, socket: &Path, steps: &Steps) {
    let listener = UnixListener::bind(socket).unwrap();
    let steps = steps.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (steps, worker) = (steps.clone(), worker.clone());
            tokio::spawn(async move {
                // A worker of which nobody wants anything any more notices that its connection ends.
                let _ = ask(stream, &worker, &steps).await;
            });
        }
    });
}

async fn ask(mut asker: UnixStream, worker: &Path, steps: &Steps) -> io::Result<()> {
    let mut line = Vec::new();
    BufReader::new(&mut asker).read_until(b'\n', &mut line).await?;
    let request: serde_json::Value = serde_json::from_slice(&line)?;
    let task = &request["task"];
    let task = task.as_object().and_then(|task| task.keys().next()).map_or(task.to_string(), Clone::clone);
    let mut worker = UnixStream::connect(worker).await?;
    worker.write_all(&line).await?;
    if steps.take(format!("asks the worker: {task}")) {
        return Ok(());
    }
    let mut answer = Vec::new();
    // Whoever hangs up calls it off.
    let mut gone = [0];
    tokio::select! {
        read = worker.read_to_end(&mut answer) => drop(read?),
        _ = asker.read(&mut gone) => return Ok(()),
    }
    if steps.take(format!("the worker answers: {task}")) {
        return Ok(());
    }
    asker.write_all(&answer).await
}
