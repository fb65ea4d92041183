//! What a claim begins with, and whether it can. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{num::NonZero, sync::Arc};

use super::candidates::volume_of;
use crate::{
    config::Config,
    controller::{problem::Problem, snapshots::GROUP},
    outcome::{Code, Refusal},
    volume::{
        Catalog, Claim, PersistentVolume,
        directory::{self, overlap},
        objects::SecretReference,
    },
    worker::SubPath,
};

/// What a claim can begin with; all of it is in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The volume of another claim.
    Claim(Arc<str>),
    /// A snapshot.
    Snapshot(Arc<str>),
}

impl Source {
    /// What people know it by.
    pub fn whom(&self, claim: &Claim) -> String {
        let (kind, name) = match self {
            Self::Claim(name) => ("persistentvolumeclaim", name),
            Self::Snapshot(name) => ("volumesnapshot", name),
        };
        format!("{kind} \"{}/{name}\"", claim.metadata.namespace)
    }
}

/// Where what a claim begins with is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What people know it by.
    pub whom: String,
    /// Which file system it is in.
    pub file_system: FileSystem,
    /// Its directory.
    pub path: SubPath,
    /// How many bytes it may hold; 0 where nobody knows.
    pub bytes: u64,
}

/// A file system, by what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// What leads to it, and the volume that says so.
    By(SecretReference, Arc<str>),
    /// Its UUID.
    Known(String),
}

/// What a claim is to begin with; `None` if it is to be empty.
pub fn source(claim: &Claim) -> Result<Option<Source>, Refusal> {
    let (spec, metadata) = (&claim.spec, &claim.metadata);
    // The newer field says at least as much as the other.
    let Some(wanted) = spec.data_source_ref.as_ref().or(spec.data_source.as_ref()) else { return Ok(None) };
    if !wanted.namespace.is_empty() && wanted.namespace != metadata.namespace {
        let remedy = "name a claim or a snapshot of the same namespace";
        return Err(refused(claim, "the data of other namespaces is not given to claims", remedy));
    }
    match (&*wanted.api_group, &*wanted.kind) {
        ("", "PersistentVolumeClaim") => Ok(Some(Source::Claim(Arc::clone(&wanted.name)))),
        (GROUP, "VolumeSnapshot") => Ok(Some(Source::Snapshot(Arc::clone(&wanted.name)))),
        (group, kind) => {
            let what =
                format!("is a {kind:?} of {group:?}; volumes are made from other claims and snapshots only");
            let remedy =
                "name a persistentvolumeclaim or a volumesnapshot, or leave it out and copy the data";
            Err(refused(claim, what, remedy))
        }
    }
}

/// Where the volume of another claim of the namespace is, once it is there.
pub fn origin(
    name: &Arc<str>,
    claim: &Claim,
    catalog: &Catalog,
    config: &Config,
    driver: &str,
) -> Result<Origin, Problem> {
    let namespace = &claim.metadata.namespace;
    let whom = Source::Claim(Arc::clone(name)).whom(claim);
    let Some(other) = catalog.claim(namespace, name) else {
        return Err(Problem::Waits(format!("{whom}, which it is to begin with, does not exist")));
    };
    let Some(bytes) = other.status.bytes.map(NonZero::get).filter(|_| !other.spec.volume_name.is_empty())
    else {
        return Err(Problem::Waits(format!("{whom}, which it is to begin with, has no volume yet")));
    };
    let unusable = |what: String, remedy: &str| Problem::Refused(refused(claim, what, remedy));
    let Some(volume) = volume_of(other, catalog, driver) else {
        let what = format!("{whom} has no volume of {driver}");
        return Err(unusable(what, "name a claim whose volume is in the same file system"));
    };
    let path = directory(volume, &whom, config, driver).map_err(|(what, remedy)| unusable(what, remedy))?;
    let secret = volume.secret().cloned().unwrap_or_default();
    let file_system = FileSystem::By(secret, Arc::clone(&volume.metadata.name));
    Ok(Origin { whom, file_system, path, bytes })
}

/// The directory of a volume that something is to be made from; else why that cannot be, and what to do.
pub fn directory(
    volume: &PersistentVolume,
    whom: &str,
    config: &Config,
    driver: &str,
) -> Result<SubPath, (String, &'static str)> {
    if config.moves_volumes() {
        let what = format!(
            "the ConfigMap has a subdir among its mount options, so the data of {whom} may be elsewhere"
        );
        return Err((what, "take subdir out of the ConfigMap, or copy the data"));
    }
    let directory = directory::of_volume(volume, driver).unwrap_or_else(|| Ok(String::new()));
    let directory = directory.map_err(|refusal| {
        (format!("the directory of {whom} is not known: {refusal}"), "correct what the volume says of it")
    })?;
    SubPath::try_from(directory.clone()).map_err(|reason| {
        let what = format!("the data of {whom} is in {directory:?}, {reason}");
        (what, "use a volume that has a directory of its own, or copy the data")
    })
}

/// Whether a claim of so many bytes, with this directory, can begin with it.
pub fn check(origin: &Origin, claim: &Claim, bytes: u64, directory: &SubPath) -> Result<(), Refusal> {
    let whom = &origin.whom;
    if bytes < origin.bytes {
        let what =
            format!("{whom} may hold {} bytes, more than the {bytes} that are asked for", origin.bytes);
        return Err(refused(claim, what, "ask for at least as much"));
    }
    if overlap(origin.path.as_str(), directory.as_str()) {
        let (from, to) = (origin.path.as_str(), directory.as_str());
        let what = format!("the directory {to:?} would be {from:?}, that of {whom}, or in it or around it");
        return Err(refused(
            claim,
            what,
            "use a class whose pathPattern gives each claim a directory of its own",
        ));
    }
    Ok(())
}

