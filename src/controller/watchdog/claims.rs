//! Whether a claim is a JuiceFS volume: asked of the API server, and remembered for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{Api, Client};
use tokio::time::Instant;

/// A claim is bound once and for all; one of the same name may come later.
const REMEMBERED: Duration = Duration::from_mins(5);
/// Claims that are remembered; past it they are all asked for again.
const LENGTH: usize = 10_000;

/// Claims and whether they are ours.
pub struct Claims {
    client: Client,
    driver: String,
    known: Mutex<HashMap<(String, String), (bool, Instant)>>,
}

impl Claims {
    /// Those of a driver.
    pub fn new(client: Client, driver: String) -> Self {
        Self { client, driver, known: Mutex::default() }
    }

    /// Whether a claim is ours. One that cannot be read is not, for now: the pod's next change asks again.
    pub async fn is_ours(&self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((ours, since)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && since.elapsed() < REMEMBERED
        {
            return *ours;
        }
        match self.ask(namespace, name).await {
            Ok(Some(ours)) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= LENGTH {
                    known.clear();
                }
                known.insert(key, (ours, Instant::now()));
                ours
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(namespace, claim = name, "watchdog: the claim cannot be read: {error}");
                false
            }
        }
    }

    /// `None`: it cannot be said yet.
    async fn ask(&self, namespace: &str, name: &str) -> Result<Option<bool>, kube::Error> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let Some(spec) = claims.get_opt(name).await?.and_then(|claim| claim.spec) else { return Ok(None) };
        if let Some(volume) = spec.volume_name.filter(|volume| !volume.is_empty()) {
            let volume = Api::<PersistentVolume>::all(self.client.clone()).get_opt(&volume).await?;
            let Some(spec) = volume.and_then(|volume| volume.spec) else { return Ok(None) };
            return Ok(Some(spec.csi.is_some_and(|source| source.driver == self.driver)));
        }
        // Not bound, which may wait for the pod: its class says whose it will be.
        let Some(class) = spec.storage_class_name.filter(|class| !class.is_empty()) else { return Ok(None) };
        let class = Api::<StorageClass>::all(self.client.clone()).get_opt(&class).await?;
        Ok(class.map(|class| class.provisioner == self.driver))
    }
}
