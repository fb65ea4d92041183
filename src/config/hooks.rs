//! Hooks and probes that do not do what they were written for.

use k8s_openapi::api::core::v1 as api;

use super::patch::PatchItem;

/// What `sh` of the client's image, which is dash, does not know.
const BASH: [(&str, &str); 3] = [
    (
        "[[",
        "[[ is bash's: under sh it is an error, and a loop that waits for it never ends; write [ … ] with a single =",
    ),
    ("<<<", "<<< is bash's, and under sh a syntax error; write printf … |"),
    ("function ", "function is bash's, and under sh a syntax error; write NAME() { … }"),
];

/// Notes about the commands of an item.
pub(super) fn check(item: &PatchItem, note: &mut impl FnMut(&str, &str)) {
    let probe = |probe: &'_ Option<api::Probe>| probe.as_ref().and_then(|probe| probe.exec.clone());
    let hooks = item.lifecycle.as_ref();
    let hook = |hook: Option<&api::LifecycleHandler>| hook.and_then(|hook| hook.exec.clone());
    let pre_stop = hook(hooks.and_then(|hooks| hooks.pre_stop.as_ref()));
    let commands = [
        ("livenessProbe", probe(&item.liveness_probe)),
        ("readinessProbe", probe(&item.readiness_probe)),
        ("startupProbe", probe(&item.startup_probe)),
        ("lifecycle.postStart", hook(hooks.and_then(|hooks| hooks.post_start.as_ref()))),
        ("lifecycle.preStop", pre_stop.clone()),
    ];
    for (field, action) in commands {
        let words = action.and_then(|action| action.command).unwrap_or_default();
        let script = script_of_sh(&words);
        for (_, what) in
            BASH.iter().filter(|(syntax, _)| script.is_some_and(|script| script.contains(syntax)))
        {
            note(field, what);
        }
    }
    let text = pre_stop.and_then(|action| action.command).unwrap_or_default().join(" ");
    if let Some(what) = unmounts_early(&text) {
        note("lifecycle.preStop", what);
    }
}

/// The script of `sh -c …`.
fn script_of_sh(words: &[String]) -> Option<&str> {
    match words {
        [shell, option, script, ..]
            if matches!(shell.as_str(), "sh" | "/bin/sh" | "dash") && option == "-c" =>
        {
            Some(script)
        }
        _ => None,
    }
}

/// Kubernetes runs every `preStop` of a pod at once, when its termination begins. One that sleeps first leaves the
/// application some time; a `sleep` in a loop may never be reached.
fn unmounts_early(script: &str) -> Option<&'static str> {
    let before = script.get(..script.find("umount")?)?;
    if sleeps_for_sure(before) {
        return None;
    }
    Some(if before.contains("sleep") {
        "may run umount when the pod's termination begins, under a still writing application: the sleep before it stands in \
         a loop or a condition that may never be met"
    } else {
        "runs umount when the pod's termination begins, under a still writing application"
    })
}

/// Whether a script sleeps whatever else is the case: outside of loops and conditions.
pub fn sleeps_for_sure(script: &str) -> bool {
    let mut depth = 0_usize;
    for word in script.split(|letter: char| letter.is_whitespace() || letter == ';') {
        match word {
            "while" | "until" | "for" | "if" | "case" => depth += 1,
            "done" | "fi" | "esac" => depth = depth.saturating_sub(1),
            "sleep" if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_sleep_counts_where_it_is_reached() {
        for (script, early) in [
            ("umount /jfs", true),
            ("sleep 5; umount /jfs", false),
            ("while nc -z 127.0.0.1 80; do sleep 1; done; umount /jfs", true),
            ("set +e\nif [ -f x ]; then\n sleep 3\nfi\numount -l /jfs", true),
            ("for i in 1 2; do true; done\nsleep 9\numount /jfs", false),
            ("sleep 5", false),
        ] {
            assert_eq!(unmounts_early(script).is_some(), early, "{script}");
        }
    }

    #[test]
    fn what_only_bash_knows_is_noticed_under_sh() {
        let notes = |shell: &str| {
            let script = "while true; do if [[ \"$res\" == 7 ]]; then exit 0; fi; sleep 1; done";
            let text = format!(
                "mountPodPatch: [{{lifecycle: {{preStop: {{exec: {{command: [{shell}, -c, '{script}']}}}}}}}}]"
            );
            Config::parse(&text).unwrap().1
        };
        assert!(notes("bash").is_empty());
        let notes = notes("sh");
        assert!(notes.len() == 1 && notes[0].contains("lifecycle.preStop: [[ is bash's"), "{notes:?}");
    }
}
