//! What holds for every pod, whatever is in it.
#![cfg(feature = "engine")]

#[cfg(test)]
mod look;
#[cfg(test)]
mod pods;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path, sync::LazyLock};

    use juicefs_sidecar::{
        admission::{self, Endpoint},
        config::{Config, Process},
        inject::{self, Decision, Engine, Family, Subject},
        notation::Mode,
        offline::{Manifests, documents},
        outcome::Code,
        pod::Pod,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::{
        look::{assert_consistent, assert_untouched, defaulted, is_label, list, name, without_nulls},
        pods::{Shown, UID, pods},
    };

    static MANIFESTS: LazyLock<Manifests> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            all.extend(documents::parse("cluster", &std::fs::read_to_string(path).unwrap()).unwrap());
        }
        Manifests::gather(&all, "default").unwrap().0
    });

    /// Which shape of cluster is asked.
    #[derive(Clone, Copy, Debug)]
    struct Setting {
        family: Family,
        mode: Mode,
        native: bool,
        /// Whether [`PATCHES`] are applied.
        patched: bool,
    }

    /// A ConfigMap with much of what the API server writes in another form than it was given.
    const PATCHES: &str = "
mountPodPatch:
- env: [{name: EMPTY, value: ''}, {name: JFS_FOREGROUND, value: '0'}, {name: UNSET}]
  volumes: [{name: certs, secret: {secretName: ca}}, {name: scratch, emptyDir: {sizeLimit: 1024Mi}}]
  volumeMounts: [{name: certs, mountPath: /certs, readOnly: false}, {name: scratch, mountPath: /scratch}]
  livenessProbe: {exec: {command: [stat, '${MOUNT_POINT}']}, initialDelaySeconds: 0}
  startupProbe: {httpGet: {port: 80}, periodSeconds: 2}
  lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 3']}}}
  resources: {limits: {cpu: 1000m, memory: 1024Mi}}
  cacheDirs: [{type: EmptyDir, sizeLimit: 1024Mi}]
";

    fn settings() -> impl Strategy<Value = Setting> {
        let mode = prop::sample::select(vec![Mode::Classic, Mode::Resilient]);
        (any::<bool>(), mode, any::<bool>(), any::<bool>()).prop_map(|(serverless, mode, native, patched)| {
            let family = if serverless { Family::Serverless } else { Family::Node };
            Setting { family, mode, native, patched }
        })
    }

    fn with_engine<T>(setting: Setting, ask: impl FnOnce(&Engine<'_>) -> T) -> T {
        let base = if setting.patched { Config::parse(PATCHES).unwrap().0 } else { Config::default() };
        let config = Config { mode: Some(setting.mode), enable_native_sidecar: Some(setting.native), ..base };
        let process = Process::default();
        ask(&Engine { catalog: &MANIFESTS.catalog, config: &config, process: &process, explain: false })
    }

    fn decide(setting: Setting, object: &Value) -> Decision {
        let text = object.to_string();
        let pod: Pod<'_> = serde_json::from_str(&text).unwrap();
        with_engine(setting, |engine| {
            engine.decide(&Subject {
                pod: &pod,
                object: &|| Ok(object.to_string().into()),
                namespace: "app",
                identity: Some(UID),
                family: setting.family,
            })
        })
    }

    fn patched(object: &Value, patch: &inject::Patch) -> Value {
        let mut changed = object.clone();
        patch.apply(&mut changed).unwrap();
        changed
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_injection_touches_nothing_else(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            let after = patched(&pod, &decision.patch);
            if decision.code == Code::Injected {
                assert_untouched(&pod, &after);
            } else {
                prop_assert_eq!(&after, &pod, "{} {}", decision.code, decision.message);
            }
        }

        #[test]
        fn what_excludes_one_another_is_never_together(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            if decision.code == Code::Injected {
                assert_consistent(&patched(&pod, &decision.patch));
            }
        }

        #[test]
        fn what_changes_its_mode_is_as_if_it_never_had_another(Shown(pod) in pods(), setting in settings()) {
            let other = match setting.mode { Mode::Classic => Mode::Resilient, Mode::Resilient => Mode::Classic };
            let decision = decide(setting, &pod);
            prop_assume!(decision.code == Code::Injected);
            let once = patched(&pod, &decision.patch);
            let before = decide(Setting { mode: other, ..setting }, &pod);
            let changed = patched(&patched(&pod, &before.patch), &decide(setting, &patched(&pod, &before.patch)).patch);
            prop_assert_eq!(without_nulls(&changed)["spec"].clone(), without_nulls(&once)["spec"].clone());
        }

        #[test]
        fn names_are_unique_and_valid(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            let after = patched(&pod, &decision.patch);
            let mut containers = BTreeSet::new();
            for container in list(&after, "initContainers").chain(list(&after, "containers")) {
                prop_assert!(containers.insert(name(container)), "container {} twice", name(container));
                prop_assert!(is_label(name(container)), "container {}", name(container));
            }
            let mut volumes = BTreeSet::new();
            for volume in list(&after, "volumes") {
                prop_assert!(volumes.insert(name(volume)), "volume {} twice", name(volume));
                prop_assert!(is_label(name(volume)), "volume {}", name(volume));
            }
            for container in list(&after, "initContainers").chain(list(&after, "containers")) {
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    prop_assert!(volumes.contains(name(mount)), "mount of {}, which is not a volume", name(mount));
                }
            }
        }

        #[test]
        fn what_is_injected_is_left_alone(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            prop_assume!(decision.code == Code::Injected);
            let after = patched(&pod, &decision.patch);
            for seen in [after.clone(), defaulted(&after)] {
                let again = decide(setting, &seen);
                prop_assert_eq!(again.code, Code::AlreadyInjected, "{} {}", again.message, String::from_utf8_lossy(&again.patch.to_json()));
                prop_assert!(again.patch.is_empty(), "{}", String::from_utf8_lossy(&again.patch.to_json()));
            }
        }

        #[test]
        fn what_is_injected_comes_out_again(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            let after = patched(&pod, &decision.patch);
            let undo = inject::uninject(&after).unwrap();
            match undo {
                Some(undo) => prop_assert_eq!(without_nulls(&patched(&after, &undo)), without_nulls(&pod)),
                None => prop_assert!(decision.patch.is_empty()),
            }
        }

        #[test]
        fn the_webhook_answers_what_the_engine_decides(Shown(pod) in pods(), setting in settings()) {
            let decision = decide(setting, &pod);
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": UID, "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "app", "operation": "CREATE", "object": pod}});
            let body = review.to_string();
            let answer = with_engine(setting, |engine| {
                admission::answer(body.as_bytes(), Endpoint::Inject(setting.family), engine)
            });
            prop_assert_eq!(answer.summary.code, decision.code);
            let answer: Value = serde_json::from_slice(&answer.body).unwrap();
            let patch = answer["response"]["patch"].as_str().map(|patch| {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(patch).unwrap()
            });
            let expected = (!decision.patch.is_empty()).then(|| decision.patch.to_json());
            prop_assert_eq!(patch, expected);
        }
    }
}
