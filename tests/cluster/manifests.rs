//! `webhook-config/` and `certs/`: valid by schema, taken by the API server, and of this version.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde_json::json;

use super::control_plane::{self, ControlPlane, eventually};

/// Where they install.
pub(crate) const NAMESPACE: &str = "juicefs-sidecar";
/// Kustomizations: ours as it stands, and with each component.
const VARIANTS: [&[&str]; 4] = [
    &[],
    &["webhook-config/components/beside-csi-driver"],
    &["webhook-config/components/beside-csi-driver", "webhook-config/components/one-program", JANITOR],
    &["webhook-config/components/enterprise-worker"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What sets pods free that cannot go, installed beside the rest.
pub(crate) const JANITOR: &str = "webhook-config/janitor";

/// What `kubectl kustomize` makes of the base with these components; [`JANITOR`] is none, but goes beside the base.
pub(crate) fn built(plane: &ControlPlane, components: &[&str]) -> String {
    built_with(plane, components, "")
}

/// The same of a kustomization that goes on with this.
fn built_with(plane: &ControlPlane, components: &[&str], more: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kustomize-{}-{count}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // A kustomization names what it is made of relative to itself.
    let up = "../".repeat(folder.strip_prefix(root()).unwrap().components().count());
    let path = |name: &&str| format!("{up}{name}");
    let (beside, components): (Vec<&str>, Vec<&str>) =
        components.iter().partition(|component| **component == JANITOR);
    let resources: Vec<_> = ["webhook-config"].iter().chain(&beside).map(path).collect();
    let components: Vec<_> = components.iter().map(path).collect();
    let text = format!("resources: {}\ncomponents: {}\n{more}", json!(resources), json!(components));
    fs::write(folder.join("kustomization.yaml"), text).unwrap();
    let built = plane.kubectl().arg("kustomize").arg(&folder).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    stdout(&built)
}

/// Installs what the README says, as it says it.
pub(crate) fn install(plane: &ControlPlane) {
    stdout(&plane.kubectl().args(["apply", "-k"]).arg(root().join("webhook-config")).output().unwrap());
}

/// Takes away what was installed, as the README says.
pub(crate) fn uninstall(plane: &ControlPlane) {
    let folder = root().join("webhook-config");
    stdout(&plane.kubectl().args(["delete", "--wait=false", "-k"]).arg(folder).output().unwrap());
}

/// Pipes text into a program.
pub(crate) fn piped(command: &mut Command, text: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn they_install_as_they_stand() {
    // Of its own: another installation has another image.
    let Some(plane) = ControlPlane::start() else { return };
    install(&plane);
    // Pods too: what the namespace's own Pod Security does not take is not made.
    let pods: Api<Pod> = Api::namespaced(plane.client().await, NAMESPACE);
    for component in ["webhook", "controller"] {
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        let made = eventually(component, async || {
            let made = pods.list(&selector).await.unwrap().items;
            (made.len() == 2).then_some(made)
        })
        .await;
        let image = made[0].spec.as_ref().unwrap().containers[0].image.as_deref();
        assert_eq!(image, Some(concat!("juicefs-sidecar:", env!("CARGO_PKG_VERSION"))));
    }
    let deployments: Api<Deployment> = Api::namespaced(plane.client().await, NAMESPACE);
    assert_eq!(deployments.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn every_variant_is_valid_by_schema_and_taken_by_the_api_server() {
    let Some(plane) = control_plane::shared() else { return };
    // A dry run stores no namespace for what comes after it.
    for namespace in ["webhook-config/namespace.yaml", "webhook-config/janitor/namespace.yaml"] {
        stdout(&plane.kubectl().args(["apply", "-f"]).arg(root().join(namespace)).output().unwrap());
    }
    for components in VARIANTS {
        let text = built(plane, components);
        let dry_run = [
            "apply",
            "--dry-run=server",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "-f",
            "-",
        ];
        let taken = stdout(&piped(plane.kubectl().args(dry_run), &text));
        assert!(taken.lines().count() > 15, "{components:?}: {taken}");

        let validate = root().join(".tools/venv/bin/kubernetes-validate");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-all.yaml", components.len()));
        fs::write(&file, &text).unwrap();
        let valid = Command::new(validate).args(["--strict", "-k", "1.36"]).arg(&file).output().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(valid.status.success(), "{components:?}: {}", String::from_utf8_lossy(&valid.stdout));
    }
}

#[test]
fn components_change_what_they_say() {
    let Some(plane) = control_plane::shared() else { return };
    let base = built(plane, VARIANTS[0]);
    let beside = built(plane, VARIANTS[1]);
    assert_eq!(base.matches("kind: Deployment").count(), 2);
    let one_program = built(plane, VARIANTS[2]);
    assert_eq!(one_program.matches("kind: Deployment").count(), 1);
    assert!(one_program.contains("- serve\n") && !one_program.contains("kind: CSIDriver"));
    let enterprise = built(plane, VARIANTS[3]);
    for part in ["- --enterprise-worker=/run/worker/enterprise\n", "image: juicedata/mount:ee-"] {
        assert!(enterprise.contains(part) && !base.contains(part), "{part}");
    }
    let certificates = built(plane, &["certs"]);
    assert!(certificates.contains("- --inject-ca-from=juicefs-sidecar/juicefs-sidecar-webhook\n"));
    let role = |text: &str| text.contains("- secrets\n  verbs:\n  - create\n");
    assert!(role(&base) && !role(&certificates));
    assert!(base.contains("kind: CSIDriver") && !beside.contains("kind: CSIDriver"));
    // One program has to be told by a patch.
    let readme = fs::read_to_string(root().join("certs/README.md")).unwrap();
    let (_, patches) = readme.split_once("```yaml\npatches:").unwrap();
    let patches = format!("patches:{}", patches.split_once("```").unwrap().0);
    let both = built_with(plane, &["webhook-config/components/one-program", "certs"], &patches);
    let told = "- serve\n        - --worker=/run/worker/socket\n        - --inject-ca-from=juicefs-sidecar/juicefs-sidecar-webhook\n";
    assert!(both.contains(told) && !role(&both), "{both}");
}
