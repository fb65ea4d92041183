//! How API servers are told about the webhook: the objects as they are to be.
//!
//! Pure: what the cluster offers and which authorities are to be trusted is passed in; `publish` applies it.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod policy;
pub mod selector;

use std::collections::BTreeMap;

use clap::ValueEnum;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhook,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};

use self::selector::{excluding, label};
use super::{MANAGED_BY, MANAGER};
use crate::{
    admission::Endpoint,
    inject::{Family, PARENT_VOLUME, status::STATUS},
    pod::labels,
    tls::pem::{Bundle, Malformed},
};

/// The name of every cluster-wide object of ours.
pub const NAME: &str = "juicefs-sidecar";
/// The names of the JuiceFS CSI driver's, where that injects pods too.
pub const DRIVERS: [&str; 2] = ["juicefs-admission-webhook", "juicefs-admission-serverless-webhook"];
/// Seconds for checks that may fail open: nobody's volume waits longer for us.
const VALIDATION_TIMEOUT: i32 = 5;

/// What an API server does with a pod when the webhook cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailurePolicy {
    /// Refuse it; its owner tries again
    #[default]
    Fail,
    /// Let it in without a client; the watchdog tells of it
    Ignore,
}

/// What is asked of the API server; the same for the life of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the webhook's Service and the controller are.
    pub namespace: String,
    /// The Service of the webhook.
    pub service: String,
    /// Its port.
    pub port: i32,
    /// The CSI driver whose volumes are ours; a DNS name.
    pub driver: String,
    /// What if the webhook is away.
    pub failure_policy: FailurePolicy,
    /// Seconds an API server waits for an injection.
    pub timeout: i32,
    /// Namespaces whose pods are injected for ordinary nodes.
    pub namespaces: LabelSelector,
    /// Namespaces whose pods are injected for serverless nodes.
    pub serverless_namespaces: LabelSelector,
    /// What happens to pods that lost their client on the way to storage.
    pub policy: policy::Action,
    /// `namespace/name` of the cert-manager Certificate whose authority is injected by cert-manager.
    pub inject_ca_from: Option<String>,
}

/// What the API server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `matchConditions` of webhooks: on by default from Kubernetes 1.28 on.
    pub match_conditions: bool,
    /// `ValidatingAdmissionPolicy` in its stable version: Kubernetes 1.30.
    pub policies: bool,
}

/// The objects as they are to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Injection.
    pub mutating: MutatingWebhookConfiguration,
    /// Checks of secrets and volumes.
    pub validating: ValidatingWebhookConfiguration,
    /// The guard of what was injected; absent if switched off or unknown to the API server.
    pub policy: Option<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)>,
}

/// The objects; with no bundle their `caBundle` is somebody else's business.
pub fn desired(
    settings: &Settings,
    features: Features,
    bundle: Option<&Bundle>,
    owner: Option<&OwnerReference>,
) -> Desired {
    let metadata = || metadata(settings, owner);
    let entries =
        Entries { settings, features, bundle: bundle.map(|bundle| ByteString(bundle.to_pem().into_bytes())) };
    Desired {
        mutating: MutatingWebhookConfiguration {
            metadata: metadata(),
            // Injection for serverless nodes first, as with the Go driver: what it did the other leaves alone.
            webhooks: Some(vec![
                entries.injection(
                    "sidecar.inject.serverless.juicefs.com",
                    Family::Serverless,
                    &settings.serverless_namespaces,
                ),
                entries.injection("sidecar.inject.juicefs.com", Family::Node, &settings.namespaces),
            ]),
        },
        validating: ValidatingWebhookConfiguration {
            metadata: metadata(),
            webhooks: Some(
                [Some(entries.secrets()), features.match_conditions.then(|| entries.volumes())]
                    .into_iter()
                    .flatten()
                    .collect(),
            ),
        },
        policy: (features.policies && settings.policy != policy::Action::Off)
            .then(|| (policy::policy(settings, metadata()), policy::binding(settings.policy, metadata()))),
    }
}

/// What is left out because the API server does not know it, as sentences.
pub fn left_out(settings: &Settings, features: Features) -> Vec<&'static str> {
    let mut sentences = Vec::new();
    if !features.match_conditions {
        sentences.push(
            "the API server knows no matchConditions: every pod of a labelled namespace is sent to the webhook, and \
             volumes are not checked, so that other drivers' volumes need not wait for it; Kubernetes 1.28 has them",
        );
    }
    if !features.policies && settings.policy != policy::Action::Off {
        sentences.push(
            "the API server knows no ValidatingAdmissionPolicy: pods that lose their client to another webhook are \
             not noticed at creation; Kubernetes 1.30 has it",
        );
    }
    sentences
}

/// The authorities that every registered webhook trusts.
pub fn published(
    mutating: Option<&MutatingWebhookConfiguration>,
    validating: Option<&ValidatingWebhookConfiguration>,
) -> Bundle {
    let injections = mutating.iter().flat_map(|object| object.webhooks.iter().flatten());
    let checks = validating.iter().flat_map(|object| object.webhooks.iter().flatten());
    let bundles =
        injections.map(|webhook| &webhook.client_config).chain(checks.map(|webhook| &webhook.client_config));
    let mut bundles = bundles.map(trusted);
    let first = bundles.next().unwrap_or_default();
    bundles.fold(first, |all, bundle| all.iter().filter(|one| bundle.contains(one)).cloned().collect())
}

