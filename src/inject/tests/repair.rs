//! Pods that come again: believed, left alone, or put right.

use super::*;

#[test]
fn a_done_label_alone_is_not_believed() {
    let mut pod = pod("logs");
    pod["metadata"]["labels"] = json!({DONE: "true"});
    let injected = Case::default().inject(&pod);
    assert_eq!(injected["spec"]["initContainers"][0]["name"], "jfs-mount");
    let undo = uninject(&injected).unwrap().unwrap();
    let mut restored = injected;
    undo.apply(&mut restored).unwrap();
    assert_eq!(restored, pod);
}

#[test]
fn a_forged_status_cannot_choose_a_directory() {
    let mut pod = pod("logs");
    let status = r#"{"version":1,"mode":"classic","profile":"node","native":true,"identity":"../../etc","volumes":[],"undo":{}}"#;
    pod["metadata"]["annotations"] = json!({STATUS: status});
    assert_eq!(Case::default().decide(&pod).code, Code::PodUnsupported);
}

#[test]
fn a_port_the_client_has_left_is_no_longer_declared() {
    let mut pod = defaulted(Case::default().inject(&pod("logs")));
    let ports = json!([{"name": "metrics", "containerPort": 9567}]);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "proxy", "ports": ports}));
    pod["spec"]["initContainers"][0]["ports"].as_array_mut().unwrap().push(json!({"containerPort": 15090}));
    let decision = Case::default().decide(&pod);
    assert_eq!(decision.code, Code::Repaired);
    let repaired = patched(&pod, &decision);
    let wanted = json!([{"containerPort": 15090}, {"containerPort": 9568, "name": "jfs-metrics"}]);
    assert_eq!(repaired["spec"]["initContainers"][0]["ports"], wanted);
    assert_eq!(Case::default().decide(&repaired).code, Code::AlreadyInjected);
}

#[test]
fn the_object_is_read_again_only_for_injected_pods() {
    let (cluster, config, process) = (cluster(), Config::default(), Process::default());
    let engine = Engine { catalog: &cluster.catalog, config: &config, process: &process, explain: false };
    let (value, reads) = (pod("logs"), Cell::new(0));
    let view = Pod::deserialize(&value).unwrap();
    let object = || {
        reads.set(reads.get() + 1);
        Ok(value.to_string().into())
    };
    let identity = Some("a");
    let subject =
        Subject { pod: &view, object: &object, namespace: "team-a", identity, family: Family::Node };
    assert_eq!(engine.decide(&subject).code, Code::Injected);
    assert_eq!(reads.get(), 0);
}

#[test]
fn an_intact_pod_is_left_alone() {
    for (case, claim) in [(Case::default(), "logs"), (Case::old(), "logs"), (Case::default(), "shared-data")]
    {
        let injected = defaulted(case.inject(&pod(claim)));
        // Every call of the API server has a UID of its own.
        let decision = Case { identity: Some("another"), ..case }.decide(&injected);
        assert_eq!(decision.code, Code::AlreadyInjected, "{:?}", decision.patch);
        assert!(decision.patch.is_empty());
    }
}

#[test]
fn what_others_damaged_is_put_right() {
    type Damage = fn(&mut Value);
    let whole = defaulted(Case::default().inject(&pod("logs")));
    let damages: [(&str, Damage); 7] = [
        ("restartPolicy stripped", |pod| {
            pod["spec"]["initContainers"][0].as_object_mut().unwrap().remove("restartPolicy");
        }),
        ("no longer first", |pod| {
            pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "mesh"}));
        }),
        ("privilege taken", |pod| {
            pod["spec"]["initContainers"][0]["securityContext"]["privileged"] = false.into();
        }),
        ("container lost", |pod| {
            pod["spec"].as_object_mut().unwrap().remove("initContainers");
        }),
        ("moved to the application", |pod| {
            let client = pod["spec"]["initContainers"].as_array_mut().unwrap().remove(0);
            pod["spec"]["containers"].as_array_mut().unwrap().push(client);
        }),
        ("volume lost", |pod| {
            pod["spec"]["volumes"].as_array_mut().unwrap().retain(|volume| volume["name"] != "jfs-dir");
        }),
        ("environment lost", |pod| {
            pod["spec"]["initContainers"][0].as_object_mut().unwrap().remove("env");
        }),
    ];
    for (name, damage) in damages {
        let mut damaged = whole.clone();
        damage(&mut damaged);
        let decision = Case::default().decide(&damaged);
        assert_eq!(decision.code, Code::Repaired, "{name}: {}", decision.message);
        let repaired = patched(&damaged, &decision);
        let client = &repaired["spec"]["initContainers"][0];
        assert_eq!(client["name"], "jfs-mount", "{name}");
        assert_eq!(client["restartPolicy"], "Always", "{name}");
        let again = Case::default().decide(&repaired);
        assert_eq!(again.code, Code::AlreadyInjected, "{name}: {:?}", again.patch);
    }
}

#[test]
fn a_copy_gets_directories_of_its_own() {
    let original = defaulted(Case::default().inject(&pod("logs")));
    let mut copy = original.clone();
    copy["metadata"]["name"] = "p-debug".into();
    let case = Case { identity: Some("0b5f5c0e"), ..Case::default() };
    let decision = case.decide(&copy);
    assert_eq!(decision.code, Code::Repaired);
    let repaired = patched(&copy, &decision);
    let text = repaired.to_string();
    assert!(text.contains("/var/lib/juicefs/volume/0b5f5c0e-d/mnt"), "{text}");
    assert!(!text.contains("15a9c4cc-ad55-412b-b2d1-a430f77e12f2"), "{text}");
    assert_eq!(case.decide(&repaired).code, Code::AlreadyInjected);
    // Those of one ReplicaSet are made from a template that carries no status; one that does is a copy too.
    copy["metadata"] = json!({"generateName": "web-", "annotations": original["metadata"]["annotations"]});
    assert_eq!(case.decide(&copy).code, Code::Repaired);
}

