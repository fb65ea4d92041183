//! What is read, and what is said of what cannot be.

use super::*;

#[test]
fn kinds_of_others_have_their_pods_where_somebody_says() {
    let cluster = ["1-namespace.yaml", "2-secret.yaml", "3-storageclass.yaml", "4-claim.yaml"]
        .map(quickstart)
        .join("---\n");
    let odd = WRITTEN.replace("apps/v1", "example.com/v1").replace("Deployment", "Tool");
    let files = [("a.yaml", &*odd), ("cluster.yaml", &*cluster)];
    let unknown = run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml"]);
    let said = "a.yaml:2 example.com Tool/quickstart/web: warning: not a kind that is changed here (--template-path says where \
                its pods are); its pods are injected by the webhook when they are created\n";
    assert_eq!(unknown, ran(0, &odd, &[said, NO_WORKLOAD].concat()));
    let path = "Tool.example.com=/spec/template";
    let known =
        run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml", "--template-path", path]);
    assert!(known.stdout.contains("jfs-mount"), "{}", known.stderr);
    let undone = run(&[("a.yaml", &known.stdout)], &["uninject", "-f", "a.yaml", "--template-path", path]);
    assert_eq!(undone.stdout, odd);
    let wrong = run(&files, &["inject", "-f", "a.yaml", "--template-path", "Tool"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("KIND.GROUP=POINTER"), "{}", wrong.stderr);
}

#[test]
fn directories_are_read_in_order_without_hidden_files_and_directories_below() {
    let files = [
        ("in/b.yml", "b: 2\n"),
        ("in/a.yaml", "a: 1\n"),
        ("in/c.json", "{\"c\": 3}\n"),
        ("in/notes.txt", "not: [yaml"),
        ("in/.hidden.yaml", "not: [yaml"),
        ("in/below/d.yaml", "not: [yaml"),
    ];
    let odd = ["a.yaml", "b.yml", "c.json"].map(|name| format!("in/{name}:1: {NO_KIND}")).concat();
    let all = "a: 1\n---\nb: 2\n---\n{\"c\": 3}\n";
    assert_eq!(run(&files, &["inject", "-f", "in"]), ran(0, all, &(odd + NO_WORKLOAD)));
    assert_eq!(
        run(&files, &["inject", "-f", "in/c.json", "in/a.yaml"]).stdout,
        "---\n{\"c\": 3}\n---\na: 1\n"
    );
    let empty = run(&files, &["inject", "-f", "in/below/.."]);
    assert_eq!(empty.code, Some(0));
    let none = run(&[("in/notes.txt", "")], &["inject", "-f", "in"]);
    assert_eq!(
        none,
        ran(2, "", "error: in: cannot be read: no .yaml, .yml or .json file in this directory\n")
    );
}

#[test]
fn input_that_is_not_understood_is_named_and_nothing_is_printed() {
    for (text, complaint) in [
        ("a: 1\n---\nb: {{ .Values.b }}\n", "a.yaml:3: document 2: not YAML: "),
        ("a: 1\na: 2\n", "a.yaml:2: document 1: not YAML: duplicate mapping key: a\n"),
    ] {
        for subcommand in ["inject", "explain"] {
            let result = run(&[("a.yaml", text)], &[subcommand, "-f", "a.yaml"]);
            assert_eq!((result.code, &*result.stdout), (Some(2), ""), "{text}");
            assert!(result.stderr.starts_with(&format!("error: {complaint}")), "{}", result.stderr);
        }
    }
    let missing = run(&[], &["inject", "-f", "missing.yaml"]);
    assert_eq!((missing.code, &*missing.stdout), (Some(2), ""));
    assert!(missing.stderr.starts_with("error: missing.yaml: cannot be read: "), "{}", missing.stderr);
    let latin = Directory::new(&[]);
    std::fs::write(latin.0.join("latin.yaml"), b"a: 1\nb: \xe9\n").unwrap();
    let result = Ran::from(command(&latin.0, &["inject", "-f", "latin.yaml"]).output().unwrap());
    assert_eq!(result, ran(2, "", "error: latin.yaml:2: not UTF-8 text\n"));
}

/// Kubernetes would not take them, and they are none of our business; one of them is.
const NOT_UNDERSTOOD: &str = "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: site, namespace: web}
spec:
  accessModes: ReadWriteMany
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  containers:
  - name: 7
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      volumes: [{name: v, persistentVolumeClaim: {claimName: a}}]
      containers:
      - name: 7
";

#[test]
fn what_is_not_understood_stops_nothing_else() {
    let claim = "a.yaml:5 PersistentVolumeClaim/web/site: warning: spec.accessModes: invalid type: string \
                 \"ReadWriteMany\", expected a sequence; taken as if it were not there\n";
    let other = "a.yaml:7 Pod/default/other: warning: spec.containers[0].name: invalid type: integer `7`, expected a \
                 string; write it in quotes; left as it is, no volume of it can be JuiceFS\n";
    let web = "a.yaml:14 Deployment/default/web: refused (unreadable): spec.template.spec.containers[0].name (line 22): \
               invalid type: integer `7`, expected a string; write it in quotes; correct it: the API server would refuse \
               it too\n";
    let files = [("a.yaml", NOT_UNDERSTOOD)];
    let result = run(&files, &["inject", "-f", "a.yaml"]);
    assert_eq!(result, ran(1, NOT_UNDERSTOOD, &[claim, other, web, REFUSED].concat()));
    let explained = run(&files, &["explain", "-f", "a.yaml", "-o", "json"]);
    assert_eq!((explained.code, &*explained.stderr), (Some(1), claim));
}

#[test]
fn options_are_checked_before_anything_is_read() {
    for arguments in [
        &["inject"][..],
        &["inject", "-f", "missing", "-n", "Not_A_Name"],
        &["inject", "-f", "missing", "--kube-version", "latest"],
        &["inject", "-f", "missing", "-o", "xml"],
        &["explain", "-f", "missing", "-o", "yaml"],
        &["completion", "csh"],
        &["unknown"],
        &[],
    ] {
        let result = run(&[], arguments);
        assert_eq!((result.code, &*result.stdout), (Some(2), ""), "{arguments:?}");
        assert!(!result.stderr.contains("cannot be read"), "{arguments:?}: {}", result.stderr);
    }
}

#[test]
fn the_standard_input_is_read_once() {
    for arguments in [
        &["inject", "-f", "-", "-"][..],
        &["inject", "-f", "-", "--cluster", "-"],
        &["explain", "-f", "a.yaml", "--cluster", "-", "--config", "-"],
        &["review", "--cluster", "-"],
    ] {
        let result = run_with(&[("a.yaml", "a: 1\n")], arguments, "{}");
        let complaint = "error: the standard input can be read only once: give `-` in one place\n";
        assert_eq!(result, ran(2, "", complaint), "{arguments:?}");
    }
}
