//! Volumes of a pod.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Text,
    bounded::{self, Element, size},
    lenient::or_default,
};

/// A volume; of the sources only claims and directories of the node are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume<'a> {
    /// Unique in the pod.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// A claim by name.
    #[serde(borrow)]
    pub persistent_volume_claim: Option<ClaimSource<'a>>,
    /// A claim made for the pod.
    #[serde(borrow)]
    pub ephemeral: Option<EphemeralSource<'a>>,
    /// An inline CSI volume.
    #[serde(borrow)]
    pub csi: Option<InlineSource<'a>>,
    /// A directory of the node.
    #[serde(borrow)]
    pub host_path: Option<HostPathSource<'a>>,
}

/// `volumes[].hostPath`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HostPathSource<'a> {
    /// Where on the node.
    #[serde(borrow, deserialize_with = "or_default")]
    pub path: Text<'a>,
}

/// `volumes[].persistentVolumeClaim`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource<'a> {
    /// In the pod's namespace.
    #[serde(borrow, deserialize_with = "or_default")]
    pub claim_name: Text<'a>,
    /// Forces every mount of the volume to be read-only.
    #[serde(deserialize_with = "or_default")]
    pub read_only: bool,
}

/// `volumes[].csi`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InlineSource<'a> {
    /// The driver's name.
    #[serde(borrow, deserialize_with = "or_default")]
    pub driver: Text<'a>,
}

/// `volumes[].ephemeral`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EphemeralSource<'a> {
    /// The claim to be made.
    #[serde(borrow)]
    pub volume_claim_template: Option<ClaimTemplate<'a>>,
}

/// The claim a generic ephemeral volume or a StatefulSet asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimTemplate<'a> {
    /// Labels and annotations of the claim to be.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: ClaimTemplateMetadata<'a>,
    /// Its class, size and modes.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: ClaimTemplateSpec<'a>,
}

/// Metadata of a claim template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimTemplateMetadata<'a> {
    /// The claim's name, in a StatefulSet's template only.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// Copied to the claim.
    #[serde(borrow, deserialize_with = "bounded::map::<1024, _, _, _>")]
    pub labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// Copied to the claim.
    #[serde(borrow, deserialize_with = "bounded::map::<1024, _, _, _>")]
    pub annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
}

/// Spec of a claim template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimTemplateSpec<'a> {
    /// The class; absent means the cluster's default class.
    #[serde(borrow)]
    pub storage_class_name: Option<Text<'a>>,
    /// `ReadWriteOnce` and its like.
    #[serde(borrow, deserialize_with = "bounded::list_or_empty::<64, _, _>")]
    pub access_modes: Vec<Text<'a>>,
}

impl Element for Volume<'_> {
    fn held(&self) -> usize {
        let template = self.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
        template.map_or(0, |template| {
            let metadata = &template.metadata;
            size(metadata.labels.as_ref())
                + size(metadata.annotations.as_ref())
                + template.spec.access_modes.len()
        })
    }
}
