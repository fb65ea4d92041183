//! The one way to an API server: where it is, how often it may be asked, and what is counted about it.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use clap::Args;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt as _};

use super::bucket::Bucket;
use crate::telemetry::ApiCalls;

/// What a call other than a watch may take until its answer begins; API servers themselves give up after 60 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Leases are renewed also when everything else has to wait: who waits loses them.
const LEASES: &str = "/apis/coordination.k8s.io/";

/// Flags about the API server, for every subcommand that talks to one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API server")]
pub struct ClientArguments {
    /// Kubeconfig to reach the API server with [default: $KUBECONFIG, then the pod's service account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Calls to the API server per second, in the long run; leases do not count
    #[arg(long, env = "KUBE_QPS", value_name = "NUMBER", default_value = "100", value_parser = positive)]
    kube_qps: u32,

    /// Calls to the API server at once, before `--kube-qps` holds them back
    #[arg(long, env = "KUBE_BURST", value_name = "NUMBER", default_value = "200", value_parser = positive)]
    kube_burst: u32,
}

fn positive(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a whole number above 0".to_owned())
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The named file cannot be used.
    #[error("{}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// Nothing says where the API server is.
    #[error(
        "no API server is configured: this is no pod with a service account, and no kubeconfig was found \
         (--kubeconfig, KUBECONFIG): {0}"
    )]
    Nowhere(Box<kube::config::InferConfigError>),
    /// The credentials or certificates of the configuration cannot be used.
    #[error("the configuration of the API server cannot be used: {0}")]
    Unusable(#[source] Box<kube::Error>),
}

impl ClientArguments {
    /// A client for the configured API server, whose calls are counted; nothing is sent yet.
    ///
    /// `program` goes into the user agent, which API servers log and meter.
    pub async fn client(&self, program: &str, calls: ApiCalls) -> Result<Client, NoClient> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let named = |source| NoClient::Kubeconfig { path: path.clone(), source: Box::new(source) };
                let file = Kubeconfig::read_from(path).map_err(named)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(named)?
            }
            None => Config::infer().await.map_err(|error| NoClient::Nowhere(Box::new(error)))?,
        };
        let agent = format!("juicefs-sidecar/{} ({program})", env!("CARGO_PKG_VERSION"));
        if let Ok(agent) = HeaderValue::try_from(agent) {
            config.headers.push((USER_AGENT, agent));
        }
        let limit = Limit {
            bucket: Arc::new(Mutex::new(Bucket::full(self.kube_qps.into(), self.kube_burst))),
            calls,
        };
        let builder = ClientBuilder::try_from(config).map_err(|error| NoClient::Unusable(Box::new(error)))?;
        Ok(builder.with_layer(&limit).build())
    }
}

/// Holds calls back to the configured rate, ends those that get no answer, and counts them.
#[derive(Clone)]
struct Limit {
    bucket: Arc<Mutex<Bucket>>,
    calls: ApiCalls,
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner: Arc::new(tokio::sync::Mutex::new(inner)), limit: self.clone() }
    }
}

struct Limited<S> {
    /// Locked only to hand a request over, so that a call that has to wait does not hold up those after it.
    inner: Arc<tokio::sync::Mutex<S>>,
    limit: Limit,
}

impl<S, B> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        let Limit { bucket, calls } = self.limit.clone();
        Box::pin(async move {
            let verb = request.extensions().get::<&'static str>().copied().unwrap_or("other");
            if !request.uri().path().starts_with(LEASES) {
                let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
                tokio::time::sleep(wait).await;
            }
            let answer = async {
                let mut service = inner.lock().await;
                let answer = service.ready().await?.call(request);
                drop(service);
                answer.await
            };
            // Also a watch begins to answer at once; only its body takes long.
            let answer = tokio::time::timeout(CALL_TIMEOUT, answer)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs()).into()));
            calls.count(verb, answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers at once and counts; `/slow` never.
    #[derive(Clone)]
    struct Server(Arc<AtomicUsize>);

    impl Service<Request<Body>> for Server {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    std::future::pending::<()>().await;
                }
                Ok(Response::new(Body::empty()))
            })
        }
    }

    fn request(path: &str) -> Request<Body> {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert("get");
        request
    }

    #[tokio::test(start_paused = true)]
    async fn leases_pass_calls_that_have_to_wait() {
        let calls = ApiCalls::default();
        let bucket = Arc::new(Mutex::new(Bucket::full(1.0, 1)));
        let mut service = Limit { bucket, calls }.layer(Server(Arc::default()));
        let started = Instant::now();
        let first = tokio::spawn(service.call(request("/api/v1/pods")));
        let second = tokio::spawn(service.call(request("/api/v1/pods")));
        tokio::task::yield_now().await;
        service.call(request("/apis/coordination.k8s.io/v1/leases/x")).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(100));
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_an_error_and_counted() {
        let calls = ApiCalls::default();
        let mut registry = prometheus_client::registry::Registry::default();
        calls.register(&mut registry);
        let bucket = Arc::new(Mutex::new(Bucket::full(10.0, 10)));
        let mut service = Limit { bucket, calls }.layer(Server(Arc::default()));
        service.call(request("/fast")).await.unwrap();
        let error = service.call(request("/slow")).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 30 s");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("api_calls_total{verb=\"get\",outcome=\"ok\"} 1"), "{text}");
        assert!(text.contains("api_calls_total{verb=\"get\",outcome=\"unreachable\"} 1"), "{text}");
    }
}
