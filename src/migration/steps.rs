//! The order in which to go without a pod that cannot be made, and how far each step is.

use std::fmt::Write as _;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde::Serialize;

use super::{
    Facts,
    driver::{self, both_configurations, has_standard_provisioner, leaves_provisioning},
    objects::{Kind, Program},
    pods::Seen,
};
use crate::{
    check::few,
    controller::registration::{NAME, selector::is_rival},
    identifier::is_name,
    offline::configuration::CONFIG_MAP,
};

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// There is nothing (more) to do.
    Done,
    /// The first that is to be done.
    Next,
    /// To be done later.
    Open,
    /// It cannot be told from what was seen.
    Unseen,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub title: &'static str,
    /// How far it is.
    pub state: State,
    /// What was seen of it.
    pub seen: String,
    /// What does it; to be looked at before they are run.
    pub commands: Vec<String>,
}

impl Step {
    fn new(title: &'static str, state: State, seen: impl Into<String>, commands: Vec<String>) -> Self {
        let commands = if state == State::Done { Vec::new() } else { commands };
        Self { title, state, seen: seen.into(), commands }
    }
}

/// All steps, in their order.
pub(super) fn steps(facts: &Facts<'_>, pods: &Seen, blocks: usize) -> Vec<Step> {
    let mut steps = vec![
        mend(blocks),
        configuration(facts),
        install(facts),
        let_webhook_go(facts),
        make_pods_again(pods),
        stop_controller(facts, pods),
        remove(facts, pods),
    ];
    if let Some(next) = steps.iter_mut().find(|step| step.state != State::Done)
        && next.state == State::Open
    {
        next.state = State::Next;
    }
    steps
}

/// Leaves out of an object what it has of one that will be gone.
const NEUTRAL: &str = "grep --invert-match --regexp '^ *uid:' --regexp '^ *resourceVersion:'";

fn mend(blocks: usize) -> Step {
    let state = if blocks == 0 { State::Done } else { State::Open };
    let seen =
        if blocks == 0 { "nothing stands in the way".to_owned() } else { format!("{blocks} to be mended") };
    Step::new("Mend what stands in the way", state, seen, Vec::new())
}

fn configuration(facts: &Facts<'_>) -> Step {
    let (theirs, ours) = (driver::namespace(facts), &facts.namespace);
    let commands = vec![
        format!("kubectl get namespace {ours} || kubectl create namespace {ours}"),
        format!(
            "kubectl --namespace {theirs} get configmap {CONFIG_MAP} --output jsonpath='{{.data.config\\.yaml}}' > config.yaml"
        ),
        format!("kubectl --namespace {ours} create configmap {CONFIG_MAP} --from-file=config.yaml"),
    ];
    let (state, seen) = if facts.objects.is_seen(Kind::ConfigMaps) {
        match both_configurations(facts) {
            (None, Some(_)) => (State::Done, format!("the driver has none, namespace {ours} has one")),
            (None, None) => (State::Done, "there is none".to_owned()),
            (Some(_), Some(_)) => (State::Done, format!("namespace {ours} has one")),
            (Some(_), None) => (State::Open, format!("it is in namespace {theirs} only")),
        }
    } else {
        (State::Unseen, String::new())
    };
    Step::new("Take the configuration along", state, seen, commands)
}

/// The registrations, and whether each is ours.
fn registered<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (&'a MutatingWebhookConfiguration, bool)> {
    let all = facts.objects.registrations.iter();
    all.map(|one| (one, one.metadata.name.as_deref() == Some(NAME)))
}

