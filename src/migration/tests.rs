use serde_json::{Value, json};

use super::*;
use crate::offline::documents;

/// A cluster in the driver's sidecar mode.
const DRIVER: &str = include_str!("../../tests/migration/driver.yaml");

/// juicefs-sidecar beside it, as its chart installs it there.
const OURS: &str = r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: juicefs-sidecar-webhook, namespace: juicefs-sidecar, labels: {app.kubernetes.io/name: juicefs-sidecar}}
spec: {template: {spec: {containers: [{name: webhook, env: [{name: JUICEFS_CE_MOUNT_IMAGE, value: "juicedata/mount:ce-v1.3.0"}]}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: juicefs-sidecar-controller, namespace: juicefs-sidecar, labels: {app.kubernetes.io/name: juicefs-sidecar}}
spec: {template: {spec: {containers: [{name: controller, args: [controller], env: [{name: JUICEFS_MOUNT_NAMESPACE, value: kube-system}]}]}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: juicefs-sidecar}
webhooks: []
---
apiVersion: v1
kind: ConfigMap
metadata: {name: juicefs-csi-driver-config, namespace: juicefs-sidecar}
data: {config.yaml: ""}
"#;

fn judged(manifests: &str, unseen: Option<BTreeMap<Kind, String>>) -> Report {
    let documents = documents::parse("x.yaml", manifests).expect("readable");
    let read = Read { documents, unseen, ..Read::default() };
    let process = Process::default();
    let scope =
        Scope { namespace: "juicefs-sidecar", default_namespace: "default", process: &process, config: None };
    let (report, notes) = of(&read, &scope).expect("understood");
    assert_eq!(notes, []);
    report
}

/// As of a cluster of which everything could be read.
fn cluster(manifests: &str) -> Report {
    judged(manifests, Some(BTreeMap::new()))
}

fn lines(report: &Report) -> Vec<String> {
    let line = |change: &Change| {
        format!("{:?} {} {}: {}", change.effect, change.area, change.objects.join(" "), change.what)
    };
    report.changes.iter().map(line).collect()
}

/// The driver's cluster, one thing in it being otherwise.
fn with(what: &str, otherwise: &str) -> String {
    assert!(DRIVER.contains(what), "{what}");
    DRIVER.replace(what, otherwise)
}

/// That each of these is said of a cluster.
fn said<const N: usize>(cases: [(String, &str); N]) {
    for (manifests, expected) in cases {
        let report = cluster(&manifests);
        let lines = lines(&report);
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}\n{lines:#?}");
        assert_eq!(report.is_blocked(), lines.iter().any(|line| line.starts_with("Blocks")));
    }
}

#[test]
fn each_setting_is_said_to_stay_to_change_or_to_stand_in_the_way() {
    let variable = |text: &str| with("- {name: DRIVER_NAME, value: csi.juicefs.com}", text);
    let config = |text: &str| with("enableNodeSelector: false", text);
    said([
        // The ConfigMap.
        (
            DRIVER.to_owned(),
            "Same configuration : mountPodPatch[0]: ceMountImage, cacheDirs, lifecycle: understood as before",
        ),
        (
            DRIVER.to_owned(),
            "Changed configuration : config.yaml: mountPodPatch[0].priorityClassName: has no effect in a sidecar",
        ),
        (
            DRIVER.to_owned(),
            "Changed configuration : config.yaml: mountPodPatch[0].lifecycle.preStop: runs umount",
        ),
        (
            DRIVER.to_owned(),
            "Changed configuration : mountPodPatch[0].terminationGracePeriodSeconds: takes effect",
        ),
        (config("enableSetQuota: false"), "Same configuration : no quota is set"),
        (config("enableSetQuota: maybe"), "Blocks configuration : config.yaml line 1: enableSetQuota: "),
        (
            with("mountOptions: [\"cache-dir", "mountOptions: [\"subdir=/x,cache-dir"),
            "Changed configuration : a subdir among",
        ),
        // The driver's controller.
        (
            DRIVER.to_owned(),
            "Changed driver kube-system/juicefs-csi-controller: JUICEFS_CE_MOUNT_IMAGE=juicedata/mount:ce-v1.3.0: under",
        ),
        (
            format!("{DRIVER}{OURS}"),
            "Same driver kube-system/juicefs-csi-controller: JUICEFS_CE_MOUNT_IMAGE=juicedata/mount:ce-v1.3.0: j",
        ),
        (
            DRIVER.to_owned(),
            "Same driver kube-system/juicefs-csi-controller: JUICEFS_MOUNT_PATH=/var/lib/juicefs/volume: ",
        ),
        (
            DRIVER.to_owned(),
            "Changed driver kube-system/juicefs-csi-controller: STORAGE_CLASS_SHARE_MOUNT: is not read: pods saw",
        ),
        (
            DRIVER.to_owned(),
            "Changed driver kube-system/juicefs-csi-controller: HTTPS_PROXY: is not read by juicefs-sidecar",
        ),
        (DRIVER.to_owned(), "Changed driver kube-system/juicefs-csi-controller: --cache-client-conf: "),
        (
            variable("- {name: DRIVER_NAME, value: csi.example.com}"),
            "Blocks driver kube-system/juicefs-csi-controller: DRIVER_NAME: ",
        ),
        (
            variable("- {name: KUBE_QPS, value: \"100\"}"),
            "Changed driver kube-system/juicefs-csi-controller: KUBE_QPS=100: under",
        ),
        (
            DRIVER.to_owned(),
            "Same driver kube-system/juicefs-csi-controller: claims get their volumes as before",
        ),
        (
            with("- {name: csi-resizer", "- {name: csi-provisioner")
                .replace("- --provisioner=true", "- --v=5"),
            "Changed driver kube-system/juicefs-csi-controller: csi-provisioner makes its volumes",
        ),
    ]);
}

#[test]
fn each_object_is_said_to_stay_to_change_or_to_stand_in_the_way() {
    let more = |text: &str| format!("{DRIVER}---\n{text}");
    let parameter = |text: &str| {
        with("  juicefs/mount-delete-delay: 1m\n  pathPattern", &format!("  {text}\n  pathPattern"))
    };
    said([
        // Classes, secrets, claims and volumes.
        (DRIVER.to_owned(), "Same class moving-sc: pathPattern: "),
        (
            parameter("secretFinalizer: \"true\""),
            "Same class moving-sc: secretFinalizer: the user secret is kept",
        ),
        (
            DRIVER.to_owned(),
            "Changed class moving-sc: parameters[\"juicefs/mount-delete-delay\"]: has no effect in a sidecar",
        ),
        (DRIVER.to_owned(), "Changed class moving-sc: belongs to the Helm release \"juicefs-csi-driver\""),
        (
            with("- {name: csi-resizer", "- {name: csi-provisioner")
                .replace("- --provisioner=true", "- --v=5"),
            "Changed class moving-sc: pathPattern: new volumes are in the directory it says; csi-provisioner does not read it",
        ),
        (
            with("Mode: Immediate", "Mode: WaitForFirstConsumer"),
            "Changed class moving-sc: WaitForFirstConsumer: pods with",
        ),
        (
            with("Mode: Immediate", "Mode: Immediate\nallowedTopologies: [{matchLabelExpressions: []}]"),
            "Blocks class moving-sc: claims get no volume: storageclass \"moving-sc\": allowedTopologies",
        ),
        (
            parameter("juicefs/mount-cpu-limit: many"),
            "Blocks class moving-sc: storageclass \"moving-sc\": parameters[\"juicefs/mount",
        ),
        (with("-${.PVC.name}", "-${.PVC.labels.team}/"), "Changed class moving-sc: "),
        (DRIVER.to_owned(), "Same secret kube-system/moving-sc-secret: every key means what it meant"),
        (with("storage: minio", "storages: minio"), "Changed secret kube-system/moving-sc-secret: "),
        (with("name: myjfs, ", ""), "Blocks secret kube-system/moving-sc-secret: "),
        (with("name: myjfs, ", ""), "Blocks claim moving/data: a pod with it is refused: secret"),
        (
            DRIVER.to_owned(),
            "Changed claim moving/data: pods get a client: native sidecar, resilient mode, node profile: it has no privilege",
        ),
        (
            with("    mountPodPatch:", "    mode: classic\n    mountPodPatch:"),
            "Same claim moving/data: pods get a client: native sidecar, classic mode, node profile",
        ),
        (
            DRIVER.to_owned(),
            "Changed claim moving/data: annotation \"juicefs/host-path\": claims may not set this",
        ),
        (DRIVER.to_owned(), "Changed claim moving/data: a client may use 2 CPUs"),
        (
            with("uid: 11111111-2222-4333-8444-555555555555}", "uid: other}"),
            "Blocks claim moving/data: a pod with it is refused",
        ),
        (
            with("juicefs.com/enable-injection: \"true\"}}\n---", "a: b}}\n---"),
            "Same claim moving/data: its namespace is not labelled",
        ),
        (DRIVER.to_owned(), "Same volume pvc-11111111-2222-4333-8444-555555555555: its data is removed"),
        // Pods.
        (DRIVER.to_owned(), "Same pods moving/web-0 moving/job-x7k2p: keeps the driver's client"),
        (DRIVER.to_owned(), "Changed pods moving/job-x7k2p: its client is ended by the driver's controller"),
        (
            more(
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: moving}\nspec: {containers: [], volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}\n",
            ),
            "Changed pods moving/p: its volume is mounted by the driver's node plugin",
        ),
        (
            more(
                "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: juicefs-csi-node, namespace: kube-system, labels: {app: juicefs-csi-node}}\n",
            ),
            "Same driver kube-system/juicefs-csi-node: its node plugin stays",
        ),
    ]);
}

#[test]
fn a_volume_that_nobody_provisioned_keeps_its_data() {
    let manifests = with("  annotations: {pv.kubernetes.io/provisioned-by: csi.juicefs.com}\n", "");
    let lines = lines(&cluster(&manifests));
    let expected =
        "Changed volume pvc-11111111-2222-4333-8444-555555555555: its data is kept when its claim is deleted";
    assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:#?}");
}

#[test]
fn no_value_that_may_be_a_password_is_shown() {
    let text = serde_json::to_string(&cluster(DRIVER)).unwrap();
    assert!(!text.contains("hidden-word") && text.contains("HTTPS_PROXY"), "{text}");
}

#[test]
fn no_command_has_what_is_no_name() {
    let hostile = DRIVER
        .replace("namespace: moving, labels", "namespace: \"x; touch y\", labels")
        .replace("name: juicefs-admission-webhook}\nwebhooks", "name: \"$(touch y)\"}\nwebhooks")
        .replace("name: juicefs-csi-controller\n", "name: \"`touch y`\"\n")
        .replace(
            "ce-v1.3.0\"}\n            - {name: JUICEFS_MOUNT_N",
            "$(touch y)\"}\n            - {name: JUICEFS_MOUNT_N",
        );
    let report = cluster(&hostile);
    let remedies = report.changes.iter().map(|change| change.remedy.as_str());
    let commands = report.steps.iter().flat_map(|step| step.commands.iter().map(String::as_str));
    assert_eq!(hostile.matches("touch y").count(), 5);
    assert!(remedies.chain(commands).all(|text| !text.contains("touch")), "{report:#?}");
}

#[test]
fn what_holds_for_many_is_said_once() {
    let volume = "pvc-11111111-2222-4333-8444-555555555555";
    let second = DRIVER.split("---\n").filter(|document| document.contains(volume)).map(|document| {
        document
            .replace("11111111-2222-4333-8444-555555555555", "11111111-2222-4333-8444-666666666666")
            .replace("name: data", "name: more")
            .replace("moving-data", "moving-more")
    });
    let manifests = format!("{DRIVER}---\n{}", second.collect::<Vec<_>>().join("---\n"));
    let lines = lines(&cluster(&manifests));
    let expected =
        "Changed claim moving/data moving/more: spec.csi.volumeAttributes[\"juicefs/mount-delete-delay\"]";
    assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:#?}");
}

#[test]
fn what_was_not_seen_is_neither_well_nor_in_the_way() {
    let secrets: Vec<&str> =
        DRIVER.split("---\n").filter(|document| !document.contains("kind: Secret")).collect();
    let without = secrets.join("---\n");
    let read = |unseen: &[Kind], unread: &[&str]| {
        let documents = documents::parse("x.yaml", &without).unwrap();
        let unseen = unseen.iter().map(|kind| (*kind, "forbidden".to_owned())).collect();
        let unread_secrets = unread.iter().map(|name| (*name).to_owned()).collect();
        let read = Read { documents, unseen: Some(unseen), unread_secrets, ..Read::default() };
        let process = Process::default();
        let scope = Scope { namespace: "a", default_namespace: "default", process: &process, config: None };
        of(&read, &scope).unwrap().0
    };
    assert!(read(&[], &[]).is_blocked());
    for report in [read(&[Kind::Secrets], &[]), read(&[], &["kube-system/moving-sc-secret"])] {
        let lines = lines(&report);
        assert!(
            !report.is_blocked() && lines.iter().any(|line| line.starts_with("Unseen claim moving/data")),
            "{lines:#?}"
        );
    }
    let report = read(
        &[Kind::Pods, Kind::Registrations, Kind::StatefulSets, Kind::Deployments, Kind::ConfigMaps],
        &[],
    );
    let unseen = report.steps.iter().filter(|step| step.state == State::Unseen).count();
    assert_eq!(
        (unseen, report.changes.iter().any(|change| change.what == "forbidden")),
        (6, true),
        "{:#?}",
        report.steps
    );
}

/// The steps, one letter each: done, next, open or unseen.
fn states(report: &Report) -> String {
    let letter = |step: &Step| match step.state {
        State::Done => 'd',
        State::Next => 'n',
        State::Open => 'o',
        State::Unseen => '?',
    };
    report.steps.iter().map(letter).collect()
}

#[test]
fn each_step_says_how_far_it_is() {
    let both = format!("{DRIVER}{OURS}");
    let without = |text: &str, what: &[&str]| {
        let documents =
            text.split("---\n").filter(|document| !what.iter().any(|what| document.contains(what)));
        documents.collect::<Vec<_>>().join("---\n")
    };
    let pods = ["kind: Pod\n"];
    let webhook = ["name: juicefs-admission-webhook}\nwebhooks"];
    let everywhere = |text: &str| without(text, &[webhook, pods].concat());
    for (manifests, expected, said) in [
        (DRIVER.to_owned(), "dnooooo", "it is in namespace kube-system only"),
        (DRIVER.replace("name: myjfs, ", ""), "noooooo", "3 to be mended"),
        (
            both.clone(),
            "dddnooo",
            "both are asked about pods of labelled namespaces, the first by name decides: juicefs-admission-w",
        ),
        (without(&both, &["{name: juicefs-sidecar}"]), "ddnoooo", "the API server does not know its webhook"),
        (
            both.replace(
                "JUICEFS_MOUNT_NAMESPACE, value: kube-system",
                "JUICEFS_MOUNT_NAMESPACE, value: other",
            ),
            "ddnoooo",
            "juicefs-sidecar/juicefs-sidecar-controller makes volumes at the same time as the driver",
        ),
        (
            // The standard provisioner waits for nobody.
            both.replace("- {name: csi-resizer", "- {name: csi-provisioner")
                .replace("- --provisioner=true", "- --v=5"),
            "ddnoooo",
            "juicefs-sidecar/juicefs-sidecar-controller makes volumes at the same time as the driver",
        ),
        (
            both.replace("- {name: csi-resizer", "- {name: csi-provisioner")
                .replace("- --provisioner=true", "- --v=5")
                .replace("args: [controller]", "args: [controller, --provisioner=false]"),
            "dddnooo",
            "both are asked",
        ),
        (without(&both, &webhook), "ddddnoo", "2 have a client of the driver: moving (2); 0 have ours"),
        (everywhere(&both), "dddddno", "juicefs-csi-controller-0_5c1e holds the Lease and provisions"),
        (
            everywhere(&both).replace("replicas: 2", "replicas: 0"),
            "ddddddn",
            "docs/migration.md says what to keep",
        ),
        (without(&everywhere(&both), &["kind: StatefulSet"]), "ddddddd", "nothing of it is left"),
    ] {
        let report = cluster(&manifests);
        let seen: Vec<&str> = report.steps.iter().map(|step| step.seen.as_str()).collect();
        assert_eq!(states(&report), expected, "{seen:#?}");
        assert!(seen.iter().any(|seen| seen.contains(said)), "{said}: {seen:#?}");
        for step in &report.steps {
            assert!(step.state != State::Done || step.commands.is_empty(), "{step:?}");
        }
    }
    // Of manifests, what is not among them is not known.
    assert_eq!(states(&judged(DRIVER, None)), "dn?oooo");
}

#[test]
fn the_report_is_plain_json() {
    let value: Value = serde_json::to_value(cluster(DRIVER)).unwrap();
    assert_eq!(value["steps"][1]["state"], "next");
    let pods: Vec<&Value> =
        value["changes"].as_array().unwrap().iter().filter(|change| change["area"] == "pods").collect();
    assert_eq!(pods[0]["objects"], json!(["moving/job-x7k2p"]));
    assert_eq!(pods[0]["effect"], "changed");
}
