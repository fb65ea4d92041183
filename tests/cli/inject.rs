//! What `inject` and its like make of workloads.

use juicefs_sidecar::{
    admission::{self, Endpoint},
    config::{Config, Process},
    inject::{Engine, Family},
    offline::{
        Manifests,
        files::{self, Source},
    },
};

use super::*;

fn namespace(labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: web, labels: {{{labels}}}}}\n")
}

#[test]
fn workloads_of_a_namespace_that_is_not_labelled_are_left_alone_with_a_warning() {
    let text = namespace("") + POD;
    assert_eq!(
        run(&[("a.yaml", &text)], &["inject", "-f", "a.yaml"]),
        ran(
            0,
            &text,
            "a.yaml:6 Pod/web/a: warning: namespace \"web\" is not labelled juicefs.com/enable-injection=true: left alone\n"
        )
    );
    let labelled = namespace("juicefs.com/enable-injection: \"true\"");
    for cluster in [&labelled, ""] {
        let files = [("a.yaml", POD), ("cluster.yaml", cluster)];
        assert_eq!(run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml"]), ran(0, POD, ""));
    }
}

const CLAIM_TEMPLATE: &str = "\
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: fast
  annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}
provisioner: csi.juicefs.com
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  template: {spec: {containers: [{name: c}]}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {}
---
kind: Other
";

#[test]
fn a_stateful_set_with_juicefs_claim_templates_is_refused_and_the_others_printed() {
    let refusal = "a.yaml:9 StatefulSet/default/db: refused (claim-unusable): statefulset \"db\": \
                   spec.volumeClaimTemplates[0]: claim template \"data\" is of the JuiceFS class \"fast\", and each pod \
                   gets a claim of its own; apply it as it is: the webhook injects each pod when it is created\n";
    let files = [("a.yaml", CLAIM_TEMPLATE)];
    assert_eq!(
        run(&files, &["inject", "-f", "a.yaml"]),
        ran(1, CLAIM_TEMPLATE, &(refusal.to_owned() + REFUSED))
    );
    let explained = run(&files, &["explain", "-f", "a.yaml", "-o", "json"]);
    assert_eq!((explained.code, &*explained.stderr), (Some(1), ""));
    let value: Value = serde_json::from_str(&explained.stdout).unwrap();
    assert_eq!(value[0]["code"], "claim-unusable");
    assert_eq!(value[0]["workload"], "StatefulSet/default/db");
    let other = run(&files, &["inject", "-f", "a.yaml", "--driver-name", "csi.example.com"]);
    assert_eq!(other, ran(0, CLAIM_TEMPLATE, ""));
    let disabled = CLAIM_TEMPLATE.replace(
        "template: {",
        "template: {metadata: {labels: {disable.sidecar.juicefs.com/inject: \"true\"}}, ",
    );
    assert_eq!(run(&[("a.yaml", &disabled)], &["inject", "-f", "a.yaml"]), ran(0, &disabled, ""));
}

#[test]
fn what_is_injected_is_injected_once_and_can_be_taken_away() {
    let injected = run(&[], &["inject", "-f", QUICKSTART]).stdout;
    let files = [("injected.yaml", &*injected)];
    assert_eq!(run(&files, &["inject", "-f", "injected.yaml"]).stdout, injected);
    assert_eq!(explained(&files, &["-f", "injected.yaml"])[0]["code"], "already-injected");
    let undone = run(&files, &["uninject", "-f", "injected.yaml", "-o", "json"]);
    let original = run(&[], &["uninject", "-f", QUICKSTART, "-o", "json"]);
    assert_eq!((undone.code, &*undone.stderr), (Some(0), ""));
    let values = |text: &str| -> Vec<Value> {
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(values(&undone.stdout), values(&original.stdout));
    assert_eq!(undone.stdout, original.stdout, "the order of the fields");
}

const TEMPLATE: &str = "{\"metadata\": {\"labels\": {\"app\": \"web\"}}, \"spec\": {\"containers\": [{\"name\": \"web\", \
    \"volumeMounts\": [{\"name\": \"site\", \"mountPath\": \"/site\"}]}], \
    \"volumes\": [{\"name\": \"site\", \"persistentVolumeClaim\": {\"claimName\": \"site\"}}]}}";

#[test]
fn every_kind_of_workload_is_injected_in_the_format_it_came_in() {
    for (api_version, kind, path) in [
        ("v1", "Pod", ""),
        ("v1", "ReplicationController", "/spec/template"),
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let mut text = TEMPLATE.to_owned();
        for key in path.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
            text = format!("{{\"{key}\": {text}}}");
        }
        let text = format!("{{\"apiVersion\": \"{api_version}\", \"kind\": \"{kind}\", {}", &text[1..]);
        let arguments = ["inject", "-f", "a.json", "-n", "quickstart", "--cluster", QUICKSTART];
        let result = run(&[("a.json", &text)], &arguments);
        assert_eq!(result.code, Some(0), "{kind}: {}", result.stderr);
        let value: Value = serde_json::from_str(&result.stdout).unwrap();
        let volumes = value.pointer(&format!("{path}/spec/volumes")).unwrap().as_array().unwrap();
        assert!(volumes.iter().any(|volume| volume["name"] == "jfs-claim-site"), "{kind}: {value}");
        let patch = run(&[("a.json", &text)], &[&arguments[..], &["-o", "patch"]].concat()).stdout;
        let patch: Value = serde_json::from_str(&patch).unwrap();
        assert_eq!(
            (&patch[0]["kind"], &patch[0]["namespace"]),
            (&Value::from(kind), &Value::from("quickstart"))
        );
        for operation in patch[0]["patch"].as_array().unwrap() {
            assert!(operation["path"].as_str().unwrap().starts_with(path), "{kind}: {operation}");
        }
    }
}

#[test]
fn of_a_list_only_the_items_with_a_juicefs_volume_change() {
    let pod = |name: &str, rest: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {rest}}}"
        )
    };
    let template: Value = serde_json::from_str(TEMPLATE).unwrap();
    let plain = pod("plain", "{\"containers\": [{\"name\": \"c\", \"tty\": true}]}");
    let text = format!(
        "{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{}, {plain}]}}",
        pod("site", &template["spec"].to_string())
    );
    let arguments = ["inject", "-f", "a.json", "-n", "quickstart", "--cluster", QUICKSTART];
    let result = run(&[("a.json", &text)], &arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    let value: Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(value["items"][0]["metadata"]["labels"]["done.sidecar.juicefs.com/inject"], "true");
    assert_eq!(value["items"][1], serde_json::from_str::<Value>(&plain).unwrap());
}

