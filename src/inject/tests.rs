//! Decisions on recorded pods, and on what others may do to an injected one.

mod neighbours;
mod repair;

use std::cell::Cell;

use serde_json::{Value, json};

use super::*;
use crate::{
    notation::{ExitOrder, Version},
    offline::{Manifests, documents::parse},
};

/// The cluster the recorded reviews come from.
fn cluster() -> Manifests {
    let files = [
        ("claims", include_str!("../../tests/reviews/cluster/persistentvolumeclaims.yaml")),
        ("volumes", include_str!("../../tests/reviews/cluster/persistentvolumes.yaml")),
        ("secrets", include_str!("../../tests/reviews/cluster/secrets.yaml")),
        ("classes", include_str!("../../tests/reviews/cluster/storageclasses.yaml")),
    ];
    let documents: Vec<_> = files.iter().flat_map(|(name, text)| parse(name, text).unwrap()).collect();
    Manifests::gather(&documents, "default").unwrap().0
}

/// One way of asking the engine.
#[derive(Clone)]
struct Case {
    family: Family,
    identity: Option<&'static str>,
    process: Process,
    config: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            family: Family::Node,
            identity: Some("15a9c4cc-ad55-412b-b2d1-a430f77e12f2"),
            process: Process::default(),
            config: "mode: classic",
        }
    }
}

impl Case {
    fn old() -> Self {
        Self {
            process: Process { kubernetes: Some(Version::new(1, 28)), ..Process::default() },
            ..Self::default()
        }
    }

    fn decide(&self, pod: &Value) -> Decision {
        let (cluster, config) = (cluster(), Config::parse(self.config).unwrap().0);
        let engine =
            Engine { catalog: &cluster.catalog, config: &config, process: &self.process, explain: true };
        let view = Pod::deserialize(pod).unwrap();
        let subject = Subject {
            pod: &view,
            object: &|| Ok(pod.to_string().into()),
            namespace: "team-a",
            identity: self.identity,
            family: self.family,
        };
        engine.decide(&subject)
    }

    fn inject(&self, pod: &Value) -> Value {
        let decision = self.decide(pod);
        assert_eq!(decision.code, Code::Injected, "{}", decision.message);
        patched(pod, &decision)
    }
}

fn patched(pod: &Value, decision: &Decision) -> Value {
    let mut pod = pod.clone();
    decision.patch.apply(&mut pod).unwrap();
    pod
}

fn pod(claim: &str) -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "team-a"},
        "spec": {
            "containers": [{"name": "app", "volumeMounts": [{"name": "d", "mountPath": "/d", "x-unknown": [1]}]}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim, "x-unknown": 1}, "y-unknown": {}}],
            "terminationGracePeriodSeconds": 30
        }
    })
}

/// What the API server adds to an injected pod before it calls again.
fn defaulted(mut pod: Value) -> Value {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["terminationMessagePath"] = "/dev/termination-log".into();
            if container.get("imagePullPolicy").is_none() {
                container["imagePullPolicy"] = "Always".into();
            }
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                port["protocol"] = "TCP".into();
            }
            if container["startupProbe"].is_object() {
                container["startupProbe"]["successThreshold"] = 1.into();
            }
        }
    }
    pod
}

#[test]
fn the_claim_moves_with_everything_it_holds() {
    let injected = Case::default().inject(&pod("logs"));
    let volumes = injected["spec"]["volumes"].as_array().unwrap();
    let directory = "/var/lib/juicefs/volume/15a9c4cc-ad55-412b-b2d1-a430f77e12f2-d";
    let host_path = json!({"path": format!("{directory}/mnt"), "type": "DirectoryOrCreate"});
    assert_eq!(volumes[0], json!({"name": "d", "y-unknown": {}, "hostPath": host_path}));
    let source = json!({"claimName": "logs", "x-unknown": 1});
    assert_eq!(volumes[1], json!({"name": "jfs-claim-d", "persistentVolumeClaim": source}));
    assert_eq!(volumes[2]["hostPath"]["path"], directory);
    let client = &injected["spec"]["initContainers"][0];
    assert_eq!(client["restartPolicy"], "Always");
    assert_eq!(client["volumeMounts"][0]["mountPath"], "/jfs");
    assert_eq!(client["volumeMounts"][0]["mountPropagation"], "Bidirectional");
}

