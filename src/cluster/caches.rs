//! The catalogue of a cluster, kept up to date by watching.
//!
//! Each kind has a task that watches it, and one task alone writes: it applies what the others tell and gives the
//! new catalogue away. `kube`'s watchers list anew when the API server has forgotten where they were, and try again
//! with longer and longer pauses while it is gone.

use std::{collections::BTreeSet, pin::pin, sync::Arc};

use futures_util::StreamExt as _;
use kube::{
    Api, Client,
    core::Status,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    configuration,
    secrets::Secrets,
    slim::{Slim, Watched},
};
use crate::{
    admission::state::App,
    volume::{
        Catalog,
        catalog::Writer,
        objects::{Claim, Namespace, Node, PersistentVolume, StorageClass},
    },
};

/// Changes that wait to be applied; watches pause beyond that.
const WAITING: usize = 1024;
/// What a server is asked for at once, where it cannot stream a list.
const PAGE: u32 = 500;
/// What `/readyz` calls the caches.
const CACHES: &str = "the caches of the cluster's objects";

/// One change to the catalogue.
pub(super) struct Change {
    kind: &'static str,
    apply: Box<dyn FnOnce(&mut Writer) + Send>,
}

impl Change {
    /// A change of objects of a kind.
    pub(super) fn of(kind: &'static str, apply: impl FnOnce(&mut Writer) + Send + 'static) -> Self {
        Self { kind, apply: Box::new(apply) }
    }
}

/// What is watched, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The CSI driver whose secrets are read.
    pub driver: String,
    /// The namespace of the ConfigMap.
    pub namespace: String,
    /// The ConfigMap's name.
    pub config_map: String,
    /// Whether lists may come from the API server's cache, which is cheaper and may be a little old.
    pub cached_lists: bool,
}

/// Why the caches cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum NoCaches {
    /// The API server does not answer.
    #[error("the API server does not answer: {0}; see that it runs and can be reached from here")]
    Unreachable(String),
    /// A right is missing.
    #[error("{0}; grant it, as webhook-config/rbac-webhook.yaml does")]
    Forbidden(String),
}

impl NoCaches {
    /// The exit code: each way to fail has its own.
    pub fn code(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 3,
            Self::Forbidden(_) => 4,
        }
    }
}

/// Which kinds have been listed, and what is forbidden.
#[derive(Debug, Default)]
struct Progress {
    synced: BTreeSet<&'static str>,
    forbidden: Option<String>,
}

/// The tasks that keep the catalogue; they end when this is dropped.
pub struct Caches {
    progress: watch::Receiver<Progress>,
    _tasks: JoinSet<()>,
}

impl Caches {
    /// Begins to watch. The app is ready once every kind has been listed.
    pub async fn start(client: &Client, settings: Settings, app: &Arc<App>) -> Result<Self, NoCaches> {
        let server = client.apiserver_version().await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 403 => NoCaches::Forbidden(status.message),
            error => NoCaches::Unreachable(reason(&error)),
        })?;
        // Where there is no node yet, it alone says what a pod may have.
        if let Ok(version) = server.git_version.parse() {
            app.runs_on(version);
        }
        app.awaits(CACHES);
        let (changes, arriving) = mpsc::channel(WAITING);
        let (progress, watched) = watch::channel(Progress::default());
        let mut tasks = JoinSet::new();
        let watcher =
            Watcher { client: client.clone(), cached_lists: settings.cached_lists, changes, progress };
        tasks.spawn(watcher.clone().watch::<Claim>());
        tasks.spawn(watcher.clone().watch::<PersistentVolume>());
        tasks.spawn(watcher.clone().watch::<StorageClass>());
        tasks.spawn(watcher.clone().watch::<Node>());
        tasks.spawn(watcher.clone().watch::<Namespace>());
        tasks.spawn(configuration::follow(client.clone(), settings.clone(), Arc::clone(app)));
        let secrets = Secrets::new(client.clone(), settings.driver, watcher.changes);
        tasks.spawn(keep(arriving, secrets, Arc::clone(app)));
        Ok(Self { progress: watched, _tasks: tasks })
    }

    /// Waits until every kind has been listed once, or until a right turns out to be missing.
    pub async fn synced(&mut self, app: &App) -> Result<(), NoCaches> {
        const KINDS: usize = 5;
        let done = |progress: &Progress| progress.synced.len() == KINDS || progress.forbidden.is_some();
        let Ok(progress) = self.progress.wait_for(done).await else { return Ok(()) };
        if let Some(what) = &progress.forbidden {
            return Err(NoCaches::Forbidden(what.clone()));
        }
        app.has(CACHES);
        tracing::info!("every kind has been listed");
        Ok(())
    }
}

