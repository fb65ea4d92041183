//! What starts after the mount is there, and what ends before it goes.
//!
//! Everything here runs in the client's image, so it is written for a POSIX `sh` with `stat` and `sleep`. What comes
//! from outside is quoted, although the planner takes nothing that would need it.

use k8s_openapi::api::core::v1 as api;

use crate::{
    client::word::Nul,
    inject::{Volumes, shell::quote},
    notation::ExitOrder,
    pod::{Container, Pod},
};

/// How long a client may take until its mount answers before it is started again, in seconds.
const START_LIMIT: u32 = 120;

/// Proxies of service meshes, as native sidecars: what a client says on the network goes through them.
const MESHES: [&str; 4] = ["istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane"];

/// Where native clients go among the init containers: at the front, or behind the proxy of a mesh and the native
/// sidecars named in `after`, but always before whoever mounts one of their volumes.
pub(crate) fn first(pod: &Pod<'_>, volumes: &Volumes<'_>, after: &[String]) -> usize {
    let containers = pod.spec.init_containers.as_deref().unwrap_or_default();
    let needed = |container: &Container<'_>| {
        container.restart_policy.as_deref() == Some("Always")
            && MESHES.into_iter().chain(after.iter().map(String::as_str)).any(|name| *name == *container.name)
    };
    let consumes = |container: &Container<'_>| {
        container.volume_mounts.iter().flatten().any(|mount| volumes.get(&mount.name).is_some())
    };
    let behind = containers.iter().rposition(needed).map_or(0, |index| index + 1);
    behind.min(containers.iter().position(consumes).unwrap_or(behind))
}

/// A probe that succeeds once the mount answers: the root of a JuiceFS file system is inode 1.
pub(crate) fn startup_probe(mount_point: &str) -> Result<api::Probe, Nul> {
    let mount_point = quote(mount_point)?;
    Ok(api::Probe {
        exec: Some(run_by_shell(&format!("[ \"$(stat -c %i {mount_point})\" = 1 ]"))),
        period_seconds: Some(1),
        // `stat` hangs while nobody serves the mount; the kubelet ends it.
        timeout_seconds: Some(3),
        failure_threshold: Some(START_LIMIT.cast_signed()),
        ..api::Probe::default()
    })
}

/// Holds back the containers that follow until the mount answers, where there are no native sidecars.
pub(crate) fn post_start(mount_point: &str) -> Result<api::LifecycleHandler, Nul> {
    let (mount_point, tries) = (quote(mount_point)?, START_LIMIT * 10);
    Ok(handler(&format!(
        "tries=0\n\
         until [ \"$(stat -c %i {mount_point} 2>/dev/null)\" = 1 ]; do\n\
         tries=$((tries + 1))\n\
         if [ $tries -ge {tries} ]; then echo 'JuiceFS is not mounted after {START_LIMIT} s' >&2; exit 1; fi\n\
         sleep 0.1\n\
         done"
    )))
}

/// Keeps the client alive until the application is done, for at most `limit` seconds.
pub(crate) fn pre_stop(
    order: ExitOrder,
    mount_point: &str,
    limit: i64,
) -> Result<api::LifecycleHandler, Nul> {
    let statistics = quote(&format!("{mount_point}/.stats"))?;
    let script = match order {
        ExitOrder::Sleep(seconds) => format!("sleep {seconds}"),
        // Containers of a pod share their network: a port in state 0A has a listener, ours or not.
        ExitOrder::Port(port) => wait(
            limit,
            &format!(
                "grep -q ':{port:04X} [0-9A-F]*:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null || exit 0"
            ),
        ),
        // The reader of the statistics is itself a handle.
        ExitOrder::Idle(seconds) => format!(
            "idle=0\n{}",
            wait(
                limit,
                &format!(
                    "{}\nif [ \"${{value:-0}}\" -le 1 ]; then idle=$((idle + 1)); else idle=0; fi\n\
                     if [ $idle -gt {seconds} ]; then exit 0; fi",
                    read_statistic("juicefs_fuse_open_handlers", &statistics)
                )
            )
        ),
        ExitOrder::Staging => wait(
            limit,
            &format!(
                "{}\nif [ \"${{value:-0}}\" = 0 ]; then exit 0; fi",
                read_statistic("juicefs_staging_blocks", &statistics)
            ),
        ),
    };
    Ok(handler(&script))
}

