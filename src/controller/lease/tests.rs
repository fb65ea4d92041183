use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::*;

/// An API server that has one lease and its versions; it can be slow, and it can fail.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    version: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    /// Milliseconds that calls take, in turns.
    delays: Arc<Mutex<Vec<u64>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { server.answer(request).await }
            }),
            "ns",
        )
    }

    fn candidate(&self, pod: &str) -> Candidate {
        Candidate::new(self.client(), "ns", "lease", pod, Timing::of(Duration::from_secs(15)))
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await?;
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let delay = {
            let mut delays = self.delays.lock().unwrap();
            if !delays.is_empty() {
                delays.rotate_left(1);
            }
            delays.last().copied().unwrap_or(0)
        };
        // Half on the way there, half on the way back.
        sleep(Duration::from_millis(delay / 2)).await;
        let (status, answer) = self.store(&method, &body);
        sleep(Duration::from_millis(delay / 2)).await;
        let response =
            Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()))?;
        Ok(response)
    }

    fn store(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let failed = |code: StatusCode, reason: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()}),
            )
        };
        if self.failing.load(Ordering::SeqCst) {
            return failed(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        let mut lease = self.lease.lock().unwrap();
        let sent = serde_json::from_slice::<Value>(body).ok();
        let version = |value: &Value| value["metadata"]["resourceVersion"].clone();
        match (method, &*lease, sent) {
            (&Method::GET | &Method::PUT, None, _) => failed(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::GET, Some(lease), _) => (StatusCode::OK, lease.clone()),
            (&Method::POST, Some(_), _) => failed(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::PUT, Some(old), Some(new)) if version(&new) != version(old) => {
                failed(StatusCode::CONFLICT, "Conflict")
            }
            (_, _, Some(mut new)) => {
                let number = self.version.fetch_add(1, Ordering::SeqCst);
                new["metadata"]["resourceVersion"] = json!(number.to_string());
                *lease = Some(new.clone());
                (StatusCode::OK, new)
            }
            _ => failed(StatusCode::BAD_REQUEST, "BadRequest"),
        }
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().unwrap();
        lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str()).unwrap_or("").to_owned()
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut lease = self.lease.lock().unwrap();
        let lease = lease.as_mut().unwrap();
        change(lease);
        lease["metadata"]["resourceVersion"] = json!(self.version.fetch_add(1, Ordering::SeqCst).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_waits_until_the_first_is_silent() {
    let server = Server::default();
    let (mut first, mut second) = (server.candidate("a"), server.candidate("b"));
    first.acquire().await;
    assert_eq!(server.holder(), first.identity);
    let kept = tokio::time::timeout(Duration::from_mins(5), async {
        tokio::select! { _ = first.keep() => "lost", () = second.acquire() => "taken" }
    });
    assert!(kept.await.is_err(), "a leader that renews stays");

    // It dies without a word.
    let last = Instant::now();
    drop(first);
    second.acquire().await;
    let waited = last.elapsed();
    assert!((10..=18).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(server.holder(), second.identity);
    let lease = server.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_up_is_taken_at_once() {
    let server = Server::default();
    let (mut first, mut second) = (server.candidate("a"), server.candidate("b"));
    first.acquire().await;
    assert!(tokio::time::timeout(Duration::from_secs(4), second.acquire()).await.is_err());
    first.release().await;
    let released = Instant::now();
    second.acquire().await;
    assert!(released.elapsed() < Duration::from_secs(3));
    // What was given up cannot be given up again.
    first.release().await;
    assert_eq!(server.holder(), second.identity);
}

#[tokio::test(start_paused = true)]
async fn clocks_of_others_do_not_matter() {
    let server = Server::default();
    let mut first = server.candidate("a");
    first.acquire().await;
    server.change(|lease| lease["spec"]["renewTime"] = json!("2001-01-01T00:00:00.000000Z"));
    let mut second = server.candidate("b");
    let began = Instant::now();
    second.acquire().await;
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_others_may_begin() {
    for silent in [false, true] {
        let server = Server::default();
        let mut first = server.candidate("a");
        first.acquire().await;
        let acquired = Instant::now();
        if silent { &server.silent } else { &server.failing }.store(true, Ordering::SeqCst);
        assert_eq!(first.keep().await, Lost::Late(Duration::from_secs(10)));
        assert!(acquired.elapsed() < Duration::from_secs(13), "{:?}", acquired.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_is_lived_with() {
    let server = Server::default();
    let mut first = server.candidate("a");
    first.acquire().await;
    let failing = Arc::clone(&server.failing);
    let outages = async {
        loop {
            failing.store(true, Ordering::SeqCst);
            sleep(Duration::from_secs(6)).await;
            failing.store(false, Ordering::SeqCst);
            sleep(Duration::from_secs(6)).await;
        }
    };
    let end = tokio::time::timeout(Duration::from_mins(5), async {
        tokio::select! { lost = first.keep() => Some(lost), () = outages => None }
    });
    assert!(end.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let server = Server::default();
    let mut first = server.candidate("a");
    first.acquire().await;
    server.change(|lease| lease["spec"]["holderIdentity"] = json!("thief"));
    assert_eq!(first.keep().await, Lost::Taken("thief".to_owned()));
    first.release().await;
    assert_eq!(server.holder(), "thief");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_or_annotated_stays_ours() {
    let server = Server::default();
    let mut first = server.candidate("a");
    first.acquire().await;
    let edits = async {
        sleep(Duration::from_secs(5)).await;
        server.change(|lease| lease["metadata"]["annotations"] = json!({"note": "kept"}));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(server.lease.lock().unwrap().as_ref().unwrap()["metadata"]["annotations"]["note"], "kept");
        *server.lease.lock().unwrap() = None;
        sleep(Duration::from_secs(5)).await;
    };
    tokio::select! { lost = first.keep() => panic!("{lost}"), () = edits => {} }
    assert_eq!(server.holder(), first.identity);
}

#[tokio::test(start_paused = true)]
async fn two_never_lead_at_once() {
    let server = Server::default();
    // Slow and uneven, so that reads and writes of the candidates mingle.
    *server.delays.lock().unwrap() = vec![0, 700, 30, 1_900, 5, 400, 3_100, 60, 90, 2_500, 1];
    let leading = Arc::new(Mutex::new(BTreeSet::new()));
    let terms = Arc::new(AtomicUsize::new(0));
    let candidates = (0..4_u64).map(|number| {
        let (server, leading, terms) = (server.clone(), Arc::clone(&leading), Arc::clone(&terms));
        tokio::spawn(async move {
            loop {
                let mut candidate = server.candidate(&number.to_string());
                candidate.acquire().await;
                leading.lock().unwrap().insert(number);
                assert_eq!(leading.lock().unwrap().len(), 1);
                terms.fetch_add(1, Ordering::SeqCst);
                let term = Duration::from_secs(20 + 7 * number);
                let _ = tokio::time::timeout(term, candidate.keep()).await;
                leading.lock().unwrap().remove(&number);
                if number % 2 == 0 {
                    candidate.release().await;
                }
            }
        })
    });
    let candidates: Vec<_> = candidates.collect();
    sleep(Duration::from_hours(1)).await;
    assert!(terms.load(Ordering::SeqCst) > 20, "{terms:?}");
    for candidate in candidates {
        assert!(!candidate.is_finished());
        candidate.abort();
    }
}

#[test]
fn the_proportions_are_those_of_other_controllers() {
    let timing = Timing::of(Duration::from_secs(15));
    assert_eq!((timing.deadline.as_secs(), timing.retry.as_secs()), (10, 2));
}
