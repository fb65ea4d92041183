//! What others are in and around an injected pod, and what they and earlier rounds leave there.

use super::*;

#[test]
fn what_an_earlier_injection_left_goes_when_a_later_one_would_not_put_it_there() {
    let volumes = "{mode: classic, mountPodPatch: [{volumes: [{name: c, emptyDir: {}}], volumeMounts: [{name: c, mountPath: /c}]}]}";
    let before = Case { config: volumes, identity: None, ..Case::default() }.inject(&pod("logs"));
    assert!(before.to_string().contains("\"mountPath\":\"/c\""));
    let later = Case { identity: None, ..Case::default() };
    let decision = later.decide(&before);
    assert_eq!(decision.code, Code::Repaired, "{}", decision.message);
    let after = patched(&before, &decision);
    let names: Vec<_> =
        after["spec"]["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert!(!names.contains(&&json!("c")), "{names:?}");
    let mounts = after["spec"]["initContainers"][0]["volumeMounts"].as_array().unwrap();
    let mounted: Vec<_> = mounts.iter().map(|mount| &mount["name"]).collect();
    assert!(mounted.iter().all(|name| names.contains(name)), "{mounted:?} {names:?}");
    assert_eq!(later.decide(&after).code, Code::AlreadyInjected);
    // Another claim in an injected template: its mount point is another one.
    let mut changed = Case { identity: None, ..Case::default() }.inject(&pod("logs"));
    for volume in changed["spec"]["volumes"].as_array_mut().unwrap() {
        if volume["name"] == "jfs-claim-d" {
            volume["persistentVolumeClaim"]["claimName"] = "shared-data".into();
        }
    }
    let decision = later.decide(&changed);
    assert_eq!(decision.code, Code::Repaired, "{}", decision.message);
    let mended = patched(&changed, &decision);
    let mounts = mended["spec"]["initContainers"][0]["volumeMounts"].as_array().unwrap();
    assert_eq!(mounts.iter().filter(|mount| mount["name"] == "d").count(), 1, "{mounts:?}");
    assert_eq!(later.decide(&mended).code, Code::AlreadyInjected);
}

#[test]
fn a_client_that_nothing_tells_of_is_not_taken_out() {
    let injected = Case::default().inject(&pod("logs"));
    let mut unmarked = injected.clone();
    unmarked["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(Case::default().decide(&unmarked).code, Code::PodUnsupported, "it would share a directory");
    let refusal = uninject(&unmarked).unwrap_err();
    assert!(refusal.to_string().contains("container \"jfs-mount\": is a JuiceFS client"), "{refusal}");
    assert!(uninject(&pod("logs")).unwrap().is_none());
}

#[test]
fn a_status_that_no_annotation_holds_is_refused_and_not_left_to_the_api_server() {
    let mounts = |number: usize| -> Vec<Value> {
        let path = |mount| format!("/{}/{number}/{mount}", "long".repeat(20));
        (0..100).map(|mount| json!({"name": "d", "mountPath": path(mount)})).collect()
    };
    let mut crowded = pod("logs");
    let containers = |count| -> Value {
        (0..count)
            .map(|number| json!({"name": format!("c{number}"), "volumeMounts": mounts(number)}))
            .collect()
    };
    let case = Case { family: Family::Serverless, ..Case::default() };
    crowded["spec"]["containers"] = containers(10);
    assert_eq!(case.decide(&crowded).code, Code::Injected);
    crowded["spec"]["containers"] = containers(30);
    let decision = case.decide(&crowded);
    assert_eq!(decision.code, Code::PodUnsupported);
    assert!(decision.message.contains("does not fit into its annotation"), "{}", decision.message);
}

#[test]
fn what_backup_tools_leave_out_is_said_where_the_volume_is_the_nodes() {
    let mut listed = pod("logs");
    listed["metadata"]["annotations"] = json!({"backup.velero.io/backup-volumes": "other, d"});
    let says =
        |case: &Case, pod: &Value| case.decide(pod).warnings.iter().any(|warning| warning.contains("Velero"));
    assert!(says(&Case::default(), &listed));
    assert!(
        !says(&Case { identity: None, ..Case::default() }, &listed) && !says(&Case::default(), &pod("logs"))
    );
}

#[test]
fn slips_among_the_annotations_of_a_pod_are_noticed() {
    let mut slipped = pod("logs");
    slipped["metadata"]["annotations"] =
        json!({"sidecar.juicefs.com/exit_order": "idle:3", "juicefs.example.com/x": 1, "note": "x"});
    let decision = Case::default().decide(&slipped);
    let said: Vec<_> = decision.warnings.iter().filter(|warning| warning.contains("did you mean")).collect();
    assert_eq!(
        said,
        [
            "metadata.annotations[\"sidecar.juicefs.com/exit_order\"]: is not known, ignored; did you mean sidecar.juicefs.com/exit-order?"
        ]
    );
}

#[test]
fn others_may_name_local_volumes_of_their_own() {
    let key = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
    let mut named = pod("logs");
    named["metadata"]["annotations"] = json!({ key: "tmp" });
    let mut injected = Case::default().inject(&named);
    assert_eq!(injected["metadata"]["annotations"][key], "tmp,d,jfs-dir,updatedb,cachedir-0");
    injected["metadata"]["annotations"][key] = "theirs,tmp,d,jfs-dir,updatedb,cachedir-0".into();
    assert_eq!(Case::default().decide(&injected).code, Code::AlreadyInjected);
    injected["metadata"]["annotations"][key] = "theirs".into();
    let decision = Case::default().decide(&injected);
    assert_eq!(decision.code, Code::Repaired);
    let undone = uninject(&patched(&injected, &decision)).unwrap().unwrap();
    let mut restored = injected.clone();
    undone.apply(&mut restored).unwrap();
    assert_eq!(restored["metadata"]["annotations"][key], "tmp");
}

#[test]
fn the_resources_of_a_pod_stay_those_of_everybody_in_it() {
    let mut whole = pod("logs");
    whole["spec"]["resources"] = json!({"limits": {"cpu": 4}, "requests": {"cpu": 0.5}});
    let mut injected = Case::default().inject(&whole);
    assert_eq!(injected["spec"]["resources"], json!({"limits": {"cpu": "5"}, "requests": {"cpu": "750m"}}));
    let restored = |pod: &Value| {
        let mut pod = pod.clone();
        uninject(&pod).unwrap().unwrap().apply(&mut pod).unwrap();
        pod["spec"]["resources"].clone()
    };
    assert_eq!(restored(&injected), whole["spec"]["resources"], "word for word");
    // The API server writes it in another form; another injector adds its share.
    injected["spec"]["resources"] = json!({"limits": {"cpu": "5000m"}, "requests": {"cpu": "0.75"}});
    assert_eq!(Case::default().decide(&injected).code, Code::AlreadyInjected);
    injected["spec"]["resources"]["requests"]["cpu"] = "850m".into();
    let decision = Case::default().decide(&injected);
    let mended = patched(&injected, &decision);
    assert_eq!(mended["spec"]["resources"]["requests"]["cpu"], "850m", "{}", decision.message);
    assert_eq!(restored(&mended)["requests"]["cpu"], "600m");
}
