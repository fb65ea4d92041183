//! Snapshots of volumes: which there are, and where they lie.
//!
//! The kinds are not Kubernetes' own: who wants snapshots installs them, with the controller that makes a
//! `VolumeSnapshotContent` of each `VolumeSnapshot`. Of these contents those of our driver are followed here, once the
//! cluster has the kind; what there is to do for them, [`super::provision`] does.

pub mod content;
pub mod handle;

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use kube::{
    Api, Client,
    core::{ApiResource, GroupVersionKind},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, time::sleep};

use self::content::{Content, Found};

/// The API group of snapshots.
pub const GROUP: &str = "snapshot.storage.k8s.io";
/// Its version.
const VERSION: &str = "v1";
/// Both, as objects have them.
pub const API_VERSION: &str = "snapshot.storage.k8s.io/v1";
/// How often to ask whether the cluster has the kind by now.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// What a server is asked for at once.
const PAGE: u32 = 500;

/// Contents of a driver, by name.
pub type Contents = Arc<BTreeMap<Arc<str>, Arc<Content>>>;

/// A kind of the group, for requests.
pub fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}

/// The contents of snapshots.
pub fn contents(client: Client) -> Api<Found> {
    Api::all_with(client, &resource("VolumeSnapshotContent", "volumesnapshotcontents"))
}

/// Tells the contents of a driver after each change, for ever; none while the cluster does not know the kind.
pub async fn follow(client: Client, driver: &str, told: watch::Sender<Contents>) {
    loop {
        if is_served(&client).await {
            tracing::info!("the cluster has volume snapshots");
            until_gone(&client, driver, &told).await;
            tracing::info!("the cluster has no volume snapshots any more");
            told.send_replace(Contents::default());
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Whether the API server knows the kind. It does not look so while the API server is away; then it is asked again.
async fn is_served(client: &Client) -> bool {
    let found = client.list_api_group_resources(API_VERSION).await;
    found.is_ok_and(|found| found.resources.iter().any(|one| one.name == "volumesnapshotcontents"))
}

/// Follows until the API server does not know the kind.
async fn until_gone(client: &Client, driver: &str, told: &watch::Sender<Contents>) {
    let config = watcher::Config::default().page_size(PAGE).any_semantic();
    let mut events = pin!(watcher(contents(client.clone()), config).default_backoff());
    let mut listed: Contents = Contents::default();
    let ours = |found: &Found| found.spec.driver == driver;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Contents::default(),
            Ok(Event::InitApply(found)) if ours(&found) => put(&mut listed, &found),
            Ok(Event::InitDone) => drop(told.send_replace(std::mem::take(&mut listed))),
            Ok(Event::Apply(found)) if ours(&found) => told.send_modify(|contents| put(contents, &found)),
            Ok(Event::Delete(found)) if ours(&found) => told.send_modify(|contents| {
                let name = found.metadata.name.as_deref().unwrap_or_default();
                Arc::make_mut(contents).remove(name);
            }),
            Ok(_) => {}
            Err(error) if is_unknown(&error) => return,
            Err(error) => {
                tracing::warn!("the watch of volumesnapshotcontents ended and will begin again: {error}");
            }
        }
    }
}

fn put(contents: &mut Contents, found: &Found) {
    let content = Content::from(found);
    Arc::make_mut(contents).insert(Arc::clone(&content.name), Arc::new(content));
}

fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 404,
        _ => false,
    }
}
