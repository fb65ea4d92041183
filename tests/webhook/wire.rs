//! The server in this process, over real sockets and real TLS.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

use hyper::{StatusCode, body::Bytes};
use juicefs_sidecar::{
    admission::{
        Endpoint,
        limits::Limits,
        serve::{Drain, Listeners, Stop, serve},
        state::App,
    },
    telemetry::Metrics,
    tls::{issue::issue, server_config},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
};

use super::{
    client::Server,
    expected,
    recorded::{self, ENDPOINTS, reviews},
    within,
};

pub(crate) struct Running {
    pub(crate) server: Server,
    /// Where health and metrics are.
    pub(crate) plain: SocketAddr,
    pub(crate) app: Arc<App>,
    stop: watch::Sender<bool>,
    ended: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn start(limits: Limits, drain: Drain) -> Running {
    let issued = issue(&["localhost".to_owned()], std::time::SystemTime::now()).unwrap();
    let loopback = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(loopback, loopback).unwrap();
    let address = listeners.admission.local_addr().unwrap();
    let plain = listeners.plain.local_addr().unwrap();
    let app = Arc::new(App::new(recorded::state(), Metrics::new(), limits));
    let tls = Arc::new(ArcSwap::from_pointee(server_config(issued.identity, None).unwrap()));
    let (stop, stopped) = watch::channel(false);
    let told = move || {
        let mut stopped = stopped.clone();
        stopped.mark_unchanged();
        async move {
            let _ = stopped.changed().await;
            Stop::Managed
        }
    };
    let serving = Arc::clone(&app);
    let ended = tokio::spawn(async move { serve(serving, listeners, tls, drain, told).await });
    Running { server: Server { address, ca: issued.ca_pem, identity: None }, plain, app, stop, ended }
}

pub(crate) const DRAIN: Drain = Drain { delay: Duration::ZERO, limit: Duration::from_secs(5) };

#[tokio::test]
async fn reviews_over_one_kept_connection_are_answered_as_the_library_does() {
    let running = start(Limits::default(), DRAIN);
    let (mut kept, _) = running.server.http1().await.unwrap();
    for (name, body) in reviews() {
        for endpoint in ENDPOINTS {
            let sent = kept.post(endpoint.path(), Bytes::from(body.clone()));
            let response = within(10, sent).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            assert_eq!(response.body(), &expected(&body, endpoint).body, "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_trusts_another_ca_does_not_connect() {
    let running = start(Limits::default(), DRAIN);
    let other = issue(&["localhost".to_owned()], std::time::SystemTime::now()).unwrap();
    let server = Server { ca: other.ca_pem, ..running.server };
    assert!(server.http1().await.is_err());
}

#[tokio::test]
async fn the_protocol_is_negotiated() {
    let running = start(Limits::default(), DRAIN);
    for (offered, chosen) in [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])), (&[][..], None)] {
        let (stream, _) = running.server.tls(offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
}

#[tokio::test]
async fn head_and_body_of_an_answer_come_in_one_tls_record() {
    let running = start(Limits::default(), DRAIN);
    let (mut connection, tape) = running.server.http1().await.unwrap();
    for (name, body) in reviews() {
        let before = tape.lock().unwrap().len();
        let response = connection.post(ENDPOINTS[0].path(), Bytes::from(body)).await.unwrap();
        let tape = tape.lock().unwrap();
        let records = records(tape.get(before..).unwrap());
        // A record holds 16 KiB; an answer of more needs the next.
        assert!(records <= response.body().len() / 16_384 + 1, "{name}: {records}");
    }
}

/// Counts TLS records: five bytes of head, the last two of them the length of what follows.
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).expect("whole records");
        count += 1;
    }
    assert!(bytes.is_empty());
    count
}

#[tokio::test]
async fn an_oversized_body_is_refused_with_words() {
    let running = start(Limits::default(), DRAIN);
    let (mut connection, _) = running.server.http1().await.unwrap();
    let sent = connection.post(ENDPOINTS[0].path(), Bytes::from(vec![b' '; (4 << 20) + 1]));
    let response = within(10, sent).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        response.body(),
        "the request's body exceeds 4 MiB; the API server's own limit is lower\n".as_bytes()
    );
}

#[tokio::test]
async fn connections_on_which_nothing_happens_are_ended() {
    let limits = Limits {
        handshake: Duration::from_millis(200),
        head: Duration::from_millis(400),
        ..Limits::default()
    };
    let running = start(limits, DRAIN);
    let mut silent = tokio::net::TcpStream::connect(running.server.address).await.unwrap();
    assert_eq!(within(5, silent.read(&mut [0; 16])).await.unwrap(), 0, "no handshake");

    let (mut silent, _) = running.server.tls(&[b"http/1.1"]).await.unwrap();
    assert!(matches!(within(5, silent.read(&mut [0; 16])).await, Ok(0) | Err(_)), "no request");

    let (mut slow, _) = running.server.tls(&[b"http/1.1"]).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut answer = [0; 256];
    // A byte now and then keeps a connection from being silent, but not its head from being late.
    for _ in 0..50 {
        if slow.write_all(b"P").await.is_err() || slow.flush().await.is_err() {
            break;
        }
        let read = tokio::time::timeout(Duration::from_millis(100), slow.read(&mut answer)).await;
        if matches!(read, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_takes_nothing_new() {
    let running = start(Limits::default(), DRAIN);
    let (name, body) = reviews().swap_remove(0);
    let (mut stream, _) = running.server.tls(&[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST {}?timeout=10s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        Endpoint::path(ENDPOINTS[0]),
        body.len()
    );
    let (first, second) = body.split_at(body.len() / 2);
    stream.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    running.stop.send_replace(true);
    let refused = async {
        while TcpStream::connect(running.server.address).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(5, refused).await;
    assert!(!running.ended.is_finished(), "a request is in flight");

    stream.write_all(second).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    within(5, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{name}");
    assert!(answer.ends_with(&expected(&body, ENDPOINTS[0]).body), "{name}");
    assert!(String::from_utf8_lossy(&answer).contains("connection: close\r\n"));
    within(5, running.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_idle_connections_nor_for_ever() {
    let running = start(Limits::default(), DRAIN);
    let (mut idle, _) = running.server.http1().await.unwrap();
    idle.post(ENDPOINTS[0].path(), Bytes::from(reviews().swap_remove(0).1)).await.unwrap();
    running.stop.send_replace(true);
    within(2, running.ended).await.unwrap().unwrap();

    let running = start(Limits::default(), Drain { limit: Duration::from_millis(300), ..DRAIN });
    let (mut stuck, _) = running.server.tls(&[b"http/1.1"]).await.unwrap();
    let head = "POST /juicefs/inject-v1-pod HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    stuck.write_all(head.as_bytes()).await.unwrap();
    stuck.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.stop.send_replace(true);
    within(3, running.ended).await.unwrap().unwrap();
}