#[test]
fn a_template_shares_an_empty_directory() {
    let case = Case { identity: None, ..Case::default() };
    let decision = case.decide(&pod("logs"));
    let injected = patched(&pod("logs"), &decision);
    assert_eq!(injected["spec"]["volumes"][0]["emptyDir"], json!({}));
    let mount = &injected["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPropagation"], "HostToContainer");
    assert!(decision.warnings.iter().any(|warning| warning.contains("template")), "{:?}", decision.warnings);
}

#[test]
fn a_mesh_starts_before_the_clients_that_need_it() {
    let mut pod = pod("logs");
    let mounts = json!([{"name": "d", "mountPath": "/d"}]);
    pod["spec"]["initContainers"] = json!([
        {"name": "tunnel", "restartPolicy": "Always"}, {"name": "fetch", "volumeMounts": mounts}
    ]);
    let names = |pod: &Value| -> Vec<String> {
        let containers = pod["spec"]["initContainers"].as_array().unwrap();
        containers.iter().map(|container| container["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&Case::default().inject(&pod)), ["jfs-mount", "tunnel", "fetch"]);
    let case = Case { config: "{mode: classic, after: [tunnel]}", ..Case::default() };
    let injected = defaulted(case.inject(&pod));
    assert_eq!(names(&injected), ["tunnel", "jfs-mount", "fetch"]);
    assert_eq!(case.decide(&injected).code, Code::AlreadyInjected);
    // Another webhook may add the mesh later, to the front or to the back.
    let mut pushed = Case::default().inject(&pod);
    pushed["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    assert_eq!(names(&patched(&pushed, &Case::default().decide(&pushed))), ["jfs-mount", "tunnel", "fetch"]);
    pod["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    assert_eq!(names(&case.inject(&pod)), ["jfs-mount", "fetch", "tunnel"]);
}

#[test]
fn virtual_nodes_that_do_not_bear_a_claim_do_not_get_it() {
    let case = Case { family: Family::Serverless, config: "claimReference: drop", ..Case::default() };
    let mut pod = pod("logs");
    pod["spec"]["volumes"] =
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "logs", "readOnly": true}}]);
    let injected = defaulted(case.inject(&pod));
    assert_eq!(injected["spec"]["volumes"], json!([{"name": "d", "emptyDir": {}}]));
    assert_eq!(case.decide(&injected).code, Code::AlreadyInjected);
    let mut restored = case.inject(&pod);
    let undo = uninject(&restored).unwrap().unwrap();
    undo.apply(&mut restored).unwrap();
    assert_eq!(restored, pod);
    let kept = Case { family: Family::Node, ..case }.inject(&pod);
    assert_eq!(kept["spec"]["volumes"][1]["name"], "jfs-claim-d");
}

#[test]
fn old_clusters_get_ordinary_containers_that_end_last() {
    let injected = Case::old().inject(&pod("logs"));
    assert!(injected["spec"].get("initContainers").is_none());
    let client = &injected["spec"]["containers"][0];
    assert_eq!(client["name"], "jfs-mount");
    assert!(client.get("restartPolicy").is_none());
    assert!(client["lifecycle"]["postStart"]["exec"]["command"][2].as_str().unwrap().contains("/jfs/mnt"));
    assert!(client["lifecycle"]["preStop"]["exec"]["command"][2].as_str().unwrap().contains("open_handlers"));
    assert_eq!(injected["metadata"]["annotations"][DEFAULT_CONTAINER], "app");
    assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], 63);
}

