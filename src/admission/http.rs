//! HTTP: what a request has to look like, what it may cost, and how its answer is sent.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _},
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode, Version,
        header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::sync::SemaphorePermit;

use super::{Answer, Endpoint, answer, state::App, timeout::budget};
use crate::telemetry::{logs, metrics};

/// What a body may weigh that is thrown away, so that its sender gets to read why it was refused.
const DISCARDED: usize = 64 << 20;
/// The body buffer a sender gets before it has sent anything.
const FIRST_BUFFER: usize = 64 << 10;

/// Bounds on what requests may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one body.
    pub body: usize,
    /// Bytes of all bodies at once.
    pub bodies: usize,
    /// Requests handled at once; more are shed.
    pub in_flight: usize,
    /// Until a new connection has to be TLS.
    pub handshake: Duration,
    /// Until a request's head has to be complete, idle time included: longer than the 90 s after which Kubernetes
    /// itself closes an idle connection, lest a request meet a connection that is just being closed.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            bodies: 64 << 20,
            in_flight: 256,
            handshake: Duration::from_secs(5),
            head: Duration::from_mins(2),
        }
    }
}

impl Limits {
    pub(super) fn memory_kib(&self) -> usize {
        self.bodies.max(self.body) >> 10
    }
}

/// Why a request got no review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Too much is being handled already.
    Overload,
    /// The body exceeds its limit.
    TooLarge,
    /// Not `application/json`.
    ContentType,
    /// The query's `timeout` is not a duration.
    Timeout,
    /// The body did not arrive in time.
    TooSlow,
    /// The body ended early.
    Broken,
}

impl TurnedAway {
    /// Every reason there is.
    pub const ALL: [Self; 6] =
        [Self::Overload, Self::TooLarge, Self::ContentType, Self::Timeout, Self::TooSlow, Self::Broken];

    /// The reason in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::TooLarge => "too-large",
            Self::ContentType => "content-type",
            Self::Timeout => "timeout-invalid",
            Self::TooSlow => "too-slow",
            Self::Broken => "body-broken",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Timeout | Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn message(self, limits: &Limits) -> String {
        match self {
            Self::Overload => format!(
                "the webhook is handling all it can ({} requests, {} MiB); try again, or run more replicas of it",
                limits.in_flight,
                limits.bodies >> 20
            ),
            Self::TooLarge => {
                format!(
                    "the request's body exceeds {} MiB; the API server's own limit is lower",
                    limits.body >> 20
                )
            }
            Self::ContentType => {
                "content-type is not application/json; send what the API server sends".to_owned()
            }
            Self::Timeout => {
                "the query's timeout is not a valid duration; write it like timeout=10s".to_owned()
            }
            Self::TooSlow => "the request's body did not arrive within its timeout; try again".to_owned(),
            Self::Broken => "the request's body ended before it was complete; try again".to_owned(),
        }
    }
}

/// The admission endpoints.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let app = Arc::clone(app);
        let handler = move |request: Request| handle(Arc::clone(&app), endpoint, request);
        router = router.route(endpoint.path(), post(handler));
    }
    router.method_not_allowed_fallback(method_not_allowed).fallback(not_found)
}

/// Health and metrics, on a port of their own and without TLS.
pub fn plain_router(app: &Arc<App>) -> Router {
    let (ready, counted) = (Arc::clone(app), Arc::clone(app));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                // Manifests and certificate were loaded before anything could ask.
                if ready.is_draining() {
                    (StatusCode::SERVICE_UNAVAILABLE, "draining: the server is about to stop\n")
                } else {
                    (StatusCode::OK, "ok\n")
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], counted.metrics.render()) }),
        )
}

async fn not_found() -> (StatusCode, String) {
    let paths = Endpoint::ALL.map(Endpoint::path).join(", ");
    (StatusCode::NOT_FOUND, format!("nothing is served here; reviews are answered at {paths}\n"))
}

