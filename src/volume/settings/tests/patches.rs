//! What the ConfigMap adds and decides.

use super::*;

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
