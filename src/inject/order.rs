//! What starts after the mount is there, and what ends before it goes.
//!
//! Everything here runs in the client's image, so it is written for a POSIX `sh` with `stat` and `sleep`. The mount
//! point is made by the planner and holds no character that means something to a shell.

use k8s_openapi::api::core::v1 as api;

use crate::{
    pod::{Container, Pod},
    volume::{Resolved, settings::ExitOrder},
};

/// How long a client may take until its mount answers before it is started again, in seconds.
const START_LIMIT: u32 = 120;

/// Where native clients go among the init containers: at the front, or behind the native sidecars named in `after`,
/// but always before whoever mounts one of their volumes.
pub(crate) fn first(pod: &Pod<'_>, resolved: &[Resolved], after: &[String]) -> usize {
    let containers = pod.spec.init_containers.as_deref().unwrap_or_default();
    let needed = |container: &Container<'_>| {
        container.restart_policy.as_deref() == Some("Always")
            && after.iter().any(|name| *name == *container.name)
    };
    let consumes = |container: &Container<'_>| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| {
            resolved.iter().flat_map(|one| &one.pod_volumes).any(|volume| volume.name == *mount.name)
        })
    };
    let behind = containers.iter().rposition(needed).map_or(0, |index| index + 1);
    behind.min(containers.iter().position(consumes).unwrap_or(behind))
}

/// A probe that succeeds once the mount answers: the root of a JuiceFS file system is inode 1.
pub(crate) fn startup_probe(mount_point: &str) -> api::Probe {
    api::Probe {
        exec: Some(shell(&format!("[ \"$(stat -c %i {mount_point})\" = 1 ]"))),
        period_seconds: Some(1),
        // `stat` hangs while nobody serves the mount; the kubelet ends it.
        timeout_seconds: Some(3),
        failure_threshold: Some(START_LIMIT.cast_signed()),
        ..api::Probe::default()
    }
}

/// Holds back the containers that follow until the mount answers, where there are no native sidecars.
pub(crate) fn post_start(mount_point: &str) -> api::LifecycleHandler {
    let tries = START_LIMIT * 10;
    handler(&format!(
        "tries=0\n\
         until [ \"$(stat -c %i {mount_point} 2>/dev/null)\" = 1 ]; do\n\
         tries=$((tries + 1))\n\
         if [ $tries -ge {tries} ]; then echo 'JuiceFS is not mounted after {START_LIMIT} s' >&2; exit 1; fi\n\
         sleep 0.1\n\
         done"
    ))
}

/// Keeps the client alive until the application is done, for at most `limit` seconds.
pub(crate) fn pre_stop(order: ExitOrder, mount_point: &str, limit: i64) -> api::LifecycleHandler {
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
                    read_statistic("juicefs_fuse_open_handlers", mount_point)
                )
            )
        ),
        ExitOrder::Staging => wait(
            limit,
            &format!(
                "{}\nif [ \"${{value:-0}}\" = 0 ]; then exit 0; fi",
                read_statistic("juicefs_staging_blocks", mount_point)
            ),
        ),
    };
    handler(&script)
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

/// Reads one line of the client's statistics into `value`.
fn read_statistic(name: &str, mount_point: &str) -> String {
    format!(
        "value=\nwhile read -r key number; do\n\
         if [ \"$key\" = {name} ]; then value=${{number%%.*}}; fi\n\
         done < {mount_point}/.stats"
    )
}

fn handler(script: &str) -> api::LifecycleHandler {
    api::LifecycleHandler { exec: Some(shell(script)), ..api::LifecycleHandler::default() }
}

fn shell(script: &str) -> api::ExecAction {
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
        net::TcpListener,
        path::PathBuf,
        process::Command,
        thread,
        time::{Duration, Instant},
    };

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
            let handler = pre_stop(order, self.0.to_str().unwrap(), limit);
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
            assert!(run(shell, startup_probe("/proc").exec.unwrap()).0);
            assert!(!run(shell, startup_probe(directory.0.to_str().unwrap()).exec.unwrap()).0);
            assert!(run(shell, post_start("/proc").exec.unwrap()).0);
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
}
