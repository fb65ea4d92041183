//! What the programs may have to do, asked for before the controller begins: a right that is missing is named, not run into.
//!
//! `webhook-config/rbac-controller.yaml` and `rbac-webhook.yaml` grant these and no others.

use futures_util::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::{
    certificates::{AUTHORITY, SERVING},
    registration::{DRIVERS, NAME},
    snapshots::GROUP,
};

/// A right: verbs on a resource, perhaps on one object only.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// `get` and its like.
    pub verbs: &'a [&'a str],
    /// API group; empty for the core.
    pub group: &'a str,
    /// Plural name, with a subresource after a slash where it is one.
    pub resource: &'a str,
    /// The one object, if the right is confined to it.
    pub name: Option<&'a str>,
    /// Whether it is needed in our own namespace only.
    pub namespaced: bool,
}

/// What the settings of this process require.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// The `ClusterRole` that owns the registrations; empty for none.
    pub owner: &'a str,
    /// The Lease; empty for no election.
    pub lease: &'a str,
    /// The `ConfigMap`.
    pub configuration: &'a str,
    /// Whether certificates are ours to issue.
    pub certificates: bool,
    /// Whether the secrets that clients read are kept.
    pub claim_secrets: bool,
    /// Whether volumes are made.
    pub provisioning: bool,
}

/// All rights that are needed.
pub fn needed<'a>(needs: &Needs<'a>) -> Vec<Right<'a>> {
    let cluster = |verbs, group, resource| Right { verbs, group, resource, name: None, namespaced: false };
    let named = |verbs, group, resource, name| Right { name: Some(name), ..cluster(verbs, group, resource) };
    let own = |right: Right<'a>| Right { namespaced: true, ..right };
    let mut rights = vec![
        cluster(&["list", "watch"], "", "pods"),
        cluster(&["patch"], "", "pods/status"),
        cluster(&["get", "list", "watch"], "", "namespaces"),
        cluster(&["get"], "", "persistentvolumeclaims"),
        cluster(&["get"], "", "persistentvolumes"),
        cluster(&["get"], "storage.k8s.io", "storageclasses"),
        cluster(&["create", "patch"], "events.k8s.io", "events"),
        own(named(&["list", "watch"], "", "configmaps", needs.configuration)),
        own(named(&["get", "update"], "coordination.k8s.io", "leases", needs.lease)),
        own(cluster(&["create"], "coordination.k8s.io", "leases")),
        own(cluster(&["list", "watch"], "discovery.k8s.io", "endpointslices")),
    ];
    for resource in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ] {
        let group = "admissionregistration.k8s.io";
        rights.push(cluster(&["create"], group, resource));
        rights.push(named(&["get", "list", "watch", "patch", "delete"], group, resource, NAME));
    }
    for name in DRIVERS {
        let group = "admissionregistration.k8s.io";
        rights.push(named(&["get"], group, "mutatingwebhookconfigurations", name));
    }
    if !needs.owner.is_empty() {
        rights.push(named(&["get"], "rbac.authorization.k8s.io", "clusterroles", needs.owner));
    }
    if needs.provisioning {
        rights.push(cluster(&["create", "patch", "delete"], "", "persistentvolumes"));
        rights.push(cluster(&["patch"], "", "persistentvolumeclaims/status"));
        rights.push(cluster(&["get"], "", "nodes"));
        rights.push(cluster(&["get", "list", "watch", "patch"], GROUP, "volumesnapshotcontents"));
        rights.push(cluster(&["patch"], GROUP, "volumesnapshotcontents/status"));
        rights.push(cluster(&["get"], GROUP, "volumesnapshots"));
    }
    // The secrets themselves may be granted namespace by namespace; what is missing there is told claim by claim.
    if needs.claim_secrets || needs.provisioning {
        for (group, resource) in
            [("", "persistentvolumeclaims"), ("", "persistentvolumes"), ("storage.k8s.io", "storageclasses")]
        {
            rights.push(cluster(&["list", "watch"], group, resource));
        }
    }
    if needs.certificates {
        rights.push(own(cluster(&["create"], "", "secrets")));
        rights.push(own(named(&["get", "list", "watch", "update"], "", "secrets", AUTHORITY)));
        rights.push(own(named(&["get", "list", "watch", "update"], "", "secrets", SERVING)));
    }
    rights
}

