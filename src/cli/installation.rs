//! Where juicefs-sidecar is installed in a cluster, and how programs find it.

use clap::Args;
use kube::Client;

use crate::{
    cluster::client::ClientArguments, controller::start::NoStart, offline::configuration::CONFIG_MAP,
    telemetry::ApiCalls,
};

/// Flags of every program that runs in a cluster.
#[derive(Args, Clone, Debug)]
pub(super) struct InstallationArguments {
    /// Namespace of juicefs-sidecar [default: the service account's]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Name of the driver's ConfigMap in that namespace
    #[arg(long, env = "JUICEFS_CONFIG_NAME", value_name = "NAME", default_value = CONFIG_MAP)]
    config_map: String,

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
        Ok(Installation { client, namespace, config_map: self.config_map.clone() })
    }
}
