//! Applying the registration: server-side, with a field manager of its own.

use std::time::Duration;

use futures_util::Stream;
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        coordination::v1::Lease,
        core::v1::Namespace,
        rbac::v1::ClusterRole,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    MANAGED_BY, MANAGER,
    answered::{Answer, Answered, changes},
    problem::Problem,
    registration::{
        DRIVERS, Desired, FailurePolicy, Features, NAME, Settings, desired, left_out, published,
        selector::is_rival, trusts_all,
    },
};
use crate::tls::pem::Bundle;

/// The annotation of the Lease that holds registration back: a removal is under way.
const HELD_BACK: &str = "sidecar.juicefs.com/unregistered";
/// The first minor version of Kubernetes 1 whose `matchConditions` are on by default.
const MATCH_CONDITIONS: u32 = 28;

/// What applies the registration.
pub struct Publisher {
    client: Client,
    settings: Settings,
    /// The `ClusterRole` that owns the registrations; empty for none.
    owner: String,
    /// The Lease of the controller.
    lease: String,
    features: Option<Features>,
    answered: Answered,
    /// Whether API servers were able to ask a webhook since this process began, or since nothing was registered.
    was_registered: bool,
}

/// What came of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whether something was not as it is to be.
    pub changed: bool,
    /// What injection waits for, if it is not registered as it is to be; the rest is.
    pub waits: Option<Waits>,
}

/// What the first registration of injection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// A webhook that is ready.
    ForWebhook,
    /// The ways to one that is, for so long.
    ForRoutes(Duration),
    /// An authority that somebody else writes into it; it fails open until then.
    ForAuthority,
}

impl Publisher {
    /// Nothing is sent yet.
    pub fn new(client: Client, settings: Settings, owner: String, lease: String) -> Self {
        let answered = Answered::new(client.clone(), &settings.namespace, &settings.service);
        Self { client, settings, owner, lease, features: None, answered, was_registered: false }
    }

    /// Nothing is registered, and is not to come back before a webhook is ready.
    pub fn begin_anew(&mut self) {
        self.was_registered = false;
    }

