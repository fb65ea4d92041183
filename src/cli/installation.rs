//! Where juicefs-sidecar is installed in a cluster, and how programs find it.

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use crate::{
    cluster::client::ClientArguments,
    controller::start::{NoStart, reach},
    offline::configuration::CONFIG_MAP,
    telemetry::ApiCalls,
};

/// Flags of every program that runs in a cluster.
#[derive(Args, Clone, Debug)]
pub(super) struct InstallationArguments {
    /// Namespace of juicefs-sidecar [default: the service account's]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Name of this pod, for the Lease, for events, and to know the image it runs
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: Option<String>,

    /// Name of the driver's ConfigMap in that namespace
    #[arg(long, env = "JUICEFS_CONFIG_NAME", value_name = "NAME", default_value = CONFIG_MAP)]
    pub(super) config_map: String,

    #[command(flatten)]
    client: ClientArguments,
}

/// An installation in a cluster.
#[derive(Clone)]
pub(super) struct Installation {
    /// The API server.
    pub(super) client: Client,
    /// Ours.
    pub(super) namespace: String,
    /// This program's pod, if it runs in one.
    pub(super) pod: Option<String>,
    /// The driver's `ConfigMap`.
    pub(super) config_map: String,
}

impl InstallationArguments {
    /// The way to the API server, and what is ours there; nothing is sent yet.
    pub(super) async fn find(&self, program: &str, calls: ApiCalls) -> Result<Installation, NoStart> {
        let client = self.client.client(program, calls).await?;
        let given = self.namespace.clone().filter(|namespace| !namespace.is_empty());
        // A kubeconfig without a namespace means `default`, where nobody installs this.
        let of_client =
            || Some(client.default_namespace().to_owned()).filter(|namespace| namespace != "default");
        let namespace = given.or_else(of_client).ok_or(NoStart::NamespaceUnknown)?;
        let pod = self.pod_name.clone().filter(|name| !name.is_empty());
        Ok(Installation { client, namespace, pod, config_map: self.config_map.clone() })
    }
}

impl Installation {
    /// The image that the pod of this program runs, under the name the cluster has for it; `None` outside of a pod.
    pub(super) async fn image(&self, program: &str) -> Result<Option<String>, NoStart> {
        let Some(name) = &self.pod else { return Ok(None) };
        reach(&self.client).await?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        match pods.get_opt(name).await {
            Ok(pod) => {
                let image = pod.as_ref().and_then(|pod| image_of(pod, program));
                if image.is_none() {
                    tracing::warn!(
                        "pod {name} does not say which image this program runs from: name the agent's with --agent-image"
                    );
                }
                Ok(image)
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(NoStart::NoRights(vec![format!("get pods in namespace {}", self.namespace)]))
            }
            Err(error) => Err(NoStart::NoServer(error.to_string())),
        }
    }
}

/// The image of the container that runs this program; there may be others in the pod, of a mesh for example.
fn image_of(pod: &Pod, program: &str) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let runs =
        |words: Option<&Vec<String>>| words.is_some_and(|words| words.iter().any(|word| word == program));
    let ours = containers.iter().find(|one| runs(one.args.as_ref()) || runs(one.command.as_ref()))?;
    ours.image.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_image_is_that_of_the_container_that_runs_the_program() {
        let pod = |containers| serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
        let proxy = json!({"name": "linkerd-proxy", "image": "proxy:1"});
        let ours = json!({"name": "webhook", "image": "mirror/juicefs-sidecar:2", "args": ["webhook"]});
        let found = image_of(&pod(json!([proxy, ours])), "webhook");
        assert_eq!(found.as_deref(), Some("mirror/juicefs-sidecar:2"));
        let wrapped = json!({"name": "serve", "image": "ours:3", "command": ["/juicefs-sidecar", "serve"]});
        assert_eq!(image_of(&pod(json!([wrapped])), "serve").as_deref(), Some("ours:3"));
        assert_eq!(image_of(&pod(json!([proxy])), "webhook"), None);
    }
}
