use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    limits::Limits,
    state::{App, State},
    *,
};
use crate::{
    config::{Config, Process},
    notation::Version,
    offline::{Manifests, documents},
    telemetry::Metrics,
};

fn answered(body: &[u8], endpoint: Endpoint, cluster: &Manifests) -> Answer {
    let (config, process) = (Config::default(), Process::default());
    answer(
        body,
        endpoint,
        &Engine { catalog: &cluster.catalog, config: &config, process: &process, explain: false },
    )
}

/// A cluster of these objects.
fn cluster(objects: &[Value]) -> Manifests {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let documents = documents::parse("test", &list).unwrap();
    Manifests::gather(&documents, "default").unwrap().0
}

fn response(review: &Value, endpoint: Endpoint, cluster: &Manifests) -> Value {
    let answer = answered(review.to_string().as_bytes(), endpoint, cluster);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let mut review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["response"]["uid"], "u-1");
    review["response"].take()
}

fn review(kind: &str, operation: &str, object: &Value) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": kind}, "operation": operation,
        "namespace": "team-a", "name": "x", "object": object}})
}

const INJECT: Endpoint = Endpoint::Inject(Family::Node);

#[test]
fn only_creations_of_pods_are_mutated() {
    let pod = json!({"spec": {"containers": [{"name": "app"}]}});
    let mut subresource = review("Pod", "CREATE", &pod);
    subresource["request"]["subResource"] = "ephemeralcontainers".into();
    let cases = [
        (review("Pod", "CREATE", &pod), "no-juicefs-volume"),
        (review("Pod", "UPDATE", &pod), "not-a-creation"),
        (review("Pod", "DELETE", &Value::Null), "not-a-creation"),
        (review("Secret", "CREATE", &pod), "not-a-pod"),
        (subresource, "not-a-pod"),
        // An object nobody reads may look as it likes.
        (review("ConfigMap", "CREATE", &json!({"spec": "text"})), "not-a-pod"),
    ];
    for (review, code) in cases {
        let response = response(&review, INJECT, &Manifests::default());
        assert_eq!(response["allowed"], true);
        assert_eq!(response["auditAnnotations"]["decision"], code, "{review}");
        assert!(response.get("patch").is_none());
    }
}

#[test]
fn a_pod_that_is_none_is_refused_with_field_and_position() {
    let pod = json!({"spec": {"containers": [{"name": "app", "ports": [{"containerPort": "http"}]}]}});
    let response = response(&review("Pod", "CREATE", &pod), INJECT, &Manifests::default());
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 400);
    assert_eq!(response["status"]["reason"], "BadRequest");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("request.object.spec.containers[0].ports[0].containerPort: "), "{message}");
    assert!(message.contains("line 1 column "), "{message}");
}

#[test]
fn a_creation_without_a_pod_is_refused() {
    let response = response(&review("Pod", "CREATE", &Value::Null), INJECT, &Manifests::default());
    assert_eq!(response["status"]["code"], 400);
    assert_eq!(response["auditAnnotations"]["decision"], "unreadable");
}

#[test]
fn what_has_no_uid_gets_plain_text() {
    let mut no_uid = review("Pod", "CREATE", &json!({}));
    no_uid["request"]["uid"] = Value::Null;
    let whole = review("Pod", "CREATE", &json!({})).to_string();
    let truncated = whole.split_at(whole.len() - 2).0;
    let deep = "[".repeat(100_000);
    for (body, expected) in [
        ("", "not an AdmissionReview"),
        ("\u{0}", "not an AdmissionReview"),
        ("null", "not an AdmissionReview"),
        ("{}", "kind is \"\""),
        (truncated, "EOF while parsing"),
        (&deep, "not an AdmissionReview"),
        (&no_uid.to_string(), "request.uid is missing"),
        (&format!("{whole} x"), "trailing characters"),
    ] {
        for endpoint in Endpoint::ALL {
            let answer = answered(body.as_bytes(), endpoint, &Manifests::default());
            assert_eq!((answer.status, answer.is_review()), (400, false));
            let text = String::from_utf8(answer.body).unwrap();
            assert!(text.contains(expected), "{text}");
            assert_eq!(answer.summary.code, Code::Unreadable);
        }
    }
}

#[test]
fn the_summary_says_what_the_request_was_about() {
    let mut review = review("Pod", "CREATE", &json!({"metadata": {"generateName": "web-"}, "spec": {}}));
    review["request"]["name"] = Value::Null;
    review["request"]["dryRun"] = true.into();
    let summary = answered(review.to_string().as_bytes(), INJECT, &Manifests::default()).summary;
    assert_eq!(
        (summary.uid.as_str(), summary.namespace.as_str(), summary.name.as_str(), summary.operation.as_str()),
        ("u-1", "team-a", "web-", "CREATE")
    );
    assert!(summary.dry_run);
}

#[test]
fn our_own_failure_is_an_http_error() {
    let review = review("Pod", "CREATE", &json!({})).to_string();
    let review = parse::<Ignored>(review.as_bytes()).unwrap();
    let (version, request) = review.question().unwrap();
    let answer = finish(version, request, "x", Decision::new(Code::Internal, "out of order"));
    assert_eq!((answer.status, answer.body.as_slice()), (500, b"out of order\n".as_slice()));
    assert_eq!(answer.summary.uid, "u-1");
    assert_eq!(Answer::panicked().status, 500);
}

