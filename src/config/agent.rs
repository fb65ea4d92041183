//! `agent` of the ConfigMap: the container that holds the mounts of a pod in resilient mode.

use k8s_openapi::api::core::v1 as api;
use serde::Deserialize;

/// What the ConfigMap says of the agent's container; what it leaves out is built in or the process's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Agent {
    /// Its image.
    pub image: Option<String>,
    /// Pull policy of the image.
    pub image_pull_policy: Option<String>,
    /// Secrets with which nodes pull the image, each in the namespace of every pod that needs it.
    pub image_pull_secrets: Vec<api::LocalObjectReference>,
    /// Requests and limits, in place of those built in.
    pub resources: Option<api::ResourceRequirements>,
}
