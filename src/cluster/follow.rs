//! One object by its name: read, then watched, so that no right to list is needed.

use std::{fmt::Debug, pin::pin, time::Duration};

use futures_util::TryStreamExt as _;
use kube::{Api, Resource, api::WatchParams, core::WatchEvent, runtime::watcher::DefaultBackoff};
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;

use super::caches::reason;

/// Objects that are followed at once, each with a connection of its own.
pub(crate) const MOST: usize = 64;

/// A watch that lasted so long was a good one: what follows is tried at once again.
const GOOD: Duration = Duration::from_mins(1);

/// A task that ends with this.
pub(crate) struct Follower(AbortHandle);

impl Follower {
    /// Starts a task.
    pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows an object for ever: `tell` gets it as it is, and again whenever it changes; `None` is that it does not exist.
pub(crate) async fn follow<K, F>(api: Api<K>, what: &str, name: &str, mut tell: impl FnMut(Option<K>) -> F)
where
    K: Resource + Clone + Debug + DeserializeOwned,
    F: Future<Output = ()>,
{
    let mut pauses = DefaultBackoff::default();
    loop {
        let started = tokio::time::Instant::now();
        let ended = follow_once(&api, name, &mut tell).await;
        if let Err(error) = &ended {
            tracing::warn!(name, error = reason(error), "{what} cannot be followed for now");
        }
        if started.elapsed() > GOOD {
            pauses = DefaultBackoff::default();
        }
        // Also a watch that ends at once without an error must not be begun again and again.
        tokio::time::sleep(pauses.next().unwrap_or(GOOD)).await;
    }
}

/// Until the watch ends, as it does every few minutes.
async fn follow_once<K, F>(
    api: &Api<K>,
    name: &str,
    tell: &mut impl FnMut(Option<K>) -> F,
) -> kube::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    F: Future<Output = ()>,
{
    // A watch says nothing of an object that does not exist.
    tell(api.get_opt(name).await?).await;
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    // NB: Not from the object's own version: one that has not changed for long is older than what the server remembers.
    // Without a version the watch begins with the object as it is.
    let mut events = pin!(api.watch(&parameters, "").await?);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => tell(Some(object)).await,
            WatchEvent::Deleted(_) => tell(None).await,
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) if status.code == 410 => return Ok(()),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}