/// A refusal of what the claim is to begin with.
pub fn refused(claim: &Claim, what: impl Into<String>, remedy: &str) -> Refusal {
    let place = format!(
        "persistentvolumeclaim \"{}/{}\": spec.dataSource",
        claim.metadata.namespace, claim.metadata.name
    );
    Refusal::new(Code::ClaimUnusable, place, what, remedy)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volume::catalog::Writer;

    const DRIVER: &str = "csi.juicefs.com";

    fn claim(more: &Value) -> Claim {
        let mut claim = json!({"metadata": {"namespace": "team", "name": "new", "uid": "u-2"}, "spec": {}});
        claim["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(claim).unwrap()
    }

    #[test]
    fn only_claims_and_snapshots_of_the_same_namespace_are_taken() {
        let whom = |found: Source| found.whom(&claim(&json!({})));
        let of = |more: Value| source(&claim(&more)).map(|found| found.map(whom));
        assert_eq!(of(json!({})).unwrap(), None);
        let old = json!({"kind": "PersistentVolumeClaim", "name": "old"});
        assert_eq!(
            of(json!({"dataSource": old})).unwrap().as_deref(),
            Some(r#"persistentvolumeclaim "team/old""#)
        );
        let same =
            json!({"kind": "PersistentVolumeClaim", "name": "old", "namespace": "team", "apiGroup": ""});
        assert_eq!(
            of(json!({"dataSource": old, "dataSourceRef": same})).unwrap().as_deref(),
            Some(r#"persistentvolumeclaim "team/old""#)
        );
        let snapshot = json!({"kind": "VolumeSnapshot", "name": "then", "apiGroup": GROUP});
        assert_eq!(
            of(json!({"dataSource": snapshot})).unwrap().as_deref(),
            Some(r#"volumesnapshot "team/then""#)
        );
        for other in [
            json!({"kind": "PersistentVolumeClaim", "name": "old", "namespace": "other"}),
            json!({"kind": "PersistentVolumeClaim", "name": "old", "apiGroup": "x.io"}),
            json!({"kind": "Populator", "name": "old", "apiGroup": "x.io"}),
            json!({"kind": "VolumeSnapshot", "name": "old"}),
            json!({"kind": "VolumeSnapshot", "name": "old", "apiGroup": GROUP, "namespace": "other"}),
            json!({"kind": "VolumeSnapshotContent", "name": "old", "apiGroup": GROUP}),
        ] {
            let refusal = of(json!({"dataSourceRef": other})).unwrap_err();
            assert!(refusal.place.ends_with("spec.dataSource"), "{refusal}");
        }
    }

    fn found(old: &Value, volume: &Value) -> Result<Origin, Problem> {
        let mut writer = Writer::default();
        writer.apply::<Claim>(serde_json::from_value(old.clone()).unwrap());
        writer.apply::<PersistentVolume>(serde_json::from_value(volume.clone()).unwrap());
        origin(&"old".into(), &claim(&json!({})), writer.catalog(), &Config::default(), DRIVER)
    }

    #[test]
    fn the_source_has_to_be_bound_and_ours_and_below_the_root() {
        let old = json!({"metadata": {"namespace": "team", "name": "old", "uid": "u-1"},
            "spec": {"volumeName": "pv"}, "status": {"capacity": {"storage": "2Gi"}}});
        let volume = json!({"metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "team", "name": "old", "uid": "u-1"},
            "csi": {"driver": DRIVER, "volumeHandle": "pv", "volumeAttributes": {"subPath": "a/b"},
                    "nodePublishSecretRef": {"namespace": "s", "name": "user"}}}});
        let taken = found(&old, &volume).unwrap();
        assert_eq!((taken.path.as_str(), taken.bytes), ("a/b", 2 << 30));
        let secret = SecretReference { namespace: "s".into(), name: "user".into() };
        assert_eq!(taken.file_system, FileSystem::By(secret, "pv".into()));
        let with = |object: &Value, pointer: &str, value: Value| {
            let mut object = object.clone();
            *object.pointer_mut(pointer).unwrap() = value;
            object
        };
        for (old, waits) in [
            (with(&old, "/metadata/name", json!("other")), true),
            (with(&old, "/spec/volumeName", json!("")), true),
            (with(&old, "/status/capacity", json!({})), true),
            (with(&old, "/metadata/uid", json!("u-9")), false),
        ] {
            let problem = found(&old, &volume).unwrap_err();
            assert_eq!(matches!(problem, Problem::Waits(_)), waits, "{problem}");
        }
        for (pointer, value) in [
            ("/spec/csi/driver", json!("other")),
            ("/spec/csi/volumeAttributes/subPath", json!("")),
            ("/spec/csi/volumeAttributes/subPath", json!("a/../..")),
        ] {
            let problem = found(&old, &with(&volume, pointer, value)).unwrap_err();
            assert!(matches!(problem, Problem::Refused(_)), "{problem}");
        }
    }

    #[test]
    fn a_clone_is_as_large_as_its_source_and_beside_it() {
        let path = |path: &str| SubPath::try_from(path.to_owned()).unwrap();
        let origin = Origin {
            whom: "x".into(),
            file_system: FileSystem::Known("u".into()),
            path: path("a/b"),
            bytes: 10,
        };
        let fits = |bytes, directory| check(&origin, &claim(&json!({})), bytes, &path(directory)).is_ok();
        assert!(fits(10, "a/c") && fits(11, "b"));
        assert!(!fits(9, "a/c") && !fits(10, "a/b") && !fits(10, "a") && !fits(10, "a/b/c"));
    }
}
