//! HTTP: what is served where, and how answers are sent.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use axum::{
    Extension, Router,
    extract::Request,
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use super::{
    Answer, Endpoint,
    body::{Received, receive, sending},
    connections::Connection,
    state::{App, State},
    turned_away::TurnedAway,
};
use tokio::time::timeout_at;

use crate::telemetry::{logs, metrics};

/// One after another: a claim, its volume or class, its secret; and one in case something changes meanwhile.
const MOST_LOOKS: u32 = 4;

/// The admission endpoints; requests carry their [`Connection`] as an extension.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let app = Arc::clone(app);
        let handler = move |Extension(connection): Extension<Arc<Connection>>, request: Request| {
            handle(Arc::clone(&app), connection, endpoint, request)
        };
        router = router.route(endpoint.path(), post(handler));
    }
    router.method_not_allowed_fallback(method_not_allowed).fallback(not_found)
}

/// Health and metrics, on a port of their own and without TLS; requests carry their [`Connection`] here too.
pub fn plain_router(app: &Arc<App>) -> Router {
    let (ready, counted) = (Arc::clone(app), Arc::clone(app));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match ready.unready() {
                    why if why.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
                    why => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], counted.metrics.render()) }),
        )
        .layer(from_fn(marked))
}

/// Notes that a connection has asked something, so that those which never do yield before it.
async fn marked(Extension(connection): Extension<Arc<Connection>>, request: Request, next: Next) -> Response {
    connection.waits();
    let response = next.run(request).await;
    connection.rests();
    response
}

async fn not_found() -> (StatusCode, String) {
    let paths = Endpoint::ALL.map(Endpoint::path).join(", ");
    (StatusCode::NOT_FOUND, format!("nothing is served here; reviews are answered at {paths}\n"))
}

async fn method_not_allowed() -> (StatusCode, [(axum::http::HeaderName, &'static str); 1], &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], "reviews are sent by POST\n")
}

async fn handle(
    app: Arc<App>,
    connection: Arc<Connection>,
    endpoint: Endpoint,
    request: Request,
) -> Response {
    let started = Instant::now();
    let _in_flight = app.metrics.in_flight();
    let received = match receive(&app, &connection, request).await {
        Ok(received) => decide(&app, endpoint, &received).await,
        Err(reason) => Err(reason),
    };
    let mut response = match received {
        Ok(answer) => {
            let duration = started.elapsed();
            app.metrics.reviewed(endpoint, answer.summary.code, duration);
            logs::decision(endpoint.name(), &answer.summary, duration);
            into_response(answer, &app, &connection)
        }
        Err(reason) => {
            connection.rests();
            turn_away(&app, endpoint, reason)
        }
    };
    // Sends the API server to another replica.
    if app.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers, and where something was not known has it looked for and answers again, as long as there is time.
async fn decide(app: &App, endpoint: Endpoint, received: &Received) -> Result<Answer, TurnedAway> {
    let mut state = app.state();
    let mut looks = MOST_LOOKS;
    loop {
        let answer = received.answered(|body| answer_or_catch(app, &state, endpoint, body)).await?;
        let completion = app.completion().filter(|_| looks > 0 && !answer.misses.is_empty());
        let Some(completion) = completion else { return Ok(answer) };
        looks -= 1;
        let found = completion.complete(&state.catalog, &answer.misses);
        let Ok(Some(catalog)) = timeout_at(received.deadline(), found).await else { return Ok(answer) };
        state = Arc::new(State { catalog, ..State::clone(&state) });
    }
}

/// Our own failure is answered like any other: with an HTTP error, so that `failurePolicy` decides.
fn answer_or_catch(app: &App, state: &State, endpoint: Endpoint, body: &[u8]) -> Answer {
    // Nothing that is shared is left half-changed: the engine only reads.
    catch_unwind(AssertUnwindSafe(|| app.answer(state, endpoint, body)))
        .unwrap_or_else(|_| Answer::panicked())
}

fn into_response(answer: Answer, app: &App, connection: &Arc<Connection>) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if answer.is_review() { "application/json" } else { "text/plain; charset=utf-8" };
    (status, [(CONTENT_TYPE, kind)], sending(answer.body, app, connection)).into_response()
}

fn turn_away(app: &App, endpoint: Endpoint, reason: TurnedAway) -> Response {
    app.metrics.turned_away(reason);
    let message = reason.message(&app.limits);
    tracing::warn!(endpoint = endpoint.name(), reason = reason.label(), "request turned away: {message}");
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, message + "\n").into_response();
    if reason == TurnedAway::Overload {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
