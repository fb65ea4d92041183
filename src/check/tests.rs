//! Fault by fault: what is said of each.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    controller::registration::NAME,
    inject::status::STATUS,
    tls::{issue::issue, pem},
};

/// 2026-11-22, in seconds since 1970.
const NOW: u64 = 1_795_305_600;
const BEFORE: &str = "2026-11-21T23:00:00Z";

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, started: bool) -> Value {
    let status = json!({"version": 1, "mode": "classic", "profile": "node", "native": true, "undo": {},
        "volumes": [{"container": "jfs-mount", "volume": "v", "source": "persistentVolumeClaim", "shared": "emptyDir"}]});
    json!({
        "metadata": {"namespace": "app", "name": name, "annotations": {STATUS: status.to_string()}},
        "spec": {"initContainers": [{"name": "jfs-mount"}], "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]},
        "status": {"phase": "Running", "initContainerStatuses": [{"name": "jfs-mount", "image": "", "imageID": "",
            "ready": started, "started": started, "restartCount": 0, "state": {"running": {}}}]},
    })
}

fn webhook(name: &str, namespace: &str, bundle: &str) -> Value {
    json!({"metadata": {"name": name}, "webhooks": [{
        "name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "clientConfig": {"service": {"namespace": namespace, "name": "webhook"}, "caBundle": STANDARD.encode(bundle)},
        "namespaceSelector": {"matchLabels": {"juicefs.com/enable-injection": "true"}},
    }]})
}

fn deployment(name: &str, ready: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"readyReplicas": ready}})
}

/// A cluster in which all is well, with a certificate made at that time.
fn healthy(made: u64) -> Facts {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(made);
    let issued = issue(&["juicefs-sidecar-webhook.juicefs-sidecar.svc".to_owned()], time).unwrap();
    let leaf: String = issued.identity.chain.iter().map(pem::encode).collect();
    Facts {
        namespace: "juicefs-sidecar".to_owned(),
        driver: "csi.juicefs.com".to_owned(),
        now: NOW,
        version: Ok("1.36".parse().unwrap()),
        nodes: Ok(vec![object(node("v1.36.1"))]),
        deployments: Ok(vec![
            object(deployment("juicefs-sidecar-webhook", 2)),
            object(deployment("juicefs-sidecar-controller", 2)),
        ]),
        rights: vec![("juicefs-sidecar-controller".to_owned(), Ok(Vec::new()))],
        events: Ok(Vec::new()),
        endpoints: Ok(vec![object(
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        )]),
        registrations: Ok(vec![object(webhook(NAME, "juicefs-sidecar", &issued.ca_pem))]),
        serving: Ok(Some(object(json!({"data": {"tls.crt": STANDARD.encode(leaf)}})))),
        config_map: Ok(Some(object(
            json!({"metadata": {"name": "c"}, "data": {"config.yaml": "mode: resilient"}}),
        ))),
        lease: Ok(Some(object(json!({"spec": {"holderIdentity": "one", "leaseDurationSeconds": 15,
            "renewTime": "2026-11-21T23:59:58.000000Z"}})))),
        namespaces: Ok(vec![object(
            json!({"metadata": {"name": "app", "labels": {"juicefs.com/enable-injection": "true"}}}),
        )]),
        classes: Ok(vec![object(class("juicefs"))]),
        secrets: vec![(
            "kube-system/user".to_owned(),
            Ok(Some(object(
                json!({"data": {"name": STANDARD.encode("myjfs"), "metaurl": STANDARD.encode("redis://10.0.0.1/1")}}),
            ))),
        )],
        claims: Ok(vec![object(claim("Bound"))]),
        pods: Ok(vec![object(pod("web", true))]),
        drivers: Ok(Vec::new()),
        trial: Some(Trial { claim: "app/data".to_owned(), outcome: Ok(object(pod("check", true))) }),
    }
}

