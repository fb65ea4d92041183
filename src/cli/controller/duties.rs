//! What the controller does, as flags.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    cli::{
        installation::Installation,
        process::{PodArguments, absolute_path},
    },
    controller::{
        Controller, LEASE, Provisioning, janitor,
        keeper::Source,
        lease::{Candidate, Timing},
        registration::{FailurePolicy, Settings, policy::Action, selector},
        rights::{Needs, needed},
        start::{NoStart, check},
    },
    notation::duration,
    telemetry::ControllerMetrics,
    tls::{rotation::Policy, succession::PROPAGATION},
};

/// What a controller is called that runs in no pod.
const OUTSIDE: &str = "juicefs-sidecar-controller";

/// Everything that makes a controller, but where it is installed.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct DutyArguments {
    /// Keep the Secrets that clients read, `<claim>-jfs-secret`; `false` where somebody else does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    claim_secrets: bool,

    #[command(flatten)]
    provisioning: ProvisioningArguments,

    #[command(flatten)]
    election: ElectionArguments,

    #[command(flatten)]
    registration: RegistrationArguments,

    #[command(flatten)]
    certificates: CertificateArguments,

    #[command(flatten)]
    janitor: JanitorArguments,
}

/// How claims get their volumes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Provisioning")]
struct ProvisioningArguments {
    /// Make, expand and remove the volumes of claims; `false` where somebody else does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    provisioner: bool,

    /// Socket of the worker (`jfs-agent work`), which makes directories, sets quotas and removes data; without one,
    /// clients make directories, there are no quotas, and no data is removed
    #[arg(long, value_name = "SOCKET")]
    worker: Option<PathBuf>,

    /// Socket of a worker of its own for file systems of the enterprise edition, whose clients have another image
    #[arg(long, value_name = "SOCKET", requires = "worker")]
    enterprise_worker: Option<PathBuf>,

    /// Volumes that are made, expanded or removed at the same time
    #[arg(long, env = "PROVISION_WORKER_THREADS", value_name = "NUMBER", default_value = "16",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    provision_workers: u16,

    /// Namespace of the JuiceFS CSI driver's controller, where that still runs: of the two, the one provisions that
    /// holds the Lease there that is named after the driver
    #[arg(long, env = "JUICEFS_MOUNT_NAMESPACE", value_name = "NAME")]
    provisioner_lease_namespace: Option<String>,
}

/// Who works, of several.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
#[expect(clippy::struct_field_names, reason = "they are the flags")]
struct ElectionArguments {
    /// Work only while holding a Lease; `false` where there is never more than one controller
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    leader_election: bool,

    /// Namespace of the Lease [default: --namespace]
    #[arg(long, value_name = "NAME")]
    leader_election_namespace: Option<String>,

    /// How long a leader that is silent is believed to work
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    leader_election_lease_duration: Duration,
}

/// How the webhook is registered.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registration")]
struct RegistrationArguments {
    /// Service of the webhook, in the same namespace
    #[arg(long, value_name = "NAME", default_value = "juicefs-sidecar-webhook")]
    service: String,

    /// Port of that Service
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    service_port: u16,

    /// What the API server does with pods while no webhook answers
    #[arg(long, value_enum, default_value_t, ignore_case = true, value_name = "POLICY")]
    failure_policy: FailurePolicy,

    /// How long the API server waits for an injection, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=30))]
    webhook_timeout: i32,

    /// Namespaces whose pods are injected
    #[arg(long, value_name = "SELECTOR", default_value = "juicefs.com/enable-injection=true",
          value_parser = selector::parse)]
    namespace_selector: LabelSelector,

    /// Namespaces whose pods are injected for serverless nodes
    #[arg(long, value_name = "SELECTOR", default_value = "juicefs.com/enable-serverless-injection=true",
          value_parser = selector::parse)]
    serverless_namespace_selector: LabelSelector,

    /// What happens to a pod that lost an injected client to another webhook
    #[arg(long, value_enum, default_value_t, value_name = "ACTION")]
    guard: Action,

    /// `ClusterRole` that owns the registrations, so that they go with it; empty for none
    #[arg(long, value_name = "NAME", default_value = "juicefs-sidecar-controller")]
    owner_cluster_role: String,
}

/// Where certificates come from: by default they are made, stored and renewed here.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Certificates")]
struct CertificateArguments {
    /// PEM file with the authority of a certificate that the webhook gets from elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "inject_ca_from")]
    ca_file: Option<PathBuf>,

    /// cert-manager's Certificate of the webhook: cert-manager writes its authority into the registrations
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    inject_ca_from: Option<String>,

    /// How long an authority lasts; renewed at two thirds
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = lifetime)]
    ca_lifetime: Duration,

    /// How long a serving certificate lasts; renewed at two thirds; at most a third of an authority's
    #[arg(long, value_name = "DURATION", default_value = "720h", value_parser = lifetime)]
    certificate_lifetime: Duration,
}

/// How pods that cannot go are set free.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pods that cannot go")]
struct JanitorArguments {
    /// Namespace of the pods that detach mounts which nobody serves any more; empty to have none, and events that say what
    /// to do by hand
    #[arg(long, value_name = "NAME", default_value = "juicefs-sidecar-janitor")]
    janitor_namespace: String,

    /// The kubelet's directory on the nodes
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/kubelet", value_parser = absolute_path)]
    kubelet_directory: String,

    /// How long the directories that pods leave on a node are collected before they are removed together
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = tidy_duration)]
    tidy_after: Duration,
}

