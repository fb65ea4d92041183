//! The form of what is printed, and of files that are changed in place.

use super::*;

/// Comments, odd spacing, flow style, an octal mode, a Windows line end, no line end: none of our business.
const UNTOUCHED: &str = "# licence\n---\napiVersion: v1   # the core\nkind: Pod\nmetadata: {name: a, labels: {x: \"on\"}}\n\
    spec:\n   containers:\n      - {name: c,   image: i}\n---\n# only a comment\n---\nkind: Other\r\nmode: 0644\n...\n---\n\
    {\"apiVersion\": \"v1\", \"kind\": \"List\",\n  \"items\": []}\n---\nreplicaCount: 1";

#[test]
fn what_has_no_juicefs_volume_is_printed_byte_for_byte() {
    let odd = format!("a.yaml:19: {NO_KIND}");
    let files = [("a.yaml", UNTOUCHED)];
    assert_eq!(run(&files, &["inject", "-f", "a.yaml"]), ran(0, UNTOUCHED, &odd));
    assert_eq!(
        run_with(&[], &["inject", "-f", "-"], UNTOUCHED),
        ran(0, UNTOUCHED, &odd.replace("a.yaml", "<stdin>"))
    );
    assert_eq!(run(&files, &["uninject", "-f", "a.yaml"]), ran(0, UNTOUCHED, ""));
    assert_eq!(run(&files, &["inject", "-f", "a.yaml", "-o", "diff"]), ran(0, "", &odd));
    assert_eq!(run(&files, &["inject", "-f", "a.yaml", "-o", "patch"]), ran(0, "[]\n", &odd));
}

#[test]
fn changed_documents_keep_their_form() {
    let cluster = ["1-namespace.yaml", "2-secret.yaml", "3-storageclass.yaml", "4-claim.yaml"]
        .map(quickstart)
        .join("---\n");
    for (written, end) in [(WRITTEN.to_owned(), "\n"), (WRITTEN.replace('\n', "\r\n"), "\r\n")] {
        let files = [("dir/a.yaml", &*written), ("cluster.yaml", &*cluster)];
        let arguments = ["inject", "-f", "dir/a.yaml", "--cluster", "cluster.yaml"];
        let injected = run(&files, &arguments).stdout;
        for line in written.split(end).filter(|line| line.contains('#')) {
            let kept = line.split('#').nth(1).unwrap();
            assert!(injected.contains(kept), "{line}: {injected}");
        }
        assert!(injected.contains("image: \"busybox\"   # renovate"), "{injected}");
        assert!(injected.contains("{name: site, mountPath: /data, subPath: \"mnt\"}"), "{injected}");
        assert_eq!(injected.matches('\n').count(), injected.matches(end).count(), "{injected:?}");
        let files = [("a.yaml", &*injected)];
        assert_eq!(run(&files, &["uninject", "-f", "a.yaml"]).stdout, written);
    }
}

#[test]
fn files_are_changed_in_place_as_the_diff_says() {
    let cluster = ["1-namespace.yaml", "2-secret.yaml", "3-storageclass.yaml", "4-claim.yaml"]
        .map(quickstart)
        .join("---\n");
    let directory =
        Directory::new(&[("dir/a.yaml", WRITTEN), ("dir/b.yaml", POD), ("cluster.yaml", &cluster)]);
    let run = |arguments: &[&str]| Ran::from(command(&directory.0, arguments).output().unwrap());
    let diff = run(&["inject", "-f", "dir", "--cluster", "cluster.yaml", "-o", "diff"]);
    std::fs::write(directory.0.join("change.diff"), &diff.stdout).unwrap();
    let written = |name: &str| std::fs::read_to_string(directory.0.join(name)).unwrap();
    let in_place = run(&["inject", "-i", "-f", "dir", "--cluster", "cluster.yaml"]);
    assert_eq!((in_place.code, &*in_place.stdout), (Some(0), ""));
    let injected = written("dir/a.yaml");
    assert!(injected.contains("jfs-mount") && written("dir/b.yaml") == POD, "{injected}");
    std::fs::write(directory.0.join("dir/a.yaml"), WRITTEN).unwrap();
    let apply =
        Command::new("git").args(["apply", "-p0", "change.diff"]).current_dir(&directory.0).output().unwrap();
    assert!(apply.status.success(), "{}", String::from_utf8_lossy(&apply.stderr));
    assert_eq!(written("dir/a.yaml"), injected);
    let stdin = run(&["inject", "-i", "-f", "-"]);
    assert_eq!(stdin.code, Some(0), "nothing to write: {}", stdin.stderr);
    let coloured =
        run(&["inject", "-f", "dir", "-o", "diff", "--color", "always", "--cluster", "cluster.yaml"]);
    assert!(!coloured.stdout.contains("\u{1b}[32m"), "it is injected: {}", coloured.stdout);
    let coloured = run(&["uninject", "-f", "dir", "-o", "diff", "--color", "always"]);
    assert!(coloured.stdout.contains("\u{1b}[31m-"), "{}", coloured.stdout);
}

#[test]
fn json_output_is_one_document_after_another() {
    let result = run(&[("a.yaml", UNTOUCHED)], &["inject", "-f", "a.yaml", "-o", "json"]);
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&result.stdout).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(values.len(), 4);
    assert_eq!(values[0]["metadata"]["labels"]["x"], "on");
    assert_eq!(values[1]["mode"], 420);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let big = format!("a: {}\n", "x".repeat(1_000_000));
    let directory = Directory::new(&[("a.yaml", &big)]);
    let mut child = command(&directory.0, &["inject", "-f", "a.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let result = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(result, ran(0, "", &format!("a.yaml:1: {NO_KIND}{NO_WORKLOAD}")));
}

#[test]
fn the_quickstart_shows_what_is_added_to_its_deployment() {
    let diff = run(&[], &["inject", "-f", QUICKSTART, "-o", "diff"]);
    assert_eq!(diff.code, Some(0), "{}", diff.stderr);
    let title = format!("{QUICKSTART}/5-deployment.yaml");
    assert!(diff.stdout.starts_with(&format!("--- {title}\n+++ {title}\n@@ ")), "{}", diff.stdout);
    for line in ["+        - name: jfs-claim-site\n", "name: jfs-mount\n", "subdir=quickstart/site"] {
        assert!(diff.stdout.contains(line), "{line}: {}", diff.stdout);
    }
    assert!(!diff.stdout.contains("change-me") && !diff.stdout.contains('\u{1b}'), "{}", diff.stdout);
}
