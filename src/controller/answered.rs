//! Whether a webhook is there that answers, before API servers are told to ask it.
//!
//! What is registered and not answered keeps pods from being created. So injection is registered for the first time when
//! the webhook's Service has an endpoint that is ready. From then on nothing waits: a registration that somebody removed
//! comes back at once, whoever answers, because pods that are created meanwhile would have no client.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::Instant;

use super::problem::Problem;

/// The label of slices that names their Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// What routes connections to an endpoint hears of it when we do, and takes a moment.
const ROUTED: Duration = Duration::from_secs(2);
/// More slices than a webhook has: 100 endpoints are in each.
const MOST_SLICES: u32 = 100;

/// Looks for those who answer.
pub struct Answered {
    client: Client,
    namespace: String,
    service: String,
    /// Since when an endpoint has been seen to be ready.
    since: Option<Instant>,
}

/// What is to be done about a first registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Register.
    Ready,
    /// Look again after so long.
    Soon(Duration),
    /// Nobody is ready.
    Nobody,
}

impl Answered {
    /// Nothing is read yet.
    pub fn new(client: Client, namespace: &str, service: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), service: service.to_owned(), since: None }
    }

    /// Whether somebody answers now.
    pub async fn look(&mut self) -> Result<Answer, Problem> {
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), &self.namespace);
        let parameters = ListParams::default().labels(&of(&self.service)).limit(MOST_SLICES);
        let what = format!("endpointslices of service \"{}\"", self.service);
        let slices = slices.list(&parameters).await.map_err(Problem::api(what))?;
        if !slices.iter().any(has_ready) {
            self.since = None;
            return Ok(Answer::Nobody);
        }
        let ready_for = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = ROUTED.saturating_sub(ready_for);
        Ok(if left.is_zero() { Answer::Ready } else { Answer::Soon(left) })
    }
}

/// Tells of every change of the endpoints of a Service.
pub fn changes(client: &Client, namespace: &str, service: &str) -> impl Stream<Item = ()> + Send + use<> {
    let slices = Api::<PartialObjectMeta<EndpointSlice>>::namespaced(client.clone(), namespace);
    let changes = watcher(slices, watcher::Config::default().labels(&of(service)));
    changes.default_backoff().touched_objects().filter_map(async |change| {
        change.inspect_err(|error| tracing::debug!("watch of endpoints: {error}")).ok().map(drop)
    })
}

fn of(service: &str) -> String {
    format!("{SERVICE_NAME}={service}")
}

/// As the API has it: one that does not say is ready.
fn has_ready(slice: &EndpointSlice) -> bool {
    slice
        .endpoints
        .iter()
        .flatten()
        .any(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};

    use super::*;

    fn slice(ready: &[Option<bool>]) -> EndpointSlice {
        let endpoint = |ready: &Option<bool>| Endpoint {
            conditions: Some(EndpointConditions { ready: *ready, ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        let endpoints = Some(ready.iter().map(endpoint).collect());
        EndpointSlice { endpoints, ..EndpointSlice::default() }
    }

    #[test]
    fn one_endpoint_that_is_not_unready_is_enough() {
        assert!(!has_ready(&EndpointSlice::default()));
        assert!(!has_ready(&slice(&[Some(false), Some(false)])));
        assert!(has_ready(&slice(&[Some(false), Some(true)])));
        assert!(has_ready(&slice(&[None])));
    }
}