/// Applies what arrives, as much at once as there is, and gives the catalogue away after each time.
async fn keep(mut arriving: mpsc::Receiver<Change>, mut secrets: Secrets, app: Arc<App>) {
    let mut writer = Writer::default();
    let mut batch = Vec::with_capacity(WAITING);
    while arriving.recv_many(&mut batch, WAITING).await > 0 {
        let mut kinds = BTreeSet::new();
        for Change { kind, apply } in batch.drain(..) {
            apply(&mut writer);
            kinds.insert(kind);
        }
        secrets.follow(&mut writer);
        app.replace_catalog(writer.catalog());
        app.metrics.cached(writer.catalog().sizes(), kinds);
    }
}

/// Tells the storage objects that say which secret a claim needs, and the namespaces, after each change: for ever, and
/// not before every kind has been listed.
pub async fn follow_storage(client: Client, told: watch::Sender<Catalog>) {
    const KINDS: usize = 4;
    let (changes, mut arriving) = mpsc::channel(WAITING);
    let (progress, listed) = watch::channel(Progress::default());
    let mut tasks = JoinSet::new();
    let watcher = Watcher { client, cached_lists: true, changes, progress };
    tasks.spawn(watcher.clone().watch::<Claim>());
    tasks.spawn(watcher.clone().watch::<PersistentVolume>());
    tasks.spawn(watcher.clone().watch::<StorageClass>());
    tasks.spawn(watcher.watch::<Namespace>());
    let mut writer = Writer::default();
    let mut batch = Vec::with_capacity(WAITING);
    while arriving.recv_many(&mut batch, WAITING).await > 0 {
        for Change { apply, .. } in batch.drain(..) {
            apply(&mut writer);
        }
        if listed.borrow().synced.len() == KINDS {
            told.send_replace(writer.snapshot());
        }
    }
}

#[derive(Clone)]
struct Watcher {
    client: Client,
    cached_lists: bool,
    changes: mpsc::Sender<Change>,
    progress: watch::Sender<Progress>,
}

impl Watcher {
    /// Watches a kind for ever.
    async fn watch<K: Watched>(self) {
        let streaming = watcher::Config::default().streaming_lists();
        if self.watch_with::<K>(streaming).await {
            tracing::info!(kind = K::KIND, "the API server does not stream lists; asking for pages");
            let paged = watcher::Config::default().page_size(PAGE);
            let paged = if self.cached_lists { paged.any_semantic() } else { paged };
            self.watch_with::<K>(paged).await;
        }
    }

    /// Watches a kind until nobody wants to know any more (`false`), or the server does not know how (`true`).
    async fn watch_with<K: Watched>(&self, config: watcher::Config) -> bool {
        let streams = config.initial_list_strategy == watcher::InitialListStrategy::StreamingList;
        let api = Api::<Slim<K>>::all(self.client.clone());
        let mut events = pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            let change = match event {
                Ok(event) => self.change(event),
                Err(error)
                    if streams && status(&error).is_some_and(|status| matches!(status.code, 400 | 422)) =>
                {
                    return true;
                }
                Err(error) => {
                    self.failed::<K>(&error);
                    None
                }
            };
            if let Some(change) = change
                && self.changes.send(change).await.is_err()
            {
                return false;
            }
        }
        false
    }

    /// What an event changes.
    fn change<K: Watched>(&self, event: Event<Slim<K>>) -> Option<Change> {
        let readable = |slim: Slim<K>| {
            let (namespace, name) = (slim.namespace().to_owned(), slim.name().to_owned());
            let warn = |error: &String| {
                tracing::warn!(
                    kind = K::KIND,
                    namespace,
                    name,
                    error,
                    "an object cannot be read and is left out"
                );
            };
            slim.object.inspect_err(warn).ok()
        };
        Some(match event {
            Event::Init => Change::of(K::KIND, Writer::begin::<K>),
            Event::InitApply(slim) => {
                let object = readable(slim)?;
                Change::of(K::KIND, move |writer| writer.stage(object))
            }
            Event::InitDone => {
                let progress = self.progress.clone();
                Change::of(K::KIND, move |writer| {
                    writer.finish::<K>();
                    progress.send_if_modified(|progress| progress.synced.insert(K::KIND));
                })
            }
            Event::Apply(slim) => {
                let object = readable(slim)?;
                Change::of(K::KIND, move |writer| writer.apply(object))
            }
            Event::Delete(slim) => {
                Change::of(K::KIND, move |writer| writer.delete::<K>(slim.namespace(), slim.name()))
            }
        })
    }

    fn failed<K: Watched>(&self, error: &watcher::Error) {
        let what = match status(error) {
            Some(status) if status.code == 403 => {
                self.progress.send_modify(|progress| progress.forbidden = Some(status.message.clone()));
                status.message.clone()
            }
            // Too old, or the server is about to stop: the watcher lists anew by itself.
            Some(status) if status.code == 410 => return,
            Some(status) => status.message.clone(),
            None => chain(error),
        };
        tracing::warn!(kind = K::KIND, error = what, "a watch ended and will begin again");
    }
}

/// What the API server said, if it was it who ended a watch.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// An error in one line: the last cause says what happened.
pub(super) fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => chain(error),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
