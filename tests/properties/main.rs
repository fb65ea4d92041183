//! What holds for every pod, whatever is in it.
#![cfg(feature = "engine")]

#[cfg(test)]
mod look;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod settings;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use juicefs_sidecar::{
        admission::{self, Endpoint},
        inject,
        notation::Mode,
        outcome::Code,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::{
        look::{assert_consistent, assert_untouched, defaulted, is_label, list, name, without_nulls},
        pods::{Shown, UID, pods},
        settings::{Setting, decide, patched, settings, with_engine},
    };

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
