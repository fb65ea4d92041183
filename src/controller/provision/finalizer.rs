//! Keeps user secrets that volumes need, where their class asks for it (`secretFinalizer`): without one a volume's data
//! could not be removed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};

use super::Provisioner;
use crate::{
    controller::problem::Problem,
    volume::{Catalog, objects::SecretReference},
};

/// As the Go driver calls it (contract 5.2).
const FINALIZER: &str = "juicefs.com/finalizer";

impl Provisioner {
    /// Keeps a secret from going.
    pub(super) async fn hold_secret(&self, secret: &SecretReference) -> Result<(), Problem> {
        self.change_secret(secret, |finalizers| {
            let missing = !finalizers.iter().any(|one| one == FINALIZER);
            if missing {
                finalizers.push(FINALIZER.to_owned());
            }
            missing
        })
        .await
    }

    /// Lets a secret go when no other volume needs it to have its data removed.
    pub(super) async fn release_secret(
        &self,
        secret: &SecretReference,
        volume: &Arc<str>,
        catalog: &Catalog,
    ) -> Result<(), Problem> {
        let needed = catalog.volumes_of(&self.driver).any(|other| {
            other.metadata.name != *volume
                && other.spec.is_deleted_with_claim
                && other.secret() == Some(secret)
        });
        if needed || secret.name.is_empty() {
            return Ok(());
        }
        self.change_secret(secret, |finalizers| {
            let before = finalizers.len();
            finalizers.retain(|one| one != FINALIZER);
            finalizers.len() != before
        })
        .await
    }

    /// Changes just the version that was read; of two that change it at the same time one tries again.
    async fn change_secret(
        &self,
        secret: &SecretReference,
        change: impl FnOnce(&mut Vec<String>) -> bool,
    ) -> Result<(), Problem> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &secret.namespace);
        let what = format!("secret \"{}/{}\"", secret.namespace, secret.name);
        let Some(mut found) = secrets.get_opt(&secret.name).await.map_err(Problem::api(&what))? else {
            return Ok(());
        };
        let finalizers = found.metadata.finalizers.get_or_insert_default();
        if !change(finalizers) {
            return Ok(());
        }
        let replaced = secrets.replace(&secret.name, &PostParams::default(), &found).await;
        replaced.map(drop).map_err(Problem::api(&what))
    }
}
