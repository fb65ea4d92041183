//! `juicefs-sidecar check`: reads what a cluster has of us and prints how it is.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::{Args, ValueEnum};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret},
    discovery::v1::EndpointSlice,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    installed::{Installed, lacking, serving_secret},
    output::{Output, plain},
    process::DriverArguments,
    program,
    reading::{get, list, said},
};
use crate::{
    check::{Facts, Finding, Level, Seen, Trial, findings, is_labelled, secrets, waits},
    cluster::client::ClientArguments,
    controller::{LEASE, MANAGER},
    migration::CONTROLLER,
    notation::Version,
    offline::{configuration::CONFIG_MAP, render},
    telemetry::ApiCalls,
    tls::inspect::seconds,
};

/// Namespaces whose claims and pods are looked at.
const MOST_NAMESPACES: usize = 200;

/// `check`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Namespace of juicefs-sidecar
    #[arg(short, long, value_name = "NAME", default_value = MANAGER)]
    namespace: String,

    /// The claim that a pod is tried with [default: any of a class of ours, in a labelled namespace]
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    claim: Option<(String, String)>,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,

    #[command(flatten)]
    driver: DriverArguments,

    #[command(flatten)]
    client: ClientArguments,
}

const EXAMPLES: &str = "\
Nothing is changed: pods are tried by a dry run of the API server.

Examples:
  juicefs-sidecar check
  juicefs-sidecar check -n storage -o json | jq '.[] | select(.level == \"bad\")'

Exit code:
  0  all is well, or only worth knowing
  1  something does not work
  2  arguments, kubeconfig or API server cannot be used";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

pub(super) fn namespaced(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let (namespace, name) = parts.ok_or("give namespace and name, like app/data")?;
    Ok((namespace.to_owned(), name.to_owned()))
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        program::wait_for(async {
            let client = self.client.client("check", ApiCalls::default()).await?;
            let facts = read(&client, &self.namespace, self.driver.name(), self.claim.clone()).await;
            let findings = findings(&facts);
            let text = match self.output {
                Form::Json => render::json(&serde_json::to_value(&findings)?),
                Form::Text => plain(&text(&findings)),
            };
            output.write(text.as_bytes())?;
            Ok(u8::from(findings.iter().any(|finding| finding.level == Level::Bad)))
        })
    }
}

/// Reads everything that is judged.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    driver: String,
    claim: Option<(String, String)>,
) -> Facts {
    let all = ListParams::default();
    let namespaces: Seen<Vec<Namespace>> = list(&Api::all(client.clone()), &all).await;
    let classes: Seen<Vec<StorageClass>> = list(&Api::all(client.clone()), &all).await;
    let labelled: Vec<String> = namespaces
        .iter()
        .flatten()
        .filter(|namespace| is_labelled(namespace))
        .filter_map(|namespace| namespace.metadata.name.clone())
        .take(MOST_NAMESPACES)
        .collect();
    let claims = of_each::<PersistentVolumeClaim>(client, &labelled).await;
    let pods = of_each::<Pod>(client, &labelled).await;
    let programs = ListParams::default().labels(&format!("app.kubernetes.io/name={MANAGER}"));
    let deployments = list::<Deployment>(&Api::namespaced(client.clone(), namespace), &programs).await;
    let installed = Installed::all(&deployments);
    let service = format!("kubernetes.io/service-name={MANAGER}-webhook");
    let slices = ListParams::default().labels(&service);
    let claim = claim.or_else(|| any_claim(&classes, &claims, &driver));
    let trial = match claim {
        Some((namespace, name)) => Some(trial(client, &namespace, &name).await),
        None => None,
    };
    Facts {
        version: version(client).await,
        nodes: list::<Node>(&Api::all(client.clone()), &all).await,
        rights: lacking(client, namespace, &installed).await,
        endpoints: list::<EndpointSlice>(&Api::namespaced(client.clone(), namespace), &slices).await,
        registrations: list::<MutatingWebhookConfiguration>(&Api::all(client.clone()), &all).await,
        serving: get::<Secret>(&Api::namespaced(client.clone(), namespace), &serving_secret(&installed))
            .await,
        config_map: get::<ConfigMap>(&Api::namespaced(client.clone(), namespace), CONFIG_MAP).await,
        lease: get::<Lease>(&Api::namespaced(client.clone(), namespace), LEASE).await,
        secrets: of_classes(client, &classes, &driver).await,
        events: of_waiting(client, &claims).await,
        deployments,
        drivers: go_controllers(client).await,
        namespaces,
        classes,
        claims,
        pods,
        trial,
        namespace: namespace.to_owned(),
        driver,
        now: seconds(std::time::SystemTime::now()),
    }
}

