//! Cache directories: what the ConfigMap says of them, and what can be behind one.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::api::resource::Quantity as ApiQuantity};
use serde::{Deserialize, Deserializer, de};

use crate::notation::Quantity;

/// What is behind a cache directory.
#[derive(Clone, Debug, PartialEq)]
pub enum CacheSource {
    /// A claim in the pod's namespace.
    Claim(String),
    /// An `emptyDir`.
    EmptyDir(api::EmptyDirVolumeSource),
    /// A generic ephemeral volume.
    Ephemeral(Box<api::EphemeralVolumeSource>),
    /// An inline CSI volume; not by the ConfigMap.
    Inline(api::CSIVolumeSource),
    /// A directory of the node, at the same path (node profile only).
    HostPath,
}

/// An item of `cacheDirs`.
#[derive(Clone, Debug)]
pub struct CacheDirectoryPatch {
    /// What is behind the directory.
    pub source: CacheSource,
    /// The directory of the node, for [`CacheSource::HostPath`]; else empty.
    pub path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenCacheDirectory {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
    name: Option<String>,
    medium: Option<String>,
    size_limit: Option<ApiQuantity>,
    access_modes: Option<Vec<String>>,
    storage_class_name: Option<String>,
    storage: Option<ApiQuantity>,
}

/// The types of cache directories.
pub(super) const TYPES: [&str; 4] = ["HostPath", "PVC", "EmptyDir", "Ephemeral"];

/// Reads cache directories; as in the Go driver those of an unknown type are skipped.
pub(super) fn known_directories<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<CacheDirectoryPatch>>, D::Error> {
    struct Known(Option<CacheDirectoryPatch>);

    impl<'de> Deserialize<'de> for Known {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let written = WrittenCacheDirectory::deserialize(deserializer)?;
            if !TYPES.contains(&written.kind.as_str()) {
                return Ok(Self(None));
            }
            written.try_into().map(|known| Self(Some(known))).map_err(de::Error::custom)
        }
    }

    let written: Option<Vec<Known>> = Deserialize::deserialize(deserializer)?;
    Ok(written.map(|all| all.into_iter().filter_map(|Known(one)| one).collect()))
}

impl TryFrom<WrittenCacheDirectory> for CacheDirectoryPatch {
    type Error = String;

    fn try_from(written: WrittenCacheDirectory) -> Result<Self, String> {
        let required = |value: Option<String>, field: &str| {
            let missing = || format!("type {} needs the field {field}", written.kind);
            value.filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let source = match written.kind.as_str() {
            "HostPath" => {
                let path = required(written.path, "path")?;
                if !path.starts_with(['/', '$']) || path.split('/').any(|part| part == "..") {
                    return Err(format!("path {path:?} is not an absolute path without \"..\""));
                }
                return Ok(Self { source: CacheSource::HostPath, path });
            }
            "PVC" => CacheSource::Claim(required(written.name, "name")?),
            "EmptyDir" => CacheSource::EmptyDir(api::EmptyDirVolumeSource {
                medium: written.medium.filter(|medium| !medium.is_empty()),
                size_limit: written.size_limit,
            }),
            "Ephemeral" => {
                let storage = required(written.storage.map(|quantity| quantity.0), "storage")?;
                if !storage.parse::<Quantity>().is_ok_and(Quantity::is_positive) {
                    return Err(format!("storage {storage:?} is not greater than zero"));
                }
                CacheSource::Ephemeral(Box::new(ephemeral(
                    storage,
                    written.access_modes,
                    written.storage_class_name,
                )))
            }
            kind => return Err(format!("type {kind:?} is not one of {}", TYPES.join(", "))),
        };
        Ok(Self { source, path: String::new() })
    }
}

fn ephemeral(
    storage: String,
    modes: Option<Vec<String>>,
    class: Option<String>,
) -> api::EphemeralVolumeSource {
    let modes = modes.filter(|modes| !modes.is_empty()).unwrap_or_else(|| vec!["ReadWriteOnce".into()]);
    let requests = BTreeMap::from([("storage".to_owned(), ApiQuantity(storage))]);
    api::EphemeralVolumeSource {
        volume_claim_template: Some(api::PersistentVolumeClaimTemplate {
            metadata: None,
            spec: api::PersistentVolumeClaimSpec {
                access_modes: Some(modes),
                storage_class_name: class.filter(|class| !class.is_empty()),
                resources: Some(api::VolumeResourceRequirements { limits: None, requests: Some(requests) }),
                ..Default::default()
            },
        }),
    }
}