/// Whether each of the webhooks trusts somebody.
pub fn trusts_all(mutating: &MutatingWebhookConfiguration) -> bool {
    let trusts = |config: &WebhookClientConfig| {
        let text = config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
        // API servers take more of them than we read.
        Bundle::parse(text).map_or_else(|error| error == Malformed::TooMany, |bundle| !bundle.is_empty())
    };
    mutating.webhooks.iter().flatten().all(|webhook| trusts(&webhook.client_config))
}

fn trusted(config: &WebhookClientConfig) -> Bundle {
    let text = config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
    Bundle::parse(text).unwrap_or_default()
}

/// Labels of everything we make.
pub fn labels() -> BTreeMap<String, String> {
    [(MANAGED_BY, MANAGER), ("app.kubernetes.io/name", NAME)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn metadata(settings: &Settings, owner: Option<&OwnerReference>) -> ObjectMeta {
    let injected = |from: &String| [("cert-manager.io/inject-ca-from".to_owned(), from.clone())].into();
    ObjectMeta {
        name: Some(NAME.to_owned()),
        labels: Some(labels()),
        annotations: settings.inject_ca_from.as_ref().map(injected),
        owner_references: owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

struct Entries<'a> {
    settings: &'a Settings,
    features: Features,
    bundle: Option<ByteString>,
}

impl Entries<'_> {
    fn injection(&self, name: &str, family: Family, namespaces: &LabelSelector) -> MutatingWebhook {
        let settings = self.settings;
        MutatingWebhook {
            name: name.to_owned(),
            admission_review_versions: versions(),
            client_config: self.client(Endpoint::Inject(family)),
            rules: Some(vec![rule("pods", &["CREATE"])]),
            namespace_selector: Some(excluding(namespaces, &settings.namespace)),
            object_selector: Some(selector::not(labels::DISABLE, "true")),
            match_conditions: self.conditions("uses-volumes-of-juicefs", pod_condition(&settings.driver)),
            match_policy: Some("Equivalent".to_owned()),
            failure_policy: Some(format!("{:?}", settings.failure_policy)),
            reinvocation_policy: Some("IfNeeded".to_owned()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(settings.timeout),
        }
    }

    fn secrets(&self) -> ValidatingWebhook {
        ValidatingWebhook {
            object_selector: Some(label("juicefs.com/validate-secret", "true")),
            ..self.check(
                "validate.secret.juicefs.com",
                Endpoint::ValidateSecret,
                rule("secrets", &["CREATE", "UPDATE"]),
            )
        }
    }

    fn volumes(&self) -> ValidatingWebhook {
        let driver = &self.settings.driver;
        let ours = format!("has(object.spec.csi) && object.spec.csi.driver == '{driver}'");
        ValidatingWebhook {
            match_conditions: self.conditions("volume-of-juicefs", ours),
            ..self.check(
                "validate.pv.juicefs.com",
                Endpoint::ValidateVolume,
                rule("persistentvolumes", &["CREATE"]),
            )
        }
    }

    /// A check that nobody's work depends on.
    fn check(&self, name: &str, endpoint: Endpoint, rule: RuleWithOperations) -> ValidatingWebhook {
        ValidatingWebhook {
            name: name.to_owned(),
            admission_review_versions: versions(),
            client_config: self.client(endpoint),
            rules: Some(vec![rule]),
            match_policy: Some("Equivalent".to_owned()),
            failure_policy: Some("Ignore".to_owned()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(VALIDATION_TIMEOUT.min(self.settings.timeout)),
            ..ValidatingWebhook::default()
        }
    }

    fn client(&self, endpoint: Endpoint) -> WebhookClientConfig {
        WebhookClientConfig {
            ca_bundle: self.bundle.clone(),
            service: Some(ServiceReference {
                namespace: self.settings.namespace.clone(),
                name: self.settings.service.clone(),
                path: Some(endpoint.path().to_owned()),
                port: Some(self.settings.port),
            }),
            url: None,
        }
    }

    fn conditions(&self, name: &str, expression: String) -> Option<Vec<MatchCondition>> {
        self.features.match_conditions.then(|| vec![MatchCondition { name: name.to_owned(), expression }])
    }
}

/// Pods with a claim, a generic ephemeral volume or an inline volume of ours; those we have been at, whose claim may have
/// left them and who may need mending; and those that the Go driver has been at, which may be copies.
fn pod_condition(driver: &str) -> String {
    format!(
        "(has(object.spec.volumes) && object.spec.volumes.exists(volume, \
         has(volume.persistentVolumeClaim) || has(volume.ephemeral) || \
         (has(volume.csi) && volume.csi.driver == '{driver}') || \
         (has(volume.hostPath) && volume.name == '{PARENT_VOLUME}'))) || \
         (has(object.metadata.annotations) && '{STATUS}' in object.metadata.annotations)"
    )
}

fn versions() -> Vec<String> {
    vec!["v1".to_owned()]
}

fn rule(resource: &str, operations: &[&str]) -> RuleWithOperations {
    let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    RuleWithOperations {
        api_groups: words(&[""]),
        api_versions: words(&["v1"]),
        operations: words(operations),
        resources: words(&[resource]),
        scope: Some(if resource == "persistentvolumes" { "Cluster" } else { "Namespaced" }.to_owned()),
    }
}

#[cfg(test)]
mod tests;
