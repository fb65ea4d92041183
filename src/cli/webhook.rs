//! `juicefs-sidecar webhook`: the TLS admission server over manifests.
