//! The guard of what was injected: a pod that says it has clients has to have them when it is stored.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use clap::ValueEnum;
use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
        ValidatingAdmissionPolicySpec, Validation, Variable,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::{NAME, Settings, selector::excluding};
use crate::inject::status::STATUS;

/// What happens to a pod that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// There is no policy
    Off,
    /// The creator is warned, and the audit log has it
    #[default]
    Warn,
    /// The pod is refused
    Deny,
}

/// The annotation has a text for each client that starts like this; CEL cannot read JSON, but find it.
const CLIENT_START: &str = r#""container":""#;
/// How it goes on after the container's name; no other container is written like that.
const CLIENT_END: &str = r#"","volume":"#;
/// The one container that serves the whole pod, the agent, is written like this.
const AGENT_START: &str = r#""containers":[""#;
/// See [`AGENT_START`].
const AGENT_END: &str = r#""]"#;
/// The same to be looked for, brackets as characters.
const AGENT: &str = r#""containers":[[]"[^"]+"[]]"#;

/// The policy.
pub(super) fn policy(settings: &Settings, metadata: ObjectMeta) -> ValidatingAdmissionPolicy {
    let variable = |(name, expression): (&str, String)| Variable { name: name.to_owned(), expression };
    let words = |word: &str| Some(vec![word.to_owned()]);
    let pods = NamedRuleWithOperations {
        api_groups: words(""),
        api_versions: words("v1"),
        operations: words("CREATE"),
        resources: words("pods"),
        ..NamedRuleWithOperations::default()
    };
    ValidatingAdmissionPolicy {
        metadata,
        spec: Some(ValidatingAdmissionPolicySpec {
            match_constraints: Some(MatchResources {
                namespace_selector: Some(excluding(&LabelSelector::default(), &settings.namespace)),
                resource_rules: Some(vec![pods]),
                ..MatchResources::default()
            }),
            match_conditions: Some(vec![MatchCondition {
                name: "was-injected".to_owned(),
                expression: format!(
                    "has(object.metadata.annotations) && '{STATUS}' in object.metadata.annotations"
                ),
            }]),
            variables: Some(variables().map(variable).into()),
            validations: Some(validations().into()),
            // An expression that fails counts as a pod that fails; the binding says what comes of it.
            failure_policy: Some("Fail".to_owned()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    }
}

fn variables() -> [(&'static str, String); 5] {
    let init = "has(object.spec.initContainers) ? object.spec.initContainers";
    [
        ("status", format!("object.metadata.annotations['{STATUS}']")),
        ("clients", format!("variables.status.findAll('{CLIENT_START}[^\"]+{CLIENT_END}')")),
        ("agents", format!("variables.status.findAll('{AGENT}')")),
        ("containers", format!("({init}.map(c, c.name) : []) + object.spec.containers.map(c, c.name)")),
        (
            "sidecars",
            format!(
                "{init}.filter(c, has(c.restartPolicy) && c.restartPolicy == 'Always').map(c, c.name) : []"
            ),
        ),
    ]
}

fn validations() -> [Validation; 2] {
    let all = |list: &str| {
        let each = |found: &str, start: &str, end: &str| {
            format!(
                "variables.{found}.all(one, variables.{list}.exists(name, one == '{start}' + name + '{end}'))"
            )
        };
        let clients = each("clients", CLIENT_START, CLIENT_END);
        format!("{clients} && {}", each("agents", AGENT_START, AGENT_END))
    };
    let validation = |expression: String, message: &str| Validation {
        expression,
        message: Some(message.to_owned()),
        ..Validation::default()
    };
    [
        validation(
            all("containers"),
            "a JuiceFS client or agent that was injected into this pod is missing, so its volume will not be there: another \
             webhook removed its container, or the pod is a copy of one that had it; create the pod without its \
             sidecar.juicefs.com/status annotation, or have the other webhook leave the container alone",
        ),
        validation(
            format!("!variables.status.contains('\"native\":true') || ({})", all("sidecars")),
            "a JuiceFS client or agent that was injected into this pod as a native sidecar has lost its restartPolicy: Always, \
             so the pod will wait for its end for ever: another webhook does not know the field; update that webhook, \
             or set enableNativeSidecar: false in the ConfigMap of juicefs-sidecar",
        ),
    ]
}

/// What makes the policy work.
pub(super) fn binding(action: Action, metadata: ObjectMeta) -> ValidatingAdmissionPolicyBinding {
    let actions = if action == Action::Deny { ["Deny", "Audit"] } else { ["Warn", "Audit"] };
    ValidatingAdmissionPolicyBinding {
        metadata,
        spec: ValidatingAdmissionPolicyBindingSpec {
            policy_name: NAME.to_owned(),
            validation_actions: actions.map(str::to_owned).into(),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inject::status::{MountBefore, Status, StatusVolume},
        notation::Mode,
    };

    #[test]
    fn each_client_is_found_in_the_annotation_and_nothing_else_is() {
        let mut status = Status::new(Mode::Resilient);
        status.containers = vec!["jfs-agent".to_owned()];
        let volume = |container: &str| StatusVolume {
            container: container.to_owned(),
            volume: "data".to_owned(),
            ..StatusVolume::default()
        };
        status.volumes = vec![volume("jfs-mount"), volume("jfs-mount-1")];
        let mount =
            MountBefore { container: "app".to_owned(), path: "/data".to_owned(), ..MountBefore::default() };
        status.undo.mounts = vec![MountBefore { volume: Some("data".to_owned()), ..mount }];
        status.native = true;
        let text = status.to_text();
        let found: Vec<_> = text
            .split(CLIENT_START)
            .skip(1)
            .filter_map(|rest| rest.split_once('"'))
            .filter(|(_, rest)| format!("\"{rest}").starts_with(CLIENT_END))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(found, ["jfs-mount", "jfs-mount-1"]);
        assert!(text.contains("\"native\":true"));
        assert_eq!(text.matches(&format!("{AGENT_START}jfs-agent{AGENT_END}")).count(), 1);
    }
}
