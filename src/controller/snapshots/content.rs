//! Contents of snapshots as they are read, and what is to be done about one. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Object;
use serde::Deserialize;

use super::handle::Handle;
use crate::{
    controller::provision::{GIVE_UP, SETTLED, candidates::Item},
    volume::objects::SecretReference,
};

/// Keeps a content until its data is gone. The cluster's controller of snapshots sets it, who serves the driver takes it
/// away.
pub const FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// Annotation of a content: its snapshot is being deleted.
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// Annotations of a content: what leads to the file system when the snapshot is to be deleted.
pub const DELETION_SECRET: [&str; 2] = [
    "snapshot.storage.kubernetes.io/deletion-secret-name",
    "snapshot.storage.kubernetes.io/deletion-secret-namespace",
];
/// Annotation of a content: the handle of a snapshot that may have been begun.
pub const BEGUN: &str = "sidecar.juicefs.com/snapshot-handle";
/// Annotation of a content: when it was begun, in nanoseconds as its status has them.
pub const BEGUN_AT: &str = "sidecar.juicefs.com/snapshot-time";
/// No handle of ours is longer.
const LONGEST_HANDLE: usize = 256;

/// A `VolumeSnapshotContent` as it is read.
pub type Found = Object<Spec, Status>;

/// `spec` of a content.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Whose it is.
    pub driver: String,
    deletion_policy: String,
    source: Names,
    volume_snapshot_ref: Reference,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Names {
    volume_handle: Option<String>,
    snapshot_handle: Option<String>,
}

/// The snapshot that a content belongs to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Reference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty until the two are bound.
    pub uid: String,
}

/// `status` of a content.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    snapshot_handle: Option<String>,
    ready_to_use: Option<bool>,
    restore_size: Option<i64>,
    error: Option<Failure>,
}

/// Why something is not done yet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// In words.
    pub message: Option<String>,
}

/// What a content is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A volume, by its handle: the snapshot is ours to take.
    Volume(String),
    /// A snapshot that is there, by its handle, as somebody says.
    Snapshot(String),
}

/// A content, of which only what is needed is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the object")]
pub struct Content {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// When it was made (RFC 3339).
    pub created: Arc<str>,
    /// Whether [`FINALIZER`] keeps it.
    pub is_held: bool,
    /// Whether it is to go.
    pub is_deleted: bool,
    is_being_deleted: bool,
    /// What leads to its file system, if it says so.
    pub secret: Option<SecretReference>,
    /// The handle of a snapshot that may have been begun, and when.
    pub begun: Option<(String, i64)>,
    /// Whether people have given up its data.
    pub is_given_up: bool,
    /// Whether what becomes of its data is settled.
    pub is_settled: bool,
    /// Whose it is.
    pub driver: String,
    /// Whether the data goes with it.
    pub deletes_data: bool,
    /// What it is made from.
    pub source: Source,
    /// The snapshot that it belongs to.
    pub snapshot: Reference,
    /// The handle in its status.
    pub handle: Option<String>,
    /// Whether volumes may be made from it.
    pub is_ready: bool,
    /// How many bytes a volume that is made from it has to hold at least.
    pub restore_size: u64,
    /// Why it is not ready yet.
    pub error: Option<String>,
}