fn volume(name: &str, handle: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "csi.juicefs.com", "volumeHandle": handle,
        "nodePublishSecretRef": {"name": "good", "namespace": "kube-system"}}}})
}

#[test]
fn static_volumes_are_checked() {
    let secret = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "kube-system", "name": name},
               "stringData": data})
    };
    let mut taken = volume("taken", "h-1");
    taken["apiVersion"] = "v1".into();
    taken["kind"] = "PersistentVolume".into();
    let cluster = cluster(&[
        taken,
        secret("good", json!({"name": "myjfs", "metaurl": "redis://host/1"})),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "kube-system", "name": "bad"},
               "data": {"metaurl": "!"}}),
    ]);
    let changed = |pointer: &str, value: Value| {
        let mut changed = volume("new", "h-2");
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let mut of_a_class = volume("new", "h-1");
    of_a_class["spec"]["storageClassName"] = "juicefs".into();
    let cases = [
        (volume("new", "h-2"), "valid", ""),
        (volume("taken", "h-1"), "valid", ""),
        (volume("new", "h-1"), "handle-taken", "\"h-1\" is the handle of persistentvolume \"taken\""),
        (of_a_class, "valid", ""),
        (changed("/spec/csi/driver", "disk.example.com".into()), "valid", ""),
        (changed("/spec/csi", Value::Null), "valid", ""),
        (changed("/spec/csi/volumeHandle", "".into()), "setting-invalid", "spec.csi.volumeHandle: is empty"),
        (
            changed("/spec/csi/nodePublishSecretRef", Value::Null),
            "secret-missing",
            "nodePublishSecretRef: is missing",
        ),
        (
            changed("/spec/csi/nodePublishSecretRef/namespace", "".into()),
            "secret-missing",
            "nodePublishSecretRef.namespace: is empty",
        ),
    ];
    for (object, code, expected) in cases {
        let response =
            response(&review("PersistentVolume", "CREATE", &object), Endpoint::ValidateVolume, &cluster);
        assert_eq!(response["auditAnnotations"]["decision"], code, "{object}");
        assert_eq!(response["allowed"], code == "valid");
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{message}");
        assert!(response.get("warnings").is_none());
    }
    for (secret, expected) in [("none", "does not exist yet"), ("bad", "metaurl: ")] {
        let object = changed("/spec/csi/nodePublishSecretRef/name", secret.into());
        let response =
            response(&review("PersistentVolume", "CREATE", &object), Endpoint::ValidateVolume, &cluster);
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains(expected), "{response}");
    }
}

#[test]
fn user_secrets_are_checked_and_no_value_is_shown() {
    let secret = |data: Value| review("Secret", "CREATE", &json!({"data": data}));
    let cluster = Manifests::default();
    let good = secret(json!({"name": "bXlqZnM=", "metaurl": "cmVkaXM6Ly9ob3N0LzE="}));
    assert_eq!(response(&good, Endpoint::ValidateSecret, &cluster)["allowed"], true);

    let bad = secret(json!({"metaurl": "hunter2!", "token": "aHVudGVyMg=="}));
    let response = response(&bad, Endpoint::ValidateSecret, &cluster);
    assert_eq!(response["status"]["code"], 422);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("secret \"team-a/x\": "), "{message}");
    assert!(message.contains("metaurl: is not base64") && message.contains("name: "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");

    let odd = secret(json!({"metaurl": {"hunter2": 1}}));
    let answer = answered(odd.to_string().as_bytes(), Endpoint::ValidateSecret, &cluster);
    assert!(!String::from_utf8(answer.body).unwrap().contains("hunter2"));
}

#[test]
fn a_cluster_says_whether_it_has_native_sidecars_where_no_node_and_no_flag_does() {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a",
        "labels": {"juicefs.com/enable-injection": "true"}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "kube-system", "name": "good"},
        "stringData": {"name": "myjfs", "metaurl": "redis://host/1"}});
    let mut volume = volume("data", "h");
    volume["apiVersion"] = "v1".into();
    volume["kind"] = "PersistentVolume".into();
    volume["spec"]["claimRef"] = json!({"namespace": "team-a", "name": "data"});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "team-a", "name": "data"},
        "spec": {"volumeName": "data", "storageClassName": ""}, "status": {"phase": "Bound"}});
    let catalog = cluster(&[namespace, secret, volume, claim]).catalog;
    let pod = json!({"spec": {
        "containers": [{"name": "app", "image": "app", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let body = review("Pod", "CREATE", &pod).to_string();
    let version = |text: &str| text.parse::<Version>().unwrap();
    // What a flag says, what the API server says then, and whether the client is a native sidecar.
    for (flag, server, native) in [
        (None, None, true),
        (None, Some("v1.28.15"), false),
        (None, Some("v1.29.0"), true),
        (Some("1.30"), Some("v1.28.15"), true),
        (Some("1.28"), Some("v1.36.2"), false),
    ] {
        let process = Process { kubernetes: flag.map(version), ..Process::default() };
        let state = State { catalog: catalog.clone(), config: Arc::default(), process: process.into() };
        let app = App::new(state, Metrics::new(), Limits::default());
        if let Some(server) = server {
            app.runs_on(version(server));
        }
        let answer = app.answer(&app.state(), INJECT, body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let patch = answer["response"]["patch"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let patch = String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap();
        assert_eq!(patch.contains("\"restartPolicy\":\"Always\""), native, "{flag:?} {server:?}: {patch}");
    }
}
