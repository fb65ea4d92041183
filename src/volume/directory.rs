//! The directories of volumes, and whether two of them have anything in common.

use super::{
    backing::Backing,
    objects::PersistentVolume,
    options,
    resolved::{ClaimIdentity, ClaimName, PodVolume, Resolved},
    secret::UserSecret,
    settings::{Inputs, Sources},
};
use crate::{
    config::{Config, Process},
    map::Map,
    notation::Mode,
    outcome::Refusal,
    pod::Pod,
};

/// The directory that the clients of a claim mount, from the root of its file system and without a slash at either
/// end; empty for the root itself.
///
/// # Errors
/// A setting that keeps it from being known, as for a pod.
pub fn of_claim(
    claim: ClaimIdentity,
    volume: Backing,
    secret: &UserSecret,
    config: &Config,
) -> Result<String, Refusal> {
    let pod_volume = PodVolume { index: 0, name: String::new(), read_only: false };
    let resolved = Resolved { pod_volumes: pod_volume.into(), claim, volume, ephemeral_directory: None };
    let (process, pod) = (Process::default(), Pod::default());
    let inputs = Inputs {
        resolved: &resolved,
        secret,
        config,
        process: &process,
        pod: &pod,
        node_labels: None,
        mount_point: "",
        host_directories: false,
        mode: Mode::Classic,
        annotates_pod: false,
        explain: false,
    };
    let directory = options::directory_alone(&mut Sources::gather(&inputs))?;
    Ok(directory.path.trim_matches('/').to_owned())
}

/// The directory of a volume as the volume itself says it; the `ConfigMap` may move it elsewhere
/// ([`Config::moves_volumes`]). `None` for one of another driver.
///
/// # Errors
/// As of [`of_claim`].
pub fn of_volume(volume: &PersistentVolume, driver: &str) -> Option<Result<String, Refusal>> {
    let csi = volume.spec.csi.as_ref().filter(|csi| *csi.driver == *driver)?;
    let of = volume.spec.claim_ref.clone().unwrap_or_default();
    let claim = ClaimIdentity {
        namespace: of.namespace,
        name: ClaimName::Given { name: of.name, uid: Some(of.uid) },
        labels: Map::default(),
        annotations: Map::default(),
        class: volume.spec.storage_class_name.clone(),
    };
    let secret = volume.secret().cloned().unwrap_or_default();
    let backing = Backing::existing(volume, csi, secret);
    Some(of_claim(claim, backing, &UserSecret::default(), &Config::default()))
}

/// Whether one directory is the other, or in it, or around it.
pub fn overlap(one: &str, other: &str) -> bool {
    fn parts(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|part| !part.is_empty())
    }
    parts(one).zip(parts(other)).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_overlap_name_by_name() {
        for (one, other) in [
            ("a", "a"),
            ("a/", "/a"),
            ("", "a"),
            ("/", "a/b"),
            ("a", "a/b"),
            ("a/b", "a/b/c/d"),
            ("a//b", "a/b"),
            ("é", "é/x"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one:?} {other:?}");
        }
        for (one, other) in [
            ("pv-1", "pv-10"),
            ("a/b", "a/c"),
            ("a/b", "b"),
            ("A", "a"),
            // Composed and decomposed: two names for the file system.
            ("\u{e9}", "e\u{301}"),
            ("a ", "a"),
        ] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_volume_says_where_it_is() {
        let directory = |options: &str, sub_path: &str| {
            let volume = format!(
                r#"{{"metadata": {{"name": "pv"}}, "spec": {{"mountOptions": [{options}], "csi": {{
                "driver": "d", "volumeHandle": "pv", "volumeAttributes": {{"subPath": {sub_path:?}}}}}}}}}"#
            );
            let volume: PersistentVolume = serde_json::from_str(&volume).unwrap();
            assert!(of_volume(&volume, "other").is_none());
            of_volume(&volume, "d").unwrap().ok()
        };
        assert_eq!(directory("", "pv").as_deref(), Some("pv"));
        assert_eq!(directory("\"writeback,subdir=/team/\"", "a/./b/").as_deref(), Some("team/a/b"));
        assert_eq!(directory("", "").as_deref(), Some(""));
        assert_eq!(directory("\"subdir=x\"", "../y"), None);
    }
}
