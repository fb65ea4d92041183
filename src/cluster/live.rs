//! What the caches do not have (yet), read when a decision asks for it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::{caches::reason, secrets::facts, slim::Slim};
use crate::{
    admission::state::{Completing, Completion},
    outcome::Miss,
    volume::{
        Catalog,
        catalog::Writer,
        objects::{Claim, PersistentVolume, Secret, StorageClass},
    },
};

/// Objects that are read for one decision at once.
const MOST_READS: usize = 16;
/// What a read may take; the decision goes on without it afterwards.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a secret is kept that is not followed, as there are too many.
const KEPT: Duration = Duration::from_mins(1);
/// How long what was not there is taken for not there: whoever tries again and again asks the API server once a second.
const GONE: Duration = Duration::from_secs(1);
/// Answers that are remembered.
const MOST_KEPT: usize = 1024;

/// Reads what is missing, and remembers for a while what came of it.
pub struct Live {
    client: Client,
    remembered: Mutex<HashMap<Miss, (Instant, Memory)>>,
}

/// What came of a read.
#[derive(Clone)]
enum Memory {
    Secret(Secret),
    Gone,
}

/// What was found.
enum Found {
    Claim(Claim),
    Volume(Box<PersistentVolume>),
    Class(StorageClass),
    Secret(Secret),
}

impl Live {
    /// Reads with this client.
    pub fn new(client: Client) -> Self {
        Self { client, remembered: Mutex::default() }
    }

    async fn find(&self, miss: &Miss) -> Option<Found> {
        match self.recall(miss) {
            Some(Memory::Secret(secret)) => return Some(Found::Secret(secret)),
            Some(Memory::Gone) => return None,
            None => {}
        }
        let read = timeout(PATIENCE, self.read(miss)).await;
        let found = match read {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(?miss, error = reason(&error), "cannot be read");
                return None;
            }
            Err(_) => {
                tracing::warn!(?miss, "could not be read in time");
                return None;
            }
        };
        match &found {
            Some(Found::Secret(secret)) => self.remember(miss, KEPT, Memory::Secret(secret.clone())),
            Some(_) => {}
            None => self.remember(miss, GONE, Memory::Gone),
        }
        found
    }

    async fn read(&self, miss: &Miss) -> kube::Result<Option<Found>> {
        let client = self.client.clone();
        Ok(match miss {
            Miss::Claim { namespace, name } => {
                let claim = Api::<Slim<Claim>>::namespaced(client, namespace).get_opt(name).await?;
                claim.and_then(|slim| slim.object.ok()).map(Found::Claim)
            }
            Miss::Volume { name } => {
                let volume = Api::<Slim<PersistentVolume>>::all(client).get_opt(name).await?;
                volume.and_then(|slim| slim.object.ok()).map(Box::new).map(Found::Volume)
            }
            Miss::Class { name } => {
                let class = Api::<Slim<StorageClass>>::all(client).get_opt(name).await?;
                class.and_then(|slim| slim.object.ok()).map(Found::Class)
            }
            Miss::Secret { namespace, name } => {
                let secret = Api::<ApiSecret>::namespaced(client, namespace).get_opt(name).await?;
                let (namespace, name) = (namespace.as_str().into(), name.as_str().into());
                secret.map(|secret| Found::Secret(facts(&namespace, &name, secret)))
            }
        })
    }

    fn recall(&self, miss: &Miss) -> Option<Memory> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(miss).filter(|(until, _)| *until > Instant::now()).map(|(_, memory)| memory.clone())
    }

    fn remember(&self, miss: &Miss, how_long: Duration, memory: Memory) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if remembered.len() >= MOST_KEPT {
            remembered.retain(|_, (until, _)| *until > now);
        }
        if remembered.len() < MOST_KEPT {
            remembered.insert(miss.clone(), (now + how_long, memory));
        }
    }
}

impl Completion for Live {
    fn complete<'a>(&'a self, catalog: &'a Catalog, misses: &'a [Miss]) -> Completing<'a> {
        Box::pin(async move {
            let found = join_all(misses.iter().take(MOST_READS).map(|miss| self.find(miss))).await;
            if found.iter().all(Option::is_none) {
                return None;
            }
            // Only for this decision: what the watches tell later may be newer, or that it is gone.
            let mut writer = Writer::over(catalog);
            for object in found.into_iter().flatten() {
                match object {
                    Found::Claim(claim) => writer.apply(claim),
                    Found::Volume(volume) => writer.apply(*volume),
                    Found::Class(class) => writer.apply(class),
                    Found::Secret(secret) => writer.apply(secret),
                }
            }
            Some(writer.snapshot())
        })
    }
}
