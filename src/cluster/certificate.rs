//! The serving certificate, as the controller keeps it in a Secret.

use std::future::ready;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::follow::follow;
use crate::tls::{Identity, pem};

/// The keys of a `kubernetes.io/tls` Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Follows the Secret for ever and hands on its certificate whenever it changes, or what is wrong with it.
pub async fn serving_certificate(
    client: Client,
    namespace: &str,
    name: &str,
    mut changed: impl FnMut(anyhow::Result<Identity>),
) {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    // A watch begins again every few minutes, with what is known already.
    let mut seen = None;
    follow(api, "the serving certificate", name, |secret| {
        let version = secret.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
        if seen.as_ref() != Some(&version) {
            changed(identity(secret.as_ref(), namespace, name));
            seen = Some(version);
        }
        ready(())
    })
    .await;
}

fn identity(secret: Option<&Secret>, namespace: &str, name: &str) -> anyhow::Result<Identity> {
    let Some(secret) = secret else {
        anyhow::bail!("secret \"{namespace}/{name}\" does not exist; the controller makes it");
    };
    let value = |key| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    pem::identity(value(CERTIFICATE), value(KEY))
        .map_err(|error| anyhow::anyhow!("secret \"{namespace}/{name}\": {error}"))
}
