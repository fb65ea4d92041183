//! As [`super`], for snapshots: they are taken, and they go.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams};
use serde_json::json;

use super::{Api, BTreeSet, Life, Phase, Sweep, create, eventually};

/// So many steps each of the two has at least, or it was not watched.
const LEAST: [usize; 2] = [5, 4];

fn api(life: &Life<'_>, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", kind));
    if kind == "VolumeSnapshotContent" {
        return Api::all_with(life.sweep.client.clone(), &resource);
    }
    Api::namespaced_with(life.sweep.client.clone(), &life.name, &resource)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_step_there_is_one_snapshot_and_then_none() {
    let Some(sweep) = Sweep::with_snapshots().await else { return };
    let class = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
        "metadata": {"name": "crash"}, "driver": "csi.juicefs.com", "deletionPolicy": "Delete"});
    create(&sweep.client, class, false).await.unwrap();
    let mut controller = sweep.controller();
    let mut most = [None; 2];
    for steps in 1.. {
        let mut life = Life::new(&sweep, steps).await;
        life.begin(Phase::Provision).await;
        eventually("the source", async || life.is_over(Phase::Provision).await.then_some(())).await;
        let file = format!("{}/deep/file", life.directory());
        life.file_system.write(&file);
        let (snapshots, contents) = (api(&life, "VolumeSnapshot"), api(&life, "VolumeSnapshotContent"));
        // There is never more than one.
        let content = async || {
            let mut found = contents.list(&ListParams::default()).await.unwrap().items;
            found.retain(|one| one.data["spec"]["volumeSnapshotRef"]["namespace"] == *life.name);
            assert!(found.len() <= 1);
            found.pop()
        };
        let is_ready = async || {
            let found = snapshots.get("then").await.unwrap();
            found.data["status"]["readyToUse"] == true
        };
        for (phase, most) in most.iter_mut().enumerate() {
            if most.is_none() {
                sweep.steps.arm(controller.pid(), steps);
            }
            if phase == 0 {
                let snapshot = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                    "metadata": {"namespace": life.name, "name": "then"}, "spec": {"volumeSnapshotClassName": "crash",
                        "source": {"persistentVolumeClaimName": "data"}}});
                create(&sweep.client, snapshot, false).await.unwrap();
            } else {
                snapshots.delete("then", &DeleteParams::default()).await.unwrap();
            }
            let is_over = async || if phase == 0 { is_ready().await } else { content().await.is_none() };
            eventually("the end of the phase, or of the controller", async || {
                (sweep.steps.killed() || is_over().await).then_some(())
            })
            .await;
            let (taken, killed) = sweep.steps.disarm();
            if killed {
                drop(controller);
                controller = sweep.controller();
            } else if most.is_none() {
                *most = Some(taken.len());
            }
            eventually(&format!("the end after {taken:#?}"), async || is_over().await.then_some(())).await;
            let mut expected = tree(&life.directory());
            expected.insert(".snapshots/".to_owned());
            if let Some(content) = content().await {
                expected.extend(tree(&format!(".snapshots/{}", content.metadata.uid.unwrap())));
            }
            let found: BTreeSet<String> = life.file_system.contents().into_keys().collect();
            assert_eq!(found, expected, "after {taken:#?}");
        }
        if most.iter().all(Option::is_some) {
            break;
        }
    }
    for (most, least) in most.into_iter().zip(LEAST) {
        assert!(most >= Some(least), "only {most:?} steps");
    }
}

fn tree(directory: &str) -> BTreeSet<String> {
    ["/", "/deep/", "/deep/file"].map(|path| format!("{directory}{path}")).into()
}