#[test]
fn old_clusters_cannot_serve_init_containers() {
    let mut pod = pod("logs");
    pod["spec"]["initContainers"] =
        json!([{"name": "fetch", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]);
    let decision = Case::old().decide(&pod);
    assert_eq!(decision.code, Code::PodUnsupported);
    assert!(decision.message.contains("init container \"fetch\""), "{}", decision.message);
    assert_eq!(Case::default().decide(&pod).code, Code::Injected);
}

#[test]
fn an_identity_or_a_volume_name_that_is_none_is_refused() {
    for (identity, volume) in
        [("../../etc", "d"), ("$(touch x);y", "d"), ("", "d"), ("a", "../d"), ("a", "$(touch x)"), ("a", "D")]
    {
        let mut pod = pod("logs");
        pod["spec"]["volumes"][0]["name"] = volume.into();
        pod["spec"]["containers"][0]["volumeMounts"][0]["name"] = volume.into();
        let decision = Case { identity: Some(identity), ..Case::default() }.decide(&pod);
        assert_eq!(decision.code, Code::Unreadable, "{identity:?} {volume:?}: {}", decision.message);
        assert!(decision.patch.is_empty());
        // What is not JuiceFS is not ours to judge.
        pod["spec"]["volumes"][0] = json!({"name": volume, "emptyDir": {}});
        let decision = Case { identity: Some(identity), ..Case::default() }.decide(&pod);
        assert_eq!(decision.code, Code::NoJuicefsVolume);
    }
}

#[test]
fn what_a_patch_would_have_to_find_again_has_to_be_there() {
    let nameless = |pointer: &str, field: &str| {
        let mut pod = pod("logs");
        pod.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(field);
        pod
    };
    let mut volume = nameless("/spec/volumes/0", "name");
    volume["spec"]["containers"][0]["volumeMounts"][0].as_object_mut().unwrap().remove("name");
    for (pod, place) in [
        (volume, "spec.volumes[0].name"),
        (nameless("/spec/containers/0", "name"), "spec.containers[0].name"),
        (
            nameless("/spec/containers/0/volumeMounts/0", "mountPath"),
            "spec.containers[0].volumeMounts[0].mountPath",
        ),
    ] {
        let decision = Case::default().decide(&pod);
        assert_eq!(decision.code, Code::Unreadable, "{}", decision.message);
        assert!(decision.message.starts_with(place), "{}", decision.message);
    }
}

#[test]
fn a_pod_gets_no_more_containers_than_are_read_again() {
    let mut pod = pod("logs");
    let container = |number| json!({"name": format!("c-{number}")});
    pod["spec"]["initContainers"] = (0..crate::pod::MOST_CONTAINERS).map(container).collect();
    let decision = Case::default().decide(&pod);
    assert_eq!(decision.code, Code::PodUnsupported, "{}", decision.message);
    pod["spec"]["initContainers"].as_array_mut().unwrap().pop();
    let injected = Case::default().inject(&pod);
    assert_eq!(Case::default().decide(&injected).code, Code::AlreadyInjected);
}

#[test]
fn a_container_that_serves_the_whole_pod_is_ours_too() {
    let mut injected = Case::default().inject(&pod("logs"));
    let containers = injected["spec"]["initContainers"].as_array_mut().unwrap();
    containers.insert(0, json!({"name": "jfs-agent", "image": "agent"}));
    let status = injected["metadata"]["annotations"][STATUS].as_str().unwrap();
    let mut status: Value = serde_json::from_str(status).unwrap();
    status["containers"] = json!(["jfs-agent"]);
    injected["metadata"]["annotations"][STATUS] = status.to_string().into();
    uninject(&injected).unwrap().unwrap().apply(&mut injected).unwrap();
    assert_eq!(injected, pod("logs"));
}

#[test]
fn on_the_network_of_the_node_no_port_is_declared() {
    let mut on_host = pod("logs");
    on_host["spec"]["hostNetwork"] = true.into();
    let decision = Case::default().decide(&on_host);
    let injected = patched(&on_host, &decision);
    let client = &injected["spec"]["initContainers"][0];
    assert!(client.get("ports").is_none());
    assert!(
        client["command"][2].as_str().unwrap().contains(",metrics=0.0.0.0:0"),
        "{}",
        client["command"][2]
    );
    assert!(
        decision.warnings.iter().any(|warning| warning.contains("hostNetwork")),
        "{:?}",
        decision.warnings
    );
    assert_eq!(Case::default().decide(&defaulted(injected)).code, Code::AlreadyInjected);

    // Somebody else may move the pod there after us, and the API server has made the port the node's by then.
    let mut moved = defaulted(Case::default().inject(&pod("logs")));
    moved["spec"]["hostNetwork"] = true.into();
    moved["spec"]["initContainers"][0]["ports"][0]["hostPort"] = 9567.into();
    let decision = Case::default().decide(&moved);
    assert_eq!(decision.code, Code::Repaired);
    let repaired = patched(&moved, &decision);
    assert!(repaired["spec"]["initContainers"][0].get("ports").is_none());
    assert_eq!(Case::default().decide(&repaired).code, Code::AlreadyInjected);
}

#[test]
fn an_owner_tries_again_until_the_claim_exists_and_a_bare_pod_passes() {
    let mut pod = pod("nowhere");
    assert_eq!(Case::default().decide(&pod).code, Code::ClaimMissing);
    pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "web", "controller": true}]);
    let decision = Case::default().decide(&pod);
    assert_eq!(decision.code, Code::ClaimNotThereYet);
    assert!(decision.message.contains("replicaset \"web\" will try again"), "{}", decision.message);
}

