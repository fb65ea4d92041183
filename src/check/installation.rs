//! The programs, what they serve with, and what the API server knows of them.

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration},
    apps::v1::Deployment,
    core::v1::{Node, Secret},
};

use super::{Facts, Finding, few};
use crate::{
    config::Config,
    controller::{
        LEASE,
        registration::{NAME, selector::is_rival},
    },
    notation::Version,
    tls::{
        inspect::{is_trusted, validity},
        pem::{Bundle, certificates},
    },
};

/// The oldest Kubernetes that is supported.
const OLDEST: Version = Version { major: 1, minor: 28 };
/// Native sidecars are there from this kubelet on.
const NATIVE: Version = Version { major: 1, minor: 29 };
/// A certificate that ends sooner should have been renewed long before.
const SOON: u64 = 3600;

pub(super) fn version(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "kubernetes";
    vec![match &facts.version {
        Err(error) => Finding::bad(
            AREA,
            format!("the API server does not tell its version: {error}"),
            "see that the kubeconfig leads to a running cluster",
        ),
        Ok(version) if *version < OLDEST => {
            Finding::bad(AREA, format!("{version} is older than {OLDEST}"), "upgrade the cluster")
        }
        Ok(version) => Finding::good(AREA, version.to_string()),
    }]
}

pub(super) fn nodes(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "nodes";
    let nodes = match &facts.nodes {
        Ok(nodes) => nodes,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    if nodes.is_empty() {
        return vec![Finding::note(AREA, "there is none", "pods wait until one registers")];
    }
    let kubelet = |node: &Node| -> Option<Version> {
        node.status.as_ref()?.node_info.as_ref()?.kubelet_version.parse().ok()
    };
    let is_old = |node: &&Node| kubelet(node).is_some_and(|version| version < NATIVE);
    let old: Vec<String> =
        nodes.iter().filter(is_old).filter_map(|node| node.metadata.name.clone()).collect();
    if old.is_empty() {
        return vec![Finding::good(AREA, format!("{}, all with native sidecars", nodes.len()))];
    }
    vec![Finding::note(
        AREA,
        format!("kubelets before 1.29 know no native sidecars: {}", few(&old)),
        "pods that may run there get clients that start beside the application, and no resilient mode",
    )]
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "programs";
    let namespace = &facts.namespace;
    let deployments = match &facts.deployments {
        Ok(deployments) => deployments,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    if deployments.is_empty() {
        return vec![Finding::bad(
            AREA,
            format!("no Deployment of juicefs-sidecar is in namespace {namespace:?}"),
            "install it (docs/install.md), or name its namespace with --namespace",
        )];
    }
    deployments.iter().map(|deployment| program(deployment, namespace)).collect()
}

fn program(deployment: &Deployment, namespace: &str) -> Finding {
    const AREA: &str = "programs";
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let what = format!("{name}: {ready} of {wanted} ready");
    let remedy = format!(
        "kubectl -n {namespace} describe deployment {name}; kubectl -n {namespace} logs deployment/{name} --all-containers"
    );
    match (ready, wanted) {
        (_, 0) => Finding::bad(AREA, format!("{name} is scaled to nothing"), "scale it to 2 replicas"),
        (0, _) => Finding::bad(AREA, what, remedy),
        (ready, wanted) if ready < wanted => Finding::note(AREA, what, remedy),
        _ => Finding::good(AREA, what),
    }
}

pub(super) fn rights(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "rights";
    let judge = |(account, lacks): &(String, _)| match lacks {
        Err(error) => Finding::unseen(AREA, &format!("those of {account}: {error}")),
        Ok(lacks) if Vec::is_empty(lacks) => Finding::good(AREA, format!("{account} may do what it has to")),
        Ok(lacks) => Finding::bad(
            AREA,
            format!("{account} may not {}", few(lacks)),
            "install its roles again: helm upgrade, or kubectl apply -k webhook-config",
        ),
    };
    facts.rights.iter().map(judge).collect()
}

pub(super) fn endpoints(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "service";
    let slices = match &facts.endpoints {
        Ok(slices) => slices,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let is_ready = |ready: Option<bool>| ready != Some(false);
    let count = endpoints
        .filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)))
        .count();
    vec![match count {
        0 => Finding::bad(
            AREA,
            "the webhook's Service has no endpoint that is ready: the API server cannot reach the webhook",
            "see that the webhook's pods are ready and have the labels that the Service selects",
        ),
        count => Finding::good(AREA, format!("{count} endpoint(s) of the webhook are ready")),
    }]
}

