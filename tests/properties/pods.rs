//! Pods of every kind: hostile names, unknown fields at every level, nulls.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Of every pod, and of the request about it.
pub(crate) const UID: &str = "44444444-0000-4000-8000-000000000000";
/// Names of ours, which a pod may well have already; and names at the limit of 63 characters.
const NAMES: [&str; 12] = [
    "app",
    "v",
    "jfs-mount",
    "jfs-mount-1",
    "jfs-mount-0",
    "jfs-claim-v",
    "jfs-claim-jfs-claim-v",
    "jfs-dir",
    "updatedb",
    "cachedir-0",
    "rsa-key",
    "a-name-of-sixty-three-characters-the-longest-there-can-be-in-a1",
];

/// Any JSON, two levels deep.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(1.50)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z~/\"]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Fields that no version of the API has, or that we have no use for.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map("future[A-Z~/\u{e4}]{1,3}", anything(), 0..3)
        .prop_map(|map| map.into_iter().collect())
}

/// An object of known fields with unknown ones before and after them.
fn object(known: Value) -> impl Strategy<Value = Value> {
    unknown().prop_map(move |unknown| {
        let mut all = Map::new();
        let half = unknown.len() / 2;
        let (mut before, mut after) = (unknown.clone(), unknown);
        before.retain(|_, _| false);
        for (key, value) in std::mem::take(&mut after) {
            if before.len() < half {
                before.insert(key, value)
            } else {
                after.insert(key, value)
            };
        }
        all.extend(before);
        if let Value::Object(known) = known.clone() {
            all.extend(known);
        }
        all.extend(after);
        Value::Object(all)
    })
}

fn names(count: usize) -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(NAMES.to_vec(), count)
        .prop_shuffle()
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn source() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => prop::sample::select(vec!["data", "warehouse", "disk"]).prop_flat_map(|claim| {
            prop_oneof![
                object(json!({"persistentVolumeClaim": {"claimName": claim}})),
                object(json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}})),
            ]
        }),
        1 => Just(json!({"ephemeral": {"volumeClaimTemplate": {"spec": {
            "storageClassName": "juicefs", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}}})),
        2 => object(json!({"emptyDir": {}})),
        1 => object(json!({"hostPath": {"path": "/x"}})),
    ]
}

fn volumes() -> impl Strategy<Value = Vec<Value>> {
    (1..5usize).prop_flat_map(|count| {
        (names(count), prop::collection::vec(source(), count)).prop_map(|(names, mut sources)| {
            for (source, name) in sources.iter_mut().zip(names) {
                source["name"] = name.into();
            }
            sources
        })
    })
}

fn mount(volumes: Vec<String>) -> impl Strategy<Value = Value> {
    let rest = prop_oneof![
        Just(json!({})),
        Just(json!({"readOnly": true})),
        Just(json!({"readOnly": false, "subPath": "a/b"})),
        Just(json!({"subPathExpr": "$(X)", "readOnly": null})),
        Just(json!({"mountPropagation": "HostToContainer"})),
        Just(json!({"mountPropagation": "None", "recursiveReadOnly": "Disabled"})),
        Just(json!({"readOnly": true, "recursiveReadOnly": "Enabled"})),
    ];
    (prop::sample::select(volumes), rest.prop_flat_map(object)).prop_map(|(name, mut mount)| {
        mount["name"] = name.into();
        mount
    })
}

fn container(volumes: Vec<String>) -> impl Strategy<Value = Value> {
    let mounts = prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        6 => prop::collection::vec(mount(volumes), 0..4).prop_map(|mounts| Some(mounts.into())),
    ];
    let rest = prop_oneof![
        Just(json!({"image": "app:1"})),
        Just(
            json!({"image": "app:1", "ports": null, "resources": {"requests": {"cpu": "1", "memory": "64Mi"}}})
        ),
        Just(json!({"image": "app:1", "resources": {"limits": {"cpu": 0.5, "memory": 67_108_864}}})),
        Just(
            json!({"image": "app:1", "ports": [{"containerPort": 9567}, {"containerPort": 9569, "name": "metrics"}]})
        ),
    ];
    (rest.prop_flat_map(object), mounts).prop_map(|(mut container, mounts)| {
        if let Some(mut mounts) = mounts {
            for (number, mount) in mounts.as_array_mut().into_iter().flatten().enumerate() {
                mount["mountPath"] = format!("/{number}").into();
            }
            container["volumeMounts"] = mounts;
        }
        container
    })
}

fn containers(volumes: Vec<String>) -> impl Strategy<Value = (Value, Value)> {
    (0..4usize, 1..4usize).prop_flat_map(move |(init, app)| {
        let parts = (
            names(init + app),
            prop::collection::vec(container(volumes.clone()), init + app),
            any::<bool>(),
            any::<bool>(),
        );
        parts.prop_map(move |(names, mut all, native, null)| {
            for (container, name) in all.iter_mut().zip(names) {
                container["name"] = name.into();
            }
            let app = all.split_off(init);
            if let (true, Some(first)) = (native, all.first_mut()) {
                first["restartPolicy"] = "Always".into();
            }
            let init = if all.is_empty() && null { Value::Null } else { all.into() };
            (init, app.into())
        })
    })
}

fn metadata() -> impl Strategy<Value = Value> {
    let map = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!({}))),
        Just(Some(json!({"a~/b": "\u{2713}\"", "done.sidecar.juicefs.com/inject": "true"}))),
    ];
    let annotations = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!({"kubectl.kubernetes.io/default-container": "app"}))),
        Just(Some(json!({"vke.volcengine.com/burst-to-vci": "enforce"}))),
        Just(Some(json!({"note": "ünïcode ~ / \" \\"}))),
    ];
    (object(json!({"name": "web", "namespace": "app", "uid": UID})), map, annotations).prop_map(
        |(mut metadata, labels, annotations)| {
            if let Some(labels) = labels {
                metadata["labels"] = labels;
            }
            if let Some(annotations) = annotations {
                metadata["annotations"] = annotations;
            }
            metadata
        },
    )
}

/// Shown as the JSON it is when a property fails.
pub(crate) struct Shown(pub(crate) Value);

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

pub(crate) fn pods() -> impl Strategy<Value = Shown> {
    let rest = prop_oneof![
        Just(json!({})),
        Just(json!({"terminationGracePeriodSeconds": 5, "hostNetwork": true})),
        Just(json!({"terminationGracePeriodSeconds": 3600, "securityContext": {"runAsNonRoot": true}})),
        Just(json!({"terminationGracePeriodSeconds": null, "nodeSelector": null, "affinity": null})),
        Just(
            json!({"resources": {"limits": {"cpu": "8", "memory": "8Gi"}, "requests": {"cpu": 6, "memory": "1Gi"}}})
        ),
        Just(json!({"resources": {"limits": {"memory": "8Gi"}}})),
    ];
    volumes().prop_flat_map(move |volumes| {
        let names = volumes.iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect();
        let parts = (containers(names), rest.clone().prop_flat_map(object), metadata(), unknown());
        parts.prop_map(move |((init, app), mut spec, metadata, unknown)| {
            spec["volumes"] = volumes.clone().into();
            if init != json!([]) {
                spec["initContainers"] = init;
            }
            spec["containers"] = app;
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            pod.as_object_mut().unwrap().extend(unknown);
            Shown(pod)
        })
    })
}
