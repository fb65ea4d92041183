mod caches;

use std::sync::Arc;

use super::*;
use crate::{
    config::CacheSource,
    notation::Quantity,
    volume::{
        backing::Backing,
        objects::SecretReference,
        resolved::{ClaimIdentity, ClaimName, PodVolume},
    },
};

/// Everything [`Inputs`] borrows, with the usual values.
struct Case {
    resolved: Resolved,
    secret: UserSecret,
    config: Config,
    process: Process,
    pod: Pod<'static>,
    node_labels: Option<Map>,
    host_paths: bool,
    mode: Mode,
}

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().copied().collect()
}

fn case() -> Case {
    let resolved = Resolved {
        pod_volumes: PodVolume { index: 0, name: "data".into(), read_only: false }.into(),
        claim: ClaimIdentity {
            namespace: "ns".into(),
            name: ClaimName::Given { name: "claim".into(), uid: None },
            labels: Map::default(),
            annotations: Map::default(),
            class: "fast".into(),
        },
        volume: Backing {
            name: "pv-1".into(),
            handle: "handle-1".into(),
            attributes: Map::default(),
            mount_options: Arc::default(),
            only_reads: false,
            secret: SecretReference::default(),
            bound: true,
        },
        ephemeral_directory: None,
    };
    Case {
        resolved,
        secret: UserSecret { name: "myjfs".into(), ..UserSecret::default() },
        config: Config::default(),
        process: Process::default(),
        pod: Pod::default(),
        node_labels: None,
        host_paths: true,
        mode: Mode::Classic,
    }
}

impl Case {
    fn attributes(mut self, pairs: &[(&str, &str)]) -> Self {
        self.resolved.volume.attributes = map(pairs);
        self
    }

    fn annotations(mut self, pairs: &[(&str, &str)]) -> Self {
        self.resolved.claim.annotations = map(pairs);
        self
    }

    fn options(mut self, options: &[&str]) -> Self {
        self.resolved.volume.mount_options = options.iter().map(|option| (*option).into()).collect();
        self
    }

    fn config(mut self, text: &str) -> Self {
        self.config = Config::parse(text).unwrap().0;
        self
    }

    fn pod(mut self, json: &'static str) -> Self {
        self.pod = serde_json::from_str(json).unwrap();
        self
    }

    fn serverless(mut self) -> Self {
        self.host_paths = false;
        self
    }

    fn settle(&self) -> Result<Settings, Refusal> {
        settle(&Inputs {
            resolved: &self.resolved,
            secret: &self.secret,
            config: &self.config,
            process: &self.process,
            pod: &self.pod,
            node_labels: self.node_labels.as_ref(),
            mount_point: "/jfs/x",
            host_directories: self.host_paths,
            mode: self.mode,
            annotates_pod: !self.host_paths,
            explain: true,
        })
    }

    /// Settings there is nothing to say about.
    fn settings(&self) -> Settings {
        let settings = self.settle().unwrap();
        assert_eq!(settings.warnings, Vec::<String>::new());
        settings
    }

    fn refusal(&self) -> String {
        let refusal = self.settle().unwrap_err();
        assert_eq!(refusal.code, Code::SettingInvalid);
        refusal.to_string()
    }

    /// The only warning.
    fn warning(&self) -> String {
        let settings = self.settle().unwrap();
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        settings.warnings.into_iter().next().unwrap()
    }
}

/// `requests.cpu requests.memory limits.cpu limits.memory`, `-` for none.
fn resources(settings: &Settings) -> String {
    let get = |map: &Option<std::collections::BTreeMap<String, _>>, key| {
        let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            map.as_ref()?.get(key);
        quantity.map(|quantity| quantity.0.clone())
    };
    let (requests, limits) = (&settings.resources.requests, &settings.resources.limits);
    [get(requests, "cpu"), get(requests, "memory"), get(limits, "cpu"), get(limits, "memory")]
        .map(|text| text.unwrap_or_else(|| "-".into()))
        .join(" ")
}