/// The registration of ours, if there is one.
fn ours(facts: &Facts) -> Option<&MutatingWebhookConfiguration> {
    let all = facts.registrations.as_ref().ok()?;
    all.iter().find(|one| one.metadata.name.as_deref() == Some(NAME))
}

pub(super) fn registration(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "registration";
    if let Err(error) = &facts.registrations {
        return vec![Finding::unseen(AREA, error)];
    }
    let Some(ours) = ours(facts) else {
        return vec![Finding::bad(
            AREA,
            format!(
                "the API server does not know the webhook: there is no MutatingWebhookConfiguration {NAME}"
            ),
            "the controller registers it: see its log; after --unregister it takes juicefs-sidecar controller --register",
        )];
    };
    let webhooks = ours.webhooks.as_deref().unwrap_or_default();
    let reaches = |webhook: &&MutatingWebhook| {
        let service = webhook.client_config.service.as_ref();
        service.is_some_and(|service| service.namespace == facts.namespace)
    };
    if !webhooks.iter().any(|webhook| reaches(&webhook)) {
        return vec![Finding::bad(
            AREA,
            format!("it leads to no Service in namespace {:?}", facts.namespace),
            "two installations overwrite each other's registration: remove one, or name the other with --namespace",
        )];
    }
    let open = webhooks.iter().any(|webhook| webhook.failure_policy.as_deref() == Some("Ignore"));
    vec![if open {
        Finding::note(
            AREA,
            "failurePolicy is Ignore: while the webhook is away, pods start without their volumes",
            "the controller tells of such pods by events",
        )
    } else {
        Finding::good(AREA, "the API server asks the webhook")
    }]
}

