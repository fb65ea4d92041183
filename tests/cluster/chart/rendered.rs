//! What is rendered: the same as `webhook-config/`, and taken by an API server with every switch turned.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};
use similar::TextDiff;

use super::{
    super::{
        control_plane::{self, ControlPlane},
        manifests::{JANITOR, built, install, piped},
    },
    NAMESPACE, RELEASE, definitions, folder, helm, object, objects, rendered,
};

/// Labels that Helm's objects have and plain manifests have not.
const LABELS: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];

/// Values and the components of `webhook-config/` that they stand for.
const SAME: [(&[&str], &[&str]); 6] = [
    (&[], &[JANITOR]),
    (&["--set=besideCsiDriver.enabled=true"], &["webhook-config/components/beside-csi-driver", JANITOR]),
    (&["--set=oneProgram=true"], &["webhook-config/components/one-program", JANITOR]),
    (&["--set=worker.enterprise.enabled=true"], &["webhook-config/components/enterprise-worker", JANITOR]),
    (
        &["--set=besideCsiDriver.enabled=true,oneProgram=true"],
        &["webhook-config/components/beside-csi-driver", "webhook-config/components/one-program", JANITOR],
    ),
    (&["--set=webhook.certManager.enabled=true", "--api-versions=cert-manager.io/v1"], &["certs", JANITOR]),
];

/// Switches that are turned beside each other, a rendering each; the rest is in `everything`.
const SWITCHES: [&[&str]; 9] = [
    &[],
    &["--set=oneProgram=true"],
    &["--set=besideCsiDriver.enabled=true"],
    &["--set=controller.provisioner=false,controller.claimSecrets=false"],
    &["--set=controller.leaderElection.enabled=false,controller.replicas=1,webhook.replicas=1"],
    &["--set=webhook.existingSecret=mine"],
    &["--set=janitor.enabled=false"],
    &["--set=rbac.secretNamespaces={chart-storage,chart-team}"],
    &["--set=networkPolicy.enabled=false,podDisruptionBudget.enabled=false"],
];

type Keyed = BTreeMap<(String, String, String), Value>;

fn keyed(objects: Vec<Value>) -> Keyed {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = |object: &Value| {
        let metadata = &object["metadata"];
        (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
    };
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

#[test]
fn values_by_themselves_install_what_the_plain_manifests_do() {
    let Some(plane) = control_plane::shared() else { return };
    for (values, components) in SAME {
        let Some(mut chart) = rendered(values) else { return };
        for object in &mut chart {
            let labels = object["metadata"]["labels"].as_object_mut().unwrap();
            for label in LABELS {
                assert!(labels.remove(label).is_some(), "{} has no label {label}", object["kind"]);
            }
        }
        // Kustomize gives none to what a component brings along.
        let labelled = |object: &Value| object["metadata"].get("labels").is_some();
        let mut plain = objects(&built(plane, components));
        // That namespace Helm makes itself (`--create-namespace`).
        plain.retain(|object| object["kind"] != "Namespace" || object["metadata"]["name"] != NAMESPACE);
        // Nothing is there twice: who renders and applies takes the last of a name.
        let count = chart.len();
        let (chart, plain) = (keyed(chart), keyed(plain));
        assert_eq!(chart.len(), count);
        let names = |objects: &Keyed| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&chart), names(&plain), "{values:?}");
        for (key, mut object) in chart {
            let other = &plain[&key];
            if !labelled(other) {
                object["metadata"].as_object_mut().unwrap().remove("labels");
            }
            if object == *other {
                continue;
            }
            let text = |value: &Value| {
                let mut value = value.clone();
                value.sort_all_objects();
                serde_json::to_string_pretty(&value).unwrap()
            };
            let (object, other) = (text(&object), text(other));
            let difference = TextDiff::from_lines(&other, &object).unified_diff().to_string();
            panic!("{values:?}: {key:?}\n{difference}");
        }
    }
}

/// The values that turn everything on that can be on at once.
fn everything() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/chart/everything.yaml");
    format!("--values={}", file.display())
}

