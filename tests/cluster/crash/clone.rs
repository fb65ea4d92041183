//! As [`super`], for a claim that begins with another one's data.

use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::{Api, BTreeMap, Life, PersistentVolume, Phase, Sweep, create, eventually};

/// So many steps a clone has at least, or it was not watched.
const LEAST: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_step_a_clone_is_whole_and_there_is_one() {
    let Some(sweep) = Sweep::new().await else { return };
    let mut controller = sweep.controller();
    let mut outlived = 0;
    for steps in 1.. {
        let mut life = Life::new(&sweep, steps).await;
        life.begin(Phase::Provision).await;
        eventually("the source", async || life.is_over(Phase::Provision).await.then_some(())).await;
        let source = format!("{}/deep/file", life.directory());
        life.file_system.write(&source);
        sweep.steps.arm(controller.pid(), steps);
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": life.name, "name": "copy"}, "spec": {"storageClassName": life.name,
                "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "3Gi"}},
                "dataSource": {"kind": "PersistentVolumeClaim", "name": "data"}}});
        let made = create(&sweep.client, claim, false).await.unwrap();
        let directory = format!("pvc-{}", made["metadata"]["uid"].as_str().unwrap());
        let is_bound = async || {
            let status = life.claims().get("copy").await.unwrap().status.unwrap_or_default();
            status.phase.as_deref() == Some("Bound")
        };
        eventually("the clone, or the end of the controller", async || {
            (sweep.steps.killed() || is_bound().await).then_some(())
        })
        .await;
        let (taken, killed) = sweep.steps.disarm();
        // What is done needs no source any more.
        let outlives = killed && taken.iter().any(|step| step == "the worker answers: clone");
        if killed {
            drop(controller);
            if outlives {
                life.claims().delete("data", &DeleteParams::default()).await.unwrap();
            }
            controller = sweep.controller();
            let what = format!("the clone after {taken:#?}");
            eventually(&what, async || is_bound().await.then_some(())).await;
        }
        let expected: BTreeMap<String, String> = [life.directory(), directory.clone()]
            .into_iter()
            .skip(usize::from(outlives))
            .flat_map(|above| {
                let directories =
                    [format!("{above}/"), format!("{above}/deep/")].map(|name| (name, String::new()));
                directories.into_iter().chain([(format!("{above}/deep/file"), source.clone())])
            })
            .collect();
        if outlives {
            let what = format!("the source to be gone after {taken:#?}");
            let source = format!("pvc-{}", life.uid);
            let volumes = Api::<PersistentVolume>::all(sweep.client.clone());
            eventually(&what, async || volumes.get_opt(&source).await.unwrap().is_none().then_some(())).await;
        }
        assert_eq!(life.file_system.contents(), expected, "after {taken:#?}");
        let quota = life.file_system.quota(&format!("/{directory}"));
        assert_eq!(quota.as_deref(), Some("3.0 GiB"), "after {taken:#?}");
        let volumes = Api::<PersistentVolume>::all(sweep.client.clone());
        let volumes = volumes.list(&ListParams::default()).await.unwrap().items;
        let named = |volume: &&PersistentVolume| volume.metadata.name.as_deref() == Some(&directory);
        assert_eq!(volumes.iter().filter(named).count(), 1);
        outlived += usize::from(outlives);
        if !killed {
            assert!(outlived > 0);
            assert!(taken.len() >= LEAST, "only {taken:#?}");
            return;
        }
    }
}