fn install(facts: &Facts<'_>) -> Step {
    let (namespace, theirs) = (&facts.namespace, driver::namespace(facts));
    let mut command = format!(
        "helm install juicefs-sidecar charts/juicefs-sidecar --namespace {namespace} --create-namespace \
         --set besideCsiDriver.enabled=true"
    );
    if theirs != driver::USUAL_NAMESPACE {
        _ = write!(command, " --set besideCsiDriver.namespace={theirs}");
    }
    if has_standard_provisioner(facts) {
        command += " --set controller.provisioner=false";
    }
    let mut commands = vec![command, "juicefs-sidecar check".to_owned()];
    let objects = &facts.objects;
    let (state, seen) = if !objects.is_seen(Kind::Deployments) || !objects.is_seen(Kind::Registrations) {
        (State::Unseen, String::new())
    } else if objects.ours.is_empty() {
        (State::Open, "it is not installed".to_owned())
    } else if !registered(facts).any(|(_, ours)| ours) {
        (State::Open, "it is installed, and the API server does not know its webhook".to_owned())
    } else if let Some(what) = provisions_at_the_same_time(facts) {
        commands = vec![commands[0].replacen("helm install", "helm upgrade --reset-then-reuse-values", 1)];
        (State::Open, what)
    } else {
        (State::Done, "it is installed, and the API server knows its webhook".to_owned())
    };
    Step::new("Install juicefs-sidecar beside the driver", state, seen, commands)
}

/// Why both may make volumes, if they may.
fn provisions_at_the_same_time(facts: &Facts<'_>) -> Option<String> {
    let runs = facts.objects.drivers.iter().any(|driver| driver.replicas > 0);
    let waits = |program: &Program| {
        leaves_provisioning(program)
            || !has_standard_provisioner(facts)
                && (program.variable("JUICEFS_MOUNT_NAMESPACE") == Some(driver::namespace(facts))
                    || program.flag("provisioner-lease-namespace") == Some(driver::namespace(facts)))
    };
    // The webhook's Deployment makes no volumes.
    let provisions = |program: &&Program| !program.name().ends_with("-webhook");
    let other = facts.objects.ours.iter().filter(provisions).find(|program| !waits(program))?;
    runs.then(|| {
        format!("{} makes volumes at the same time as the driver: neither waits for the other", other.title())
    })
}

fn let_webhook_go(facts: &Facts<'_>) -> Step {
    const TITLE: &str = "Let the driver's webhook go";
    let theirs: Vec<String> = registered(facts)
        .filter(|(one, ours)| !ours && is_rival(one))
        .filter_map(|(one, _)| one.metadata.name.clone())
        .collect();
    if !facts.objects.is_seen(Kind::Registrations) {
        return Step::new(TITLE, State::Unseen, "", Vec::new());
    }
    let ours = registered(facts).any(|(_, ours)| ours);
    let (state, seen) = match (theirs.is_empty(), ours) {
        (true, true) => (State::Done, "only ours is asked about pods of labelled namespaces".to_owned()),
        (true, false) => (State::Open, "nobody is asked about pods of labelled namespaces".to_owned()),
        (false, true) => (
            State::Open,
            format!(
                "both are asked about pods of labelled namespaces, the first by name decides: {}",
                few(&theirs)
            ),
        ),
        (false, false) => (State::Open, format!("only that of the driver is asked: {}", few(&theirs))),
    };
    let names: Vec<&str> = theirs.iter().map(String::as_str).filter(|name| is_name(name)).collect();
    let names = names.join(" ");
    let commands = if names.is_empty() {
        Vec::new()
    } else {
        vec![
            format!(
                "kubectl get mutatingwebhookconfiguration {names} --output yaml | {NEUTRAL} > driver-webhooks.yaml"
            ),
            format!("kubectl delete mutatingwebhookconfiguration {names}"),
            "kubectl delete validatingwebhookconfiguration juicefs-admission-webhook --ignore-not-found"
                .to_owned(),
        ]
    };
    Step::new(TITLE, state, seen, commands)
}

