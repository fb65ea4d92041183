//! The real binary on small inputs.
#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use juicefs_sidecar::{
    admission::{self, Endpoint},
    config::{Config, Process},
    inject::{Engine, Family},
    offline::{
        Manifests,
        files::{self, Source},
    },
};
use serde_json::Value;

/// A directory of its own for each test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("juicefs-sidecar-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
    command.args(arguments).current_dir(directory);
    for name in
        ["DRIVER_NAME", "JUICEFS_MOUNT_IMAGE", "JUICEFS_CE_MOUNT_IMAGE", "JUICEFS_EE_MOUNT_IMAGE", "NO_COLOR"]
    {
        command.env_remove(name);
    }
    command
}

fn run(files: &[(&str, &str)], arguments: &[&str]) -> Ran {
    run_with(files, arguments, "")
}

fn run_with(files: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Ran {
    let directory = Directory::new(files);
    let mut child = command(&directory.0, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Ran::from(child.wait_with_output().unwrap())
}

#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn ran(code: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// Comments, odd spacing, flow style, an octal mode, a Windows line end, no line end: none of our business.
const UNTOUCHED: &str = "# licence\n---\napiVersion: v1   # the core\nkind: Pod\nmetadata: {name: a, labels: {x: \"on\"}}\n\
    spec:\n   containers:\n      - {name: c,   image: i}\n---\n# only a comment\n---\nkind: Other\r\nmode: 0644\n...\n---\n\
    {\"apiVersion\": \"v1\", \"kind\": \"List\",\n  \"items\": []}\n---\nreplicaCount: 1";

const NO_KIND: &str = "warning: no manifest of Kubernetes, it has no kind; printed as it is\n";
const NO_WORKLOAD: &str = "no workload among the manifests\n";
const REFUSED: &str = "hint: what was refused is printed as it was, without clients\n";

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

/// As people write them: comments, quotes, flow style, a deeper margin, no line end at the end.
const WRITTEN: &str = "\
# head
apiVersion: apps/v1 # inline
kind: Deployment
metadata: {name: 'web', namespace: quickstart} # flow
spec:
    template:
        spec:
            containers:
            # the application
            - name: app   # app
              image: \"busybox\"   # renovate: datasource=docker
              volumeMounts: [{name: site, mountPath: /data}] # mounts
            volumes: # many
            - name: site
              persistentVolumeClaim:
                claimName: site";

fn quickstart(file: &str) -> String {
    std::fs::read_to_string(format!("{QUICKSTART}/{file}")).unwrap()
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
        assert!(
            injected.contains("{name: site, mountPath: /data, mountPropagation: \"HostToContainer\"}"),
            "{injected}"
        );
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

const CLASS_THEN_CHANGED: &str = "
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: made, namespace: quickstart, uid: u-1}
spec: {accessModes: [ReadWriteMany], storageClassName: changed, volumeName: pvc-u-1}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pvc-u-1}
spec:
  accessModes: [ReadWriteMany]
  claimRef: {namespace: quickstart, name: made, uid: u-1}
  mountOptions: [cache-size=1024]
  storageClassName: changed
  csi:
    driver: csi.juicefs.com
    volumeHandle: pvc-u-1
    nodePublishSecretRef: {namespace: quickstart, name: juicefs-secret}
    volumeAttributes: {subPath: pvc-u-1}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: changed}
provisioner: csi.juicefs.com
mountOptions: [cache-size=2048]
parameters:
  csi.storage.k8s.io/node-publish-secret-name: juicefs-secret
  csi.storage.k8s.io/node-publish-secret-namespace: quickstart
  juicefs/mount-cpu-limit: \"3\"
";

