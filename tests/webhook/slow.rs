//! Slow, silent and greedy senders, over real sockets: whatever they do, the reviews of others are answered.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use hyper::{StatusCode, body::Bytes};
use juicefs_sidecar::admission::limits::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::client::TlsStream;

use super::{
    MACHINE,
    client::{Server, Taped},
    expected,
    recorded::{ENDPOINTS, reviews},
    wire::{DRAIN, start},
    within,
};

/// The one that must not be kept waiting.
const API_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The one that keeps waiting; of a loopback network every address is ours.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

type Stream = TlsStream<Taped>;

/// A connection that has sent a head and this much of a body.
async fn sender(server: &Server, from: IpAddr, framing: &str, body: &[u8]) -> Stream {
    let (mut stream, _) = server.tls_from(from, &[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /juicefs/inject-v1-pod?timeout=30s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
    );
    // It may be given up while it sends: that is what is tried here.
    let _ = within(10, stream.write_all(&[head.as_bytes(), body].concat())).await;
    let _ = within(10, stream.flush()).await;
    stream
}

/// Sends every recorded review on connections old and new; none may fail or wait for a second.
async fn reviews_are_answered(server: &Server) {
    let (mut kept, _) = server.http1().await.unwrap();
    for (name, body) in reviews() {
        let (mut fresh, _) = within(10, server.http1()).await.unwrap();
        for connection in [&mut kept, &mut fresh] {
            let started = Instant::now();
            let sent = connection.post(ENDPOINTS[0].path(), Bytes::from(body.clone()));
            let response = within(10, sent).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}: {:?}", response.body());
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(1), "{name}: {waited:?}");
            assert_eq!(response.body(), &expected(&body, ENDPOINTS[0]).body, "{name}");
        }
    }
}

/// The status line of what a connection is answered, or that it ends.
async fn answer(stream: &mut Stream) -> String {
    let mut text = [0; 512];
    let length = within(10, stream.read(&mut text)).await.unwrap_or(0);
    String::from_utf8_lossy(&text[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn eight_silent_senders_stop_nobody() {
    let _machine = MACHINE.lock().await;
    let running = start(Limits::default(), DRAIN);
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(sender(&running.server, API_SERVER, "transfer-encoding: chunked", b"").await);
    }
    let rest = format!("content-length: {}", 4 << 20);
    silent.push(sender(&running.server, API_SERVER, &rest, b"").await);
    reviews_are_answered(&running.server).await;
    for stream in &mut silent[..7] {
        assert_eq!(answer(stream).await, "HTTP/1.1 411 Length Required");
    }
    assert_eq!(answer(&mut silent[7]).await, "HTTP/1.1 408 Request Timeout", "without progress");
}

#[tokio::test]
async fn bodies_that_stop_just_before_their_end_keep_nobody_waiting() {
    let _machine = MACHINE.lock().await;
    for from in [OTHER, API_SERVER] {
        let running = start(Limits::default(), DRAIN);
        let length = 3 << 20;
        let framing = format!("content-length: {length}");
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (server, framing) = (running.server.clone(), framing.clone());
            senders.spawn(async move { sender(&server, from, &framing, &vec![b' '; length - 1]).await });
        }
        // The first has sent all it will: from now on there are those that stand still.
        senders.join_next().await;
        reviews_are_answered(&running.server).await;
        let none_yielded = || running.app.metrics.render().contains("connections_yielded_total 0\n");
        within(30, async {
            // More than there is room for: some have to go.
            while none_yielded() {
                reviews_are_answered(&running.server).await;
            }
        })
        .await;
        senders.abort_all();
    }
}

#[tokio::test]
async fn one_peer_with_many_large_reviews_is_answered_every_one() {
    let _machine = MACHINE.lock().await;
    let running = start(Limits::default(), DRAIN);
    let (_, body) = reviews().swap_remove(0);
    let mut large = body.clone();
    large.resize(3 << 20, b' ');
    let large = Bytes::from(large);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (server, large) = (running.server.clone(), large.clone());
        senders.spawn(async move {
            let (mut connection, _) = server.http1().await.unwrap();
            connection.post(ENDPOINTS[0].path(), large).await.unwrap()
        });
    }
    let answers = within(60, senders.join_all()).await;
    for answer in answers {
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
        assert_eq!(answer.body(), &expected(&body, ENDPOINTS[0]).body);
    }
    assert!(running.app.metrics.render().contains("connections_yielded_total 0\n"), "nobody was slow");
}

#[tokio::test]
async fn connections_without_requests_yield_to_those_with() {
    let _machine = MACHINE.lock().await;
    // What is silent is to end only because others wait.
    let limits = Limits { connections: 32, handshake: Duration::from_mins(5), ..Limits::default() };
    let running = start(limits, DRAIN);
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(running.server.address).await.unwrap());
    }
    reviews_are_answered(&running.server).await;
    for stream in &mut silent {
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
        assert!(read.is_err(), "there is room for them: {read:?}");
    }
    for _ in 0..80 {
        silent.push(TcpStream::connect(running.server.address).await.unwrap());
    }
    reviews_are_answered(&running.server).await;
    assert!(running.app.connections.count() <= 32);
    assert!(!running.app.metrics.render().contains("connections_yielded_total 0\n"));
}

#[tokio::test]
async fn the_plain_port_is_bounded_too() {
    let _machine = MACHINE.lock().await;
    let limits = Limits {
        plain_connections: 4,
        head: Duration::from_secs(3),
        patience: Duration::from_secs(1),
        ..Limits::default()
    };
    let running = start(limits, DRAIN);
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(running.plain).await.unwrap());
    }
    let asked = async {
        let mut stream = TcpStream::connect(running.plain).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    assert!(within(60, asked).await.ends_with("ok\n"));
    for mut stream in idle {
        assert!(matches!(within(30, stream.read(&mut [0])).await, Ok(0) | Err(_)), "idle for too long");
    }
}
