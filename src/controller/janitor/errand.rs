//! Short-lived pods on the nodes: made, waited for, removed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Settings,
    release::{self, LABEL, Outcome, Work, outcome},
};
use crate::{config::Config, controller::problem::Problem};

/// How long an errand may take, pulling its image included; the pod has a deadline of its own.
const LIMIT: Duration = Duration::from_secs(150);
/// How often to ask what became of it.
const POLL: Duration = Duration::from_millis(500);

/// Who runs them.
pub(super) struct Errands {
    client: Client,
    namespace: Option<String>,
    image: String,
    configuration: watch::Receiver<Option<Arc<Config>>>,
}

impl Errands {
    /// None is under way.
    pub(super) fn new(
        client: Client,
        settings: &Settings,
        configuration: watch::Receiver<Option<Arc<Config>>>,
    ) -> Self {
        let Settings { namespace, image, .. } = settings.clone();
        Self { client, namespace, image, configuration }
    }

    /// Has a pod on the node remove directories, and waits for it.
    pub(super) async fn run(&self, work: Work) -> Result<(), Problem> {
        let Some(namespace) = self.namespace.as_deref() else {
            return Err(Problem::Waits("the janitor is switched off".to_owned()));
        };
        let config = self.configuration.borrow().clone();
        let mut name = work.name.clone();
        let pod = release::pod(work, &self.image, config.as_deref().map(|config| &config.agent));
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        match pods.create(&PostParams::default(), &pod).await {
            // Of somebody who led before, or of a try whose end was not seen.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => {
                let made = made.map_err(Problem::api(format!("pod \"{namespace}/{name}\"")))?;
                name = made.metadata.name.unwrap_or(name);
            }
        }
        let what = || format!("pod \"{namespace}/{name}\"");
        let end = Instant::now() + LIMIT;
        let done = loop {
            match outcome(&pods.get(&name).await.map_err(Problem::api(what()))?) {
                Outcome::Done => break Ok(()),
                Outcome::Failed(reason) => break Err(Problem::Waits(format!("{}: {reason}", what()))),
                Outcome::Running if Instant::now() < end => sleep(POLL).await,
                Outcome::Running => break Err(Problem::Silent(format!("{} does not end", what()))),
            }
        };
        remove(&pods, &name).await;
        done
    }

    /// Removes what earlier controllers have left.
    pub(super) async fn sweep(&self) {
        let Some(namespace) = self.namespace.as_deref() else { return };
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let left = match pods.list(&ListParams::default().labels(LABEL).limit(500)).await {
            Ok(left) => left,
            Err(error) => return tracing::debug!("janitor: {error}"),
        };
        for pod in left.iter().filter(|pod| !matches!(outcome(pod), Outcome::Running)) {
            remove(&pods, pod.metadata.name.as_deref().unwrap_or_default()).await;
        }
    }
}

async fn remove(pods: &Api<Pod>, name: &str) {
    match pods.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        // It does nothing any more; the next controller tries again.
        Err(error) => tracing::warn!(pod = name, "janitor: its pod cannot be removed: {error}"),
    }
}