impl JanitorArguments {
    fn settings(&self, pods: &PodArguments) -> janitor::Settings {
        janitor::Settings {
            namespace: Some(self.janitor_namespace.clone()).filter(|namespace| !namespace.is_empty()),
            kubelet_directory: self.kubelet_directory.trim_end_matches('/').to_owned(),
            mount_directory: pods.mount_directory().trim_end_matches('/').to_owned(),
            tidy_after: self.tidy_after,
            image: pods.agent_image(),
        }
    }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).ok().filter(|duration| duration.subsec_nanos() == 0);
    duration
        .filter(|duration| (3..=3_600).contains(&duration.as_secs()))
        .ok_or_else(|| "write whole seconds from 3s to 1h".to_owned())
}

fn tidy_duration(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_hours(24);
    duration::parse(text)
        .ok()
        .filter(|duration| (Duration::from_secs(1)..=longest).contains(duration))
        .ok_or_else(|| "write a duration from 1s to 24h".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let shortest = Duration::from_mins(1);
    let longest = Duration::from_hours(10 * 365 * 24);
    duration::parse(text)
        .ok()
        .filter(|duration| (shortest..=longest).contains(duration))
        .ok_or_else(|| "write a duration from 60s to 87600h".to_owned())
}

fn namespaced(text: &str) -> Result<String, String> {
    let parts = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    parts
        .filter(|(_, name)| !name.contains('/'))
        .map(|_| text.to_owned())
        .ok_or_else(|| "write NAMESPACE/NAME".to_owned())
}

impl DutyArguments {
    /// The controller that these flags ask for.
    pub(in crate::cli) fn controller(
        &self,
        installation: Installation,
        driver: String,
        pods: &PodArguments,
        metrics: ControllerMetrics,
    ) -> anyhow::Result<Controller> {
        let Installation { client, namespace, pod, config_map } = installation;
        let registration = &self.registration;
        let host = format!("{}.{namespace}.svc", registration.service);
        let short = format!("{}.{namespace}", registration.service);
        let names = vec![host.clone(), short, format!("{host}.cluster.local")];
        let settings = Settings {
            namespace,
            service: registration.service.clone(),
            port: registration.service_port.into(),
            driver,
            failure_policy: registration.failure_policy,
            timeout: registration.webhook_timeout,
            namespaces: registration.namespace_selector.clone(),
            serverless_namespaces: registration.serverless_namespace_selector.clone(),
            policy: registration.guard,
            inject_ca_from: self.certificates.inject_ca_from.clone(),
        };
        Ok(Controller {
            client,
            settings,
            source: self.certificates.source(names)?,
            owner: registration.owner_cluster_role.clone(),
            configuration: config_map,
            claim_secrets: self.claim_secrets,
            provisioning: self.provisioning.provisioner.then(|| Provisioning {
                worker: self.provisioning.worker.clone(),
                enterprise_worker: self.provisioning.enterprise_worker.clone(),
                most: self.provisioning.provision_workers.into(),
                lease: self
                    .provisioning
                    .provisioner_lease_namespace
                    .clone()
                    .filter(|namespace| !namespace.is_empty())
                    .map(|namespace| (namespace, Timing::of(self.election.leader_election_lease_duration))),
            }),
            janitor: self.janitor.settings(pods),
            pod: pod.unwrap_or_else(|| OUTSIDE.to_owned()),
            metrics,
        })
    }

    /// What a controller with these flags and this `ConfigMap` needs rights for.
    pub(in crate::cli) fn needs<'a>(&'a self, configuration: &'a str) -> Needs<'a> {
        Needs {
            owner: &self.registration.owner_cluster_role,
            lease: LEASE,
            configuration,
            certificates: self.certificates.ca_file.is_none() && self.certificates.inject_ca_from.is_none(),
            claim_secrets: self.claim_secrets,
            provisioning: self.provisioning.provisioner,
        }
    }

    /// Who stands for election with it, if there is one.
    pub(in crate::cli) fn candidate(&self, controller: &Controller) -> Option<Candidate> {
        let ElectionArguments {
            leader_election,
            leader_election_namespace: namespace,
            leader_election_lease_duration: duration,
        } = &self.election;
        let namespace = namespace.as_ref().unwrap_or(&controller.settings.namespace);
        leader_election.then(|| {
            Candidate::new(
                controller.client.clone(),
                namespace,
                LEASE,
                &controller.pod,
                Timing::of(*duration),
            )
        })
    }
}

/// Whether the controller can begin.
pub(in crate::cli) async fn checked(duties: &DutyArguments, controller: &Controller) -> Result<(), NoStart> {
    let rights = needed(&duties.needs(&controller.configuration));
    check(&controller.client, &controller.settings.namespace, &rights).await
}

/// Works for ever: always, or whenever elected.
pub(in crate::cli) async fn work(controller: &Controller, candidate: Option<&mut Candidate>) {
    if let Some(candidate) = candidate {
        Box::pin(controller.lead(candidate)).await;
    } else {
        controller.metrics.leads(true);
        Box::pin(controller.work()).await;
    }
}

impl CertificateArguments {
    fn source(&self, names: Vec<String>) -> anyhow::Result<Source> {
        if self.inject_ca_from.is_some() {
            return Ok(Source::Injected);
        }
        if let Some(path) = &self.ca_file {
            return Ok(Source::File(path.clone()));
        }
        anyhow::ensure!(
            self.ca_lifetime >= self.certificate_lifetime * 3,
            "--ca-lifetime has to be three times --certificate-lifetime or more, so that no certificate outlives its \
             authority"
        );
        Ok(Source::Managed(Policy {
            authority_lifetime: self.ca_lifetime,
            leaf_lifetime: self.certificate_lifetime,
            propagation: PROPAGATION.min(self.certificate_lifetime / 12),
            names,
        }))
    }
}
