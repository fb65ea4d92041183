//! The secrets that JuiceFS volumes and classes name: each followed by its name, none listed, and nothing kept of them
//! but facts.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::{
    caches::Change,
    follow::{Follower, MOST, follow},
};
use crate::volume::{UserSecret, catalog::Writer, objects::Secret};

/// What they are called in metrics.
const KIND: &str = "Secret";

type Name = (Arc<str>, Arc<str>);

/// Who follows which secret.
pub(super) struct Secrets {
    client: Client,
    driver: String,
    changes: mpsc::Sender<Change>,
    followed: BTreeMap<Name, Follower>,
}

impl Secrets {
    pub(super) fn new(client: Client, driver: String, changes: mpsc::Sender<Change>) -> Self {
        Self { client, driver, changes, followed: BTreeMap::new() }
    }

    /// Follows what the catalogue's volumes and classes name, and no longer what they do not.
    pub(super) fn follow(&mut self, writer: &mut Writer) {
        let wanted = writer.catalog().referenced_secrets(&self.driver);
        self.followed.retain(|name, _| {
            let kept = wanted.contains(name);
            if !kept {
                writer.delete::<Secret>(&name.0, &name.1);
            }
            kept
        });
        for name in wanted {
            // Others are read when they are needed.
            if self.followed.len() >= MOST {
                return;
            }
            if !self.followed.contains_key(&name) {
                let task = one(self.client.clone(), name.clone(), self.changes.clone());
                self.followed.insert(name, Follower::start(task));
            }
        }
    }
}

/// Follows one secret.
async fn one(client: Client, (namespace, name): Name, changes: mpsc::Sender<Change>) {
    let api: Api<ApiSecret> = Api::namespaced(client, &namespace);
    let tell = |secret: Option<ApiSecret>| {
        let (namespace, name, changes) = (Arc::clone(&namespace), Arc::clone(&name), changes.clone());
        let change = match secret.map(|secret| facts(&namespace, &name, secret)) {
            Some(secret) => Change::of(KIND, move |writer| writer.apply(secret)),
            None => Change::of(KIND, move |writer| writer.delete::<Secret>(&namespace, &name)),
        };
        async move {
            // Nobody listens when the program ends.
            let _ = changes.send(change).await;
        }
    };
    follow(api, "a user secret", &name, tell).await;
}

/// What a secret says; the secret itself goes.
pub(super) fn facts(namespace: &Arc<str>, name: &Arc<str>, secret: ApiSecret) -> Secret {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Secret {
        namespace: Arc::clone(namespace),
        name: Arc::clone(name),
        facts: UserSecret::parse(&data).map(Arc::new),
    }
}