#[test]
fn what_others_added_stays() {
    let mut pod = defaulted(Case::default().inject(&pod("logs")));
    let client = &mut pod["spec"]["initContainers"][0];
    client["image"] = "mirror.example.com/juicedata/mount:ce-v1.3.1".into();
    client["resources"] = json!({"limits": {"cpu": "3"}});
    client["env"].as_array_mut().unwrap().push(json!({"name": "AWS_REGION", "value": "eu"}));
    client["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "token", "mountPath": "/var/run/token"}));
    let decision = Case::default().decide(&pod);
    assert_eq!(decision.code, Code::AlreadyInjected, "{:?}", decision.patch);
}

#[test]
fn a_container_added_later_gets_the_mount_too() {
    let case = Case { family: Family::Serverless, ..Case::default() };
    let mut pod = defaulted(case.inject(&pod("logs")));
    let added = json!({"name": "late", "volumeMounts": [{"name": "d", "mountPath": "/late"}]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(added);
    let decision = case.decide(&pod);
    assert_eq!(decision.code, Code::Repaired);
    let repaired = patched(&pod, &decision);
    assert_eq!(repaired["spec"]["containers"][1]["volumeMounts"][0]["mountPropagation"], "HostToContainer");
    assert_eq!(case.decide(&repaired).code, Code::AlreadyInjected);
}

#[test]
fn a_volume_added_later_keeps_what_it_holds() {
    let mut pod = defaulted(Case::default().inject(&pod("logs")));
    let volume =
        json!({"name": "e", "y-unknown": {"z": [1]}, "persistentVolumeClaim": {"claimName": "shared-data"}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    let mount = json!({"name": "e", "mountPath": "/e"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    let decision = Case::default().decide(&pod);
    assert_eq!(decision.code, Code::Repaired, "{}", decision.message);
    let repaired = patched(&pod, &decision);
    let volumes = repaired["spec"]["volumes"].as_array().unwrap();
    let added = volumes.iter().find(|volume| volume["name"] == "e").unwrap();
    assert_eq!(added["y-unknown"], json!({"z": [1]}), "{added}");
    assert!(added["hostPath"].is_object(), "{added}");
    assert_eq!(Case::default().decide(&repaired).code, Code::AlreadyInjected);
}

/// The golden cases of ephemeral volumes: how they were injected when the volume itself was shared and its claim moved,
/// and what they were made from.
const MOVED: [(&str, &str); 3] = [
    (
        include_str!("../../../tests/golden/repaired-ephemeral-of-earlier/input.yaml"),
        include_str!("../../../tests/golden/ephemeral/input.yaml"),
    ),
    (
        include_str!("../../../tests/golden/repaired-resilient-ephemeral-of-earlier/input.yaml"),
        include_str!("../../../tests/golden/resilient-ephemeral/input.yaml"),
    ),
    (
        include_str!("../../../tests/golden/repaired-ephemeral-serverless-of-earlier/input.yaml"),
        include_str!("../../../tests/golden/ephemeral-serverless/input.yaml"),
    ),
];

#[test]
fn an_ephemeral_volume_that_was_moved_is_known_by_its_old_status() {
    for (injected, original) in MOVED {
        let value = |text: &str| parse("pod", text).unwrap().remove(0).value;
        let mut pod = value(injected);
        uninject(&pod).unwrap().unwrap().apply(&mut pod).unwrap();
        assert_eq!(pod, value(original));
    }
}

#[test]
fn no_two_pods_have_one_directory_of_the_go_drivers() {
    let text = include_str!("../../../tests/golden/go-driver-copy/input.yaml");
    let pod = parse("pod", text).unwrap().remove(0).value;
    let again = |pod: &Value, identity| {
        let decision = Case { identity: Some(identity), ..Case::default() }.decide(pod);
        (decision.code, patched(pod, &decision))
    };
    let directories = |pod: &Value| {
        let paths = pod["spec"]["volumes"].as_array().unwrap()[..2].iter();
        paths.map(|volume| volume["hostPath"]["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (code, first) = again(&pod, "11111111-1111-4111-8111-111111111111");
    assert_eq!(code, Code::Repaired);
    // Each review of a pod has an identity of its own; it is the same pod.
    let (code, second) = again(&defaulted(first.clone()), "22222222-2222-4222-8222-222222222222");
    assert_eq!((code, directories(&second)), (Code::NoJuicefsVolume, directories(&first)));
    for drop_annotations in [false, true] {
        let mut copy = first.clone();
        copy["metadata"]["name"] = "copy-of-copy".into();
        if drop_annotations {
            copy["metadata"].as_object_mut().unwrap().remove("annotations");
        }
        let (code, copy) = again(&copy, "33333333-3333-4333-8333-333333333333");
        assert_eq!(code, Code::Repaired);
        assert!(directories(&copy).iter().all(|path| path.contains("33333333-")), "{copy}");
        let commands = copy["spec"]["initContainers"].to_string();
        assert!(!commands.contains("11111111-") && !commands.contains("abcdef"), "{commands}");
        assert_eq!(commands.matches("/jfs/33333333-").count(), 8, "{commands}");
    }
    let decision = Case { identity: None, ..Case::default() }.decide(&pod);
    assert_eq!(decision.code, Code::PodUnsupported, "{}", decision.message);
}
