//! `explain pod/NAME` over a real API server: what was decided, and what would be decided now.

use std::process::Command;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    installation::{self, Installation, pod},
    objects::{create, storage},
};

/// Volumes are the cluster's, so the name is nobody else's.
const CLAIM: &str = "explained";

fn explain(installation: &Installation, words: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.arg("explain").args(words).arg("--kubeconfig").arg(installation.plane.admin());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_cluster_is_explained_as_it_was_decided_and_as_it_would_be_now() {
    let Some(installation) = installation::shared().await else { return };
    let client = installation.plane.client().await;
    let namespace = installation.plane.namespace("explained", &[]).await;
    for object in storage(&namespace, CLAIM) {
        create(&client, object, false).await.unwrap();
    }
    let with_claim = |name: &str| {
        let mut pod = pod(name, CLAIM);
        pod["metadata"]["namespace"] = namespace.as_str().into();
        pod
    };
    let merge = |patch: Value| (PatchParams::default(), Patch::Merge(patch));
    // Before anybody has labelled it.
    create(&client, with_claim("early"), false).await.unwrap();
    let (out, err, code) = explain(installation, &["pod/early", "-n", &namespace]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("would not get one now either"), "{out}");
    assert!(out.contains("namespace-not-enabled"), "{out}");

    let (parameters, label) =
        merge(json!({"metadata": {"labels": {"juicefs.com/enable-injection": "true"}}}));
    Api::<Namespace>::all(client.clone()).patch(&namespace, &parameters, &label).await.unwrap();
    let (out, err, code) = explain(installation, &["pod/early", "-n", &namespace]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("the namespace had no label yet") && out.contains(": injected\n"), "{out}");

    let stored = super::control_plane::eventually("a pod to be injected", async || {
        let stored = create(&client, with_claim("late"), false).await.ok()?;
        if installation::injected(&stored) {
            return Some(stored);
        }
        Api::<Pod>::namespaced(client.clone(), &namespace)
            .delete("late", &kube::api::DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        None
    })
    .await;
    let (out, err, code) = explain(installation, &["late", "-n", &namespace]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for line in [
        format!("Pod/{namespace}/late: injected, resilient mode, native sidecars, on no node yet"),
        format!("  v: claim {CLAIM}, volume {CLAIM}"),
        "    container jfs-mount: not there, juicedata/mount:".to_owned(),
        "SETTING".to_owned(),
        "It would be as it is.".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}: {out}\n{stored:#}");
    }

    // What is changed afterwards changes what it would be, and nothing of what it is.
    let (parameters, options) = merge(json!({"spec": {"mountOptions": ["cache-size=77"]}}));
    Api::<PersistentVolume>::all(client.clone()).patch(CLAIM, &parameters, &options).await.unwrap();
    let (out, err, code) = explain(installation, &["pod/late", "-n", &namespace, "-o", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    let differences: Vec<_> =
        said["differences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        !differences.is_empty() && differences.iter().all(|path| path.starts_with("jfs-mount.")),
        "{said:#}"
    );
    assert_eq!((&said["injected"], &said["now"]["code"]), (&json!(true), &json!("injected")));
    let settings = said["now"]["volumes"][0]["settings"].as_array().unwrap();
    assert!(
        settings.iter().any(|one| one["value"].as_str().is_some_and(|value| value.contains("cache-size=77")))
    );
    assert_eq!(said["running"]["clients"][0]["claim"], CLAIM);

    // It would not even be taken.
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(client.clone(), &namespace);
    secrets.delete(CLAIM, &kube::api::DeleteParams::default()).await.unwrap();
    let (out, err, code) = explain(installation, &["pod/late", "-n", &namespace]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("injected, resilient mode") && out.contains("as it would be created now): secret-"),
        "{out}"
    );

    let (out, err, code) = explain(installation, &["deployment/web", "-n", &namespace]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("give a pod, like pod/web-0"), "{err}");
    let (_, err, code) = explain(installation, &["pod/nobody", "-n", &namespace]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot read pod") && err.contains("not found"), "{err}");
}
