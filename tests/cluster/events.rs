//! What people are told in events.

use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::ListParams};

use super::control_plane::eventually;

/// The text of an event with this reason about an object of this name.
pub(crate) async fn told(client: &Client, namespace: &str, reason: &str, name: &str) -> String {
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    eventually(reason, async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let mut about = list.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            event.reason.as_deref() == Some(reason) && regarding == Some(name)
        });
        about.next().and_then(|event| event.note)
    })
    .await
}