fn node(kubelet: &str) -> Value {
    json!({"metadata": {"name": "old-node"}, "status": {"nodeInfo": {
        "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
        "kubeletVersion": kubelet, "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}})
}

fn class(name: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": "csi.juicefs.com", "parameters": {
        "csi.storage.k8s.io/node-publish-secret-name": "user",
        "csi.storage.k8s.io/node-publish-secret-namespace": "kube-system"}})
}

fn claim(phase: &str) -> Value {
    json!({"metadata": {"namespace": "app", "name": "data", "uid": "u-1", "creationTimestamp": BEFORE},
        "spec": {"storageClassName": "juicefs"}, "status": {"phase": phase}})
}

#[test]
fn where_all_is_well_nothing_else_is_said() {
    let findings = findings(&healthy(NOW));
    assert!(findings.iter().all(|finding| finding.level == Level::Good), "{findings:#?}");
    assert!(findings.len() >= 13, "{findings:#?}");
}

/// A fault: its name, how it comes about, and what has to be said of it.
type Fault = (&'static str, fn(&mut Facts), &'static str);

const FAULTS: [Fault; 30] = [
    (
        "no API server",
        |facts| facts.version = Err("refused".into()),
        "kubernetes: the API server does not tell its version",
    ),
    (
        "old Kubernetes",
        |facts| facts.version = Ok("1.27".parse().unwrap()),
        "kubernetes: 1.27 is older than 1.28",
    ),
    ("old kubelet", |facts| facts.nodes = Ok(vec![object(node("v1.28.3"))]), "no native sidecars: old-node"),
    (
        "not installed",
        |facts| facts.deployments = Ok(Vec::new()),
        "no Deployment of juicefs-sidecar is in namespace",
    ),
    (
        "webhook not ready",
        |facts| facts.deployments = Ok(vec![object(deployment("juicefs-sidecar-webhook", 0))]),
        "juicefs-sidecar-webhook: 0 of 2 ready",
    ),
    (
        "one replica away",
        |facts| facts.deployments = Ok(vec![object(deployment("juicefs-sidecar-webhook", 1))]),
        "juicefs-sidecar-webhook: 1 of 2 ready",
    ),
    (
        "right removed",
        |facts| facts.rights[0].1 = Ok(vec!["patch pods/status".into(), "list nodes".into()]),
        "juicefs-sidecar-controller may not patch pods/status, list nodes",
    ),
    (
        "Service without endpoints",
        |facts| facts.endpoints = Ok(Vec::new()),
        "the webhook's Service has no endpoint",
    ),
    (
        "webhook deleted",
        |facts| facts.registrations = Ok(Vec::new()),
        "the API server does not know the webhook",
    ),
    (
        "two installations",
        |facts| {
            let bundle = "";
            facts.registrations = Ok(vec![object(webhook(NAME, "other", bundle))]);
        },
        "it leads to no Service in namespace \"juicefs-sidecar\"",
    ),
    (
        "certificate of another authority",
        |facts| {
            let other =
                issue(&["other".to_owned()], SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)).unwrap();
            facts.registrations = Ok(vec![object(webhook(NAME, "juicefs-sidecar", &other.ca_pem))]);
        },
        "certificate: the API server does not trust it",
    ),
    (
        "certificate expired",
        |facts| *facts = healthy(NOW - 366 * 86_400),
        "certificate: it ended 24 hour(s) ago",
    ),
    (
        "certificate of cert-manager expired",
        |facts| {
            *facts = healthy(NOW - 366 * 86_400);
            let serving = facts.serving.as_mut().unwrap().as_mut().unwrap();
            let name = ("cert-manager.io/certificate-name".to_owned(), "webhook".to_owned());
            serving.metadata.annotations = Some([name].into());
        },
        "cert-manager renews it: kubectl -n juicefs-sidecar describe certificate webhook",
    ),
    (
        "clock skew",
        |facts| *facts = healthy(NOW + 7_200),
        "certificate: it is not valid yet, for 1 more hour(s)",
    ),
    ("no leader", |facts| facts.lease = Ok(None), "no controller holds the Lease"),
    ("leader gone", |facts| facts.now += 3_600, "one has not renewed the Lease"),
    (
        "broken ConfigMap",
        |facts| {
            let map = json!({"metadata": {"name": "c"}, "data": {"config.yaml": "mode: nonsense"}});
            facts.config_map = Ok(Some(object(map)));
        },
        "ConfigMap c cannot be used, the last good one stays",
    ),
    (
        "two webhooks",
        |facts| {
            facts.registrations.as_mut().unwrap().push(object(webhook(
                "juicefs-admission",
                "kube-system",
                "",
            )));
        },
        "MutatingWebhookConfiguration juicefs-admission is asked about pods of labelled namespaces too",
    ),
    (
        "two provisioners",
        |facts| facts.drivers = Ok(vec!["kube-system/csi".into()]),
        "its controller runs: kube-system/csi",
    ),
    ("no label", |facts| facts.namespaces = Ok(Vec::new()), "no namespace has the label"),
    (
        "wrong label",
        |facts| {
            let labels = json!({"juicefs.com/enable_injection": "true"});
            facts.namespaces = Ok(vec![object(json!({"metadata": {"name": "app", "labels": labels}}))]);
        },
        "app: the label juicefs.com/enable_injection=true asks for nothing",
    ),
    (
        "Pod Security",
        |facts| {
            let labels = json!({"juicefs.com/enable-injection": "true", "pod-security.kubernetes.io/enforce": "restricted"});
            facts.namespaces = Ok(vec![object(json!({"metadata": {"name": "app", "labels": labels}}))]);
        },
        "its label pod-security.kubernetes.io/enforce=restricted keeps out pods with a client",
    ),
    (
        "secret missing",
        |facts| facts.secrets[0].1 = Ok(None),
        "names the secret kube-system/user, which does not exist",
    ),
    (
        "secret without an address",
        |facts| facts.secrets[0].1 = Ok(Some(object(json!({"data": {"name": STANDARD.encode("myjfs")}})))),
        "juicefs: secret kube-system/user: ",
    ),
    (
        "claim pending",
        |facts| facts.claims = Ok(vec![object(claim("Pending"))]),
        "not bound for more than a minute: app/data",
    ),
    (
        "wrong password",
        |facts| {
            facts.claims = Ok(vec![object(claim("Pending"))]);
            let event = json!({"metadata": {}, "reason": "ProvisioningFailed", "message": "WRONGPASS",
                "eventTime": "2026-11-21T23:59:00.000000Z", "involvedObject": {"uid": "u-1"}});
            facts.events = Ok(vec![object(event)]);
        },
        "claims: app/data has no volume: WRONGPASS",
    ),
    (
        "pod is not injected",
        |facts| {
            let outcome = Ok(object(json!({"metadata": {"name": "check"}})));
            facts.trial = Some(Trial { claim: "app/data".into(), outcome });
        },
        "a pod with the claim app/data gets no client",
    ),
    (
        "webhook not trusted",
        |facts| {
            let outcome = Err("failed calling webhook: x509: unknown authority".into());
            facts.trial = Some(Trial { claim: "app/data".into(), outcome });
        },
        "the API server does not trust the webhook",
    ),
    (
        "client fails",
        |facts| facts.pods = Ok(vec![object(pod("web", false))]),
        "a client does not serve: app/web",
    ),
    (
        "pod without client",
        |facts| {
            let mut plain = pod("plain", true);
            plain["metadata"]["annotations"] = json!({});
            plain["spec"]["initContainers"] = json!([]);
            facts.pods = Ok(vec![object(plain)]);
        },
        "have a JuiceFS claim and no client, so their volume is missing: app/plain",
    ),
];

