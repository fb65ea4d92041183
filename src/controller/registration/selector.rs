//! Label selectors: as they are written on a command line, and the ones we need ourselves.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

use super::DRIVERS;
use crate::pod::labels::{ENABLE, ENABLE_SERVERLESS};

/// The label by which every namespace has its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Never ours: what makes the cluster work must not wait for us.
const SYSTEM: &str = "kube-system";

/// Reads requirements joined by commas: `key=value`, `key!=value`, `key` (is there), `!key` (is not).
pub fn parse(text: &str) -> Result<LabelSelector, String> {
    let requirements = text.split(',').map(|part| requirement(part.trim())).collect::<Result<Vec<_>, _>>()?;
    Ok(LabelSelector { match_expressions: Some(requirements), match_labels: None })
}

fn requirement(text: &str) -> Result<LabelSelectorRequirement, String> {
    let (key, operator, value) = if let Some((key, value)) = text.split_once("!=") {
        (key, "NotIn", Some(value))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, "In", Some(value))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, "DoesNotExist", None)
    } else {
        (text, "Exists", None)
    };
    let (key, value) = (key.trim(), value.map(str::trim));
    if !is_key(key) || !value.is_none_or(is_value) {
        return Err(format!("{text:?}: write requirements like key=value,other!=value,key,!key"));
    }
    Ok(require(key, operator, value))
}

fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_prefix =
        |prefix: &str| prefix.len() <= 253 && rustls::pki_types::DnsName::try_from(prefix).is_ok();
    prefix.is_none_or(is_prefix) && !name.is_empty() && is_value(name)
}

fn is_value(text: &str) -> bool {
    let middle = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63 && text.bytes().all(middle) && end(bytes.first()) && end(bytes.last())
}

/// Whether webhooks of others are asked about the pods that ours is asked about: by a label of ours, or, where they are the
/// JuiceFS CSI driver's, because they are asked about all.
pub fn is_rival(registration: &MutatingWebhookConfiguration) -> bool {
    let name = registration.metadata.name.as_deref();
    let is_drivers = DRIVERS.iter().any(|driver| Some(*driver) == name);
    let of_all = |webhook: &MutatingWebhook| {
        webhook.namespace_selector.as_ref().is_none_or(|selector| *selector == LabelSelector::default())
    };
    let mut webhooks = registration.webhooks.iter().flatten();
    webhooks.any(|webhook| asks_for_labelled(webhook) || is_drivers && of_all(webhook))
}

fn asks_for_labelled(webhook: &MutatingWebhook) -> bool {
    let selector = webhook.namespace_selector.as_ref();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let expressions = selector.and_then(|selector| selector.match_expressions.as_ref());
    [ENABLE, ENABLE_SERVERLESS].iter().any(|label| {
        labels.is_some_and(|labels| labels.contains_key(*label))
            || expressions
                .is_some_and(|all| all.iter().any(|one| one.key == *label && one.operator != "NotIn"))
    })
}

/// Objects with this label.
pub(super) fn label(key: &str, value: &str) -> LabelSelector {
    only(require(key, "In", Some(value)))
}

/// Objects without this label.
pub(super) fn not(key: &str, value: &str) -> LabelSelector {
    only(require(key, "NotIn", Some(value)))
}

/// Of the namespaces of a selector, those that are neither the system's nor our own.
pub(super) fn excluding(selector: &LabelSelector, own: &str) -> LabelSelector {
    let excluded = LabelSelectorRequirement {
        values: Some(vec![SYSTEM.to_owned(), own.to_owned()]),
        ..require(NAMESPACE_NAME, "NotIn", None)
    };
    let mut selector = selector.clone();
    selector.match_expressions.get_or_insert_default().push(excluded);
    selector
}

fn only(requirement: LabelSelectorRequirement) -> LabelSelector {
    LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None }
}

fn require(key: &str, operator: &str, value: Option<&str>) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: value.map(|value| vec![value.to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_webhook_for_labelled_namespaces_is_told_from_others() {
        let registration = |name: &str, selector: Value| {
            let webhook = json!({"name": "w", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": [],
                "namespaceSelector": selector});
            is_rival(
                &serde_json::from_value(json!({"metadata": {"name": name}, "webhooks": [webhook]})).unwrap(),
            )
        };
        let asks = |selector: Value| registration("any", selector);
        let requirement =
            |key: &str, operator: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
        assert!(asks(json!({"matchLabels": {(ENABLE): "true"}})));
        assert!(asks(json!({"matchLabels": {(ENABLE_SERVERLESS): "true"}})));
        assert!(asks(requirement(ENABLE, "Exists")));
        assert!(!asks(requirement(ENABLE, "NotIn")) && !asks(requirement("other", "Exists")));
        for selector in [json!({}), Value::Null] {
            assert!(!asks(selector.clone()) && registration(DRIVERS[0], selector));
        }
        let other = json!({"matchLabels": {"other": "true"}});
        assert!(!asks(other.clone()) && !registration(DRIVERS[0], other));
    }

    #[test]
    fn requirements_are_read_as_kubectl_reads_them() {
        let selector = parse("juicefs.com/enable-injection=true, tier != test,!skip,team").unwrap();
        let read: Vec<_> = selector
            .match_expressions
            .iter()
            .flatten()
            .map(|one| {
                (one.key.as_str(), one.operator.as_str(), one.values.clone().unwrap_or_default().join("|"))
            })
            .collect();
        assert_eq!(
            read,
            [
                ("juicefs.com/enable-injection", "In", "true".to_owned()),
                ("tier", "NotIn", "test".to_owned()),
                ("skip", "DoesNotExist", String::new()),
                ("team", "Exists", String::new()),
            ]
        );
    }

    #[test]
    fn what_no_api_server_would_take_is_refused() {
        for text in ["", "a=b,", "=x", "a b=c", "a=b c", "a=-b", "/x=y", "a..b/x=y", "a in (b)"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("a={}", "x".repeat(64))).is_err());
    }
}
