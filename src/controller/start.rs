//! Whether the controller can begin, and if not, which of the ways to fail it is.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use super::rights::{Right, missing};
use crate::cluster::client::NoClient;

/// How long an API server may be away when the program starts: it may be restarting itself.
const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_secs(1);

/// Why the start failed.
#[derive(Debug, thiserror::Error)]
pub enum NoStart {
    /// It is not known where it is, or how to speak with it.
    #[error(transparent)]
    NoClient(#[from] NoClient),
    /// It does not answer.
    #[error("the API server cannot be reached: {0}")]
    NoServer(String),
    /// Some right is missing.
    #[error(
        "rights are missing; grant this service account the roles that webhook-config/rbac-webhook.yaml and \
         rbac-controller.yaml have for it: {}",
        .0.join(", ")
    )]
    NoRights(Vec<String>),
    /// It is not known which is ours.
    #[error(
        "the namespace is not known: set POD_NAMESPACE or --namespace to the one juicefs-sidecar is installed in"
    )]
    NamespaceUnknown,
    /// It is not there.
    #[error(
        "namespace \"{0}\" does not exist; create it, or name the one juicefs-sidecar is installed in (--namespace)"
    )]
    NoNamespace(String),
}

impl NoStart {
    /// The exit code: each way to fail has its own.
    pub fn code(&self) -> u8 {
        match self {
            Self::NoClient(_) => 2,
            Self::NoServer(_) => 3,
            Self::NoRights(_) => 4,
            Self::NamespaceUnknown | Self::NoNamespace(_) => 5,
        }
    }
}

/// Checks that the API server answers, the rights are there, and the namespace is.
pub async fn check(client: &Client, namespace: &str, rights: &[Right<'_>]) -> Result<(), NoStart> {
    reach(client).await?;
    let unreachable = |error: kube::Error| NoStart::NoServer(error.to_string());
    let missing = missing(client, namespace, rights).await.map_err(unreachable)?;
    if !missing.is_empty() {
        return Err(NoStart::NoRights(missing));
    }
    let namespaces = Api::<Namespace>::all(client.clone());
    match namespaces.get_metadata_opt(namespace).await.map_err(unreachable)? {
        Some(_) => Ok(()),
        None => Err(NoStart::NoNamespace(namespace.to_owned())),
    }
}

/// Waits for the API server to answer, for as long as one may take to restart.
pub async fn reach(client: &Client) -> Result<(), NoStart> {
    let started = Instant::now();
    loop {
        match client.apiserver_version().await {
            Ok(version) => {
                tracing::info!(version = version.git_version, "the API server answers");
                return Ok(());
            }
            Err(error) if started.elapsed() >= PATIENCE => return Err(NoStart::NoServer(deepest(&error))),
            Err(error) => {
                tracing::warn!("the API server cannot be reached, trying again: {}", deepest(&error));
            }
        }
        sleep(BETWEEN).await;
    }
}

/// The last cause says what is wrong: refused, unknown host, bad certificate.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