async fn method_not_allowed() -> (StatusCode, [(axum::http::HeaderName, &'static str); 1], &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], "reviews are sent by POST\n")
}

async fn handle(app: Arc<App>, endpoint: Endpoint, request: Request) -> Response {
    let started = Instant::now();
    let version = request.version();
    let _in_flight = app.metrics.in_flight();
    let mut response = match receive(&app, request, started).await {
        Ok(body) => {
            let answer = answer_or_catch(&app, endpoint, &body.bytes);
            let duration = started.elapsed();
            app.metrics.reviewed(endpoint, answer.summary.code, duration);
            logs::decision(endpoint.name(), &answer.summary, duration);
            into_response(answer)
        }
        Err(reason) => turn_away(&app, endpoint, reason),
    };
    // Sends the API server to another replica; HTTP/2 has frames of its own for this.
    if version <= Version::HTTP_11 && app.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Our own failure is answered like any other: with an HTTP error, so that `failurePolicy` decides.
fn answer_or_catch(app: &App, endpoint: Endpoint, body: &[u8]) -> Answer {
    let state = app.state();
    // Nothing that is shared is left half-changed: the engine only reads.
    catch_unwind(AssertUnwindSafe(|| answer(body, endpoint, &state.engine())))
        .unwrap_or_else(|_| Answer::panicked())
}

fn into_response(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if answer.is_review() { "application/json" } else { "text/plain; charset=utf-8" };
    (status, [(CONTENT_TYPE, kind)], answer.body).into_response()
}

fn turn_away(app: &App, endpoint: Endpoint, reason: TurnedAway) -> Response {
    app.metrics.turned_away(reason);
    let message = reason.message(&app.limits);
    tracing::warn!(endpoint = endpoint.name(), reason = reason.label(), "request turned away: {message}");
    let mut response = (reason.status(), message + "\n").into_response();
    if reason == TurnedAway::Overload {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A request's body and the share of the bounds it holds until it is dropped.
struct Received<'a> {
    bytes: Vec<u8>,
    _place: SemaphorePermit<'a>,
    _memory: SemaphorePermit<'a>,
}

async fn receive(app: &App, request: Request, started: Instant) -> Result<Received<'_>, TurnedAway> {
    let (head, mut body) = request.into_parts();
    let place = app.places.try_acquire().map_err(|_| TurnedAway::Overload)?;
    if !is_json(&head.headers) {
        return Err(TurnedAway::ContentType);
    }
    let budget = budget(timeout_of(head.uri.query())).ok_or(TurnedAway::Timeout)?;
    let deadline = tokio::time::Instant::from_std(started + budget);
    let length = content_length(&head.headers);
    let reading = async {
        if length.is_some_and(|length| length > app.limits.body) {
            return Err(TurnedAway::TooLarge);
        }
        // A sender that does not say how much it will send has to be allowed for in full.
        let kib = (length.unwrap_or(app.limits.body) >> 10) + 1;
        let memory = u32::try_from(kib.min(app.limits.memory_kib()))
            .ok()
            .and_then(|kib| app.memory.try_acquire_many(kib).ok())
            .ok_or(TurnedAway::Overload)?;
        Ok((read(&mut body, length, app.limits.body).await?, memory))
    };
    let read = tokio::time::timeout_at(deadline, reading).await.unwrap_or(Err(TurnedAway::TooSlow));
    if matches!(read, Err(TurnedAway::TooLarge)) {
        let _ = tokio::time::timeout_at(deadline, discard(&mut body)).await;
    }
    let (bytes, memory) = read?;
    Ok(Received { bytes, _place: place, _memory: memory })
}

async fn read(body: &mut Body, length: Option<usize>, limit: usize) -> Result<Vec<u8>, TurnedAway> {
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(FIRST_BUFFER));
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(|_| TurnedAway::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(TurnedAway::TooLarge);
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// Reads on and forgets: closing a connection while its peer still sends loses the answer.
async fn discard(body: &mut Body) {
    let mut left = DISCARDED;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Parameters of the media type, a charset for example, change nothing about JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The value of `timeout` in a query; durations need no percent-encoding but for the micro sign, which we do without.
fn timeout_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("timeout="))
}