/// All rights that a webhook needs, given its `ConfigMap` and the Secret it serves with, if it is one.
pub fn to_serve<'a>(configuration: &'a str, serving: Option<&'a str>) -> Vec<Right<'a>> {
    let cluster = |verbs, group, resource| Right { verbs, group, resource, name: None, namespaced: false };
    let own = |verbs, resource, name| Right { name, namespaced: true, ..cluster(verbs, "", resource) };
    let mut rights = vec![
        cluster(&["get", "list", "watch"], "", "persistentvolumeclaims"),
        cluster(&["get", "list", "watch"], "", "persistentvolumes"),
        cluster(&["get", "list", "watch"], "storage.k8s.io", "storageclasses"),
        cluster(&["list", "watch"], "", "nodes"),
        cluster(&["list", "watch"], "", "namespaces"),
        own(&["get", "watch"], "configmaps", Some(configuration)),
        own(&["get"], "pods", None),
    ];
    let (group, registration) = ("admissionregistration.k8s.io", "mutatingwebhookconfigurations");
    rights.extend(
        serving.map(|_| Right { name: Some(NAME), ..cluster(&["get", "watch"], group, registration) }),
    );
    rights.extend(serving.map(|name| own(&["get", "watch"], "secrets", Some(name))));
    rights
}

/// Those of the rights that this process does not have, as phrases.
pub async fn missing(
    client: &Client,
    namespace: &str,
    rights: &[Right<'_>],
) -> Result<Vec<String>, kube::Error> {
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    refused(namespace, rights, async |attributes| {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    })
    .await
}

/// Those of the rights that a `ServiceAccount` of the namespace does not have, as phrases.
pub async fn missing_of(
    client: &Client,
    namespace: &str,
    account: &str,
    rights: &[Right<'_>],
) -> Result<Vec<String>, kube::Error> {
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let of_namespace = format!("system:serviceaccounts:{namespace}");
    let groups = ["system:serviceaccounts", &of_namespace, "system:authenticated"].map(str::to_owned);
    refused(namespace, rights, async |attributes| {
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(groups.to_vec()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    })
    .await
}

/// Those of the rights to which the answer is no, as phrases; all are asked about at once.
async fn refused(
    namespace: &str,
    rights: &[Right<'_>],
    allowed: impl AsyncFn(ResourceAttributes) -> Result<bool, kube::Error>,
) -> Result<Vec<String>, kube::Error> {
    let allowed = &allowed;
    let questions = rights.iter().flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
    let asked = questions.map(|(right, verb)| async move {
        let (resource, subresource) = match right.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (right.resource, None),
        };
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(right.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            name: right.name.map(str::to_owned),
            namespace: right.namespaced.then(|| namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        Ok::<_, kube::Error>((!allowed(attributes).await?).then(|| phrase(right, verb, namespace)))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

fn phrase(right: &Right<'_>, verb: &str, namespace: &str) -> String {
    let dot = if right.group.is_empty() { "" } else { "." };
    let mut phrase = format!("{verb} {}{dot}{}", right.resource, right.group);
    if let Some(name) = right.name {
        phrase.extend([" \"", name, "\""]);
    }
    if right.namespaced {
        phrase.extend([" in namespace \"", namespace, "\""]);
    }
    phrase
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_named_as_people_grant_it() {
        let right =
            Right { verbs: &["get"], group: "", resource: "secrets", name: Some("x"), namespaced: true };
        assert_eq!(phrase(&right, "get", "ns"), "get secrets \"x\" in namespace \"ns\"");
        let right = Right {
            group: "storage.k8s.io",
            resource: "storageclasses",
            name: None,
            namespaced: false,
            ..right
        };
        assert_eq!(phrase(&right, "get", "ns"), "get storageclasses.storage.k8s.io");
    }

    #[test]
    fn only_what_the_settings_need_is_asked_for() {
        let needs = Needs {
            owner: "",
            lease: "l",
            configuration: "c",
            certificates: false,
            claim_secrets: true,
            provisioning: false,
        };
        let rights = needed(&needs);
        let needless = ["secrets", "clusterroles", "nodes"];
        assert!(!rights.iter().any(|right| needless.contains(&right.resource)));
        let rights = needed(&Needs { owner: "role", certificates: true, ..needs });
        assert!(rights.iter().any(|right| right.resource == "clusterroles"));
        // Never a list of all secrets.
        let secrets = rights.iter().filter(|right| right.resource == "secrets");
        for right in secrets {
            assert!(right.namespaced && (right.name.is_some() || right.verbs == ["create"]), "{right:?}");
        }
    }
}