#[test]
fn explain_says_when_a_class_was_changed_after_it_made_a_volume() {
    let secret = quickstart("2-secret.yaml");
    let name = secret.lines().find_map(|line| line.trim().strip_prefix("name: ")).unwrap();
    let cluster = quickstart("1-namespace.yaml")
        + "---\n"
        + &secret
        + &CLASS_THEN_CHANGED.replace("juicefs-secret", name);
    let written = WRITTEN.replace("claimName: site", "claimName: made");
    let files = [("a.yaml", &*written), ("cluster.yaml", &*cluster)];
    let explained = run(&files, &["explain", "-f", "a.yaml", "--cluster", "cluster.yaml"]);
    let said = "storageclass \"changed\" was changed after persistentvolume \"pvc-u-1\" was made, which keeps what it was made \
                with: mountOptions, parameters[\"juicefs/mount-cpu-limit\"]";
    assert!(explained.stdout.contains(said), "{} {}", explained.stdout, explained.stderr);
    let injected = run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml"]);
    assert!(
        injected.stdout.contains("jfs-mount") && !injected.stderr.contains("was changed"),
        "{}",
        injected.stderr
    );
}

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
fn json_output_is_one_document_after_another() {
    let result = run(&[("a.yaml", UNTOUCHED)], &["inject", "-f", "a.yaml", "-o", "json"]);
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&result.stdout).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(values.len(), 4);
    assert_eq!(values[0]["metadata"]["labels"]["x"], "on");
    assert_eq!(values[1]["mode"], 420);
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

fn namespace(labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: web, labels: {{{labels}}}}}\n")
}

const POD: &str =
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: web}\nspec: {containers: [{name: c}]}\n";

#[test]
fn workloads_of_a_namespace_that_is_not_labelled_are_left_alone_with_a_warning() {
    let text = namespace("") + POD;
    assert_eq!(
        run(&[("a.yaml", &text)], &["inject", "-f", "a.yaml"]),
        ran(
            0,
            &text,
            "a.yaml:6 Pod/web/a: warning: namespace \"web\" is not labelled juicefs.com/enable-injection=true: left alone\n"
        )
    );
    let labelled = namespace("juicefs.com/enable-injection: \"true\"");
    for cluster in [&labelled, ""] {
        let files = [("a.yaml", POD), ("cluster.yaml", cluster)];
        assert_eq!(run(&files, &["inject", "-f", "a.yaml", "--cluster", "cluster.yaml"]), ran(0, POD, ""));
    }
}

const CLAIM_TEMPLATE: &str = "\
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: fast
  annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}
