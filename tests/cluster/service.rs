//! In place of kube-proxy: what listens at the address of a Service, on loopback, and hands connections on.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Listens at port 443 of an address in 127.0.0.0/8 for as long as the process lives.
///
/// Backends that refuse a connection are passed over, as kube-proxy leaves out what is not ready.
pub(crate) fn listen(cluster_ip: &str, backends: Vec<SocketAddr>) {
    let listener = TcpListener::bind((cluster_ip, 443)).expect("port 443 of a loopback address; needs root");
    thread::spawn(move || {
        for (turn, client) in listener.incoming().flatten().enumerate() {
            let mut candidates = backends.iter().cycle().skip(turn % backends.len()).take(backends.len());
            if let Some(server) = candidates.find_map(|backend| TcpStream::connect(backend).ok()) {
                join(&client, &server).expect("two sockets");
            }
        }
    });
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
