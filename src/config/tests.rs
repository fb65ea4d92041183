use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::*;
use crate::{map::Map, notation::ExitOrder};

fn config(text: &str) -> Config {
    let (config, warnings) = Config::parse(text).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    config
}

fn warnings(text: &str) -> Vec<String> {
    Config::parse(text).unwrap().1
}

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

fn labels(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().copied().collect()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const TEMPLATES: Templates<'_> =
    Templates { mount_point: "/jfs/x", volume_id: "pvc-1", volume_name: "myjfs", sub_path: "sub" };

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "# nothing yet\n", "{}", "mountPodPatch:\n", "mountPodPatch: []\n"] {
        let config = config(text);
        assert!(
            config.patches.is_empty() && config.enable_native_sidecar.is_none() && config.enable_set_quota
        );
    }
}

#[test]
fn field_names_match_in_any_case_at_every_level() {
    let config = config(
        r"
EnableNativeSidecar: yes
ENABLESETQUOTA: off
MountPodPatch:
- PVCSelector: {MatchLabels: {App: x}, matchname: claim}
  CEMountImage: ce
  EnV: [{Name: A, ValueFrom: {SecretKeyRef: {Name: s, Key: k, OPTIONAL: true}}}]
  volumes:
  - {Name: certificates, secret: {SecretName: s, DefaultMode: 0644}}
  VolumeMounts: [{name: certificates, MountPath: /etc/c}]
  livenessprobe: {Exec: {Command: [stat, /]}, FailureThreshold: 3}
  CacheDirs: [{Type: HostPath, Path: /data}]
  resources: {Limits: {example.com/GPU: 1}}
",
    );
    assert_eq!((config.enable_native_sidecar, config.enable_set_quota), (Some(true), false));
    let item = &config.patches[0];
    let selector = item.pvc_selector.as_ref().unwrap();
    assert_eq!(selector.match_labels, Some(texts(&[("App", "x")])), "map keys are kept as they are");
    assert_eq!(selector.match_name.as_deref(), Some("claim"));
    let reference =
        item.env.as_ref().unwrap()[0].value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((reference.name.as_str(), reference.key.as_str(), reference.optional), ("s", "k", Some(true)));
    let secret = item.volumes.as_ref().unwrap()[0].secret.as_ref().unwrap();
    assert_eq!(secret.default_mode, Some(420), "0644 is octal");
    assert_eq!(item.volume_mounts.as_ref().unwrap()[0].mount_path, "/etc/c");
    assert_eq!(item.liveness_probe.as_ref().unwrap().failure_threshold, Some(3));
    assert_eq!(item.cache_dirs.as_ref().unwrap()[0].path, "/data");
    assert_eq!(item.resources.as_ref().unwrap().limits.as_ref().unwrap()["example.com/GPU"].0, "1");
}

#[test]
fn numbers_and_booleans_become_text_where_text_is_wanted() {
    let config = config(
        "mountPodPatch: [{env: [{name: A, value: 1}, {name: B, value: yes}, {name: C, value: 1.50}]}]",
    );
    let values: Vec<_> =
        config.patches[0].env.iter().flatten().filter_map(|variable| variable.value.as_deref()).collect();
    assert_eq!(values, ["1", "true", "1.5"]);
}

#[test]
fn unknown_fields_are_reported_with_line_and_path() {
    let text = "enableQuota: true\nmountPodPatch:\n- resource: {}\n  lifecycle:\n    preStop:\n      exec: {command: [x], cwd: /}\n";
    assert_eq!(
        warnings(text),
        [
            "config.yaml: line 1: enableQuota: unknown field, ignored; did you mean enableSetQuota?",
            "config.yaml: line 3: mountPodPatch[0].resource: unknown field, ignored; did you mean resources?",
            "config.yaml: line 6: mountPodPatch[0].lifecycle.preStop.exec.cwd: unknown field, ignored",
        ]
    );
    let slip = "mountPodPatch:\n- lifecycle:\n    preStop:\n      exec: {cmd: [x]}\n";
    assert_eq!(
        Config::parse(slip).unwrap_err().to_string(),
        "config.yaml line 3: mountPodPatch[0].lifecycle.preStop.exec.command: is missing; give the words of a command (line \
         4: mountPodPatch[0].lifecycle.preStop.exec.cmd: unknown field, ignored; did you mean command?)"
    );
}

