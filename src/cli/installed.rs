//! What the programs of an installation were told, read from their Deployments.

use clap::Parser as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;

use super::{Action, Command, reading::said};
use crate::{
    check::Seen,
    controller::{
        certificates::SERVING,
        rights::{Right, missing_of, needed, to_serve},
    },
};

/// A program of an installation.
pub(super) struct Installed {
    /// Its `ServiceAccount`.
    account: String,
    told: Action,
}

impl Installed {
    /// What the first container of a Deployment's pods runs, if it is one of ours and its words can be read.
    fn read(deployment: &Deployment) -> Option<Self> {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let words = pod.containers.first()?.args.iter().flatten().map(String::as_str);
        let told = Command::try_parse_from(std::iter::once("juicefs-sidecar").chain(words)).ok()?.action;
        Some(Self { account: pod.service_account_name.clone()?, told })
    }

    /// All of these.
    pub(super) fn all(deployments: &Seen<Vec<Deployment>>) -> Vec<Self> {
        deployments.iter().flatten().filter_map(Self::read).collect()
    }

    /// The Secret that it serves with, if it serves with one.
    fn secret(&self) -> Option<&str> {
        match &self.told {
            Action::Webhook(webhook) => webhook.serving.secret(),
            Action::Serve(serve) => serve.serving.secret(),
            _ => None,
        }
    }

    /// What it has to do.
    fn rights(&self) -> Vec<Right<'_>> {
        match &self.told {
            Action::Webhook(webhook) => to_serve(&webhook.installation.config_map, self.secret()),
            Action::Controller(controller) => {
                needed(&controller.duties.needs(&controller.installation.config_map))
            }
            Action::Serve(serve) => {
                let config_map = &serve.installation.config_map;
                let mut rights = to_serve(config_map, self.secret());
                rights.extend(needed(&serve.duties.needs(config_map)));
                rights
            }
            _ => Vec::new(),
        }
    }
}

/// The Secret that the webhook serves with: that of the controller where nothing else is said.
pub(super) fn serving_secret(programs: &[Installed]) -> String {
    programs.iter().find_map(Installed::secret).unwrap_or(SERVING).to_owned()
}

/// What each account may not do that its program has to.
pub(super) async fn lacking(
    client: &Client,
    namespace: &str,
    programs: &[Installed],
) -> Vec<(String, Seen<Vec<String>>)> {
    let mut found = Vec::new();
    for program in programs {
        let lacks = missing_of(client, namespace, &program.account, &program.rights()).await;
        found.push((program.account.clone(), lacks.map_err(|error| said(&error))));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(arguments: &[&str]) -> Option<Installed> {
        let deployment = json!({"spec": {"selector": {}, "template": {"spec": {
            "serviceAccountName": "account", "containers": [{"name": "one", "args": arguments}]}}}});
        Installed::read(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn a_program_needs_what_it_was_told_to_do() {
        let has = |arguments: &[&str], verb: &str, resource: &str, name: Option<&str>| {
            let program = program(arguments).unwrap();
            let is_it = |right: &Right<'_>| {
                right.resource == resource && right.name == name && right.verbs.contains(&verb)
            };
            program.rights().iter().any(is_it)
        };
        assert!(has(&["controller"], "update", "secrets", Some(SERVING)));
        assert!(!has(&["controller", "--inject-ca-from=a/b"], "update", "secrets", Some(SERVING)));
        assert!(!has(&["controller", "--provisioner=false"], "create", "persistentvolumes", None));
        assert!(has(&["webhook", "--tls-secret=mine"], "watch", "secrets", Some("mine")));
        assert!(!has(&["webhook"], "create", "persistentvolumes", None));
        assert!(has(&["serve"], "create", "persistentvolumes", None));
        assert!(has(&["serve"], "watch", "secrets", Some(SERVING)));
        assert_eq!(serving_secret(&[program(&["controller"]).unwrap()]), SERVING);
        let mine = [program(&["controller"]).unwrap(), program(&["webhook", "--tls-secret=mine"]).unwrap()];
        assert_eq!(serving_secret(&mine), "mine");
        assert!(program(&["another", "--program"]).is_none());
    }
}