    /// Tells of every change of those who answer.
    pub fn endpoint_changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        changes(&self.client, &self.settings.namespace, &self.settings.service)
    }

    /// What all registrations trust now.
    pub async fn published(&self) -> Result<Bundle, Problem> {
        let mutating = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let validating = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let (mutating, validating) = tokio::try_join!(mutating.get_opt(NAME), validating.get_opt(NAME))
            .map_err(Problem::api("webhook configurations"))?;
        Ok(published(mutating.as_ref(), validating.as_ref()))
    }

    /// Makes everything as it is to be, but injection for the first time, which waits until it will be answered.
    pub async fn apply(&mut self, bundle: Option<&Bundle>) -> Result<Applied, Problem> {
        let owner = self.owner().await?;
        let features = self.features().await?;
        let waits = self.waits(bundle).await?;
        let mut settings = self.settings.clone();
        if waits == Some(Waits::ForAuthority) {
            settings.failure_policy = FailurePolicy::Ignore;
        }
        let Desired { mutating, validating, policy } = desired(&settings, features, bundle, owner.as_ref());
        let mut changed = false;
        // The policy first: nothing is guarded by it that is not injected yet.
        match policy {
            Some((policy, binding)) => {
                changed |= self.put(&policy).await?;
                changed |= self.put(&binding).await?;
            }
            None if features.policies => {
                changed |= self.remove::<ValidatingAdmissionPolicyBinding>().await?;
                changed |= self.remove::<ValidatingAdmissionPolicy>().await?;
            }
            None => {}
        }
        changed |= self.put(&validating).await?;
        if matches!(waits, None | Some(Waits::ForAuthority)) {
            changed |= self.put(&mutating).await?;
        }
        self.was_registered |= waits.is_none();
        Ok(Applied { changed, waits })
    }

    /// What the registration of injection has to wait for; nothing, once there was one.
    async fn waits(&mut self, bundle: Option<&Bundle>) -> Result<Option<Waits>, Problem> {
        if self.was_registered {
            return Ok(None);
        }
        let what = format!("mutatingwebhookconfiguration \"{NAME}\"");
        let found = Api::<MutatingWebhookConfiguration>::all(self.client.clone()).get_opt(NAME).await;
        let found = found.map_err(Problem::api(what))?;
        if found.is_none() {
            match self.answered.look().await? {
                Answer::Nobody => return Ok(Some(Waits::ForWebhook)),
                Answer::Soon(left) => return Ok(Some(Waits::ForRoutes(left))),
                Answer::Ready => {}
            }
        }
        let trusted = bundle.is_some() || found.as_ref().is_some_and(trusts_all);
        Ok((!trusted).then_some(Waits::ForAuthority))
    }

    /// Registrations of the JuiceFS CSI driver whose webhook is asked about the same pods.
    pub async fn rivals(&self) -> Result<Vec<&'static str>, Problem> {
        let all = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let mut rivals = Vec::new();
        for name in DRIVERS {
            let what = format!("mutatingwebhookconfiguration \"{name}\"");
            let found = all.get_opt(name).await.map_err(Problem::api(what))?;
            if found.as_ref().is_some_and(is_rival) {
                rivals.push(name);
            }
        }
        Ok(rivals)
    }

    /// Asked for anew each time: an API server is upgraded under our feet.
    async fn features(&mut self) -> Result<Features, Problem> {
        let features = discover(&self.client).await?;
        if self.features.replace(features) != Some(features) {
            for sentence in left_out(&self.settings, features) {
                tracing::warn!("{sentence}");
            }
        }
        Ok(features)
    }

    async fn owner(&self) -> Result<Option<OwnerReference>, Problem> {
        if self.owner.is_empty() {
            return Ok(None);
        }
        let what = format!("clusterrole \"{}\"", self.owner);
        let roles = Api::<ClusterRole>::all(self.client.clone());
        let role = roles.get_opt(&self.owner).await.map_err(Problem::api(what))?;
        let role = role.filter(|role| role.metadata.deletion_timestamp.is_none());
        let role = role.ok_or_else(|| Problem::OwnerGone(self.owner.clone()))?;
        Ok(role.owner_ref(&()))
    }

    /// Applies an object of ours; whether that changed it.
    async fn put<K>(&self, object: &K) -> Result<bool, Problem>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
        K: Resource<Scope = k8s_openapi::ClusterResourceScope>,
    {
        let what = format!("{} \"{NAME}\"", K::kind(&()).to_lowercase());
        let api = Api::<K>::all(self.client.clone());
        let before = api.get_metadata_opt(NAME).await.map_err(Problem::api(&what))?;
        let parameters = PatchParams::apply(MANAGER).force();
        let after = api.patch(NAME, &parameters, &Patch::Apply(object)).await.map_err(Problem::api(&what))?;
        let before = before.and_then(|before| before.metadata.resource_version);
        let changed = before != after.meta().resource_version;
        if changed {
            tracing::info!(object = what, created = before.is_none(), "registered");
        }
        Ok(changed)
    }

    /// Deletes an object of ours, if it is there; whether it was.
    async fn remove<K>(&self) -> Result<bool, Problem>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
        K: DeserializeOwned + Clone + std::fmt::Debug,
    {
        let what = format!("{} \"{NAME}\"", K::kind(&()).to_lowercase());
        let api = Api::<K>::all(self.client.clone());
        let found = api.get_metadata_opt(NAME).await.map_err(Problem::api(&what))?;
        let ours = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER)
        };
        if !found.is_some_and(|found| found.metadata.labels.as_ref().is_some_and(ours)) {
            return Ok(false);
        }
        match api.delete(NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(Problem::api(&what)(error)),
            Ok(_) => {
                tracing::info!(object = what, "removed");
                Ok(true)
            }
        }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    /// Whether our namespace is going, and the webhook with it, though perhaps not the owner of the registrations.
    pub async fn is_going(&self) -> Result<bool, Problem> {
        let namespace = &self.settings.namespace;
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(namespace).await;
        let found = found.map_err(Problem::api(format!("namespace \"{namespace}\"")))?;
        Ok(found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
    }

    /// Since when registration is held back, if it is.
    pub async fn held_back(&self) -> Result<Option<String>, Problem> {
        let lease = self.leases().get_metadata_opt(&self.lease).await;
        let lease = lease.map_err(Problem::api(format!("lease \"{}\"", self.lease)))?;
        Ok(lease.and_then(|lease| lease.metadata.annotations?.remove(HELD_BACK)))
    }

    /// Holds registration back, also that of a leader elsewhere and of those to come; or no more.
    pub async fn hold_back(&self, hold: bool) -> Result<(), Problem> {
        let what = format!("lease \"{}\"", self.lease);
        let value = hold.then(|| Timestamp::now().to_string());
        // A leader that renews in between makes it a conflict, every few seconds at most.
        for _ in 0..5 {
            let found = self.leases().get_opt(&self.lease).await.map_err(Problem::api(&what))?;
            let is_new = found.is_none();
            let mut lease = found.unwrap_or_default();
            lease.metadata.name = Some(self.lease.clone());
            let annotations = lease.metadata.annotations.get_or_insert_default();
            match &value {
                Some(value) => drop(annotations.insert(HELD_BACK.to_owned(), value.clone())),
                None if annotations.remove(HELD_BACK).is_none() => return Ok(()),
                None => {}
            }
            let parameters = PostParams::default();
            let written = if is_new {
                self.leases().create(&parameters, &lease).await
            } else {
                self.leases().replace(&self.lease, &parameters, &lease).await
            };
            match written.map_err(Problem::api(&what)) {
                Err(Problem::Conflict { .. }) => {}
                written => return written.map(drop),
            }
        }
        Err(Problem::Conflict { what })
    }

    /// Removes every registration of ours; whether there was one.
    pub async fn withdraw(&self) -> Result<bool, Problem> {
        let mut removed = self.remove::<MutatingWebhookConfiguration>().await?;
        removed |= self.remove::<ValidatingWebhookConfiguration>().await?;
        if discover(&self.client).await?.policies {
            removed |= self.remove::<ValidatingAdmissionPolicyBinding>().await?;
            removed |= self.remove::<ValidatingAdmissionPolicy>().await?;
        }
        Ok(removed)
    }
}

/// What the API server knows.
async fn discover(client: &Client) -> Result<Features, Problem> {
    let version = client.apiserver_version().await.map_err(Problem::api("version of the API server"))?;
    let resources = client.list_api_group_resources("admissionregistration.k8s.io/v1").await;
    let resources = resources.map_err(Problem::api("discovery of admissionregistration.k8s.io/v1"))?;
    Ok(Features {
        match_conditions: minor(&version.major, &version.minor) >= MATCH_CONDITIONS,
        policies: resources.resources.iter().any(|one| one.name == "validatingadmissionpolicies"),
    })
}

/// The minor version of Kubernetes 1; managed clusters write `28+`.
fn minor(major: &str, minor: &str) -> u32 {
    let digits = minor.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
    match (major, digits.parse()) {
        ("1", Ok(minor)) => minor,
        ("1", Err(_)) => 0,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_managed_clusters_write_them() {
        assert_eq!(minor("1", "36"), 36);
        assert_eq!(minor("1", "27+"), 27);
        assert_eq!(minor("1", ""), 0);
        assert_eq!(minor("2", "0"), u32::MAX);
    }
}