#[test]
fn what_the_go_driver_skips_is_skipped_with_a_warning() {
    let text = "mountPodPatch:\n- ceMountImage: a\n  cacheDirs: [{type: Foo}, {type: Hostpath}, {type: EmptyDir}]\n- eeMountImage: b\n  \
                pvcSelector: {matchExpressions: [{key: a, operator: Foo}]}\n---\nmountPodPatch: []\n";
    let (config, warnings) = Config::parse(text).unwrap();
    assert_eq!((config.patches.len(), config.patches[0].cache_dirs.as_ref().unwrap().len()), (2, 1));
    assert_eq!(
        warnings,
        [
            "config.yaml: line 6: a second document begins, ignored",
            "config.yaml: line 3: mountPodPatch[0].cacheDirs[0]: type \"Foo\" is not one of HostPath, PVC, EmptyDir, Ephemeral, ignored",
            "config.yaml: line 3: mountPodPatch[0].cacheDirs[1]: type \"Hostpath\" is not one of HostPath, PVC, EmptyDir, \
             Ephemeral, ignored; did you mean HostPath?",
            "config.yaml: mountPodPatch[1].pvcSelector.matchExpressions: operator \"Foo\" does not exist, so the item matches \
             nothing; use In, NotIn, Exists or DoesNotExist",
        ]
    );
    let target = Target { claim: None, class: "", labels: &Map::default(), node: None };
    assert!(config.merge(&target).enterprise_image.is_none());
    for text in ["---\n# one\nmountPodPatch: []\n---\n# nothing\n", "mountPodPatch: []\n---\n"] {
        assert!(Config::parse(text).unwrap().1.is_empty(), "{text}");
    }
}

#[test]
fn values_of_the_chart_are_understood() {
    let text = "image: x\nglobalConfig:\n  enabled: true\n  manageByHelm: true\n  mountPodPatch:\n  - ceMountImage: a\n    \
                priorityClassName: high\n";
    let (config, warnings) = Config::parse(text).unwrap();
    assert_eq!(config.patches[0].ce_mount_image.as_deref(), Some("a"));
    assert_eq!(
        warnings,
        [
            "config.yaml: globalConfig: these are values of the driver's chart; what is below this key is read",
            "config.yaml: mountPodPatch[0].priorityClassName: has no effect in a sidecar: the client has the priority of the \
             application's pod",
        ]
    );
}

#[test]
fn fields_given_twice_count_once_and_are_reported() {
    let text = "mountPodPatch:\n- ceMountImage: a\n  CeMountImage: b\n  eeMountImage: c\n  eeMountImage: d\n";
    let (config, warnings) = Config::parse(text).unwrap();
    assert_eq!(config.patches[0].ce_mount_image.as_deref(), Some("b"));
    assert_eq!(config.patches[0].ee_mount_image.as_deref(), Some("d"));
    assert_eq!(
        warnings,
        [
            "config.yaml: line 3: mountPodPatch[0].CeMountImage: given twice, the last one counts",
            "config.yaml: line 5: mountPodPatch[0].eeMountImage: given twice, the last one counts",
        ]
    );
}

#[test]
fn settings_without_effect_in_a_sidecar_are_reported() {
    let text = "enableNodeSelector: true\nmountPodPatch: [{labels: {a: b}, hostPID: true, dnsPolicy: None}]";
    let warnings = warnings(text);
    assert_eq!(warnings.len(), 4);
    for (warning, field) in
        warnings.iter().zip(["enableNodeSelector", "[0].labels", "[0].hostPID", "[0].dnsPolicy"])
    {
        assert!(warning.contains(field) && warning.contains("no effect"), "{warning}");
    }
}