fn taken(plane: &ControlPlane, what: &str, text: &str) {
    let dry_run =
        ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
    let output = piped(plane.kubectl().args(dry_run), text);
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a kind is one of Kubernetes itself.
fn is_kubernetes_own(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap();
    !version.contains("coreos.com") && !version.contains("cert-manager.io")
}

/// Makes what there has to be before a dry run: namespaces, what an upgrade finds, and kinds of others.
fn prepare(plane: &ControlPlane) {
    install(plane);
    for namespace in ["chart-storage", "chart-team", "juicefs-sidecar-janitor"] {
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let applied =
            piped(plane.kubectl().args(["apply", "--server-side", "-f", "-"]), &manifest.to_string());
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }
    for arguments in [["apply", "--server-side"], ["wait", "--for=condition=Established"]] {
        let output = plane.kubectl().args(arguments).arg("-f").arg(definitions()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn every_switch_is_taken_by_the_linter_the_schema_and_the_api_server() {
    let Some(plane) = control_plane::shared() else { return };
    let Some(mut lint) = helm() else { return };
    let linted = lint.args(["lint", "--strict"]).arg(folder()).output().unwrap();
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
    prepare(plane);

    let values = everything();
    let everything =
        [&values, "--api-versions=monitoring.coreos.com/v1", "--api-versions=cert-manager.io/v1"];
    let own_issuer = ["--set=webhook.certManager.enabled=true", everything[2]];
    for (index, switches) in SWITCHES.iter().copied().chain([&own_issuer[..], &everything]).enumerate() {
        let objects = rendered(switches).unwrap();
        let text = |objects: Vec<&Value>| {
            objects.into_iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
        };
        taken(plane, &format!("{switches:?}"), &text(objects.iter().collect()));

        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{index}.yaml"));
        let validate = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/kubernetes-validate");
        for version in ["1.28", "1.36"] {
            // Left out where the cluster does not know them.
            let knows = |object: &&Value| {
                version != "1.28"
                    || !object["kind"].as_str().unwrap().starts_with("ValidatingAdmissionPolicy")
            };
            let own = objects.iter().filter(|object| is_kubernetes_own(object)).filter(knows);
            fs::write(&file, text(own.collect())).unwrap();
            let valid =
                Command::new(&validate).args(["--strict", "-k", version]).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&valid.stdout);
            assert!(valid.status.success(), "{switches:?}: {version}: {said}");
        }
        fs::remove_file(&file).unwrap();
    }
    taken(plane, "certs", &built(plane, &["certs"]));

    // What a cluster has is found out there.
    let mut discovering = helm().unwrap();
    discovering.args(["install", RELEASE, "--dry-run=server", "--take-ownership"]).arg(folder());
    discovering.args(["--namespace", NAMESPACE, &values]).arg("--kubeconfig").arg(plane.admin());
    let output = discovering.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn pods_of_ours_but_the_workers_are_as_restricted_as_pod_security_knows() {
    let Some(chart) = rendered(&["--set=worker.enterprise.enabled=true"]) else { return };
    for name in ["webhook", "controller"] {
        let pod =
            &object(&chart, "Deployment", &format!("juicefs-sidecar-{name}"))["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let containers =
            ["containers", "initContainers"].iter().filter_map(|list| pod[list].as_array()).flatten();
        for container in containers {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            let is_worker = ["worker", "enterprise-worker"].iter().any(|name| container["name"] == *name);
            assert_eq!(security.get("runAsUser").is_some(), is_worker);
        }
    }
}

#[test]
fn numbers_become_environment_variables_and_the_last_of_a_name_counts() {
    let values = "--set-json=controller.envs=[{\"name\":\"KUBE_QPS\",\"value\":3},{\"name\":\"KUBE_BURST\",\"value\":1000000}]";
    let over =
        "--set-json=webhook.envs=[{\"name\":\"KUBE_QPS\",\"value\":0.5},{\"name\":\"A\",\"value\":true}]";
    let Some(chart) = rendered(&[values, over]) else { return };
    let environment = |name: &str| {
        let pod = &object(&chart, "Deployment", name)["spec"]["template"]["spec"];
        let list = pod["containers"][0]["env"].as_array().unwrap();
        let pairs = list.iter().map(|one| (one["name"].as_str().unwrap(), one["value"].as_str()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let (webhook, controller) =
        (environment("juicefs-sidecar-webhook"), environment("juicefs-sidecar-controller"));
    assert_eq!((controller["KUBE_QPS"], controller["KUBE_BURST"]), (Some("3"), Some("1000000")));
    assert_eq!((webhook["KUBE_QPS"], webhook["KUBE_BURST"]), (Some("0.5"), Some("1000000")));
    assert_eq!((webhook["A"], controller.get("A")), (Some("true"), None));
    assert!(webhook.contains_key("POD_NAMESPACE"));
}

#[test]
fn secrets_may_be_confined_to_namespaces() {
    let Some(chart) = rendered(&["--set=rbac.secretNamespaces={chart-storage,chart-team}"]) else { return };
    for who in ["webhook", "controller"] {
        let role = format!("juicefs-sidecar-{who}-secrets");
        let bindings: Vec<_> = chart.iter().filter(|object| object["roleRef"]["name"] == role).collect();
        let places: Vec<_> =
            bindings.iter().map(|one| (&one["kind"], &one["metadata"]["namespace"])).collect();
        assert_eq!(json!(places), json!([["RoleBinding", "chart-storage"], ["RoleBinding", "chart-team"]]));
        assert!(bindings.iter().all(|one| one["subjects"][0]["namespace"] == NAMESPACE));
    }
}

#[test]
fn one_registry_serves_all_images() {
    let Some(chart) = rendered(&["--set=global.imageRegistry=registry.example.com/x"]) else { return };
    let text = serde_json::to_string(&chart).unwrap();
    let own = concat!("registry.example.com/x/juicefs-sidecar:", env!("CARGO_PKG_VERSION"));
    // Two programs, of which pods have their agent, its installer, and what the janitor may run.
    assert_eq!(text.matches(own).count(), 4);
    assert_eq!(text.matches("registry.example.com/x/juicedata/mount:ce-v1.3.1").count(), 1);
}