#[test]
fn every_fault_is_named_with_a_remedy() {
    for (name, make, wanted) in FAULTS {
        let mut facts = healthy(NOW);
        make(&mut facts);
        let findings = findings(&facts);
        let lines: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {} {}", finding.area, finding.what, finding.remedy))
            .collect();
        let found = findings.iter().zip(&lines).find(|(_, line)| line.contains(wanted));
        let (finding, _) = found.unwrap_or_else(|| panic!("{name}: {lines:#?}"));
        assert!(finding.level != Level::Good && !finding.remedy.is_empty(), "{name}: {finding:?}");
    }
}

#[test]
fn of_many_claims_that_failed_some_are_quoted_and_one_that_is_forgotten_is_named_all_the_same() {
    let mut facts = healthy(NOW);
    let numbered = |number: usize| {
        let mut claim = claim("Pending");
        claim["metadata"]["name"] = format!("data-{number}").into();
        claim["metadata"]["uid"] = format!("u-{number}").into();
        claim
    };
    let event = |number: usize| {
        json!({"metadata": {}, "reason": "ProvisioningFailed", "message": "refused",
            "involvedObject": {"uid": format!("u-{number}")}})
    };
    facts.claims = Ok((0..8).map(|number| object(numbered(number))).collect());
    facts.events = Ok((0..7).map(|number| object(event(number))).collect());
    let findings = findings(&facts);
    let said: Vec<&str> =
        findings.iter().filter(|one| one.area == "claims").map(|one| one.what.as_str()).collect();
    assert_eq!(said.len(), 7, "{said:?}");
    assert_eq!(said[4], "app/data-4 has no volume: refused");
    assert_eq!(said[5..], ["2 more have no volume", "not bound for more than a minute: app/data-7"]);
}

#[test]
fn what_cannot_be_read_is_said_and_stops_nothing() {
    let mut facts = healthy(NOW);
    facts.nodes = Err("nodes is forbidden".into());
    facts.pods = Err("pods is forbidden".into());
    facts.events = Err("events is forbidden".into());
    let findings = findings(&facts);
    let unseen = findings.iter().filter(|finding| finding.what.contains("is forbidden")).count();
    assert_eq!(unseen, 3);
    assert!(findings.iter().all(|finding| finding.level != Level::Bad), "{findings:#?}");
}

#[test]
fn a_pod_that_should_be_gone_is_stuck() {
    let mut facts = healthy(NOW);
    let mut gone = pod("web", true);
    gone["metadata"]["deletionTimestamp"] = BEFORE.into();
    facts.pods = Ok(vec![object(gone)]);
    let findings = findings(&facts);
    assert!(
        findings.iter().any(|finding| finding.what == "they should be gone and are not: app/web"),
        "{findings:#?}"
    );
}
