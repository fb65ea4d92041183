//! The router alone, without sockets and with a clock that waits for nobody.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes, HttpBody},
    http::{Request, Response, StatusCode},
};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use juicefs_sidecar::{
    admission::{Endpoint, answer, connections::Connection, http, limits::Limits, state::App},
    telemetry::Metrics,
};
use tower::ServiceExt as _;

use super::{
    expected,
    recorded::{self, ENDPOINTS, reviews},
};

const INJECT: &str = "/juicefs/inject-v1-pod?timeout=10s";

fn app(limits: Limits) -> Arc<App> {
    Arc::new(App::new(recorded::state(), Metrics::new(), limits))
}

/// The router as the port for reviews gives it to one connection.
fn router(app: &Arc<App>) -> Router {
    let connection = Connection::new([127, 0, 0, 1].into());
    http::router(app).layer(Extension(Arc::new(connection)))
}

/// The same for the plain port.
fn plain_router(app: &Arc<App>) -> Router {
    http::plain_router(app).layer(Extension(Arc::new(Connection::new([127, 0, 0, 1].into()))))
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).unwrap()
}

async fn call(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let (head, body) = answered(router, request).await.into_parts();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

async fn answered(router: Router, request: Request<Body>) -> Response<Bytes> {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn small() -> Vec<u8> {
    reviews().into_iter().find(|(name, _)| name == "pod-no-claims.create.json").unwrap().1
}

/// A body of known length that sends its chunks, then nothing more and never ends.
struct Stalling(Vec<Bytes>, u64);

impl HttpBody for Stalling {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.pop().map_or(Poll::Pending, |chunk| Poll::Ready(Some(Ok(Frame::data(chunk)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn every_recorded_review_is_answered_as_the_library_does() {
    let router = router(&app(Limits::default()));
    for (name, body) in reviews() {
        for endpoint in ENDPOINTS {
            let response = answered(router.clone(), post(endpoint.path(), body.clone())).await;
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.body(), &expected(&body, endpoint).body, "{name}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413() {
    let limits = Limits { body: 4096, ..Limits::default() };
    let (status, text) = call(router(&app(limits)), post(INJECT, vec![b' '; 4097])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("body exceeds"), "{text}");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_not_read() {
    // Frames that are passed on one by one have no length in all.
    let body = Body::new(Body::from(small()).map_frame(|frame| frame));
    let (status, text) = call(router(&app(Limits::default())), post(INJECT, body)).await;
    assert_eq!(status, StatusCode::LENGTH_REQUIRED);
    assert!(text.contains("content-length"), "{text}");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_said_is_refused() {
    let body = Body::new(Stalling(vec![Bytes::from_static(b"{}")], 1));
    let (status, text) = call(router(&app(Limits::default())), post(INJECT, body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
}

#[tokio::test]
async fn the_limit_is_4_mib() {
    let router = router(&app(Limits::default()));
    let mut body = small();
    body.resize(4 << 20, b' ');
    assert_eq!(call(router.clone(), post(INJECT, body.clone())).await.0, StatusCode::OK);
    body.push(b' ');
    assert_eq!(call(router, post(INJECT, body)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_json_is_read() {
    let router = router(&app(Limits::default()));
    for (media, status) in [
        (Some("application/json"), StatusCode::OK),
        (Some("Application/JSON; charset=utf-8"), StatusCode::OK),
        (Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some("application/jsonx"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let mut request = Request::post(INJECT).body(Body::from(small())).unwrap();
        if let Some(media) = media {
            request.headers_mut().insert("content-type", media.parse().unwrap());
        }
        assert_eq!(call(router.clone(), request).await.0, status, "{media:?}");
    }
}

#[tokio::test]
async fn garbage_is_answered_400_with_the_reason() {
    let router = router(&app(Limits::default()));
    let truncated = small().split_at(1000).0.to_vec();
    for (body, reason) in [
        (b"".to_vec(), "EOF"),
        (b"\xff\xfe\x00".to_vec(), "expected value"),
        (b"{}".to_vec(), "send an AdmissionReview"),
        (truncated, "EOF while parsing"),
    ] {
        let (status, text) = call(router.clone(), post(INJECT, body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains(reason), "{text}");
    }
    let (status, text) = call(router, post("/juicefs/inject-v1-pod?timeout=soon", small())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("timeout=10s"), "{text}");
}

#[tokio::test]
async fn other_paths_and_methods_are_named() {
    let router = router(&app(Limits::default()));
    let (status, text) = call(router.clone(), post("/inject", small())).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(Endpoint::ALL.iter().all(|endpoint| text.contains(endpoint.path())), "{text}");
    let response = answered(router, Request::get(INJECT).body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_given_up_before_the_api_server_gives_up() {
    let started = tokio::time::Instant::now();
    let router = router(&app(Limits::default()));
    let body = Body::new(Stalling(vec![Bytes::from_static(b"{")], 9));
    let (status, text) = call(router, post("/juicefs/inject-v1-pod?timeout=1s", body)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(text.contains("did not arrive in time"), "{text}");
    let waited = started.elapsed();
    assert!(waited > Duration::from_millis(500) && waited < Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_is_given_up_long_before_its_timeout() {
    let started = tokio::time::Instant::now();
    let body = Body::new(Stalling(vec![Bytes::from_static(b"{")], 9));
    let request = post("/juicefs/inject-v1-pod?timeout=30s", body);
    let (status, _) = call(router(&app(Limits::default())), request).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(started.elapsed().as_secs(), 2);
}

/// A connection whose body of this many bytes has come but for the last.
fn held_up(app: &Arc<App>, bytes: usize) -> tokio::task::JoinHandle<(StatusCode, String)> {
    let body = Body::new(Stalling(vec![Bytes::from(vec![b' '; bytes - 1])], bytes as u64));
    tokio::spawn(call(router(app), post(INJECT, body)))
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_waits_for_it_and_is_shed_only_at_its_deadline() {
    let (body, own) = (1 << 20, 16 << 10);
    let limits = Limits { body, bodies: body - own, stall: Duration::from_secs(9), ..Limits::default() };
    let app = app(limits);
    // One takes what there is, the next the right to go on.
    let busy = [held_up(&app, body), held_up(&app, body)];
    tokio::task::yield_now().await;
    let large = [small(), vec![b' '; 20_000]].concat();
    let mut patient = post("/juicefs/inject-v1-pod?timeout=20s", large.clone());
    patient.headers_mut().insert("content-length", large.len().into());
    let patient = tokio::spawn(call(router(&app), patient));

    let shed = answered(router(&app), post("/juicefs/inject-v1-pod?timeout=1s", large)).await;
    assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shed.headers()["retry-after"], "1");
    assert!(String::from_utf8_lossy(shed.body()).contains("try again"));
    // What comes with its connection needs no room, though there is none.
    assert_eq!(call(router(&app), post(INJECT, small())).await.0, StatusCode::OK);
    assert!(!patient.is_finished());
    for busy in busy {
        assert_eq!(busy.await.unwrap().0, StatusCode::REQUEST_TIMEOUT);
    }
    assert_eq!(patient.await.unwrap().0, StatusCode::OK);
    let metrics = app.metrics.render();
    assert!(metrics.contains("requests_turned_away_total{reason=\"overload\"} 1"), "{metrics}");
    assert!(metrics.contains("requests_turned_away_total{reason=\"too-slow\"} 2"), "{metrics}");
    assert!(metrics.contains("in_flight_requests 0"), "{metrics}");
}

#[tokio::test]
async fn a_panic_is_an_http_error_and_the_next_request_is_answered() {
    let app = App::new(recorded::state(), Metrics::new(), Limits::default());
    let app = Arc::new(app.answering(|body, endpoint, engine| match endpoint {
        Endpoint::ValidateVolume => unimplemented!(),
        endpoint => answer(body, endpoint, engine),
    }));
    let volume = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE",
        "kind":{"group":"","version":"v1","kind":"PersistentVolume"},
        "object":{"metadata":{"name":"a"},"spec":{"csi":{"driver":"csi.juicefs.com","volumeHandle":"a"}}}}}"#;
    let (status, text) = call(router(&app), post("/juicefs/validate-pv", volume)).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("the webhook failed on this request"), "{text}");
    assert!(
        app.metrics.render().contains("reviews_total{endpoint=\"validate-pv\",code=\"internal-error\"} 1")
    );
    assert_eq!(call(router(&app), post(INJECT, small())).await.0, StatusCode::OK);
}

#[tokio::test]
async fn health_and_metrics_are_on_the_plain_port() {
    let app = app(Limits::default());
    call(router(&app), post(INJECT, small())).await;
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(call(plain_router(&app), get("/healthz")).await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(call(plain_router(&app), get("/readyz")).await.0, StatusCode::OK);
    let (_, metrics) = call(plain_router(&app), get("/metrics")).await;
    assert!(metrics.contains("reviews_total{endpoint=\"inject\",code=\"no-juicefs-volume\"} 1"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));

    app.drain();
    let (status, text) = call(plain_router(&app), get("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("draining"), "{text}");
    assert_eq!(call(plain_router(&app), get("/healthz")).await.0, StatusCode::OK);
    let last = answered(router(&app), post(INJECT, small())).await;
    assert_eq!(last.status(), StatusCode::OK);
    assert_eq!(last.headers()["connection"], "close");
}