pub(super) fn certificate(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "certificate";
    let secret = match &facts.serving {
        Ok(secret) => secret,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let Some(secret) = secret else {
        return vec![Finding::note(
            AREA,
            "the controller keeps none; the webhook serves with files of its own",
            "see docs/certificates.md if that is not meant",
        )];
    };
    vec![judge(facts, secret).unwrap_or_else(|what| Finding::bad(AREA, what, who_renews(facts, secret)))]
}

/// Who makes the certificate, and so whom to ask about it.
fn who_renews(facts: &Facts, secret: &Secret) -> String {
    let annotations = secret.metadata.annotations.as_ref();
    if let Some(name) = annotations.and_then(|all| all.get("cert-manager.io/certificate-name")) {
        return format!(
            "cert-manager renews it: kubectl -n {} describe certificate {name} (docs/certificates.md)",
            facts.namespace
        );
    }
    "see the controller's log, which renews it long before it ends, unless it is your own (docs/certificates.md)"
        .to_owned()
}

fn judge(facts: &Facts, secret: &Secret) -> Result<Finding, String> {
    let data = secret.data.as_ref().and_then(|data| data.get("tls.crt"));
    let data = data.ok_or("the Secret of the certificate has no tls.crt")?;
    let chain = certificates(&data.0).map_err(|error| format!("tls.crt cannot be read: {error}"))?;
    let leaf = chain.first().ok_or("tls.crt holds no certificate")?;
    let dates = validity(leaf).map_err(|error| format!("tls.crt cannot be read: {error}"))?;
    let now = facts.now;
    if now < dates.not_before {
        let hours = (dates.not_before - now).div_ceil(3600);
        return Err(format!(
            "it is not valid yet, for {hours} more hour(s): the clock here, or where it was made, is wrong"
        ));
    }
    if now > dates.not_after {
        return Err(format!("it ended {} hour(s) ago", (now - dates.not_after) / 3600));
    }
    if dates.not_after - now < SOON {
        return Err(format!("it ends in {} minute(s)", (dates.not_after - now) / 60));
    }
    let bundles = ours(facts).into_iter().flat_map(|ours| ours.webhooks.iter().flatten());
    for bundle in bundles.map(|webhook| webhook.client_config.ca_bundle.as_ref()) {
        let bundle = bundle.ok_or("the registration trusts nobody: it has no caBundle")?;
        let bundle = Bundle::parse(&bundle.0).map_err(|error| format!("caBundle: {error}"))?;
        if !is_trusted(&chain, &bundle, now) {
            return Err(
                "the API server does not trust it: it leads to no authority of the registration's caBundle"
                    .to_owned(),
            );
        }
    }
    let hours = (dates.not_after - now) / 3600;
    Ok(Finding::good("certificate", format!("trusted by the API server, valid for {hours} more hours")))
}

pub(super) fn leader(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "leader";
    let lease = match &facts.lease {
        Ok(lease) => lease,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let Some((spec, holder)) = spec.zip(holder) else {
        return vec![Finding::bad(
            AREA,
            format!("no controller holds the Lease {LEASE}"),
            "see that a controller runs, unless it runs without election",
        )];
    };
    let renewed = spec.renew_time.as_ref().map_or(0, |time| u64::try_from(time.0.as_second()).unwrap_or(0));
    let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(15);
    let age = facts.now.saturating_sub(renewed);
    vec![if age > lasts.saturating_mul(4) {
        Finding::bad(
            AREA,
            format!("{holder} has not renewed the Lease {LEASE} for {age} s"),
            "see that a controller runs and reaches the API server; certificates, secrets and volumes wait for it",
        )
    } else {
        Finding::good(AREA, format!("{holder} leads"))
    }]
}

pub(super) fn config(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "configuration";
    let map = match &facts.config_map {
        Ok(map) => map,
        Err(error) => return vec![Finding::unseen(AREA, error)],
    };
    let Some(map) = map else { return vec![Finding::good(AREA, "no ConfigMap: built-in defaults")] };
    let name = map.metadata.name.as_deref().unwrap_or_default();
    let Some(text) = map.data.as_ref().and_then(|data| data.get(Config::KEY)) else {
        return vec![Finding::note(
            AREA,
            format!("ConfigMap {name} has no {}", Config::KEY),
            "built-in defaults are used",
        )];
    };
    match Config::parse(text) {
        Err(error) => vec![Finding::bad(
            AREA,
            format!("ConfigMap {name} cannot be used, the last good one stays: {error}"),
            "correct it",
        )],
        Ok((_, warnings)) if warnings.is_empty() => {
            vec![Finding::good(AREA, format!("ConfigMap {name} is understood"))]
        }
        Ok((_, warnings)) => {
            warnings.into_iter().map(|warning| Finding::note(AREA, warning, String::new())).collect()
        }
    }
}

pub(super) fn drivers(facts: &Facts) -> Vec<Finding> {
    const AREA: &str = "go driver";
    let mut findings = Vec::new();
    // Whoever else is asked about pods of namespaces with our label injects a second client.
    let others =
        facts.registrations.iter().flatten().filter(|one| one.metadata.name.as_deref() != Some(NAME));
    for other in others {
        if is_rival(other) {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            findings.push(Finding::bad(
                AREA,
                format!(
                    "MutatingWebhookConfiguration {name} is asked about pods of labelled namespaces too: the first by \
                     name injects"
                ),
                format!("kubectl delete mutatingwebhookconfiguration {name}, when it is time (docs/migration.md)"),
            ));
        }
    }
    match &facts.drivers {
        Ok(drivers) if drivers.is_empty() => {}
        Ok(drivers) => findings.push(Finding::note(
            AREA,
            format!("its controller runs: {}", few(drivers)),
            "one of the two provisions: webhook-config/components/beside-csi-driver (docs/provisioning.md)",
        )),
        Err(error) => findings.push(Finding::unseen(AREA, error)),
    }
    findings
}