fn cache_paths(settings: &Settings) -> Vec<&str> {
    settings.cache.iter().map(|directory| directory.path.as_str()).collect()
}

#[test]
fn defaults_apply_when_nobody_says_anything() {
    let settings = case().settings();
    assert_eq!(settings.image, "juicedata/mount:ce-nightly");
    assert_eq!(resources(&settings), "1 1Gi 2 5Gi");
    assert_eq!(settings.options, Vec::<String>::new());
    assert_eq!(settings.directory, Directory::default());
    assert_eq!(
        settings.cache,
        [CacheDirectory { path: "/var/jfsCache".into(), source: CacheSource::HostPath }]
    );
    assert_eq!((settings.read_only, settings.flush_seconds, settings.exit_order), (false, 30, None));
    assert!(settings.provenance.iter().any(|line| line.setting == "limits.memory" && line.value == "5Gi"));
    assert!(case().serverless().settings().cache.is_empty());
}

#[test]
fn images_follow_the_edition_and_the_precedence() {
    let mut case = case();
    let from = |case: &Case| {
        let settings = case.settle().unwrap();
        let line = settings.provenance.iter().find(|line| line.setting == "image").unwrap();
        assert_eq!(line.value, settings.image);
        (settings.image.clone(), line.source.clone())
    };
    case.secret.edition = Edition::Enterprise;
    assert_eq!(from(&case), ("juicedata/mount:ee-nightly".into(), Source::Default));
    case.process.enterprise_image = "process:1".into();
    assert_eq!(from(&case), ("process:1".into(), Source::Process));
    case = case.attributes(&[("juicefs/mount-image", "volume:1")]);
    assert_eq!(from(&case), ("volume:1".into(), Source::Volume("juicefs/mount-image".into())));
    case.resolved.volume.bound = false;
    assert_eq!(from(&case), ("volume:1".into(), Source::Class("juicefs/mount-image".into())));
    case = case.annotations(&[("juicefs/mount-image", "claim:1")]);
    assert_eq!(from(&case).0, "volume:1", "claims may not choose images");
    case = case.config("allowUnsafePVCAnnotations: true");
    assert_eq!(from(&case), ("claim:1".into(), Source::Claim("juicefs/mount-image".into())));
    case = case
        .config("mountPodPatch: [{ceMountImage: c}, {eeMountImage: '${VOLUME_NAME}:e'}, {eeMountImage: ''}]");
    assert_eq!(from(&case), ("myjfs:e".into(), Source::Config(1, "eeMountImage".into())));
}

#[test]
fn claims_set_only_what_tenants_may_set() {
    let case = case().annotations(&[
        ("juicefs/host-path", "/"),
        ("juicefs/mount-memory-limit", "6Gi"),
        ("juicefs/mount-cache-emptydir", ":1Gi"),
        ("juicefs.com/other", "x"),
        ("subPath", "../other"),
        ("mountOptions", "subdir=/other"),
    ]);
    let settings = case.settle().unwrap();
    assert_eq!(
        settings.warnings,
        ["persistentvolumeclaim \"ns/claim\": annotation \"juicefs/host-path\": claims may not set this \
          (allowUnsafePVCAnnotations), ignored"]
    );
    assert_eq!(settings.host_paths, Vec::<String>::new());
    assert_eq!(settings.directory, Directory::default());
    assert_eq!(resources(&settings), "1 1Gi 2 6Gi");
    assert_eq!(settings.options, ["cache-dir=/var/jfsCache-emptyDir"]);
    let settings = case.config("allowUnsafePVCAnnotations: true").settings();
    assert_eq!(settings.host_paths, ["/"]);
    assert_eq!(settings.directory, Directory::default(), "only keys that begin with juicefs count");
}

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
fn a_write_cache_is_warned_of_loudly_where_it_dies_with_the_pod() {
    let said = |case: Case| case.settle().unwrap().warnings.join("\n");
    assert!(said(case().options(&["writeback"])).contains("lost with the cache's disk"));
    let in_pod = case().options(&["writeback"]).attributes(&[("juicefs/mount-cache-emptydir", "Memory:")]);
    assert!(said(in_pod).contains("LOSES DATA"));
}