/// Seconds of `preStop` an order needs at most, given the application's own grace period.
pub(crate) fn longest(order: ExitOrder, grace: i64) -> i64 {
    match order {
        ExitOrder::Sleep(seconds) => i64::from(seconds),
        ExitOrder::Idle(seconds) => grace.max(0).saturating_add(i64::from(seconds)),
        ExitOrder::Port(_) | ExitOrder::Staging => grace.max(0),
    }
}

/// Runs `check` once a second until it exits or `limit` seconds are over.
fn wait(limit: i64, check: &str) -> String {
    format!("left={limit}\nwhile [ $left -gt 0 ]; do\n{check}\nleft=$((left - 1))\nsleep 1\ndone")
}

/// Reads one line of the client's statistics, a file whose name is quoted, into `value`.
fn read_statistic(name: &str, statistics: &str) -> String {
    format!(
        "value=\nwhile read -r key number; do\n\
         if [ \"$key\" = {name} ]; then value=${{number%%.*}}; fi\n\
         done < {statistics}"
    )
}

fn handler(script: &str) -> api::LifecycleHandler {
    api::LifecycleHandler { exec: Some(run_by_shell(script)), ..api::LifecycleHandler::default() }
}

fn run_by_shell(script: &str) -> api::ExecAction {
    api::ExecAction { command: Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]) }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "scripts are tried with a real shell"
)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::TcpListener,
        os::unix::fs::PermissionsExt as _,
        path::{Path, PathBuf},
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::*;

    /// A directory that looks like a mount with these statistics, gone with the value.
    struct Mount(PathBuf);

    impl Mount {
        fn new(name: &str, statistics: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("juicefs-sidecar-order-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(".stats"), statistics).unwrap();
            Self(path)
        }

        /// Runs a `preStop` with both shells and says how long the slower one took.
        fn stop(&self, order: ExitOrder, limit: i64) -> Duration {
            let handler = pre_stop(order, self.0.to_str().unwrap(), limit).unwrap();
            let action = handler.exec.unwrap();
            // Both at once: they wait for whole seconds.
            thread::scope(|scope| {
                let runs = ["dash", "bash"].map(|shell| {
                    let action = action.clone();
                    scope.spawn(move || run(shell, action).1)
                });
                runs.into_iter().map(|run| run.join().unwrap()).max().unwrap()
            })
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Whether the script succeeds in a shell, and how long it takes.
    fn run(shell: &str, action: api::ExecAction) -> (bool, Duration) {
        let command = action.command.unwrap();
        let started = Instant::now();
        let output = Command::new(shell).args(&command[1..]).output().expect(shell);
        assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        (output.status.success(), started.elapsed())
    }

    #[test]
    fn the_probe_knows_a_mount_by_its_first_inode() {
        let directory = Mount::new("probe", "");
        for shell in ["dash", "bash"] {
            // The root of a proc file system is inode 1 too.
            assert!(run(shell, startup_probe("/proc").unwrap().exec.unwrap()).0);
            assert!(!run(shell, startup_probe(directory.0.to_str().unwrap()).unwrap().exec.unwrap()).0);
            assert!(run(shell, post_start("/proc").unwrap().exec.unwrap()).0);
        }
    }

    #[test]
    fn an_idle_client_ends_soon() {
        let idle = Mount::new("idle", "juicefs_uptime 3\njuicefs_fuse_open_handlers 1\n");
        let took = idle.stop(ExitOrder::Idle(1), 60);
        assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&took), "{took:?}");
    }

    #[test]
    fn a_busy_client_ends_at_its_limit() {
        let busy = Mount::new("busy", "juicefs_fuse_open_handlers 2\n");
        let took = busy.stop(ExitOrder::Idle(1), 3);
        assert!(took >= Duration::from_secs(3), "{took:?}");
    }

    #[test]
    fn without_staged_blocks_the_client_ends_at_once() {
        let empty = Mount::new("empty", "juicefs_staging_block_bytes 9\njuicefs_staging_blocks 0\n");
        assert!(empty.stop(ExitOrder::Staging, 60) < Duration::from_secs(20));
        let none = Mount::new("none", "juicefs_uptime 3\n");
        assert!(none.stop(ExitOrder::Staging, 60) < Duration::from_secs(20));
    }

    #[test]
    fn staged_blocks_are_waited_for() {
        let full = Mount::new("full", "juicefs_staging_blocks 4\n");
        assert!(full.stop(ExitOrder::Staging, 2) >= Duration::from_secs(2));
    }

    #[test]
    fn a_port_is_waited_for_until_nobody_listens() {
        let mount = Mount::new("port", "");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(mount.stop(ExitOrder::Port(port), 2) >= Duration::from_secs(2));
        drop(listener);
        assert!(mount.stop(ExitOrder::Port(port), 60) < Duration::from_secs(20));
    }
    /// Every hook and probe there is, for one mount point.
    fn scripts(mount_point: &str) -> Vec<api::ExecAction> {
        let stop = |order| pre_stop(order, mount_point, 1).unwrap();
        let handlers =
            [ExitOrder::Sleep(0), ExitOrder::Port(1), ExitOrder::Idle(0), ExitOrder::Staging].map(stop);
        let handlers = handlers.into_iter().chain([post_start(mount_point).unwrap()]);
        let probe = startup_probe(mount_point).unwrap().exec;
        handlers.map(|handler| handler.exec).chain([probe]).flatten().collect()
    }

    /// Runs every script with tools of our own before all others, and gives the arguments each was called with.
    fn arguments_of(directory: &Path, mount_point: &str) -> BTreeSet<Vec<String>> {
        let record = directory.join("record");
        let tools = directory.join("tools");
        std::fs::create_dir_all(&tools).unwrap();
        // It answers as a mount does, so that nothing waits; whatever else is called leaves a file behind.
        let stat = "#!/bin/sh\nprintf '%s\\0' \"$#\" \"$@\" >>\"$RECORD\"\necho 1\n";
        for (tool, text) in
            [("stat", stat), ("touch", "#!/bin/sh\n: >\"$RECORD.touched\"\n"), ("sleep", "#!/bin/sh\n")]
        {
            let path = tools.join(tool);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(&record, "").unwrap();
        for shell in ["dash", "bash"] {
            for action in scripts(mount_point) {
                let path = format!("{}:/bin:/usr/bin", tools.display());
                let mut command = Command::new(shell);
                command.args(&action.command.unwrap()[1..]).current_dir(directory);
                // A statistics file that is not there is said on stderr, and nothing else may be.
                let output = command.env("PATH", path).env("RECORD", &record).output().expect(shell);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.is_empty() || said.contains(".stats"), "{shell} with {mount_point:?}: {said}");
            }
        }
        assert!(!directory.join("record.touched").exists(), "{mount_point:?} was run");
        let text = std::fs::read_to_string(&record).unwrap();
        let mut fields = text.split('\0');
        let mut calls = BTreeSet::new();
        while let Some(count) = fields.next().filter(|count| !count.is_empty()) {
            calls.insert(fields.by_ref().take(count.parse().unwrap()).map(str::to_owned).collect());
        }
        calls
    }

    #[test]
    fn no_mount_point_is_more_than_one_word() {
        let directory = Mount::new("hostile", "");
        for name in [
            "$(touch x);y",
            "`touch x`",
            "a b",
            "it's",
            "'; touch x #",
            "\" ; touch x ; \"",
            "${HOME}",
            "$$",
            "a\nb",
            "a\n touch x",
            "&touch x&",
            "|touch x",
            ">x",
            "*",
            "~",
            "\\",
            "\\'",
            "!!",
            "ünï$ç",
            "--help",
            "a\tb",
        ] {
            let mount_point = format!("/jfs/{name}");
            let wanted = ["-c", "%i", &mount_point].map(str::to_owned).to_vec();
            assert_eq!(arguments_of(&directory.0, &mount_point), BTreeSet::from([wanted]), "{name:?}");
        }
        let found: Vec<_> =
            std::fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found.len(), 3, "a script made a file: {found:?}");
        assert!(startup_probe("/jfs/\0").is_err() && post_start("\0").is_err());
        assert!(pre_stop(ExitOrder::Staging, "\0", 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_mount_point_is_one_word(name in "([$(]{1,2}|[){}'\"`\\\\\n !*~;&|<>#aé-]){1,16}") {
            let directory = Mount::new("any", "");
            let mount_point = format!("/jfs/{name}");
            let wanted = ["-c", "%i", &mount_point].map(str::to_owned).to_vec();
            prop_assert_eq!(arguments_of(&directory.0, &mount_point), BTreeSet::from([wanted]));
        }
    }
}
