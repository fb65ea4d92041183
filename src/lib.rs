//! The engine of juicefs-sidecar: given a pod and the storage objects around it, the pod with its JuiceFS clients.
#![cfg(feature = "engine")]