provisioner: csi.juicefs.com
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  template: {spec: {containers: [{name: c}]}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {}
---
kind: Other
";

#[test]
fn a_stateful_set_with_juicefs_claim_templates_is_refused_and_the_others_printed() {
    let refusal = "a.yaml:9 StatefulSet/default/db: refused (claim-unusable): statefulset \"db\": \
                   spec.volumeClaimTemplates[0]: claim template \"data\" is of the JuiceFS class \"fast\", and each pod \
                   gets a claim of its own; apply it as it is: the webhook injects each pod when it is created\n";
    let files = [("a.yaml", CLAIM_TEMPLATE)];
    assert_eq!(
        run(&files, &["inject", "-f", "a.yaml"]),
        ran(1, CLAIM_TEMPLATE, &(refusal.to_owned() + REFUSED))
    );
    let explained = run(&files, &["explain", "-f", "a.yaml", "-o", "json"]);
    assert_eq!((explained.code, &*explained.stderr), (Some(1), ""));
    let value: Value = serde_json::from_str(&explained.stdout).unwrap();
    assert_eq!(value[0]["code"], "claim-unusable");
    assert_eq!(value[0]["workload"], "StatefulSet/default/db");
    let other = run(&files, &["inject", "-f", "a.yaml", "--driver-name", "csi.example.com"]);
    assert_eq!(other, ran(0, CLAIM_TEMPLATE, ""));
    let disabled = CLAIM_TEMPLATE.replace(
        "template: {",
        "template: {metadata: {labels: {disable.sidecar.juicefs.com/inject: \"true\"}}, ",
    );
    assert_eq!(run(&[("a.yaml", &disabled)], &["inject", "-f", "a.yaml"]), ran(0, &disabled, ""));
}

#[test]
fn help_shows_examples_and_the_version_is_told() {
    let help = run(&[], &["inject", "--help"]);
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    assert!(
        help.stdout.contains("juicefs-sidecar inject -f examples/quickstart/ -o diff"),
        "{}",
        help.stdout
    );
    assert!(!help.stdout.contains('\u{1b}'), "colours in a pipe");
    assert_eq!(
        run(&[], &["--version"]),
        ran(0, concat!("juicefs-sidecar ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&[], &["completion", shell]);
        assert_eq!((script.code, &*script.stderr), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains("uninject") && script.stdout.contains("kube-version"), "{shell}");
    }
    let directory = Directory::new(&[("completion.bash", &run(&[], &["completion", "bash"]).stdout)]);
    let script = r#"source ./completion.bash
        registered=$(complete -p juicefs-sidecar); function=${registered##* -F }; function=${function%% *}
        COMP_WORDS=(juicefs-sidecar un); COMP_CWORD=1
        "$function" juicefs-sidecar un juicefs-sidecar; echo "${COMPREPLY[*]}""#;
    let bash = Command::new("bash").args(["-c", script]).current_dir(&directory.0).output();
    let bash = bash.expect("bash is there: `make setup`");
    assert_eq!(
        String::from_utf8_lossy(&bash.stdout),
        "uninject\n",
        "{}",
        String::from_utf8_lossy(&bash.stderr)
    );
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

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart");

fn explained(files: &[(&str, &str)], arguments: &[&str]) -> Value {
    let result = run(files, &[&["explain", "-o", "json"], arguments].concat());
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    serde_json::from_str(&result.stdout).unwrap()
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

#[test]
fn what_is_injected_is_injected_once_and_can_be_taken_away() {
    let injected = run(&[], &["inject", "-f", QUICKSTART]).stdout;
    let files = [("injected.yaml", &*injected)];
    assert_eq!(run(&files, &["inject", "-f", "injected.yaml"]).stdout, injected);
    assert_eq!(explained(&files, &["-f", "injected.yaml"])[0]["code"], "already-injected");
    let undone = run(&files, &["uninject", "-f", "injected.yaml", "-o", "json"]);
    let original = run(&[], &["uninject", "-f", QUICKSTART, "-o", "json"]);
    assert_eq!((undone.code, &*undone.stderr), (Some(0), ""));
    let values = |text: &str| -> Vec<Value> {
        serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(values(&undone.stdout), values(&original.stdout));
    assert_eq!(undone.stdout, original.stdout, "the order of the fields");
}

const TEMPLATE: &str = "{\"metadata\": {\"labels\": {\"app\": \"web\"}}, \"spec\": {\"containers\": [{\"name\": \"web\", \
    \"volumeMounts\": [{\"name\": \"site\", \"mountPath\": \"/site\"}]}], \
    \"volumes\": [{\"name\": \"site\", \"persistentVolumeClaim\": {\"claimName\": \"site\"}}]}}";

#[test]
fn every_kind_of_workload_is_injected_in_the_format_it_came_in() {
    for (api_version, kind, path) in [
        ("v1", "Pod", ""),
        ("v1", "ReplicationController", "/spec/template"),
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let mut text = TEMPLATE.to_owned();
        for key in path.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
            text = format!("{{\"{key}\": {text}}}");
        }
        let text = format!("{{\"apiVersion\": \"{api_version}\", \"kind\": \"{kind}\", {}", &text[1..]);
        let arguments = ["inject", "-f", "a.json", "-n", "quickstart", "--cluster", QUICKSTART];
        let result = run(&[("a.json", &text)], &arguments);
        assert_eq!(result.code, Some(0), "{kind}: {}", result.stderr);
        let value: Value = serde_json::from_str(&result.stdout).unwrap();
        let volumes = value.pointer(&format!("{path}/spec/volumes")).unwrap().as_array().unwrap();
        assert!(volumes.iter().any(|volume| volume["name"] == "jfs-claim-site"), "{kind}: {value}");
        let patch = run(&[("a.json", &text)], &[&arguments[..], &["-o", "patch"]].concat()).stdout;
        let patch: Value = serde_json::from_str(&patch).unwrap();
        assert_eq!(
            (&patch[0]["kind"], &patch[0]["namespace"]),
            (&Value::from(kind), &Value::from("quickstart"))
        );
        for operation in patch[0]["patch"].as_array().unwrap() {
            assert!(operation["path"].as_str().unwrap().starts_with(path), "{kind}: {operation}");
        }
    }
}

#[test]
fn of_a_list_only_the_items_with_a_juicefs_volume_change() {
    let pod = |name: &str, rest: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {rest}}}"
        )
    };
    let template: Value = serde_json::from_str(TEMPLATE).unwrap();
    let plain = pod("plain", "{\"containers\": [{\"name\": \"c\", \"tty\": true}]}");
    let text = format!(
        "{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{}, {plain}]}}",
        pod("site", &template["spec"].to_string())
    );
    let arguments = ["inject", "-f", "a.json", "-n", "quickstart", "--cluster", QUICKSTART];
    let result = run(&[("a.json", &text)], &arguments);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    let value: Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(value["items"][0]["metadata"]["labels"]["done.sidecar.juicefs.com/inject"], "true");
    assert_eq!(value["items"][1], serde_json::from_str::<Value>(&plain).unwrap());
}

#[test]
fn versions_and_serverless_are_told_by_option_or_by_the_cluster() {
    let volume = |files: &[(&str, &str)], arguments: &[&str]| {
        let value = explained(files, &[&["-f", QUICKSTART], arguments].concat());
        let volume = &value[0]["volumes"][0];
        (volume["native"].as_bool().unwrap(), volume["profile"].as_str().unwrap().to_owned())
    };
    let node =
        "apiVersion: v1\nkind: Node\nmetadata: {name: old}\nstatus: {nodeInfo: {kubeletVersion: v1.28.3}}\n";
    let old = [("node.yaml", node)];
    assert_eq!(volume(&[], &[]), (true, "node".to_owned()));
    assert_eq!(volume(&[], &["--kube-version", "v1.28.9"]), (false, "node".to_owned()));
    assert_eq!(volume(&old, &["--cluster", "node.yaml"]), (false, "node".to_owned()));
    assert_eq!(volume(&[], &["--serverless"]), (true, "serverless".to_owned()));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: quickstart\n  labels: \
                     {juicefs.com/enable-serverless-injection: \"true\"}\n";
    let labelled = [("namespace.yaml", namespace)];
    assert_eq!(volume(&labelled, &["-f", "namespace.yaml"]), (true, "serverless".to_owned()));
}

#[test]
fn the_configuration_is_read_from_its_config_map_or_a_file() {
    let native = |arguments: &[&str]| {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: juicefs-csi-driver-config, namespace: kube-system}\n\
                   data:\n  config.yaml: |\n    enableNativeSidecar: false\n";
        let files = [("map.yaml", map), ("bare.yaml", "enableNativeSidecar: true\n")];
        explained(&files, &[&["-f", QUICKSTART], arguments].concat())[0]["volumes"][0]["native"]
            .as_bool()
            .unwrap()
    };
    assert!(native(&[]));
    assert!(!native(&["--cluster", "map.yaml"]));
    assert!(!native(&["--config", "map.yaml"]));
    assert!(native(&["--cluster", "map.yaml", "--config", "bare.yaml"]));
    let broken =
        run(&[("c.yaml", "mountPodPatch: 5\n")], &["inject", "-f", QUICKSTART, "--config", "c.yaml"]);
    assert_eq!((broken.code, &*broken.stdout), (Some(2), ""));
    assert!(
        broken.stderr.starts_with("error: c.yaml: config.yaml line 1: mountPodPatch: "),
        "{}",
        broken.stderr
    );
}

#[test]
fn a_claim_that_is_nowhere_is_told_with_a_hint() {
    let deployment = format!("{QUICKSTART}/5-deployment.yaml");
    let result = run(&[], &["inject", "-f", &deployment]);
    assert_eq!((result.code, result.stdout), (Some(0), std::fs::read_to_string(&deployment).unwrap()));
    assert!(
        result
            .stderr
            .contains("Deployment/quickstart/web: warning: persistentvolumeclaim \"quickstart/site\""),
        "{}",
        result.stderr
    );
    assert!(result.stderr.ends_with("with --cluster\n"), "{}", result.stderr);
}

#[test]
fn explain_tells_people_about_each_volume() {
    let result = run(&[], &["explain", "-f", QUICKSTART]);
    assert_eq!((result.code, &*result.stderr), (Some(0), ""));
    let title = format!("Deployment/quickstart/web ({QUICKSTART}/5-deployment.yaml:2): injected\n");
    assert!(result.stdout.starts_with(&title), "{}", result.stdout);
    let volume =
        "\n  site: claim site\n    container jfs-mount, native sidecar, classic mode, node profile\n";
    assert!(result.stdout.contains(volume), "{}", result.stdout);
    assert!(!result.stdout.contains("change-me"), "{}", result.stdout);
    let nothing = run(&[("a.yaml", "a: 1\n")], &["explain", "-f", "a.yaml"]);
    assert_eq!(nothing, ran(0, "", &format!("a.yaml:1: {NO_KIND}{NO_WORKLOAD}")));
}

#[test]
fn explain_says_on_whose_word_a_pod_has_its_mode() {
    let rows = |files: &[(&str, &str)]| {
        let arguments = ["explain", "-f", QUICKSTART, "--config", "config.yaml"];
        let result = run(files, &arguments);
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        let rows = result.stdout.lines().filter(|line| line.contains(" mode"));
        rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let container = |mode: &str| format!("container jfs-mount, native sidecar, {mode} mode, node profile");
    assert_eq!(
        rows(&[("config.yaml", "after: []\n")]),
        [container("classic"), "mode classic built-in default".into()]
    );
    assert_eq!(
        rows(&[("config.yaml", "mode: resilient\n")]),
        [container("resilient"), "mode resilient configmap mode".into()]
    );
    let forbidden = rows(&[("config.yaml", "mode: resilient\nenableNativeSidecar: false\n")]);
    assert!(
        forbidden[0].starts_with(
            "warning: configmap mode: the pod gets classic instead of resilient mode: it needs native"
        ),
        "{forbidden:?}"
    );
}

#[test]
fn a_review_is_answered_as_the_webhook_answers_it() {
    let reviews = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reviews");
    let cluster = format!("{reviews}/cluster");
    let body = std::fs::read_to_string(format!("{reviews}/job.create.json")).unwrap();
    let documents = files::read(&[Source::Path(cluster.clone().into())]).unwrap();
    let (manifests, _) = Manifests::gather(&documents, "default").unwrap();
    let (config, process) = (Config::default(), Process::default());
    let engine = Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: false };
    for (family, arguments) in [(Family::Node, &[][..]), (Family::Serverless, &["--serverless"])] {
        let expected = admission::answer(body.as_bytes(), Endpoint::Inject(family), &engine);
        let result = run_with(&[], &[&["review", "--cluster", &cluster], arguments].concat(), &body);
        assert_eq!(result, ran(0, &String::from_utf8(expected.body).unwrap(), ""));
        let answer: Value = serde_json::from_str(&result.stdout).unwrap();
        assert_eq!(
            (&answer["response"]["allowed"], &answer["kind"]),
            (&Value::from(true), &Value::from("AdmissionReview"))
        );
        assert!(answer["response"]["patch"].is_string(), "{answer}");
    }
    for text in ["", "text", "{}", "{\"kind\": \"Pod\"}"] {
        let result = run_with(&[], &["review"], text);
        assert_eq!((result.code, &*result.stdout), (Some(2), ""), "{text}");
        assert!(result.stderr.starts_with("error: <stdin>: "), "{}", result.stderr);
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
