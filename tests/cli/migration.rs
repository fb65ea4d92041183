//! `migration` over manifests; `tests/cluster/migration.rs` has it over a cluster.

use super::*;

const DRIVER: &str = include_str!("../migration/driver.yaml");

#[test]
fn migration_tells_people_what_changes_and_the_way() {
    let report = run(&[("driver.yaml", DRIVER)], &["migration", "-f", "driver.yaml"]);
    assert_eq!((report.code, &*report.stderr), (Some(0), ""), "{}", report.stdout);
    let mut rest = report.stdout.as_str();
    for line in [
        "Changes:\n",
        "! driver kube-system/juicefs-csi-controller: JUICEFS_CE_MOUNT_IMAGE=juicedata/mount:ce-v1.3.0: ",
        "    --set defaultMountImage.ce=juicedata/mount:ce-v1.3.0\n",
        "! configuration: config.yaml: mountPodPatch[0].priorityClassName: has no effect in a sidecar",
        "! class moving-sc: parameters[\"juicefs/mount-delete-delay\"]: has no effect in a sidecar\n",
        "! claim moving/data: pods get a client: native sidecar, resilient mode, node profile: it has no privilege",
        "! claim moving/data: annotation \"juicefs/host-path\": claims may not set this",
        "\nCould not be looked at:\n? not seen Deployment, DaemonSet: there is none among the manifests\n",
        "\nStays:\n",
        "\nSteps:\n✔ 1. Mend what stands in the way: nothing stands in the way\n",
        "▶ 2. Take the configuration along: it is in namespace kube-system only\n       kubectl ",
        "? 3. Install juicefs-sidecar beside the driver: it cannot be told from what was seen\n       helm install ",
        "  4. Let the driver's webhook go: only that of the driver is asked: juicefs-admission-webhook\n",
        "\nnothing stands in the way\n",
    ] {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("{line}\n{}", report.stdout));
        rest = after;
    }
    assert!(rest.is_empty() && !report.stdout.contains("hidden-word"), "{}", report.stdout);
}

#[test]
fn migration_fails_a_pipeline_where_something_stands_in_the_way() {
    let broken = DRIVER.replace("name: myjfs, ", "");
    let report = run(&[("driver.yaml", &broken)], &["migration", "-f", "driver.yaml", "-o", "json"]);
    assert_eq!((report.code, &*report.stderr), (Some(1), ""));
    let value: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(value["changes"][0]["effect"], "blocks");
    assert_eq!(value["steps"][0]["state"], "next");

    // Its configuration may come from a file, which may be the mistake.
    let files = [("driver.yaml", DRIVER), ("config.yaml", "mountPodPatch: 5\n")];
    let report = run(&files, &["migration", "-f", "driver.yaml", "--config", "config.yaml"]);
    assert_eq!(report.code, Some(1));
    assert!(
        report.stdout.starts_with("Stands in the way:\n✘ configuration: config.yaml line 1: "),
        "{}",
        report.stdout
    );

    let unreadable = run(&[("a.yaml", "a: [")], &["migration", "-f", "a.yaml"]);
    assert!(unreadable.code == Some(2) && unreadable.stderr.starts_with("error: a.yaml:"), "{unreadable:?}");
}

#[test]
fn migration_says_what_it_cannot_read() {
    let report = run(
        &[("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: 5}\n")],
        &["migration", "-f", "a.yaml"],
    );
    assert_eq!(report.code, Some(0));
    assert!(
        report.stderr.starts_with("a.yaml:4 Pod/default/p: warning: spec.containers: "),
        "{}",
        report.stderr
    );
}

/// Under this name kubectl finds it.
#[test]
fn migration_is_a_subcommand_of_kubectls_plugin() {
    let directory = Directory::new(&[("driver.yaml", DRIVER)]);
    let plugin = directory.0.join("kubectl-juicefs_sidecar");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_juicefs-sidecar"), &plugin).unwrap();
    let output = Command::new(plugin)
        .args(["migration", "-f", "driver.yaml"])
        .current_dir(&directory.0)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.starts_with("Changes:".as_bytes()), "{output:?}");
}
