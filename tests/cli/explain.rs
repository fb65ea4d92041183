//! `explain`.

use super::*;

const CLASS_THEN_CHANGED: &str = "
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: made, namespace: quickstart, uid: u-1}
spec: {accessModes: [ReadWriteMany], storageClassName: changed, volumeName: pvc-u-1}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pvc-u-1}
spec:
  accessModes: [ReadWriteMany]
  claimRef: {namespace: quickstart, name: made, uid: u-1}
  mountOptions: [cache-size=1024]
  storageClassName: changed
  csi:
    driver: csi.juicefs.com
    volumeHandle: pvc-u-1
    nodePublishSecretRef: {namespace: quickstart, name: juicefs-secret}
    volumeAttributes: {subPath: pvc-u-1}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: changed}
provisioner: csi.juicefs.com
mountOptions: [cache-size=2048]
parameters:
  csi.storage.k8s.io/node-publish-secret-name: juicefs-secret
  csi.storage.k8s.io/node-publish-secret-namespace: quickstart
  juicefs/mount-cpu-limit: \"3\"
";

#[test]
fn explain_says_when_a_class_was_changed_after_it_made_a_volume() {
    let secret = quickstart("2-secret.yaml");
    let name = secret.lines().find_map(|line| line.trim().strip_prefix("name: ")).unwrap();
    let cluster = quickstart("1-namespace.yaml")
        + "---\n"
        + &secret
        + &CLASS_THEN_CHANGED.replace("juicefs-secret", name);
    let written = WRITTEN.replace("claimName: site", "claimName: made");
    let files = [("a.yaml", &*written), ("cluster.yaml", &*cluster)];
    let explained = run(&files, &["explain", "-f", "a.yaml", "--cluster", "cluster.yaml"]);
    let said = "storageclass \"changed\" was changed after persistentvolume \"pvc-u-1\" was made, which keeps what it was made \
                with: mountOptions, parameters[\"juicefs/mount-cpu-limit\"]";
    assert!(explained.stdout.contains(said), "{} {}", explained.stdout, explained.stderr);
    let injected = run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml"]);
    assert!(
        injected.stdout.contains("jfs-mount") && !injected.stderr.contains("was changed"),
        "{}",
        injected.stderr
    );
}

#[test]
fn explain_tells_people_about_each_volume() {
    let result = run(&[], &["explain", "-f", QUICKSTART]);
    assert_eq!((result.code, &*result.stderr), (Some(0), ""));
    let title = format!("Deployment/quickstart/web ({QUICKSTART}/5-deployment.yaml:2): injected\n");
    assert!(result.stdout.starts_with(&title), "{}", result.stdout);
    let volume =
        "\n  site: claim site\n    container jfs-mount, native sidecar, resilient mode, node profile\n";
    assert!(result.stdout.contains(volume), "{}", result.stdout);
    assert!(!result.stdout.contains("change-me"), "{}", result.stdout);
    let nothing = run(&[("a.yaml", "a: 1\n")], &["explain", "-f", "a.yaml"]);
    assert_eq!(nothing, ran(0, "", &format!("a.yaml:1: {NO_KIND}{NO_WORKLOAD}")));
}

#[test]
fn explain_says_on_whose_word_a_pod_has_its_mode() {
    let rows = |files: &[(&str, &str)]| {
        let arguments = ["explain", "-f", QUICKSTART, "--config", "config.yaml"];
        let result = run(files, &arguments);
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        let rows = result.stdout.lines().filter(|line| line.contains(" mode"));
        rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let container = |mode: &str| format!("container jfs-mount, native sidecar, {mode} mode, node profile");
    assert_eq!(
        rows(&[("config.yaml", "after: []\n")]),
        [container("resilient"), "mode resilient built-in default".into()]
    );
    assert_eq!(
        rows(&[("config.yaml", "enableNativeSidecar: false\n")]),
        [
            container("classic").replace("native sidecar", "ordinary container"),
            "mode classic built-in default where resilient mode cannot be: it needs native sidecars, and enableNativeSidecar is false".into()
        ]
    );
    assert_eq!(
        rows(&[("config.yaml", "mode: resilient\n")]),
        [container("resilient"), "mode resilient configmap mode".into()]
    );
    let forbidden = rows(&[("config.yaml", "mode: resilient\nenableNativeSidecar: false\n")]);
    assert!(
        forbidden[0].starts_with(
            "warning: configmap mode: the pod gets classic instead of resilient mode: it needs native"
        ),
        "{forbidden:?}"
    );
}