#[test]
fn the_clients_ignore_what_the_pod_sets_for_all() {
    let mut pod = pod("logs");
    pod["spec"]["securityContext"] = json!({
        "runAsUser": 1000, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}
    });
    let injected = Case::default().inject(&pod);
    let context = &injected["spec"]["initContainers"][0]["securityContext"];
    assert_eq!(context["runAsUser"], 0);
    assert_eq!(context["runAsNonRoot"], false);
    assert_eq!(context["seccompProfile"]["type"], "Unconfined");
    assert!(context.get("appArmorProfile").is_none());
}

#[test]
fn an_ephemeral_volume_gets_a_directory_of_its_pod() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "juicefs-plain"}});
    let mut pod = pod("logs");
    pod["spec"]["volumes"][0] = json!({"name": "d", "ephemeral": {"volumeClaimTemplate": claim}});
    let injected = Case::default().inject(&pod);
    // Kubernetes names the claim after the volume that holds it.
    assert_eq!(injected["spec"]["volumes"][0], pod["spec"]["volumes"][0]);
    assert_eq!(injected["spec"]["volumes"][1]["name"], "jfs-shared-d");
    let mounts = &injected["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts[0], json!({"name": "jfs-shared-d", "mountPath": "/d", "x-unknown": [1]}));
    let environment = injected["spec"]["initContainers"][0]["env"].as_array().unwrap();
    let uid = environment.iter().find(|variable| variable["name"] == "JFS_POD_UID").unwrap();
    assert_eq!(uid["valueFrom"]["fieldRef"]["fieldPath"], "metadata.uid");
    let metaurl = environment.iter().find(|variable| variable["name"] == "metaurl").unwrap();
    assert_eq!(metaurl["valueFrom"]["secretKeyRef"]["name"], "juicefs-plain-jfs-class-secret");
}

#[test]
fn the_grace_period_is_raised_and_never_lowered() {
    let mut short = pod("logs");
    short["spec"]["terminationGracePeriodSeconds"] = 10.into();
    let decision = Case::default().decide(&short);
    assert_eq!(patched(&short, &decision)["spec"]["terminationGracePeriodSeconds"], 30);
    assert!(
        decision.warnings.iter().any(|warning| warning.contains("from 10 to 30")),
        "{:?}",
        decision.warnings
    );
    short["spec"]["terminationGracePeriodSeconds"] = 600.into();
    let decision = Case::default().decide(&short);
    assert_eq!(patched(&short, &decision)["spec"]["terminationGracePeriodSeconds"], 600);
}

#[test]
fn exit_orders_are_bounded_by_the_patience_of_the_pod() {
    assert_eq!(order::longest(ExitOrder::Sleep(7), 30), 7);
    assert_eq!(order::longest(ExitOrder::Idle(5), 30), 35);
    assert_eq!(order::longest(ExitOrder::Port(80), 30), 30);
    let mut endless = pod("logs");
    endless["spec"]["terminationGracePeriodSeconds"] = i64::MAX.into();
    assert_eq!(Case::old().inject(&endless)["spec"]["terminationGracePeriodSeconds"], i64::MAX);
    let script =
        |order| order::pre_stop(order, "/jfs/mnt", 35).unwrap().exec.unwrap().command.unwrap().remove(2);
    assert!(script(ExitOrder::Port(8080)).contains(":1F90 "));
    assert!(script(ExitOrder::Idle(5)).starts_with("idle=0\nleft=35\n"));
    assert!(script(ExitOrder::Staging).contains("juicefs_staging_blocks"));
    assert_eq!(script(ExitOrder::Sleep(7)), "sleep 7");
}