fn make_pods_again(pods: &Seen) -> Step {
    const TITLE: &str = "Make the pods again, namespace by namespace";
    if !pods.is_known() {
        return Step::new(TITLE, State::Unseen, "", Vec::new());
    }
    let counts = pods.of_driver.iter();
    let counts: Vec<String> =
        counts.map(|(namespace, names)| format!("{namespace} ({})", names.len())).collect();
    let (state, seen) = if counts.is_empty() {
        (State::Done, format!("no pod has a client of the driver, {} have ours", pods.of_ours))
    } else {
        let seen = format!(
            "{} have a client of the driver: {}; {} have ours",
            pods.count(),
            few(&counts),
            pods.of_ours
        );
        (State::Open, seen)
    };
    // Manifests may call a namespace anything.
    let restart = pods.of_driver.keys().filter(|namespace| is_name(namespace)).map(|namespace| {
        format!("kubectl --namespace {namespace} rollout restart deployment,statefulset,daemonset")
    });
    Step::new(TITLE, state, seen, restart.collect())
}

fn stop_controller(facts: &Facts<'_>, pods: &Seen) -> Step {
    const TITLE: &str = "Stop the driver's controller";
    let objects = &facts.objects;
    if !objects.is_seen(Kind::StatefulSets) && !objects.is_seen(Kind::Deployments) {
        return Step::new(TITLE, State::Unseen, "", Vec::new());
    }
    let running: Vec<&Program> = objects.drivers.iter().filter(|driver| driver.replicas > 0).collect();
    if running.is_empty() {
        return Step::new(TITLE, State::Done, "it does not run", Vec::new());
    }
    let titles: Vec<String> = running.iter().map(|driver| driver.title()).collect();
    let mut seen = format!("it runs: {}", few(&titles));
    if let Some(holder) = holder(facts) {
        _ = write!(seen, "; {holder} holds the Lease and provisions");
    }
    if !pods.ended_by_driver.is_empty() {
        _ = write!(seen, "; it has yet to end the clients of {}", few(&pods.ended_by_driver));
    }
    let mut commands: Vec<String> = running
        .iter()
        .filter(|driver| is_name(driver.namespace()) && is_name(driver.name()))
        .map(|driver| {
            format!("kubectl --namespace {} scale {} --replicas=0", driver.namespace(), driver.reference())
        })
        .collect();
    if objects.ours.iter().any(leaves_provisioning) || has_standard_provisioner(facts) {
        commands.push(format!(
            "helm upgrade juicefs-sidecar charts/juicefs-sidecar --namespace {} --reset-then-reuse-values \
             --set controller.provisioner=true",
            facts.namespace
        ));
    }
    Step::new(TITLE, State::Open, seen, commands)
}

/// Who provisions, of the two.
fn holder<'a>(facts: &'a Facts<'_>) -> Option<&'a str> {
    let (name, namespace) = (&facts.engine.process.driver, driver::namespace(facts));
    let is_it = |lease: &&k8s_openapi::api::coordination::v1::Lease| {
        lease.metadata.name.as_deref() == Some(name) && lease.metadata.namespace.as_deref() == Some(namespace)
    };
    let lease = facts.objects.leases.iter().find(is_it)?;
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn remove(facts: &Facts<'_>, pods: &Seen) -> Step {
    const TITLE: &str = "Remove the driver, or keep it for a while: it can be gone back to";
    let objects = &facts.objects;
    if !objects.is_seen(Kind::StatefulSets) && !objects.is_seen(Kind::Deployments) {
        return Step::new(TITLE, State::Unseen, "", Vec::new());
    }
    if objects.drivers.is_empty() && objects.node_plugins.is_empty() {
        return Step::new(TITLE, State::Done, "nothing of it is left", Vec::new());
    }
    let seen = if pods.of_plugin.is_empty() {
        "docs/migration.md says what to keep".to_owned()
    } else {
        format!("pods whose volumes its node plugin mounts: {}", few(&pods.of_plugin))
    };
    Step::new(TITLE, State::Open, seen, Vec::new())
}