#[test]
fn values_that_cannot_be_used_fail_the_file_with_line_and_path() {
    for (text, expected) in [
        (
            "mountPodPatch:\n- resources:\n    limits:\n      memory: 5 GB\n",
            "config.yaml line 4: mountPodPatch[0].resources.limits.memory: \"5 GB\" is not a quantity such as 500m, 2 \
             or 5Gi; correct the value",
        ),
        (
            "mountPodPatch: {}",
            "config.yaml line 1: mountPodPatch: invalid type: map, expected a sequence; correct the value",
        ),
        (
            "enableSetQuota: 1",
            "config.yaml line 1: enableSetQuota: invalid type: integer `1`, expected a boolean",
        ),
        (
            "mountPodPatch: [{terminationGracePeriodSeconds: -1}]",
            "mountPodPatch[0].terminationGracePeriodSeconds: ",
        ),
        ("mountPodPatch: [{hostNetwork: maybe}]", "mountPodPatch[0].hostNetwork: "),
        (
            "mountPodPatch: [{exitOrder: sleep}]",
            "mountPodPatch[0].exitOrder: \"sleep\": the number of seconds is",
        ),
        ("mountPodPatch: [{env: [{name: A=B}]}]", "mountPodPatch[0].env[0].name: \"A=B\" cannot be the name"),
        (
            "mountPodPatch: [{imagePullPolicy: always}]",
            "mountPodPatch[0].imagePullPolicy: \"always\" is not a pull policy",
        ),
        (
            "mountPodPatch: [{nodeSelector: {matchExpressions: [{key: a, operator: In}]}}]",
            "mountPodPatch[0].nodeSelector.matchExpressions[0]: operator In has no values",
        ),
        ("mountPodPatch: [{cacheDirs: [{type: PVC}]}]", "cacheDirs[0]: type PVC needs the field name"),
        (
            "mountPodPatch: [{cacheDirs: [{type: Ephemeral, storage: 0}]}]",
            "storage \"0\" is not greater than zero",
        ),
        ("mountPodPatch: [{cacheDirs: [{type: HostPath, path: a}]}]", "path \"a\" is not an absolute path"),
        ("pvcAnnotationLimits: {cpu: many}", "pvcAnnotationLimits.cpu: \"many\" is not a quantity"),
        (
            "mountPodPatch: [{resources: {limits: {cpu: -1}}}]",
            "mountPodPatch[0].resources.limits.cpu: \"-1\" is less than zero",
        ),
        ("a: [", "config.yaml line 1: not valid YAML: "),
        ("- a", "config.yaml line 1: expected a map of fields"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn documented_examples_of_the_go_driver_are_read() {
    // A mount and a volume that do not belong together are in its documentation; it drops the mount silently.
    let warnings = warnings(
        "mountPodPatch:\n- volumeMounts: [{name: config-1, mountPath: /root/.config/gcloud}]\n  volumes: [{name: \
         gc-secret, secret: {secretName: gc-secret, defaultMode: 420}}]\n",
    );
    assert_eq!(
        warnings,
        [
            "config.yaml: mountPodPatch[0].volumeMounts: \"config-1\" is not a volume of the same item, ignored",
            "config.yaml: mountPodPatch[0].volumes: \"gc-secret\" is neither mounted nor used as a device",
        ]
    );
}

#[test]
fn hooks_that_unmount_under_the_application_are_reported() {
    let hook = |script: &str| {
        warnings(&format!(
            "mountPodPatch: [{{lifecycle: {{preStop: {{exec: {{command: [sh, -c, '{script}']}}}}}}}}]"
        ))
    };
    let warning = hook("umount -l ${MOUNT_POINT}; rmdir ${MOUNT_POINT}; exit 0");
    assert!(warning.len() == 1 && warning[0].contains("[0].lifecycle.preStop: runs umount"), "{warning:?}");
    assert_eq!(hook("sleep 20; umount -l ${MOUNT_POINT}"), Vec::<String>::new());
}

#[test]
fn percentages_that_cannot_be_used_are_left_out_and_reported() {
    let text = "mountPodPatch: [{resourcePercentages: {requests: {cpu: 50, memory: 10%}, limits: {disk: 1%}, \
                minLimits: {cpu: 1}}}]";
    let (config, warnings) = Config::parse(text).unwrap();
    let percentages = config.patches[0].resource_percentages.as_ref().unwrap();
    assert_eq!((percentages.requests.cpu, percentages.limits), (None, Shares::default()));
    assert_eq!(percentages.requests.memory, Some("10%".parse().unwrap()));
    assert_eq!(
        percentages.min_limits,
        Floors { cpu: Quantity::from_milli(1000), memory: Quantity::from_mebi(300) }
    );
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("requests.cpu: \"50\" is not a percentage"), "{warnings:?}");
}

#[test]
fn the_configmap_needs_the_right_key() {
    assert!(Config::from_data(&BTreeMap::new()).unwrap().0.patches.is_empty());
    let data = texts(&[("config.yml", "{}")]);
    let error = Config::from_data(&data).unwrap_err().to_string();
    assert!(error.contains("\"config.yml\"") && error.ends_with("under the key config.yaml"), "{error}");
    let data = texts(&[("config.yaml", "enableSetQuota: false"), ("other", "")]);
    assert!(!Config::from_data(&data).unwrap().0.enable_set_quota);
}

#[test]
fn the_revision_follows_the_contents() {
    assert_eq!(config("").revision, "cbf29ce484222325", "FNV-1a of nothing");
    assert_ne!(config("enableSetQuota: true").revision, config("enableSetQuota: false").revision);
    assert_eq!(Config::default().revision, "");
}

#[test]
fn selectors_follow_the_go_driver() {
    let text = "mountPodPatch:\n- ceMountImage: all\n- pvcSelector: {matchName: data}\n  eeMountImage: x\n";
    let claim_labels = labels(&[("app", "a")]);
    let node = labels(&[("disk", "ssd")]);
    let target = Target { claim: Some("data"), class: "fast", labels: &claim_labels, node: Some(&node) };
    assert!(config(text).merge(&target).enterprise_image.is_some());
    let selects = |selectors: &str, target: &Target<'_>| {
        config(&format!("mountPodPatch: [{{ceMountImage: x, {selectors}}}]"))
            .merge(target)
            .community_image
            .is_some()
    };
    for (selectors, selected) in [
        ("pvcSelector: {}", true),
        ("pvcSelector: {matchName: ''}", true),
        ("pvcSelector: {matchName: other}", false),
        ("pvcSelector: {matchLabels: {app: a}}", true),
        ("pvcSelector: {matchLabels: {app: b}}", false),
        ("pvcSelector: {matchName: data, matchLabels: {app: b}}", false),
        ("pvcSelector: {matchStorageClassName: fast, matchLabels: {app: b}}", true),
        ("pvcSelector: {matchStorageClassName: fast, matchName: other}", false),
        ("pvcSelector: {matchStorageClassName: slow}", false),
        ("pvcSelector: {matchExpressions: [{key: app, operator: In, values: [b, a]}]}", true),
        ("pvcSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}", false),
        ("pvcSelector: {matchExpressions: [{key: none, operator: NotIn, values: [a]}]}", true),
        ("pvcSelector: {matchExpressions: [{key: app, operator: Exists}]}", true),
        ("pvcSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}", false),
        ("nodeSelector: {matchLabels: {disk: ssd}}", true),
        ("nodeSelector: {matchLabels: {disk: hdd}}", false),
        ("nodeSelector: {matchLabels: {disk: ssd}}, pvcSelector: {matchName: other}", false),
    ] {
        assert_eq!(selects(selectors, &target), selected, "{selectors}");
    }
    let nowhere = Target { node: None, ..target };
    assert!(!selects("nodeSelector: {}", &nowhere), "without a node no node selector matches");
    assert!(selects("pvcSelector: {}", &nowhere));
}

#[test]
fn later_items_replace_fields_as_a_whole_and_volumes_add_up() {
    let (config, parse_warnings) = Config::parse(
        r"
mountPodPatch:
- ceMountImage: first
  resources: {limits: {cpu: 1}, requests: {cpu: 1}}
  env: [{name: A, value: a}]
  mountOptions: [writeback]
  startupProbe: {exec: {command: [stat, /]}, periodSeconds: 1}
  volumes: [{name: one, emptyDir: {}}, {name: updatedb, emptyDir: {}}]
  volumeMounts: [{name: one, mountPath: /one}, {name: updatedb, mountPath: /u}]
- ceMountImage: ''
  resources: {requests: {memory: 1Gi}}
  env: []
  cacheDirs: [{type: EmptyDir}]
  exitOrder: sleep:5
  volumes: [{name: one, emptyDir: {medium: Memory}}, {name: two, emptyDir: {}}]
  volumeMounts: [{name: one, mountPath: /again}, {name: two, mountPath: /two}]
",
    )
    .unwrap();
    assert_eq!(parse_warnings.len(), 2, "{parse_warnings:?}");
    let merged = config.merge(&Target { claim: None, class: "", labels: &Map::default(), node: None });
    assert_eq!(merged.community_image.unwrap().value, "first");
    let resources = merged.resources.unwrap();
    assert_eq!((resources.item, resources.value.limits.is_none()), (1, true));
    assert_eq!(merged.env.unwrap().value.len(), 0);
    assert_eq!(merged.mount_options.unwrap().item, 0);
    assert_eq!(merged.startup_probe.unwrap().value.period_seconds, Some(1), "the Go driver forgets this one");
    assert_eq!(*merged.exit_order.unwrap().value, ExitOrder::Sleep(5));
    assert_eq!(
        merged.cache_dirs.unwrap().value[0].source,
        CacheSource::EmptyDir(EmptyDirVolumeSource::default())
    );
    let volumes: Vec<_> =
        merged.volumes.iter().map(|volume| (volume.item, volume.value.name.as_str())).collect();
    assert_eq!(volumes, [(0, "one"), (1, "two")]);
    let mounts: Vec<_> = merged.volume_mounts.iter().map(|mount| mount.value.mount_path.as_str()).collect();
    assert_eq!(mounts, ["/one", "/two"]);
    assert_eq!(merged.warnings.len(), 1, "the second volume called one: {:?}", merged.warnings);
}

#[test]
fn templates_are_filled_in_wherever_a_patch_has_them() {
    let (config, warnings) = Config::parse(
        "mountPodPatch:\n- lifecycle: {preStop: {exec: {command: [stop, '${MOUNT_POINT}']}}}\n  readinessProbe: \
         {exec: {command: [stat, '${MOUNT_POINT}/${SUB_PATH}']}, periodSeconds: 5}\n  env: [{name: V, value: plain}]\n",
    )
    .unwrap();
    assert!(
        warnings.len() == 1
            && warnings[0].contains("line 2: mountPodPatch[0]: ${MOUNT_POINT}/${SUB_PATH} is")
    );
    let merged = config.merge(&Target { claim: None, class: "", labels: &Map::default(), node: None });
    let lifecycle = merged.lifecycle.unwrap().filled(&TEMPLATES);
    assert_eq!(lifecycle.pre_stop.unwrap().exec.unwrap().command.unwrap()[1], "/jfs/x");
    let probe = merged.readiness_probe.unwrap().filled(&TEMPLATES);
    assert_eq!(probe.exec.unwrap().command.unwrap()[1], "/jfs/x/sub");
    assert_eq!(probe.period_seconds, Some(5));
    assert_eq!(merged.env.unwrap().filled(&TEMPLATES)[0].value.as_deref(), Some("plain"));
}

#[test]
fn texts_of_any_depth_are_answered() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "a: &a [*a, *a]".into()] {
        assert!(Config::parse(&text).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[-a-zA-Z0-9:{}\\[\\],'\"&*!|> \n$#%@]{0,200}") {
        let _ = Config::parse(&text);
    }

    #[test]
    fn no_value_panics(field in "mountPodPatch|env|cacheDirs|resources|pvcSelector|lifecycle|volumes", value in "[-a-z0-9:{}\\[\\], ]{0,60}") {
        let _ = Config::parse(&format!("mountPodPatch:\n- {field}: {value}\n"));
    }
}
