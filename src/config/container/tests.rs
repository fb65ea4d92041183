use crate::config::Config;

fn complaint(item: &str) -> String {
    let text = format!("# one\nmountPodPatch:\n- ceMountImage: a\n- env: []\n  {item}\n");
    Config::parse(&text).map_or_else(|error| error.to_string(), |_| "taken".to_owned())
}

#[test]
fn what_no_api_server_takes_is_said_with_its_line() {
    for (item, said) in [
        (
            "ceMountImage: \" juicedata/mount:ce \"",
            "ceMountImage: \" juicedata/mount:ce \" begins or ends with white",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.label}}}]",
            "env[0].valueFrom.fieldRef.fieldPath:",
        ),
        ("env: [{name: A, valueFrom: {}}]", "env[0].valueFrom: has none of"),
        ("livenessProbe: {periodSeconds: 3}", "livenessProbe: has none of exec"),
        (
            "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}",
            "livenessProbe: has exec and tcpSocket",
        ),
        (
            "startupProbe: {exec: {command: [a]}, successThreshold: 2}",
            "startupProbe.successThreshold: has to be 1",
        ),
        (
            "readinessProbe: {exec: {command: [a]}, periodSeconds: -1}",
            "readinessProbe.periodSeconds: is less",
        ),
        ("livenessProbe: {exec: {}}", "livenessProbe.exec.command: is missing"),
        ("livenessProbe: {httpGet: {port: 70000}}", "livenessProbe.httpGet.port: is not a port"),
        ("lifecycle: {preStop: {}}", "lifecycle.preStop: has none of exec"),
        ("volumes: [{name: Caches, emptyDir: {}}]", "volumes[0].name: \"Caches\" is not a name"),
        (
            "volumes: [{name: a, emptyDir: {}, secret: {secretName: b}}]",
            "volumes[0]: has emptyDir and secret",
        ),
        ("volumes: [{name: a}]", "volumes[0]: has none of the sources"),
        ("volumeMounts: [{name: a, mountPath: ''}]", "volumeMounts[0].mountPath: is missing"),
        (
            "volumeMounts: [{name: a, mountPath: /jfs/}]",
            "volumeMounts[0].mountPath: \"/jfs/\" is where the client",
        ),
        (
            "volumeMounts: [{name: a, mountPath: /x}, {name: b, mountPath: /x/}]",
            "volumeMounts[1].mountPath: \"/x/\" is given twice",
        ),
        ("volumeMounts: [{name: a, mountPath: /x, subPath: /y}]", "volumeMounts[0].subPath: \"/y\" leaves"),
        (
            "resources: {requests: {nvidia.com/gpu: 1}}",
            "resources.requests.nvidia.com/gpu: is requested without",
        ),
        (
            "resources: {requests: {hugepages-2Mi: 2Mi}, limits: {hugepages-2Mi: 4Mi}}",
            "resources.requests.hugepages-2Mi: has a request that is not",
        ),
        (
            "resources: {requests: {ephemeral-storage: 2Gi}, limits: {ephemeral-storage: 1Gi}}",
            "resources.requests.ephemeral-storage: has a request above",
        ),
        ("volumeDevices: [{name: a}]", "volumeDevices[0].devicePath: is missing"),
        ("cacheDirs: [{type: PVC, name: Cache_1}]", "cacheDirs.name: \"Cache_1\" is not a name"),
        (
            "cacheDirs: [{type: HostPath, path: /jfs/cache}]",
            "cacheDirs.path: \"/jfs/cache\" is where the client",
        ),
        ("resources: {claims: [{name: gpu}]}", "resources.claims: names resource claims"),
        ("resources: {limits: {gpu: 1}}", "resources.limits: \"gpu\" is not a resource"),
    ] {
        let complaint = complaint(item);
        let start = format!("config.yaml line 5: mountPodPatch[1].{said}");
        assert!(complaint.starts_with(&start), "{item}: {complaint}");
    }
}

#[test]
fn what_the_api_server_takes_is_taken() {
    for item in [
        "ceMountImage: juicedata/mount:ce",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}]",
        "livenessProbe: {httpGet: {path: /x, port: http}, successThreshold: 1}",
        "readinessProbe: {tcpSocket: {port: 9567}, successThreshold: 3}",
        "lifecycle: {preStop: {sleep: {seconds: 5}}}",
        "volumes: [{name: a, hostPath: {path: /x}}]",
        "volumeMounts: [{name: a, mountPath: /jfs-cache, subPathExpr: $(A)}]",
        "resources: {limits: {nvidia.com/gpu: 1, cpu: 2}, requests: {cpu: 1}}",
        "resources: {requests: {memory: 9Gi}, limits: {memory: 1Gi}}",
    ] {
        assert_eq!(complaint(item), "taken", "{item}");
    }
}
