//! Requests, limits, and what has to fit below them.

use super::*;

#[test]
fn claims_ask_for_no_more_than_they_may() {
    let limits = "pvcAnnotationLimits: {cpu: 4, memory: 8Gi}";
    for (key, value, outcome) in [
        ("juicefs/mount-memory-limit", "9Gi", "1 1Gi 2 8Gi"),
        ("juicefs/mount-cpu-limit", "0", "1 1Gi 4 5Gi"),
        ("juicefs/mount-cpu-limit", "-1", "1 1Gi 4 5Gi"),
    ] {
        let case = case().annotations(&[(key, value)]).config(limits);
        assert_eq!(resources(&case.settle().unwrap()), outcome, "{key} {value}");
        assert!(case.warning().contains("more than claims may ask for"), "{}", case.warning());
    }
    let case = case().annotations(&[("juicefs/mount-memory-limit", "8Gi")]).config(limits);
    assert_eq!(resources(&case.settings()), "1 1Gi 2 8Gi");
    let case = super::tests::case().attributes(&[("juicefs/mount-memory-limit", "9Gi")]).config(limits);
    assert_eq!(resources(&case.settings()), "1 1Gi 2 9Gi", "administrators may");
}

#[test]
fn resources_of_attributes_follow_the_go_driver() {
    for (key, value, outcome) in [
        ("juicefs/mount-cpu-limit", "3000m", "1 1Gi 3 5Gi"),
        ("juicefs/mount-cpu-limit", "0", "1 1Gi - 5Gi"),
        ("juicefs/mount-memory-limit", "-1", "1 1Gi 2 -"),
        ("juicefs/mount-cpu-request", "0", "0 1Gi 2 5Gi"),
        ("juicefs/mount-cpu-request", "-1", "- 1Gi 2 5Gi"),
        ("juicefs/mount-memory-request", "1.5Gi", "1 1536Mi 2 5Gi"),
    ] {
        assert_eq!(resources(&case().attributes(&[(key, value)]).settings()), outcome, "{key} {value}");
    }
    assert_eq!(
        case().attributes(&[("juicefs/mount-cpu-limit", "two")]).refusal(),
        "persistentvolume \"pv-1\": spec.csi.volumeAttributes[\"juicefs/mount-cpu-limit\"]: \"two\" is not a quantity; \
         write an amount such as 500m, 2 or 5Gi"
    );
    let case = case().annotations(&[("juicefs/mount-cpu-limit", "two")]);
    assert!(
        case.refusal()
            .starts_with("persistentvolumeclaim \"ns/claim\": annotation \"juicefs/mount-cpu-limit\"")
    );
}

#[test]
fn requests_never_exceed_limits() {
    let lowered = case().attributes(&[("juicefs/mount-memory-limit", "512Mi")]);
    assert_eq!(resources(&lowered.settle().unwrap()), "1 512Mi 2 512Mi");
    assert!(lowered.warning().contains("default memory request is lowered to the limit 512Mi"));
    let raised = case().attributes(&[("juicefs/mount-cpu-request", "3")]);
    assert_eq!(resources(&raised.settle().unwrap()), "3 1Gi 3 5Gi");
    assert!(raised.warning().contains("cpu limit 2 is raised to the request 3"));
}

#[test]
fn resources_of_the_configmap_replace_all_others() {
    let case = case()
        .attributes(&[("juicefs/mount-cpu-limit", "3")])
        .config("mountPodPatch: [{resources: {requests: {cpu: 100m, ephemeral-storage: 1Gi}}}]");
    let settings = case.settings();
    assert_eq!(resources(&settings), "100m - - -");
    assert_eq!(settings.resources.requests.unwrap()["ephemeral-storage"].0, "1Gi");
    assert_eq!(settings.resources.limits, None);
}

#[test]
fn percentages_are_of_the_containers_that_mount_the_volume() {
    let case = case()
        .pod(
            r#"{"spec": {
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "100Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/d"}]}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1001m"}, "limits": {"cpu": "10m"}},
                 "volumeMounts": [{"name": "data", "mountPath": "/d"}]},
                {"name": "b", "resources": {"requests": {"cpu": "64", "memory": "64Gi"}}}]}}"#,
        )
        .config(
            "mountPodPatch: [{resourcePercentages: {requests: {cpu: 50%, memory: 50%}, limits: {cpu: 1%, memory: 50%}, \
             minLimits: {memory: 1Gi}}}]",
        );
    let settings = case.settle().unwrap();
    // CPU: (1 + 1.001) / 2 rounded up; memory requests have no base and stay.
    assert_eq!(resources(&settings), "1001m 1Gi 1001m 1Gi");
    assert!(
        settings.warnings[0].contains("cpu limit 100m is raised to the request 1001m"),
        "{:?}",
        settings.warnings
    );
}

#[test]
fn buffers_fit_the_final_memory_limit() {
    let app = r#"{"spec": {"containers": [{"name": "a", "resources": {"limits": {"memory": "4Gi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}"#;
    let case = |size: &str, config: &str| case().options(&[size]).config(config).pod(app).serverless();
    let percentages = "mountPodPatch: [{resourcePercentages: {limits: {memory: 50%}}}]";
    assert_eq!(case("buffer-size=50%", percentages).settings().options, ["buffer-size=1024"]);
    let clamped = case("buffer-size=4G", percentages);
    assert_eq!(clamped.settle().unwrap().options, ["buffer-size=2048"]);
    assert!(clamped.warning().contains("buffer-size 4G is above the memory limit, 2048 is used"));
    let dropped = case("buffer-size=50%", "mountPodPatch: [{resources: {}}]");
    assert_eq!(dropped.settle().unwrap().options, Vec::<String>::new());
    assert!(dropped.warning().contains("share of the memory limit, and there is no limit"));
}

#[test]
fn memory_limits_are_exact() {
    let settings = case().attributes(&[("juicefs/mount-memory-limit", "5368709121")]).settings();
    let limit: Quantity = settings.resources.limits.unwrap()["memory"].0.parse().unwrap();
    assert_eq!(limit, "5368709121".parse().unwrap());
}
