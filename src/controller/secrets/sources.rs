//! The user secrets that claims name: each followed by its name, and kept as what the clients' secret is made of.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    cluster::follow::{Follower, MOST, follow},
    volume::{SecretError, objects::SecretReference, secret::injected},
};

/// When a source that is not followed is read again.
const READ_AGAIN: Duration = Duration::from_mins(2);

/// The data of the clients' secret, or why there is none.
pub type State = Arc<Result<Data, Unusable>>;
type Data = BTreeMap<String, Vec<u8>>;

/// Why a source gives no credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is not there.
    Missing,
    /// It does not say what it has to.
    Invalid(SecretError),
}

/// Who follows which source, and what it said last.
pub struct Sources {
    client: Client,
    news: mpsc::Sender<(SecretReference, State)>,
    followed: HashMap<(Arc<str>, Arc<str>), Followed>,
}

struct Followed {
    _task: Follower,
    state: Option<State>,
}

fn key(source: &SecretReference) -> (Arc<str>, Arc<str>) {
    (Arc::clone(&source.namespace), Arc::clone(&source.name))
}

impl Sources {
    /// None is followed yet; what is found is sent.
    pub fn new(client: Client, news: mpsc::Sender<(SecretReference, State)>) -> Self {
        Self { client, news, followed: HashMap::new() }
    }

    /// Follows these, and no others any longer.
    pub fn follow<'a>(&mut self, wanted: impl Iterator<Item = &'a SecretReference>) {
        let wanted: HashMap<_, _> = wanted.map(|source| (key(source), source)).collect();
        self.followed.retain(|key, _| wanted.contains_key(key));
        for (key, source) in wanted {
            if !self.followed.contains_key(&key) {
                // Others are read now and then.
                let watched = self.followed.len() < MOST;
                let one = one(self.client.clone(), source.clone(), self.news.clone(), watched);
                self.followed.insert(key, Followed { _task: Follower::start(one), state: None });
            }
        }
    }

    /// Takes the news of a source; whether it says something new.
    pub fn take(&mut self, source: &SecretReference, state: State) -> bool {
        // Of one that nobody follows any more there may be late news.
        let Some(followed) = self.followed.get_mut(&key(source)) else { return false };
        let is_new = followed.state.as_ref() != Some(&state);
        followed.state = Some(state);
        is_new
    }

    /// What a source said last; `None` if it has not been read yet.
    pub fn state(&self, source: &SecretReference) -> Option<&State> {
        self.followed.get(&key(source))?.state.as_ref()
    }
}

async fn one(
    client: Client,
    source: SecretReference,
    news: mpsc::Sender<(SecretReference, State)>,
    watched: bool,
) {
    let api = Api::<Secret>::namespaced(client, &source.namespace);
    let tell = |secret: Option<Secret>| {
        let (news, source) = (news.clone(), source.clone());
        // Nobody listens when the work is over.
        async move { news.send((source, state(secret))).await }.map(drop)
    };
    if watched {
        return follow(api, "a user secret", &source.name, tell).await;
    }
    loop {
        match api.get_opt(&source.name).await {
            Ok(secret) => tell(secret).await,
            Err(error) => {
                let (namespace, name) = (&*source.namespace, &*source.name);
                tracing::warn!(namespace, name, "a user secret cannot be read: {error}");
            }
        }
        sleep(READ_AGAIN).await;
    }
}

fn state(secret: Option<Secret>) -> State {
    Arc::new(match secret {
        None => Err(Unusable::Missing),
        Some(secret) => {
            let data = secret.data.unwrap_or_default();
            let data = data.into_iter().map(|(key, value)| (key, value.0)).collect();
            injected::data(&data).map_err(Unusable::Invalid)
        }
    })
}
