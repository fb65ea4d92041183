//! Which pods of a cluster a subcommand is about, and how they are read.

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1 as api;
use kube::{
    Api, Client,
    api::{ListParams, ObjectList},
};

use super::output::Output;
use crate::{cluster::client::ClientArguments, inject::status::DONE, running::Pod, telemetry::ApiCalls};

/// So many pods are read with one call.
const PAGE: u32 = 500;

/// Flags that choose pods.
#[derive(Args, Debug)]
pub(super) struct PodArguments {
    /// Names of pods [default: all of the namespace that were injected]
    #[arg(value_name = "POD")]
    names: Vec<String>,

    /// Their namespace [default: the kubeconfig's]
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// Pods of every namespace
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_namespaces: bool,

    /// Only pods with these labels, as kubectl takes them
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,

    #[command(flatten)]
    client: ClientArguments,
}

impl PodArguments {
    /// A way to the API server; nothing is sent yet.
    pub(super) async fn client(&self, program: &str) -> anyhow::Result<Client> {
        Ok(self.client.client(program, ApiCalls::default()).await?)
    }

    /// The injected pods that are meant, by namespace and name. What cannot be read of one is told.
    pub(super) async fn read(&self, client: &Client, output: &mut Output) -> anyhow::Result<Vec<Pod>> {
        let api: Api<api::Pod> = match (&self.namespace, self.all_namespaces) {
            (_, true) => Api::all(client.clone()),
            (Some(namespace), _) => Api::namespaced(client.clone(), namespace),
            (None, _) => Api::default_namespaced(client.clone()),
        };
        let mut found = Vec::new();
        if self.names.is_empty() {
            // The label only spares reading the others; the annotation is what counts.
            let labels = self.selector.iter().map(String::as_str).chain([DONE]);
            let mut page = ListParams::default().labels(&labels.collect::<Vec<_>>().join(",")).limit(PAGE);
            loop {
                let list: ObjectList<api::Pod> = api.list(&page).await.context("cannot list pods")?;
                read_each(list.items, &mut found, output);
                match list.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => break,
                }
            }
        } else {
            for name in &self.names {
                let pod = api.get(name).await.with_context(|| format!("cannot read pod {name:?}"))?;
                if !read_each([pod], &mut found, output) {
                    output.tell(&format!("pod {name:?}: nothing of ours is in it"));
                }
            }
        }
        found.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Ok(found)
    }
}

/// Reads what was injected; whether anything was.
fn read_each(pods: impl IntoIterator<Item = api::Pod>, found: &mut Vec<Pod>, output: &mut Output) -> bool {
    let before = found.len();
    for pod in pods {
        match Pod::read(&pod) {
            Ok(read) => found.extend(read),
            Err(error) => {
                let of = |text: Option<String>| text.unwrap_or_default();
                output.tell(&format!(
                    "warning: pod \"{}/{}\": {error}",
                    of(pod.metadata.namespace),
                    of(pod.metadata.name)
                ));
                return true;
            }
        }
    }
    found.len() > before
}
