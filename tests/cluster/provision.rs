//! The provisioner, with the real client, redis and worker, and Kubernetes' own binder and protection controllers.

mod clone;
mod deletion;
mod editions;
mod expansion;
mod snapshot;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    check::check,
    control_plane::{ControlPlane, eventually},
    events::told,
    file_system::{self, FileSystem, PASSWORD},
    installation::controller,
    manifests,
    objects::create,
    program::Program,
};

/// A cluster of its own: in others there are volumes of file systems that nobody can ask whether they are the same.
struct Cluster {
    plane: ControlPlane,
    _controller: Program,
}

async fn cluster() -> Option<&'static Cluster> {
    static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();
    let made = SHARED.get_or_init(async || {
        let plane = ControlPlane::start_with_snapshots()?;
        manifests::install(&plane);
        let workers = file_system::shared();
        let worker = format!("--worker={}", workers.socket().display());
        let enterprise = format!("--enterprise-worker={}", workers.enterprise_socket().display());
        let controller = controller(&plane, &[&worker, &enterprise]).await;
        Some(Cluster { plane, _controller: controller })
    });
    made.await.as_ref()
}

/// A namespace with a file system, a class for it, and what is asked of both.
struct Place {
    client: Client,
    /// Of the namespace, and of the class.
    name: String,
    file_system: FileSystem,
}

impl Place {
    /// One with a class of these parameters and fields.
    async fn new(name: &str, parameters: Value, more: Value) -> Option<Self> {
        Some(Self::of(&cluster().await?.plane, name, parameters, more).await)
    }

    /// One of another cluster.
    async fn of(plane: &ControlPlane, name: &str, parameters: Value, more: Value) -> Self {
        let client = plane.client().await;
        plane.namespace(name, &[]).await;
        let file_system = file_system::shared().one();
        create(&client, file_system.secret(name, "user"), false).await.unwrap();
        let place = Self { client, name: name.to_owned(), file_system };
        place.class(name, parameters, more).await;
        place
    }

    /// One more class, of the same file system.
    async fn class(&self, name: &str, parameters: Value, more: Value) {
        let mut class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "csi.juicefs.com", "allowVolumeExpansion": true, "parameters": {
                "csi.storage.k8s.io/node-publish-secret-name": "user",
                "csi.storage.k8s.io/node-publish-secret-namespace": self.name}});
        class["parameters"].as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&self.client, class, false).await.unwrap();
    }

    /// A claim of the class, with these fields in its spec.
    async fn claim(&self, name: &str, more: Value) -> Value {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": self.name, "name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}},
                     "storageClassName": self.name}});
        claim["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&self.client, claim, false).await.unwrap()
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    /// The volume of a claim, once the claim is bound to it.
    async fn bound(&self, name: &str) -> PersistentVolume {
        let claims = self.claims();
        let volume = eventually("the claim to be bound", async || {
            let claim = claims.get(name).await.unwrap();
            let is_bound = claim.status.as_ref()?.phase.as_deref() == Some("Bound");
            claim.spec?.volume_name.filter(|_| is_bound)
        })
        .await;
        self.volumes().get(&volume).await.unwrap()
    }

    /// What people are told about a claim.
    async fn told(&self, reason: &str, claim: &str) -> String {
        told(&self.client, &self.name, reason, claim).await
    }

    /// What people are told about a volume.
    async fn told_of_volume(&self, reason: &str, volume: &str) -> String {
        told(&self.client, "default", reason, volume).await
    }

    /// Deletes a claim, and waits until its volume is gone, if it goes.
    async fn delete(&self, claim: &str) {
        self.claims().delete(claim, &DeleteParams::default()).await.unwrap();
    }

    async fn gone(&self, volume: &str) {
        let volumes = self.volumes();
        eventually("the volume to go", async || {
            volumes.get_opt(volume).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}

/// A volume that somebody made by hand, or the Go driver, for a claim of its name.
fn volume(place: &Place, name: &str, sub_path: &str, secret: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": place.name, "claimRef": {"namespace": place.name, "name": name},
        "csi": {"driver": "csi.juicefs.com", "volumeHandle": name, "fsType": "juicefs",
                "volumeAttributes": {"subPath": sub_path},
                "nodePublishSecretRef": {"namespace": place.name, "name": secret}}}})
}

/// The name of an object.
fn name(volume: &PersistentVolume) -> String {
    volume.metadata.name.clone().unwrap()
}