impl From<&Found> for Content {
    fn from(found: &Found) -> Self {
        let ObjectMeta { name, uid, creation_timestamp, finalizers, .. } = &found.metadata;
        let annotation =
            |key: &str| found.metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let [secret_name, secret_namespace] =
            DELETION_SECRET.map(|key| annotation(key).filter(|value| !value.is_empty()));
        let begun_at = annotation(BEGUN_AT).and_then(|at| at.parse().ok());
        let Spec { driver, deletion_policy, source, volume_snapshot_ref } = &found.spec;
        let status = found.status.clone().unwrap_or_default();
        Self {
            name: name.as_deref().unwrap_or_default().into(),
            uid: uid.as_deref().unwrap_or_default().into(),
            created: creation_timestamp.as_ref().map(|at| at.0.to_string()).unwrap_or_default().into(),
            is_held: finalizers.iter().flatten().any(|one| one == FINALIZER),
            is_deleted: found.metadata.deletion_timestamp.is_some(),
            is_being_deleted: annotation(BEING_DELETED).is_some(),
            secret: secret_name
                .zip(secret_namespace)
                .map(|(name, namespace)| SecretReference { namespace: namespace.into(), name: name.into() }),
            begun: annotation(BEGUN).map(shortened).zip(begun_at),
            is_given_up: annotation(GIVE_UP) == Some("true"),
            is_settled: annotation(SETTLED).is_some_and(|settled| Some(settled) == uid.as_deref()),
            driver: driver.clone(),
            deletes_data: deletion_policy == "Delete",
            source: match (&source.volume_handle, &source.snapshot_handle) {
                (Some(volume), None) => Source::Volume(volume.clone()),
                (_, snapshot) => Source::Snapshot(snapshot.as_deref().map(shortened).unwrap_or_default()),
            },
            snapshot: volume_snapshot_ref.clone(),
            handle: status.snapshot_handle.as_deref().map(shortened),
            is_ready: status.ready_to_use == Some(true),
            restore_size: status.restore_size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            error: status.error.and_then(|error| error.message),
        }
    }
}

/// What is longer than any handle is none, and need not be kept.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_HANDLE)].to_owned()
}

impl Content {
    /// Whether a snapshot is to be taken, or found, now: not before the content is held, for then it could go and leave
    /// its data.
    pub fn waits(&self) -> bool {
        self.is_held && !self.is_deleted && !self.is_ready
    }

    /// Whether it waits to go, and its data with it if it says so.
    pub fn waits_to_go(&self) -> bool {
        let is_unbound = matches!(self.source, Source::Snapshot(_)) && self.snapshot.uid.is_empty();
        self.is_held && self.is_deleted && (self.is_being_deleted || is_unbound)
    }

    /// What is to be done about it.
    pub fn item(&self) -> Option<Item> {
        if self.waits_to_go() {
            return Some(Item::RemoveSnapshot(Arc::clone(&self.name)));
        }
        self.waits().then(|| Item::Snapshot(Arc::clone(&self.name)))
    }

    /// Whether its secret is needed to have its data removed.
    pub fn needs(&self, secret: &SecretReference) -> bool {
        matches!(self.source, Source::Volume(_))
            && self.deletes_data
            && !self.is_settled
            && self.secret.as_ref() == Some(secret)
    }

    /// Where the data is that goes with it, or why none does.
    pub fn data(&self) -> Data {
        if !self.deletes_data || self.is_settled {
            return Data::None;
        }
        if matches!(self.source, Source::Snapshot(_)) {
            return Data::Keep("it was not taken for this volumesnapshotcontent".to_owned());
        }
        let noted = self.begun.as_ref().map(|(handle, _)| handle);
        let Some(written) = self.handle.as_ref().or(noted) else { return Data::None };
        let edited = |other: &String| other != written;
        let handle = Handle::read(written).filter(|handle| handle.is_of(&self.uid));
        match handle {
            Some(handle) if !noted.is_some_and(edited) => Data::Remove(handle),
            _ => {
                Data::Keep(format!("its handle {written:?} is not that of a snapshot that was taken for it"))
            }
        }
    }
}

