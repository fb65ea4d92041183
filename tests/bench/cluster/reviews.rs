//! What our answers cost beside a constant one, over the same server and connections, in alternating rounds.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use hyper::body::Bytes;
use juicefs_sidecar::{
    admission::{
        self, Answer, Endpoint,
        limits::Limits,
        serve::{Drain, Listeners, serve},
        state::{Answering, App, State},
    },
    inject::Family,
    telemetry::Metrics,
    tls::{issue::issue, server_config},
};

use super::{
    client::Server,
    figures::Table,
    objects::{MANY, catalog},
    webhook::review,
};

/// What the constant answer is: one of ours, so that as many bytes are sent.
pub(crate) static CONSTANT: LazyLock<Answer> = LazyLock::new(|| {
    let state = state();
    let answer = admission::answer(review(0).to_string().as_bytes(), ENDPOINT, &state.engine());
    assert!(injects(&answer.body), "{}", String::from_utf8_lossy(&answer.body));
    answer
});

/// Whether this is the answer that is meant to be measured: a refusal costs less.
fn injects(answer: &[u8]) -> bool {
    const DECISION: &[u8] = b"\"decision\":\"injected\"";
    answer.windows(DECISION.len()).any(|found| found == DECISION)
}

/// Where the constant answer is given to an API server.
pub(crate) const CONSTANT_IP: &str = "127.0.99.1";
const ENDPOINT: Endpoint = Endpoint::Inject(Family::Node);
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

pub(crate) async fn measure(table: &mut Table) {
    let real = start(admission::answer).0;
    let constant = start(|_, _, _| CONSTANT.clone()).0;
    let bodies: Arc<[Bytes]> =
        (0..MANY).step_by(97).map(|number| review(number).to_string().into()).collect();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, rates) in [&real, &constant].into_iter().zip(&mut rates) {
            rates.push(rate(server, &bodies).await);
        }
    }
    let [ours, constant] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    table.note("reviews as fast as they go, client on the same cores", format!("{ours:.0}/s"));
    table.note("a constant answer, the same", format!("{constant:.0}/s"));
    table.at_least("ours of the constant answer's rate", ours / constant * 100.0, 80.0, "%");
}

fn state() -> State {
    State { catalog: catalog(), config: Arc::default(), process: Arc::default() }
}

/// A server in this process, for as long as that lives, and where it says whether it is ready.
pub(crate) fn start(answering: Answering) -> (Server, SocketAddr) {
    let names = ["localhost", CONSTANT_IP].map(str::to_owned);
    let issued = issue(&names, SystemTime::now()).expect("a certificate");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(loopback, loopback).expect("ports");
    let [address, health] =
        [&listeners.admission, &listeners.plain].map(|listener| listener.local_addr().expect("an address"));
    let app = Arc::new(App::new(state(), Metrics::new(), Limits::default()).answering(answering));
    let tls = Arc::new(ArcSwap::from_pointee(server_config(issued.identity, None).expect("a configuration")));
    let drain = Drain { delay: Duration::ZERO, limit: Duration::ZERO };
    tokio::spawn(serve(app, listeners, tls, drain, std::future::pending));
    (Server { address, ca: issued.ca_pem, identity: None }, health)
}

/// Answers per second in one round.
async fn rate(server: &Server, bodies: &Arc<[Bytes]>) -> f64 {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS {
        let (server, bodies) = (server.clone(), Arc::clone(bodies));
        tasks.spawn(async move {
            let mut connection = server.http1().await.expect("a connection").0;
            let mut count = 0_u32;
            for body in bodies.iter().cycle().skip(first) {
                if begun.elapsed() > ROUND {
                    break;
                }
                let response = connection.post(ENDPOINT.path(), body.clone()).await.expect("an answer");
                assert_eq!(response.status(), 200);
                // Not each: that is work, too.
                assert!(count > 0 || injects(response.body()), "{response:?}");
                count += 1;
            }
            count
        });
    }
    let mut count = 0;
    while let Some(task) = tasks.join_next().await {
        count += task.expect("a connection's task");
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}