#[tokio::test]
async fn a_claim_gets_a_directory_a_quota_and_a_volume() {
    let Some(place) =
        Place::new("provision-plain", json!({}), json!({"mountOptions": ["subdir=/base"]})).await
    else {
        return;
    };
    let claim = place.claim("data", json!({"resources": {"requests": {"storage": "1536Mi"}}})).await;
    let volume = place.bound("data").await;
    let uid = claim["metadata"]["uid"].as_str().unwrap();
    let volume_name = format!("pvc-{uid}");
    let value = serde_json::to_value(&volume).unwrap();
    // Contract 5.2, and the standard provisioner's marks.
    assert_eq!(name(&volume), volume_name);
    let finalizers = value["metadata"]["finalizers"].as_array().unwrap();
    assert!(
        finalizers.contains(&json!("external-provisioner.volume.kubernetes.io/finalizer")),
        "{finalizers:?}"
    );
    assert_eq!(value["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], "csi.juicefs.com");
    let spec = &value["spec"];
    assert_eq!(
        (&spec["capacity"]["storage"], &spec["persistentVolumeReclaimPolicy"]),
        (&json!("1536Mi"), &json!("Delete"))
    );
    assert_eq!(spec["csi"]["volumeHandle"], volume_name.as_str());
    let attributes = &spec["csi"]["volumeAttributes"];
    assert_eq!(attributes["subPath"], volume_name.as_str());
    assert_eq!(
        (&attributes["capacity"], &attributes["juicefs/controller-quota-set"]),
        (&json!("1610612736"), &json!("true"))
    );
    assert_eq!(spec["csi"]["nodePublishSecretRef"], json!({"namespace": "provision-plain", "name": "user"}));

    // The file system was made on the way.
    let directory = format!("base/{volume_name}");
    assert_eq!(place.file_system.tree(), ["base/".to_owned(), format!("{directory}/")].into());
    assert_eq!(place.file_system.quota(&format!("/{directory}")).as_deref(), Some("2.0 GiB"));
    let note = place.told("ProvisioningSucceeded", "data").await;
    assert!(note.contains(&directory) && note.contains("2 GiB"), "{note}");
}

#[tokio::test]
async fn what_a_class_says_of_a_claim_and_its_node_is_filled_in() {
    let parameters = json!({"pathPattern": "${.PVC.namespace}/${.PVC.labels.app}/${.node.name}",
        "csi.storage.k8s.io/node-publish-secret-name": "${pvc.annotations['team/secret']}"});
    let later = json!({"volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain"});
    let Some(place) = Place::new("provision-later", parameters, later).await else { return };
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "provision-node"}});
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(place.client.clone());
    nodes.create(&kube::api::PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
            "namespace": place.name, "name": "data", "labels": {"app": "web"}, "annotations": {"team/secret": "user"}},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "storageClassName": place.name,
                 "resources": {"requests": {"storage": "1Gi"}}}});
    create(&place.client, claim, false).await.unwrap();
    // Of what the claim waits for, the scheduler does this.
    let selected =
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "provision-node"}}});
    place.claims().patch("data", &PatchParams::default(), &Patch::Merge(&selected)).await.unwrap();
    let volume = place.bound("data").await;
    let directory = "provision-later/web/provision-node";
    assert!(place.file_system.tree().contains(&format!("{directory}/")));
    let value = serde_json::to_value(&volume).unwrap();
    assert_eq!(value["spec"]["csi"]["volumeAttributes"]["subPath"], directory);
    assert_eq!(value["spec"]["accessModes"], json!(["ReadWriteOnce", "ReadWriteMany"]));
    assert_eq!(value["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    nodes.delete("provision-node", &DeleteParams::default()).await.unwrap();

    // What is kept is kept.
    place.file_system.write(&format!("{directory}/file"));
    let before = place.file_system.tree();
    place.delete("data").await;
    let (volumes, volume) = (place.volumes(), name(&volume));
    eventually("the volume to be released", async || {
        let status = volumes.get(&volume).await.unwrap().status?;
        (status.phase.as_deref() == Some("Released")).then_some(())
    })
    .await;
    assert_eq!(place.file_system.tree(), before);
    volumes.delete(&volume, &DeleteParams::default()).await.unwrap();
    place.gone(&volume).await;
    assert_eq!(place.file_system.tree(), before);
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_not_made() {
    let Some(place) = Place::new("provision-refused", json!({}), json!({})).await else { return };
    for (claim, more, text) in [
        ("block", json!({"volumeMode": "Block"}), "not a block device"),
        ("selector", json!({"selector": {"matchLabels": {"a": "b"}}}), "spec.selector"),
        ("readers", json!({"accessModes": ["ReadOnlyMany"]}), "ReadOnlyMany"),
        (
            "populator",
            json!({"dataSourceRef": {"apiGroup": "example.com", "kind": "Populator", "name": "other"}}),
            "spec.dataSource",
        ),
    ] {
        place.claim(claim, more).await;
        let note = place.told("ProvisioningFailed", claim).await;
        assert!(note.contains(text), "{note}");
    }
    let topologies =
        json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]});
    place.class("provision-topologies", json!({}), topologies).await;
    place.claim("zone", json!({"storageClassName": "provision-topologies"})).await;
    let note = place.told("ProvisioningFailed", "zone").await;
    assert!(note.contains("storageclass \"provision-topologies\": allowedTopologies"), "{note}");
    let leaving = json!({"pathPattern": "../${.PVC.name}"});
    place.class("provision-leaving", leaving, json!({})).await;
    place.claim("leaving", json!({"storageClassName": "provision-leaving"})).await;
    let note = place.told("ProvisioningFailed", "leaving").await;
    assert!(note.contains("pathPattern"), "{note}");
    // A claim that names its volume is the binder's; nobody makes another.
    place.claim("named", json!({"volumeName": "provision-by-hand"})).await;
    for claim in place.claims().list(&kube::api::ListParams::default()).await.unwrap() {
        let status = claim.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Pending"), "{:?}", claim.metadata.name);
    }
}

