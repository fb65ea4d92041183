//! The caches of a cluster, with the rights that we ship: what is created is known, what changes changes.

use std::{process::Command, sync::Arc};

use juicefs_sidecar::{
    admission::{
        limits::Limits,
        state::{App, Completion as _, State},
    },
    cluster::{Caches, Live, Settings},
    outcome::Miss,
    telemetry::Metrics,
    volume::Catalog,
};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::{
    control_plane::{self, ControlPlane, eventually},
    manifests::{self, NAMESPACE},
    objects::{create, storage},
    program::Program,
};

const CONFIG_MAP: &str = "juicefs-csi-driver-config";

fn app() -> Arc<App> {
    let state = State { catalog: Catalog::default(), config: Arc::default(), process: Arc::default() };
    Arc::new(App::new(state, Metrics::new(), Limits::default()))
}

fn settings() -> Settings {
    Settings {
        driver: "csi.juicefs.com".to_owned(),
        namespace: NAMESPACE.to_owned(),
        config_map: CONFIG_MAP.to_owned(),
        cached_lists: false,
    }
}

async fn client_of_webhook(plane: &ControlPlane) -> kube::Client {
    manifests::install(plane);
    let kubeconfig = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
    control_plane::client(&kubeconfig).await
}

#[tokio::test]
async fn what_is_created_changed_and_deleted_is_known_as_it_is() {
    let Some(plane) = control_plane::shared() else { return };
    let client = client_of_webhook(plane).await;
    let admin = plane.client().await;
    plane.namespace("watching", &[]).await;
    let app = app();
    let mut caches = Caches::start(&client, settings(), &app).await.unwrap();
    assert!(app.unready().contains("caches"), "{}", app.unready());
    caches.synced(&app).await.unwrap();
    assert_eq!(app.unready(), "");

    for object in storage("watching", "first") {
        create(&admin, object, false).await.unwrap();
    }
    let catalog = async || Some(app.state().catalog.clone());
    let known = async |what: &str, question: fn(&Catalog) -> bool| {
        eventually(what, async || catalog().await.filter(question)).await
    };
    let catalog = known("the claim, its volume and its secret", |catalog| {
        catalog.claim("watching", "first").is_some()
            && catalog.volume_reserved_for("watching", "first").is_some()
            && catalog.user_secret("watching", "first").is_some_and(Result::is_ok)
    })
    .await;
    assert!(
        catalog.claim("watching", "first").unwrap().metadata.resource_version.is_empty(),
        "it is trimmed"
    );

    let secrets: Api<Secret> = Api::namespaced(admin.clone(), "watching");
    let without_address = json!({"data": {"metaurl": ""}});
    secrets.patch("first", &PatchParams::default(), &Patch::Merge(without_address)).await.unwrap();
    known("the secret to be broken", |catalog| {
        catalog.user_secret("watching", "first").is_some_and(Result::is_err)
    })
    .await;

    // Nobody names the secret any more.
    let volumes: Api<PersistentVolume> = Api::all(admin);
    let unprotected = json!({"metadata": {"finalizers": null}});
    volumes.delete("first", &DeleteParams::default()).await.unwrap();
    volumes.patch("first", &PatchParams::default(), &Patch::Merge(unprotected)).await.unwrap();
    known("the volume and its secret to be forgotten", |catalog| {
        catalog.volume("first").is_none() && catalog.user_secret("watching", "first").is_none()
    })
    .await;
    let metrics = app.metrics.render();
    assert!(metrics.contains("cached_objects{kind=\"PersistentVolumeClaim\"}"), "{metrics}");
}

#[tokio::test]
async fn a_bad_configuration_is_not_taken_and_a_mended_one_is() {
    let Some(plane) = control_plane::shared() else { return };
    let client = client_of_webhook(plane).await;
    let app = app();
    let _caches = Caches::start(&client, settings(), &app).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(plane.client().await, NAMESPACE);
    let edit = async |text: &str| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP}, "data": {"config.yaml": text}});
        let parameters = PatchParams::apply("test").force();
        config_maps.patch(CONFIG_MAP, &parameters, &Patch::Apply(object)).await.unwrap();
    };
    let native = || app.state().config.enable_native_sidecar;
    edit("enableNativeSidecar: false").await;
    eventually("the configuration", async || native().filter(|native| !native)).await;
    edit("enableNativeSidecar: perhaps").await;
    eventually("the bad one to be counted", async || {
        app.metrics.render().contains("config_reloads_total{result=\"failed\"} 1").then_some(())
    })
    .await;
    assert_eq!(native(), Some(false));
    edit("enableNativeSidecar: true").await;
    eventually("the mended one", async || native().filter(|native| *native)).await;
    config_maps.delete(CONFIG_MAP, &DeleteParams::default()).await.unwrap();
    eventually("the default", async || native().is_none().then_some(())).await;
}

#[tokio::test]
async fn what_the_caches_lack_is_read_live_with_the_same_rights() {
    let Some(plane) = control_plane::shared() else { return };
    let client = client_of_webhook(plane).await;
    let admin = plane.client().await;
    plane.namespace("live", &[]).await;
    for object in storage("live", "second") {
        create(&admin, object, false).await.unwrap();
    }
    let live = Live::new(client);
    let (namespace, name) = ("live".to_owned(), "second".to_owned());
    let misses = [
        Miss::Claim { namespace: namespace.clone(), name: name.clone() },
        Miss::Volume { name: name.clone() },
        Miss::Secret { namespace: namespace.clone(), name },
    ];
    let empty = Catalog::default();
    let found = live.complete(&empty, &misses).await.expect("all three are there");
    assert!(found.claim("live", "second").is_some() && found.volume("second").is_some());
    assert!(found.user_secret("live", "second").is_some_and(Result::is_ok));
    assert!(empty.claim("live", "second").is_none(), "only this decision knows them");
    let nowhere =
        [Miss::Claim { namespace, name: "nowhere".to_owned() }, Miss::Class { name: "none".to_owned() }];
    assert!(live.complete(&empty, &nowhere).await.is_none());
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_why() {
    let Some(plane) = control_plane::shared() else { return };
    manifests::install(plane);
    let ours = plane.kubeconfig(NAMESPACE, "juicefs-sidecar-webhook").await;
    let nobody = plane.kubeconfig(&plane.namespace("nobody", &[]).await, "default").await;
    let text = std::fs::read_to_string(&ours).unwrap();
    let server = text.lines().find_map(|line| line.split_once("server: ")).expect("a server").1;
    let server = server.split(['}', ',']).next().unwrap();
    let gone = plane.state().join("gone.kubeconfig");
    std::fs::write(&gone, text.replace(server, "https://127.0.0.1:1")).unwrap();
    let start = |kubeconfig: std::path::PathBuf, namespace: &'static str| {
        Program::start(move |command: &mut Command| {
            command.args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
            command.arg("--kubeconfig").arg(kubeconfig).env_remove("POD_NAMESPACE");
            if !namespace.is_empty() {
                command.args(["--namespace", namespace]);
            }
        })
    };
    for (kubeconfig, namespace, message, code) in [
        (gone, NAMESPACE, "the API server does not answer", 3),
        (nobody, NAMESPACE, "; grant it, as webhook-config/rbac-webhook.yaml does", 4),
        (ours, "", "set POD_NAMESPACE or --namespace", 5),
    ] {
        let program = start(kubeconfig, namespace);
        program.wait_for(message);
        assert_eq!(program.exit_code(), code, "{message}");
    }
}
