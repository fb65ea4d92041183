//! Whether the data of a volume may be removed with it. In doubt it is kept. Pure.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use super::volume::{DIRECTORY, PROVISIONED_BY};
use crate::{
    config::Config,
    controller::snapshots::handle::is_among_snapshots,
    volume::{
        Catalog, PersistentVolume,
        directory::{self, overlap},
        objects::SecretReference,
    },
    worker::SubPath,
};

/// What becomes of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for this reason.
    Keep(String),
    /// It goes, unless one of the neighbours is in the same file system.
    Remove {
        /// The directory.
        path: SubPath,
        /// Volumes whose directory has something in common with it, in file systems that others' secrets lead to.
        neighbours: Vec<Neighbour>,
    },
}

/// A volume that may share the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub volume: String,
    /// What leads to its file system.
    pub secret: SecretReference,
}

/// Judges a volume, whose attributes and annotations are all there.
pub fn judge(volume: &PersistentVolume, catalog: &Catalog, config: &Config, driver: &str) -> Verdict {
    match remove(volume, catalog, config, driver) {
        Ok((path, neighbours)) => Verdict::Remove { path, neighbours },
        Err(reason) => Verdict::Keep(reason),
    }
}

fn remove(
    volume: &PersistentVolume,
    catalog: &Catalog,
    config: &Config,
    driver: &str,
) -> Result<(SubPath, Vec<Neighbour>), String> {
    if volume.metadata.annotations.get(PROVISIONED_BY).is_none_or(|by| **by != *driver) {
        return Err("it was not made for a claim, but by somebody".to_owned());
    }
    if config.moves_volumes() {
        return Err(
            "the ConfigMap has a subdir among its mount options, so its data may be elsewhere".to_owned()
        );
    }
    let directory = directory::of_volume(volume, driver).ok_or("it is another driver's")?;
    let directory = directory.map_err(|refusal| format!("its directory is not known: {refusal}"))?;
    let csi = volume.spec.csi.as_ref();
    let recorded = csi.and_then(|csi| csi.volume_attributes.get(DIRECTORY));
    if let Some(recorded) = recorded.filter(|recorded| ***recorded != *directory) {
        return Err(format!(
            "it was made as {recorded:?} and says {directory:?} now: somebody has edited it"
        ));
    }
    if is_among_snapshots(&directory) {
        return Err(format!("its directory is {directory:?}, where snapshots are"));
    }
    let path = SubPath::try_from(directory.clone()).map_err(|reason| format!("{directory:?} is {reason}"))?;
    let own = volume.secret().cloned().unwrap_or_default();
    let mut neighbours = Vec::new();
    for other in catalog.volumes_of(driver).filter(|other| other.metadata.name != volume.metadata.name) {
        let Some(theirs) = directory::of_volume(other, driver) else { continue };
        // One whose directory is not known may have any.
        if theirs.is_ok_and(|theirs| !overlap(&theirs, &directory)) {
            continue;
        }
        let name = &other.metadata.name;
        match other.secret() {
            Some(secret) if *secret == own => {
                return Err(format!(
                    "persistentvolume {name:?} has the same directory, or one in it or around it"
                ));
            }
            Some(secret) if !secret.name.is_empty() => {
                neighbours.push(Neighbour { volume: name.to_string(), secret: secret.clone() });
            }
            _ => {
                return Err(format!(
                    "persistentvolume {name:?} may have the same directory, and names no secret that would tell"
                ));
            }
        }
    }
    Ok((path, neighbours))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volume::catalog::Writer;

    const DRIVER: &str = "csi.juicefs.com";

    fn volume(name: &str, sub_path: Option<&str>, options: &[&str], secret: &str) -> Value {
        json!({"metadata": {"name": name, "annotations": {(PROVISIONED_BY): DRIVER}}, "spec": {
            "mountOptions": options, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": DRIVER, "volumeHandle": name, "volumeAttributes": sub_path.map(|path| json!({"subPath": path})),
                    "nodePublishSecretRef": {"namespace": "s", "name": secret}}}})
    }

    fn judged(volume: &Value, others: &[Value], config: &str) -> Verdict {
        let mut writer = Writer::default();
        for other in others.iter().chain([volume]) {
            writer.apply::<PersistentVolume>(serde_json::from_value(other.clone()).unwrap());
        }
        let volume = serde_json::from_value(volume.clone()).unwrap();
        judge(&volume, writer.catalog(), &Config::parse(config).unwrap().0, DRIVER)
    }

    fn removed(volume: &Value, others: &[Value]) -> Option<(String, Vec<String>)> {
        match judged(volume, others, "") {
            Verdict::Keep(_) => None,
            Verdict::Remove { path, neighbours } => {
                Some((path.as_str().to_owned(), neighbours.into_iter().map(|other| other.volume).collect()))
            }
        }
    }

    #[test]
    fn only_a_clean_directory_below_the_root_is_removed() {
        for (path, cleaned) in [
            (Some("pv-1"), Some("pv-1")),
            (Some("a/b"), Some("a/b")),
            (Some("/a//b/"), Some("a/b")),
            (Some("é/ü"), Some("é/ü")),
            (Some("a/../b"), Some("b")),
            (None, None),
            (Some(""), None),
            (Some("/"), None),
            (Some("."), None),
            (Some(".."), None),
            (Some("../pv-1"), None),
            (Some("a/../.."), None),
            (Some("a/../"), None),
            (Some(".trash/x"), None),
            (Some("a\nb"), None),
            (Some("a,subdir=b"), None),
            (Some(".snapshots"), None),
            (Some("/.snapshots/u-1/"), None),
            (Some("a/../.snapshots/u-1"), None),
            (Some(".snapshots1"), Some(".snapshots1")),
            (Some("a/.snapshots"), Some("a/.snapshots")),
        ] {
            let found = removed(&volume("pv-1", path, &[], "x"), &[]).map(|(path, _)| path);
            assert_eq!(found.as_deref(), cleaned, "{path:?}");
        }
        assert_eq!(removed(&volume("pv", Some("a"), &["subdir=/base"], "x"), &[]).unwrap().0, "base/a");
        assert_eq!(removed(&volume("pv", Some("a"), &["subdir=/.snapshots"], "x"), &[]), None);
        assert_eq!(removed(&volume("pv", None, &["subdir=/base"], "x"), &[]).unwrap().0, "base");
    }

    #[test]
    fn a_directory_that_others_have_is_kept() {
        let own = volume("pv-1", Some("a/pv-1"), &[], "x");
        for (other, kept) in [
            (volume("o", Some("a/pv-1"), &[], "x"), true),
            (volume("o", Some("a/pv-1/"), &[], "x"), true),
            (volume("o", Some("pv-1"), &["subdir=a"], "x"), true),
            (volume("o", Some("a"), &[], "x"), true),
            (volume("o", Some("a/pv-1/deep/er"), &[], "x"), true),
            (volume("o", None, &[], "x"), true),
            (volume("o", Some(".."), &[], "x"), true),
            (volume("o", Some("a/pv-10"), &[], "x"), false),
            (volume("o", Some("a/pv"), &[], "x"), false),
            (volume("o", Some("b/pv-1"), &[], "x"), false),
        ] {
            assert_eq!(removed(&own, std::slice::from_ref(&other)).is_none(), kept, "{other}");
        }
        let mut static_one = volume("o", Some("a"), &[], "x");
        static_one["metadata"]["annotations"] = json!({});
        assert!(removed(&own, &[static_one]).is_none(), "whoever made it");
        let mut nameless = volume("o", Some("a"), &[], "x");
        nameless["spec"]["csi"]["nodePublishSecretRef"] = Value::Null;
        assert!(removed(&own, &[nameless]).is_none());
        // Another secret may lead to the same file system: that is to be found out.
        let elsewhere = [volume("o", Some("a"), &[], "y"), volume("p", Some("b"), &[], "y")];
        assert_eq!(removed(&own, &elsewhere), Some(("a/pv-1".to_owned(), vec!["o".to_owned()])));
    }

    #[test]
    fn what_is_not_ours_or_was_edited_is_kept() {
        let mut own = volume("pv-1", Some("a"), &["subdir=base"], "x");
        own["spec"]["csi"]["volumeAttributes"][DIRECTORY] = json!("base/a");
        assert!(removed(&own, &[]).is_some());
        assert!(matches!(
            judged(&own, &[], "mountPodPatch: [{mountOptions: [\"cache-size=1, subdir=x\"]}]"),
            Verdict::Keep(_)
        ));
        assert!(matches!(
            judged(&own, &[], "mountPodPatch: [{mountOptions: [cache-size=1]}]"),
            Verdict::Remove { .. }
        ));
        own["spec"]["mountOptions"] = json!(["subdir=other"]);
        assert!(removed(&own, &[]).is_none());
        let mut theirs = volume("pv-1", Some("a"), &[], "x");
        theirs["metadata"]["annotations"] = json!({(PROVISIONED_BY): "other"});
        assert!(removed(&theirs, &[]).is_none());
    }
}
