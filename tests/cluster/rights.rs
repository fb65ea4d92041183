//! What the accounts of `webhook-config/` may do, and may not, as the API server sees it; and what of it they use.

mod used;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

pub(crate) use self::used::{all_of, compare};
use super::{control_plane, manifests};

/// Verb, group, resource, namespace (empty: the whole cluster), name (empty: any), and whether that is allowed.
type Right = (&'static str, &'static str, &'static str, &'static str, &'static str, bool);

const OURS: &str = manifests::NAMESPACE;

const WEBHOOK: &[Right] = &[
    ("watch", "", "persistentvolumeclaims", "", "", true),
    ("watch", "", "persistentvolumes", "", "", true),
    ("watch", "", "namespaces", "", "", true),
    ("watch", "", "nodes", "", "", true),
    ("watch", "storage.k8s.io", "storageclasses", "", "", true),
    ("get", "", "secrets", "team-a", "juicefs-secret", true),
    ("list", "", "secrets", "", "", false),
    ("list", "", "secrets", OURS, "", false),
    ("watch", "", "configmaps", OURS, "juicefs-csi-driver-config", true),
    ("get", "", "configmaps", "kube-system", "juicefs-csi-driver-config", false),
    ("get", "", "pods", "team-a", "web", false),
    ("create", "events.k8s.io", "events", "team-a", "", false),
    ("patch", "", "persistentvolumeclaims", "team-a", "data", false),
    ("update", "", "secrets", OURS, "juicefs-sidecar-tls", false),
    ("watch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "juicefs-sidecar", true),
    ("get", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "istio", false),
    ("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "juicefs-sidecar", false),
];

const CONTROLLER: &[Right] = &[
    ("update", "", "secrets", OURS, "juicefs-sidecar-ca", true),
    ("update", "", "secrets", OURS, "juicefs-sidecar-tls", true),
    ("get", "", "secrets", "storage", "user-secret", true),
    ("create", "", "secrets", "team-a", "", true),
    ("update", "", "secrets", "team-a", "data-jfs-secret", true),
    ("delete", "", "secrets", "team-a", "jfs-jfs-class-secret", true),
    ("list", "", "secrets", "", "", false),
    ("list", "", "secrets", OURS, "", false),
    ("deletecollection", "", "secrets", "team-a", "", false),
    ("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "juicefs-sidecar", true),
    ("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", "istio", false),
    ("delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "", false),
    ("update", "coordination.k8s.io", "leases", OURS, "juicefs-sidecar-controller", true),
    ("update", "coordination.k8s.io", "leases", "kube-system", "kube-scheduler", false),
    ("create", "events.k8s.io", "events", "team-a", "", true),
    ("watch", "", "pods", "", "", true),
    ("create", "", "pods", "team-a", "", false),
    ("patch", "", "pods", "team-a", "web", false),
    ("patch", "rbac.authorization.k8s.io", "clusterroles", "", "juicefs-sidecar-controller", false),
    ("delete", "", "persistentvolumes", "", "pv", true),
    ("delete", "", "persistentvolumeclaims", "team-a", "data", false),
    ("patch", "", "persistentvolumeclaims", "team-a", "data", false),
    ("patch", "", "nodes", "", "node", false),
];

#[tokio::test]
async fn each_account_may_do_its_own_work_and_no_other() {
    let Some(plane) = control_plane::shared() else { return };
    manifests::install(plane);
    let accounts = [("juicefs-sidecar-webhook", WEBHOOK), ("juicefs-sidecar-controller", CONTROLLER)];
    let mut wrong = Vec::new();
    for (account, rights) in accounts {
        let kubeconfig = plane.kubeconfig(OURS, account).await;
        let reviews = Api::all(control_plane::client(&kubeconfig).await);
        for right in rights {
            let (verb, group, resource, namespace, name, expected) = *right;
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let attributes = ResourceAttributes {
                verb: text(verb),
                group: text(group),
                resource: text(resource),
                namespace: text(namespace),
                name: text(name),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(attributes),
                    ..Default::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            if answer.status.unwrap().allowed != expected {
                wrong.push((account, right));
            }
        }
    }
    assert!(wrong.is_empty(), "the last word says what is expected: {wrong:#?}");
}
