//! In place of kube-proxy and the kubelet's probes: what listens at the address of a Service, on loopback, and hands connections on to those behind it that are ready.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How often those behind a Service are asked whether they are ready.
const PERIOD: Duration = Duration::from_millis(500);

/// One behind a Service: where it serves, and where it says whether it is ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) health: SocketAddr,
}

/// A Service; it is there for as long as the process lives.
#[derive(Clone)]
pub(crate) struct Service(Arc<Mutex<Vec<(Backend, bool)>>>);

impl Service {
    /// Listens at port 443 of an address in 127.0.0.0/8, with nobody behind it yet.
    pub(crate) fn listen(cluster_ip: &str) -> Self {
        let listener =
            TcpListener::bind((cluster_ip, 443)).expect("port 443 of a loopback address; needs root");
        let service = Self(Arc::default());
        let (accepting, probing) = (service.clone(), service.clone());
        thread::spawn(move || {
            for (turn, client) in listener.incoming().flatten().enumerate() {
                // One that died since it was asked refuses, and is passed over.
                if let Some(server) = accepting.candidates(turn).into_iter().find_map(connect) {
                    // The client may have gone meanwhile.
                    let _ = join(&client, &server);
                }
            }
        });
        thread::spawn(move || {
            loop {
                probing.probe();
                thread::sleep(PERIOD);
            }
        });
        service
    }

    /// One more behind it, sent to from now on as long as it says that it is ready.
    pub(crate) fn add(&self, backend: Backend) {
        self.0.lock().unwrap().push((backend, is_ready(backend)));
    }

    /// Its pod is gone.
    pub(crate) fn remove(&self, backend: Backend) {
        self.0.lock().unwrap().retain(|(one, _)| *one != backend);
    }

    /// The ready ones, each first in turn.
    fn candidates(&self, turn: usize) -> Vec<SocketAddr> {
        let backends = self.0.lock().unwrap();
        let mut ready: Vec<_> =
            backends.iter().filter(|(_, ready)| *ready).map(|(backend, _)| backend.address).collect();
        let first = turn % ready.len().max(1);
        ready.rotate_left(first);
        ready
    }

    fn probe(&self) {
        let backends: Vec<_> = self.0.lock().unwrap().iter().map(|(backend, _)| *backend).collect();
        for backend in backends {
            let is_ready = is_ready(backend);
            for (one, ready) in &mut *self.0.lock().unwrap() {
                if *one == backend {
                    *ready = is_ready;
                }
            }
        }
    }
}

fn is_ready(backend: Backend) -> bool {
    get(backend.health, "/readyz").is_ok_and(|answer| answer == "ok\n")
}

/// The body of an answer over plain HTTP.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// The whole number that a series has in the text of `/metrics`; none if it is not there.
pub(crate) fn series(address: SocketAddr, name: &str) -> Option<u64> {
    let text = get(address, "/metrics").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse().ok()
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect(address).ok()
}

fn join(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // However it ends, the other side has to hear of it.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