#[test]
fn versions_and_serverless_are_told_by_option_or_by_the_cluster() {
    let volume = |files: &[(&str, &str)], arguments: &[&str]| {
        let value = explained(files, &[&["-f", QUICKSTART], arguments].concat());
        let volume = &value[0]["volumes"][0];
        (volume["native"].as_bool().unwrap(), volume["profile"].as_str().unwrap().to_owned())
    };
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: old}\nstatus: {nodeInfo: {kubeletVersion: v1.28.3}}\n";
    let old = [("node.yaml", node)];
    assert_eq!(volume(&[], &[]), (true, "node".to_owned()));
    assert_eq!(volume(&[], &["--kube-version", "v1.28.9"]), (false, "node".to_owned()));
    assert_eq!(volume(&old, &["--cluster", "node.yaml"]), (false, "node".to_owned()));
    assert_eq!(volume(&[], &["--serverless"]), (true, "serverless".to_owned()));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: quickstart\n  labels: \
                     {juicefs.com/enable-serverless-injection: \"true\"}\n";
    let labelled = [("namespace.yaml", namespace)];
    assert_eq!(volume(&labelled, &["-f", "namespace.yaml"]), (true, "serverless".to_owned()));
}

#[test]
fn the_configuration_is_read_from_its_config_map_or_a_file() {
    let native = |arguments: &[&str]| {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: juicefs-csi-driver-config, namespace: kube-system}\n\
                   data:\n  config.yaml: |\n    enableNativeSidecar: false\n";
        let files = [("map.yaml", map), ("bare.yaml", "enableNativeSidecar: true\n")];
        explained(&files, &[&["-f", QUICKSTART], arguments].concat())[0]["volumes"][0]["native"]
            .as_bool()
            .unwrap()
    };
    assert!(native(&[]));
    assert!(!native(&["--cluster", "map.yaml"]));
    assert!(!native(&["--config", "map.yaml"]));
    assert!(native(&["--cluster", "map.yaml", "--config", "bare.yaml"]));
    let broken =
        run(&[("c.yaml", "mountPodPatch: 5\n")], &["inject", "-f", QUICKSTART, "--config", "c.yaml"]);
    assert_eq!((broken.code, &*broken.stdout), (Some(2), ""));
    assert!(
        broken.stderr.starts_with("error: c.yaml: config.yaml line 1: mountPodPatch: "),
        "{}",
        broken.stderr
    );
}

#[test]
fn a_claim_that_is_nowhere_is_told_with_a_hint() {
    let deployment = format!("{QUICKSTART}/5-deployment.yaml");
    let result = run(&[], &["inject", "-f", &deployment]);
    assert_eq!((result.code, result.stdout), (Some(0), std::fs::read_to_string(&deployment).unwrap()));
    assert!(
        result
            .stderr
            .contains("Deployment/quickstart/web: warning: persistentvolumeclaim \"quickstart/site\""),
        "{}",
        result.stderr
    );
    assert!(result.stderr.ends_with("with --cluster\n"), "{}", result.stderr);
}

#[test]
fn a_review_is_answered_as_the_webhook_answers_it() {
    let reviews = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reviews");
    let cluster = format!("{reviews}/cluster");
    let body = std::fs::read_to_string(format!("{reviews}/job.create.json")).unwrap();
    let documents = files::read(&[Source::Path(cluster.clone().into())]).unwrap();
    let (manifests, _) = Manifests::gather(&documents, "default").unwrap();
    let (config, process) = (Config::default(), Process::default());
    let engine = Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: false };
    for (family, arguments) in [(Family::Node, &[][..]), (Family::Serverless, &["--serverless"])] {
        let expected = admission::answer(body.as_bytes(), Endpoint::Inject(family), &engine);
        let result = run_with(&[], &[&["review", "--cluster", &cluster], arguments].concat(), &body);
        assert_eq!(result, ran(0, &String::from_utf8(expected.body).unwrap(), ""));
        let answer: Value = serde_json::from_str(&result.stdout).unwrap();
        assert_eq!(
            (&answer["response"]["allowed"], &answer["kind"]),
            (&Value::from(true), &Value::from("AdmissionReview"))
        );
        assert!(answer["response"]["patch"].is_string(), "{answer}");
    }
    for text in ["", "text", "{}", "{\"kind\": \"Pod\"}"] {
        let result = run_with(&[], &["review"], text);
        assert_eq!((result.code, &*result.stdout), (Some(2), ""), "{text}");
        assert!(result.stderr.starts_with("error: <stdin>: "), "{}", result.stderr);
    }
}