/// The objects of some namespaces.
async fn of_each<K>(client: &Client, namespaces: &[String]) -> Seen<Vec<K>>
where
    K: Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let mut found = Vec::new();
    for namespace in namespaces {
        found.extend(list(&Api::<K>::namespaced(client.clone(), namespace), &ListParams::default()).await?);
    }
    Ok(found)
}

/// Warnings about claims, of namespaces in which some wait.
async fn of_waiting(client: &Client, claims: &Seen<Vec<PersistentVolumeClaim>>) -> Seen<Vec<Event>> {
    let waiting = claims.iter().flatten().filter(|claim| waits(claim));
    let namespaces: BTreeSet<_> = waiting.filter_map(|claim| claim.metadata.namespace.as_deref()).collect();
    let about_claims = ListParams::default().fields("type=Warning,involvedObject.kind=PersistentVolumeClaim");
    let mut found = Vec::new();
    for namespace in namespaces {
        found.extend(list(&Api::namespaced(client.clone(), namespace), &about_claims).await?);
    }
    Ok(found)
}

async fn version(client: &Client) -> Seen<Version> {
    let info = client.apiserver_version().await.map_err(|error| said(&error))?;
    info.git_version.parse().map_err(|_| format!("{:?} is not a version", info.git_version))
}

/// The user secrets that classes of ours name.
async fn of_classes(
    client: &Client,
    classes: &Seen<Vec<StorageClass>>,
    driver: &str,
) -> Vec<(String, Seen<Option<Secret>>)> {
    let ours = classes.iter().flatten().filter(|class| class.provisioner == driver);
    let mut named: Vec<(String, String)> = ours.flat_map(secrets).collect();
    named.sort();
    named.dedup();
    let mut found = Vec::new();
    for (namespace, name) in named {
        let seen = get(&Api::namespaced(client.clone(), &namespace), &name).await;
        found.push((format!("{namespace}/{name}"), seen));
    }
    found
}

async fn go_controllers(client: &Client) -> Seen<Vec<String>> {
    // The chart makes a StatefulSet of it, other manifests a Deployment; both have pods with this label.
    let pods =
        list::<Pod>(&Api::all(client.clone()), &ListParams::default().labels(&format!("app={CONTROLLER}")))
            .await?;
    let title = |pod: Pod| {
        let (namespace, name) = (pod.metadata.namespace, pod.metadata.name);
        format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
    };
    Ok(pods.into_iter().map(title).collect())
}

/// Namespace and name of some claim of ours.
fn any_claim(
    classes: &Seen<Vec<StorageClass>>,
    claims: &Seen<Vec<PersistentVolumeClaim>>,
    driver: &str,
) -> Option<(String, String)> {
    let is_ours = |claim: &&PersistentVolumeClaim| {
        let name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        let mut classes = classes.iter().flatten().filter(|class| class.provisioner == driver);
        name.is_some() && classes.any(|class| class.metadata.name.as_deref() == name)
    };
    let claim = claims.iter().flatten().find(is_ours)?;
    claim.metadata.namespace.clone().zip(claim.metadata.name.clone())
}

/// Has the API server make a pod with a claim, and store nothing.
async fn trial(client: &Client, namespace: &str, name: &str) -> Trial {
    let pod = json!({
        "metadata": {"name": "juicefs-sidecar-check"},
        "spec": {
            "containers": [{"name": "check", "image": "check", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
        },
    });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let outcome = match serde_json::from_value::<Pod>(pod) {
        Ok(pod) => {
            Api::namespaced(client.clone(), namespace).create(&dry, &pod).await.map_err(|error| said(&error))
        }
        Err(error) => Err(error.to_string()),
    };
    Trial { claim: format!("{namespace}/{name}"), outcome }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { level, area, what, remedy } in findings {
        let mark = match level {
            Level::Good => '✔',
            Level::Note => '!',
            Level::Bad => '✘',
        };
        // What somebody else said may not look like a finding of its own.
        _ = writeln!(text, "{mark} {area}: {}", what.replace('\n', "\n    "));
        if !remedy.is_empty() {
            _ = writeln!(text, "    {remedy}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    _ = match (count(Level::Bad), count(Level::Note)) {
        (0, 0) => writeln!(text, "all is well"),
        (0, notes) => writeln!(text, "all works; {notes} worth knowing"),
        (bad, _) => writeln!(text, "{bad} to be mended"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_said_cannot_pass_for_a_finding_or_command_a_terminal() {
        let what = "app/data has no volume: no\n✔ claims: none waits\u{1b}[2J".to_owned();
        let finding = Finding { level: Level::Bad, area: "claims", what, remedy: String::new() };
        let said = plain(&text(&[finding]));
        assert_eq!(
            said,
            "✘ claims: app/data has no volume: no\n    ✔ claims: none waits\u{fffd}[2J\n1 to be mended\n"
        );
    }
}