#[tokio::test]
async fn a_failure_says_what_is_to_be_done_and_ends_when_it_is() {
    let Some(place) = Place::new("provision-fails", json!({}), json!({})).await else { return };
    let admin = cluster().await.unwrap().plane.admin();
    let secrets: Api<Secret> = Api::namespaced(place.client.clone(), &place.name);
    let set = async |address: &str| {
        let patch = json!({"stringData": {"metaurl": address}});
        secrets.patch("user", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    };
    set(&place.file_system.address.replace(PASSWORD, "hunter22")).await;
    place.claim("password", json!({})).await;
    let note = place.told("ProvisioningFailed", "password").await;
    assert!(note.contains("correct the password") && !note.contains("hunter22"), "{note}");
    // Who asks why is told the same, once pods of the namespace are ours.
    let label = json!({"metadata": {"labels": {"juicefs.com/enable-injection": "true"}}});
    let namespaces = Api::<Namespace>::all(place.client.clone());
    namespaces.patch(&place.name, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    let (said, _) = check(&admin, &[]);
    assert!(said.contains(&format!("✘ claims: provision-fails/password has no volume: {note}")), "{said}");
    set(&place.file_system.address).await;
    place.bound("password").await;

    let absent = json!({"csi.storage.k8s.io/node-publish-secret-name": "absent"});
    place.class("provision-absent", absent, json!({})).await;
    place.claim("absent", json!({"storageClassName": "provision-absent"})).await;
    let note = place.told("ProvisioningFailed", "absent").await;
    assert!(
        note.contains("secret \"provision-fails/absent\" does not exist") && note.contains("create it"),
        "{note}"
    );
    create(&place.client, place.file_system.secret(&place.name, "absent"), false).await.unwrap();
    place.bound("absent").await;
    // Nothing of it has reached anybody's eyes.
    assert!(!file_system::shared().worker_log().contains("hunter22"));
    assert!(!file_system::shared().worker_log().contains(PASSWORD));
}

#[tokio::test]
async fn a_secret_is_kept_for_as_long_as_data_may_have_to_be_removed() {
    const FINALIZER: &str = "juicefs.com/finalizer";
    let Some(place) = Place::new("provision-secret", json!({"secretFinalizer": "true"}), json!({})).await
    else {
        return;
    };
    let secrets: Api<Secret> = Api::namespaced(place.client.clone(), &place.name);
    let holds = async || {
        let found = secrets.get_opt("user").await.unwrap()?;
        Some(found.metadata.finalizers.unwrap_or_default().iter().any(|one| one == FINALIZER))
    };
    let mut volumes = Vec::new();
    for claim in ["one", "two", "three"] {
        place.claim(claim, json!({})).await;
        volumes.push(name(&place.bound(claim).await));
    }
    eventually("the secret to be held", async || (holds().await == Some(true)).then_some(())).await;
    secrets.delete("user", &DeleteParams::default()).await.unwrap();
    place.delete("one").await;
    place.gone(&volumes[0]).await;
    assert_eq!(holds().await, Some(true), "the other volumes need it");
    // Of two that go at the same time, neither is there for the other.
    for claim in ["two", "three"] {
        place.delete(claim).await;
    }
    for volume in &volumes[1..] {
        place.gone(volume).await;
    }
    eventually("the secret to go", async || holds().await.is_none().then_some(())).await;
    assert_eq!(place.file_system.tree(), [].into());
}
