//! What leads to file systems, read from user secrets when it is needed, and kept for a moment: a thousand claims of one
//! class ask once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    client::access::{Access, access},
    config::Process,
    controller::problem::Problem,
    outcome::Refusal,
    volume::objects::SecretReference,
};

/// For how long what was read is believed. Also bounds how many secrets are held: those of this moment.
const FRESH: Duration = Duration::from_secs(10);

/// Namespace and name of a secret.
type Key = (Arc<str>, Arc<str>);

/// Reads user secrets.
pub struct Credentials {
    client: Client,
    process: Process,
    read: Mutex<HashMap<Key, Entry>>,
}

#[derive(Clone)]
struct Entry {
    since: Instant,
    access: Arc<OnceCell<Arc<Access>>>,
}

impl Credentials {
    /// Nothing is read yet.
    pub fn new(client: Client) -> Self {
        Self { client, process: Process::default(), read: Mutex::default() }
    }

    /// What a secret leads to. `whom` is who needs it, for messages.
    pub async fn get(&self, secret: &SecretReference, whom: &str) -> Result<Arc<Access>, Problem> {
        let entry = self.entry(secret, Instant::now());
        entry.access.get_or_try_init(|| self.read(secret, whom)).await.cloned()
    }

    /// What was read is not believed any more.
    pub fn forget(&self, secret: &SecretReference) {
        let key = (Arc::clone(&secret.namespace), Arc::clone(&secret.name));
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    fn entry(&self, secret: &SecretReference, now: Instant) -> Entry {
        let key = (Arc::clone(&secret.namespace), Arc::clone(&secret.name));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|_, entry| now.duration_since(entry.since) < FRESH);
        read.entry(key).or_insert_with(|| Entry { since: now, access: Arc::default() }).clone()
    }

    async fn read(&self, secret: &SecretReference, whom: &str) -> Result<Arc<Access>, Problem> {
        let SecretReference { namespace, name } = secret;
        let what = format!("secret \"{namespace}/{name}\"");
        if name.is_empty() || namespace.is_empty() {
            return Err(Problem::Waits(format!(
                "{whom} names no secret, so its file system cannot be reached"
            )));
        }
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let found = secrets.get_opt(name).await.map_err(Problem::api(&what))?;
        let Some(found) = found else {
            return Err(Problem::NoSource { user_secret: what, whom: whom.to_owned() });
        };
        let data = found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        // Which client it is for does not matter yet: no image is known to be too old.
        let access = access(&data, "", &self.process);
        let named = |refusal: Refusal| Problem::Refused(Refusal { place: what.clone(), ..refusal });
        access.map(Arc::new).map_err(named)
    }
}