/// What becomes of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none, or it is to stay.
    None,
    /// It stays, for this reason.
    Keep(String),
    /// It goes.
    Remove(Handle),
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::{Value, json};

    use super::*;

    fn content(changes: &[(&str, Value)]) -> Content {
        let mut object = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": "c", "uid": "u-1", "finalizers": [FINALIZER], "annotations": {}},
            "spec": {"driver": "d", "deletionPolicy": "Delete", "source": {"volumeHandle": "pv"},
                "volumeSnapshotRef": {"namespace": "n", "name": "s", "uid": "u-2"}},
            "status": {}});
        for (place, value) in changes {
            let (parent, key) = place.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value.clone();
        }
        Content::from(&serde_json::from_value::<Found>(object).unwrap())
    }

    const DELETED: (&str, &str) = ("/metadata/deletionTimestamp", "2026-01-01T00:00:00Z");
    const MARKED: &str = "/metadata/annotations/snapshot.storage.kubernetes.io~1volumesnapshot-being-deleted";

    #[test]
    fn one_waits_when_it_is_held_and_goes_when_its_snapshot_does() {
        let item = |changes: &[(&str, Value)]| content(changes).item();
        let deleted = (DELETED.0, json!(DELETED.1));
        let marked = (MARKED, json!("yes"));
        let unbound = ("/spec/volumeSnapshotRef/uid", json!(""));
        let found = ("/spec/source", json!({"snapshotHandle": "f/s"}));
        let (snapshot, remove) = (Some(Item::Snapshot("c".into())), Some(Item::RemoveSnapshot("c".into())));
        assert_eq!(item(&[]), snapshot);
        assert_eq!(item(slice::from_ref(&found)), snapshot);
        assert_eq!(item(&[("/metadata/finalizers", json!(["other"]))]), None);
        assert_eq!(item(&[("/status/readyToUse", json!(true))]), None);
        // Its policy may be that it stays.
        assert_eq!(item(slice::from_ref(&marked)), snapshot);
        assert_eq!(item(slice::from_ref(&deleted)), None, "the snapshot is still there");
        assert_eq!(item(&[deleted.clone(), unbound.clone()]), None);
        assert_eq!(item(&[deleted.clone(), unbound, found]), remove);
        assert_eq!(item(&[deleted.clone(), marked.clone()]), remove);
        assert_eq!(item(&[deleted, marked, ("/metadata/finalizers", json!([]))]), None);
    }

    #[test]
    fn only_the_snapshot_that_was_taken_for_it_goes_with_it() {
        let noted = "/metadata/annotations/sidecar.juicefs.com~1snapshot-handle";
        let time = ("/metadata/annotations/sidecar.juicefs.com~1snapshot-time", json!("12"));
        let handle = ("/status/snapshotHandle", json!("f/u-1"));
        let own = Data::Remove(Handle::new("f", "u-1").unwrap());
        assert_eq!(content(&[]).data(), Data::None, "nothing was begun");
        assert_eq!(content(slice::from_ref(&handle)).data(), own);
        assert_eq!(content(&[(noted, json!("f/u-1")), time.clone()]).data(), own);
        assert_eq!(content(&[handle.clone(), (noted, json!("f/u-1")), time.clone()]).data(), own);
        for edited in ["f/u-2", "g/u-1", "f/..", "f/u-1/x", ""] {
            let changes = [(noted, json!("f/u-1")), time.clone(), (handle.0, json!(edited))];
            assert!(matches!(content(&changes).data(), Data::Keep(_)), "{edited:?}");
        }
        let retained = ("/spec/deletionPolicy", json!("Retain"));
        assert_eq!(content(&[handle.clone(), retained]).data(), Data::None);
        let settled = ("/metadata/annotations/sidecar.juicefs.com~1data-settled", json!("u-1"));
        assert_eq!(content(&[handle.clone(), settled]).data(), Data::None);
        let found = ("/spec/source", json!({"snapshotHandle": "f/u-1"}));
        assert!(matches!(content(&[handle, found]).data(), Data::Keep(_)));
    }

    #[test]
    fn a_secret_is_needed_while_there_may_be_data() {
        let secret = SecretReference { namespace: "s".into(), name: "user".into() };
        let [name, namespace] = [("name", "user"), ("namespace", "s")].map(|(what, value)| {
            let key = format!("/metadata/annotations/snapshot.storage.kubernetes.io~1deletion-secret-{what}");
            (key, json!(value))
        });
        let both = [(&*name.0, name.1), (&*namespace.0, namespace.1)];
        assert!(content(&both).needs(&secret));
        assert!(!content(&both[..1]).needs(&secret));
        for (place, value) in [
            ("/spec/deletionPolicy", json!("Retain")),
            ("/spec/source", json!({"snapshotHandle": "f/u-1"})),
            ("/metadata/annotations/sidecar.juicefs.com~1data-settled", json!("u-1")),
        ] {
            let mut changes = both.to_vec();
            changes.push((place, value));
            assert!(!content(&changes).needs(&secret), "{place}");
        }
    }

    #[test]
    fn what_is_too_long_for_a_handle_stays_none() {
        let long = format!("f/{}", "ü".repeat(10_000));
        let handle = content(&[("/status/snapshotHandle", json!(long))]).handle.unwrap();
        assert!(handle.len() <= LONGEST_HANDLE && Handle::read(&handle).is_none());
    }
}