#[test]
fn slips_among_attributes_and_options_are_noticed() {
    let settings = case()
        .options(&["cache_size=5", "--debug"])
        .attributes(&[("mountoptions", "ro"), ("juicefs/mount-cpu-limits", "1"), ("note", "x")])
        .settle()
        .unwrap();
    let said = settings.warnings.join("\n");
    for part in [
        "did you mean mountOptions?",
        "did you mean juicefs/mount-cpu-limit?",
        "did you mean cache-size?",
        "write debug",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(settings.warnings.len(), 4, "{said}");
}

#[test]
fn options_of_the_configmap_come_first_and_replace_their_like() {
    let mut case = case()
        .options(&["cache-size = 100", " no-bgjob ", "", "token=a=b"])
        .attributes(&[("mountOptions", "debug,buffer-size=100, cache-size=5")])
        .config("mountPodPatch: [{mountOptions: [cache-size=204800, 'fsname=${VOLUME_ID}']}]");
    case.resolved.volume.only_reads = true;
    let settings = case.serverless().settings();
    assert_eq!(
        settings.options,
        ["cache-size=204800", "fsname=handle-1", "ro", "no-bgjob", "token=a=b", "debug", "buffer-size=100"]
    );
    assert_eq!((settings.read_only, settings.flush_seconds), (true, 0));
    let sources: Vec<_> = settings
        .provenance
        .iter()
        .filter(|line| line.setting == "option")
        .map(|line| line.source.to_string())
        .collect();
    assert_eq!(
        sources[1..4],
        [
            "configmap mountPodPatch[0].mountOptions",
            "persistentvolume spec.accessModes",
            "persistentvolume spec.mountOptions",
        ]
    );
}

#[test]
fn sub_directories_are_joined_and_confined() {
    let mut case =
        case().options(&["subdir=/first", "debug", "subdir=/team/"]).attributes(&[("subPath", "pvc-1")]);
    let settings = case.serverless_settings();
    assert_eq!(
        (settings.directory.path.as_str(), settings.options),
        ("/team/pvc-1", vec!["debug".to_owned()])
    );
    case = case.config("mountPodPatch: [{mountOptions: [subdir=/patched]}]");
    assert_eq!(case.serverless_settings().directory.path, "/patched/pvc-1");
    case.resolved.ephemeral_directory = Some("scratch".into());
    assert_eq!(case.serverless_settings().directory.ephemeral.as_deref(), Some("scratch"));
    case = case.attributes(&[("subPath", "../other")]);
    assert_eq!(
        case.refusal(),
        "persistentvolume \"pv-1\": spec.csi.volumeAttributes[\"subPath\"]: \"../other\" leads out of its directory; \
         name a directory below that of the volume's class"
    );
    let hidden =
        super::tests::case().options(&["debug, subdir=/team", "cache-size=1,ro"]).serverless_settings();
    assert_eq!(hidden.directory.path, "/team");
    assert!(hidden.read_only);
    assert_eq!(hidden.options, ["debug", "cache-size=1", "ro"]);
    case = case.attributes(&[("subPath", "a,subdir=/")]);
    assert!(case.refusal().contains("comma"));
    let mut case = super::tests::case().options(&["debug", "subdir=.."]);
    assert!(
        case.refusal()
            .starts_with("persistentvolume \"pv-1\": spec.mountOptions: subdir \"..\" leads out of")
    );
    case.resolved.volume.bound = false;
    assert!(case.refusal().starts_with("storageclass \"fast\": mountOptions: subdir"));
}

impl Case {
    fn serverless_settings(&mut self) -> Settings {
        self.host_paths = false;
        self.settings()
    }
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
fn host_paths_are_for_nodes() {
    let case = case().attributes(&[("juicefs/host-path", "/a, /b,,/a,/var/jfsCache")]);
    assert_eq!(case.settings().host_paths, ["/a", "/b"]);
    let case = case.serverless();
    assert_eq!(case.settle().unwrap().host_paths, Vec::<String>::new());
    assert!(case.warning().contains("no effect here"));
}

#[test]
fn attributes_nothing_comes_of_are_spoken_about() {
    for (key, value, expected) in [
        ("juicefs/mount-labels", "a: b", Some("no effect in a sidecar")),
        ("juicefs/mount-service-account", "x", Some("no effect in a sidecar")),
        ("juicefs/mount-delete-delay", "5m", Some("no effect in a sidecar")),
        ("juicefs/clean-cache", "true", Some("no effect in a sidecar")),
        ("juicefs/mount-annotations", "a: b", Some("VCI and CCI only")),
        ("juicefs/mount-imagee", "x", Some("is not a setting")),
        ("juicefs/controller-quota-set", "true", None),
        ("juicefs/mount-share-mode", "x", None),
        ("capacity", "1", None),
        ("pathPattern", "x", None),
        ("secretFinalizer", "true", None),
        ("csi.storage.k8s.io/node-publish-secret-name", "x", None),
        ("storage.kubernetes.io/csiProvisionerIdentity", "x", None),
    ] {
        let warnings = case().attributes(&[(key, value)]).settle().unwrap().warnings;
        match expected {
            Some(text) => assert!(warnings.len() == 1 && warnings[0].contains(text), "{key}: {warnings:?}"),
            None => assert_eq!(warnings, Vec::<String>::new(), "{key}"),
        }
    }
    for (key, value) in [
        ("juicefs/mount-labels", "[a]"),
        ("juicefs/mount-annotations", "a"),
        ("juicefs/mount-delete-delay", "5 minutes"),
    ] {
        assert!(case().attributes(&[(key, value)]).refusal().contains(key));
    }
}

#[test]
fn annotations_are_kept_for_profiles_that_use_them() {
    let case = case().attributes(&[("juicefs/mount-annotations", "{a: 1}")]).serverless();
    assert_eq!(case.settings().annotations, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    let case = case.config("mountPodPatch: [{annotations: {b: '${SUB_PATH}'}}]");
    assert_eq!(case.settings().annotations, BTreeMap::from([("b".to_owned(), String::new())]));
}

#[test]
fn the_pod_has_the_last_word_on_the_order_of_exits() {
    let mut case = case().config("mountPodPatch: [{exitOrder: 'sleep:1'}]");
    let order = |case: &Case| case.settings().exit_order.unwrap().to_string();
    assert_eq!(order(&case), "sleep:1");
    case = case.attributes(&[("juicefs/exit-order", "idle:2")]);
    assert_eq!(order(&case), "idle:2");
    case = case.annotations(&[("juicefs/exit-order", "port:80")]);
    assert_eq!(order(&case), "port:80");
    case = case.pod(r#"{"metadata": {"annotations": {"sidecar.juicefs.com/exit-order": "staging"}}}"#);
    assert_eq!(order(&case), "staging");
    case = case.pod(r#"{"metadata": {"annotations": {"sidecar.juicefs.com/exit-order": "never"}}}"#);
    assert_eq!(
        case.refusal(),
        "pod: annotation sidecar.juicefs.com/exit-order: \"never\": not an exit order; write sleep:SECONDS, \
         port:NUMBER, idle:SECONDS or staging"
    );
    let case = super::tests::case().attributes(&[("juicefs/exit-order", "sleep:x")]);
    assert!(case.refusal().contains("volumeAttributes[\"juicefs/exit-order\"]: \"sleep:x\" cannot be used"));
}

#[test]
fn the_configmap_sets_the_flush_budget() {
    let mut case = case().config("mountPodPatch: [{terminationGracePeriodSeconds: 60}]");
    assert_eq!(case.settings().flush_seconds, 60);
    case = case.options(&["read-only"]);
    assert_eq!(case.settings().flush_seconds, 0);
}

#[test]
fn patches_reach_the_settings_with_their_templates_filled_in() {
    let text = "
mountPodPatch:
- nodeSelector: {matchLabels: {disk: ssd}}
  imagePullPolicy: Always
  hostNetwork: true
  env: [{name: A, value: '${MOUNT_POINT}'}]
  lifecycle: {preStop: {exec: {command: [umount, '${MOUNT_POINT}']}}}
  startupProbe: {exec: {command: [stat, '${MOUNT_POINT}']}}
  volumes: [{name: c, secret: {secretName: '${VOLUME_NAME}'}}]
  volumeMounts: [{name: c, mountPath: /c}]
";
    let mut case = case().config(text);
    assert_eq!(case.settings().image_pull_policy, None, "no node, no node selector");
    case.node_labels = Some(map(&[("disk", "ssd")]));
    let settings = case.settings();
    assert_eq!((settings.image_pull_policy.as_deref(), settings.host_network), (Some("Always"), true));
    assert_eq!(settings.env[0].value.as_deref(), Some("/jfs/x"));
    let command = |action: Option<api::ExecAction>| action.unwrap().command.unwrap()[1].clone();
    assert_eq!(command(settings.lifecycle.unwrap().pre_stop.unwrap().exec), "/jfs/x");
    assert_eq!(command(settings.startup_probe.unwrap().exec), "/jfs/x");
    assert_eq!(settings.volumes[0].secret.as_ref().unwrap().secret_name.as_deref(), Some("myjfs"));
    assert_eq!(settings.volume_mounts[0].mount_path, "/c");
    let settings = case.serverless().settle().unwrap();
    assert!(settings.volumes.is_empty() && settings.volume_mounts.is_empty());
    assert!(settings.warnings[0].contains("mountPodPatch[0].volumes"), "{:?}", settings.warnings);
}

#[test]
fn provenance_is_only_collected_on_demand() {
    let case = case();
    let inputs = Inputs {
        resolved: &case.resolved,
        secret: &case.secret,
        config: &case.config,
        process: &case.process,
        pod: &case.pod,
        node_labels: None,
        mount_point: "/jfs/x",
        host_directories: true,
        mode: Mode::Classic,
        annotates_pod: false,
        explain: false,
    };
    assert_eq!(settle(&inputs).unwrap().provenance, []);
    assert!(!settle(&Inputs { explain: true, ..inputs }).unwrap().provenance.is_empty());
}

#[test]
fn nothing_that_a_shell_acts_on_gets_into_a_hook() {
    let hooks = [
        "lifecycle: {preStop: {exec: {command: [sh, -c, 'echo ${SUB_PATH}']}}}",
        "lifecycle: {postStart: {exec: {command: [sh, -c, 'echo ${SUB_PATH}']}}}",
        "startupProbe: {exec: {command: [sh, -c, 'stat ${SUB_PATH}']}}",
        "livenessProbe: {exec: {command: [sh, -c, 'stat ${SUB_PATH}']}}",
        "readinessProbe: {exec: {command: [sh, -c, 'stat ${SUB_PATH}']}}",
    ];
    for hook in hooks {
        let text = format!("mountPodPatch: [{{{hook}}}]");
        for (path, fine) in
            [("a/b-1", true), ("$(touch x)", false), ("a;y", false), ("a b", false), ("'a", false)]
        {
            let settled = case().config(&text).attributes(&[("subPath", path)]).settle();
            assert_eq!(settled.is_ok(), fine, "{hook} with {path:?}");
        }
    }
    // Without a command, or without the template, it is nobody's business.
    for hook in [
        "startupProbe: {httpGet: {port: 80, path: '/${SUB_PATH}'}}",
        "lifecycle: {preStop: {exec: {command: [sync]}}}",
    ] {
        let text = format!("mountPodPatch: [{{{hook}}}]");
        assert!(case().config(&text).attributes(&[("subPath", "a b")]).settle().is_ok(), "{hook}");
    }
}

#[test]
fn memory_limits_are_exact() {
    let settings = case().attributes(&[("juicefs/mount-memory-limit", "5368709121")]).settings();
    let limit: Quantity = settings.resources.limits.unwrap()["memory"].0.parse().unwrap();
    assert_eq!(limit, "5368709121".parse().unwrap());
}
