//! Labels by which namespaces and pods say whether clients are injected; the Go driver's names (contract section 1).

/// Of a namespace: its pods get clients.
pub const ENABLE: &str = "juicefs.com/enable-injection";
/// Of a namespace: its pods get clients, and run on serverless Kubernetes.
pub const ENABLE_SERVERLESS: &str = "juicefs.com/enable-serverless-injection";
/// Of a pod: it wants none.
pub const DISABLE: &str = "disable.sidecar.juicefs.com/inject";
/// Of a namespace, Kubernetes' own: which pods the API server lets into it.
pub(crate) const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
