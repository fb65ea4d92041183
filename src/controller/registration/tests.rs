use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::tls::authority::Authority;

const ALL: Features = Features { match_conditions: true, policies: true };

fn settings() -> Settings {
    Settings {
        namespace: "juicefs-sidecar".to_owned(),
        service: "juicefs-sidecar-webhook".to_owned(),
        port: 443,
        driver: "csi.juicefs.com".to_owned(),
        failure_policy: FailurePolicy::Fail,
        timeout: 10,
        namespaces: selector::parse("juicefs.com/enable-injection=true").unwrap(),
        serverless_namespaces: selector::parse("juicefs.com/enable-serverless-injection=true").unwrap(),
        policy: policy::Action::Warn,
        inject_ca_from: None,
    }
}

fn bundle() -> Bundle {
    let now = SystemTime::UNIX_EPOCH;
    [Authority::make(now, Duration::from_mins(1)).unwrap().certificate().clone()].into_iter().collect()
}

fn values(desired: &Desired) -> (Value, Value) {
    (serde_json::to_value(&desired.mutating).unwrap(), serde_json::to_value(&desired.validating).unwrap())
}

#[test]
fn injection_is_asked_for_pods_of_labelled_namespaces_with_volumes_that_may_be_ours() {
    let (mutating, _) = values(&desired(&settings(), ALL, Some(&bundle()), None));
    assert_eq!(mutating["metadata"]["name"], "juicefs-sidecar");
    let webhooks = mutating["webhooks"].as_array().unwrap();
    for (webhook, (path, label)) in webhooks.iter().zip([
        ("/juicefs/serverless/inject-v1-pod", "juicefs.com/enable-serverless-injection"),
        ("/juicefs/inject-v1-pod", "juicefs.com/enable-injection"),
    ]) {
        assert_eq!(
            webhook["clientConfig"]["service"],
            json!({
                "namespace": "juicefs-sidecar", "name": "juicefs-sidecar-webhook", "path": path, "port": 443
            })
        );
        assert_eq!(
            webhook["namespaceSelector"]["matchExpressions"],
            json!([
                {"key": label, "operator": "In", "values": ["true"]},
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "juicefs-sidecar"]},
            ])
        );
        assert_eq!(
            webhook["rules"],
            json!([{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced"
            }])
        );
        for (field, value) in [
            ("failurePolicy", "Fail"),
            ("reinvocationPolicy", "IfNeeded"),
            ("sideEffects", "None"),
            ("matchPolicy", "Equivalent"),
        ] {
            assert_eq!(webhook[field], value, "{field}");
        }
        assert_eq!(webhook["timeoutSeconds"], 10);
        assert_eq!(webhook["matchConditions"].as_array().unwrap().len(), 1);
    }
    assert_eq!(webhooks.len(), 2);
}

#[test]
fn no_other_vendor_depends_on_the_checks() {
    let (_, validating) = values(&desired(&settings(), ALL, Some(&bundle()), None));
    let webhooks = validating["webhooks"].as_array().unwrap();
    assert!(webhooks.iter().all(|webhook| webhook["failurePolicy"] == "Ignore"));
    assert_eq!(webhooks[0]["objectSelector"]["matchExpressions"][0]["key"], "juicefs.com/validate-secret");
    let condition = webhooks[1]["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(condition.ends_with("object.spec.csi.driver == 'csi.juicefs.com'"), "{condition}");
}

#[test]
fn what_the_api_server_does_not_know_is_left_out_and_said() {
    let old = Features { match_conditions: false, policies: false };
    let desired = desired(&settings(), old, Some(&bundle()), None);
    let (mutating, validating) = values(&desired);
    assert!(mutating["webhooks"][0].get("matchConditions").is_none());
    assert_eq!(validating["webhooks"].as_array().unwrap().len(), 1, "volumes of others must not be sent");
    assert!(desired.policy.is_none());
    assert_eq!(left_out(&settings(), old).len(), 2);
    assert!(left_out(&settings(), ALL).is_empty());
    let off = Settings { policy: policy::Action::Off, ..settings() };
    assert_eq!(left_out(&off, old).len(), 1);
}

#[test]
fn the_owner_and_the_settings_are_passed_on() {
    let owner = OwnerReference { name: "role".to_owned(), uid: "1".to_owned(), ..OwnerReference::default() };
    let settings = Settings {
        failure_policy: FailurePolicy::Ignore,
        timeout: 3,
        policy: policy::Action::Deny,
        inject_ca_from: Some("ns/certificate".to_owned()),
        ..settings()
    };
    let desired = desired(&settings, ALL, None, Some(&owner));
    let (mutating, validating) = values(&desired);
    for object in [&mutating, &validating] {
        assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "role");
        assert_eq!(object["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "ns/certificate");
        assert_eq!(object["webhooks"][0]["timeoutSeconds"], 3);
        assert!(object["webhooks"][0]["clientConfig"].get("caBundle").is_none(), "that is cert-manager's");
    }
    assert_eq!(mutating["webhooks"][0]["failurePolicy"], "Ignore");
    let (policy, binding) = desired.policy.unwrap();
    assert_eq!(policy.metadata.owner_references.unwrap()[0].name, "role");
    assert_eq!(binding.spec.validation_actions, ["Deny", "Audit"]);
}

#[test]
fn published_is_what_every_webhook_trusts() {
    let (one, two) = (bundle(), bundle());
    let both = one.union(&two);
    let Desired { mutating, validating, .. } = desired(&settings(), ALL, Some(&both), None);
    let read = |mutating: &MutatingWebhookConfiguration| published(Some(mutating), Some(&validating));
    assert_eq!(read(&mutating), both);
    assert_eq!(published(None, Some(&validating)), both);
    assert_eq!(published(Some(&mutating), None), both);
    assert!(published(None, None).is_empty());

    let with = |text: Option<String>| {
        let mut mutating = mutating.clone();
        let webhook = &mut mutating.webhooks.as_mut().unwrap()[1];
        webhook.client_config.ca_bundle = text.map(|text| ByteString(text.into_bytes()));
        mutating
    };
    assert_eq!(read(&with(Some(one.to_pem()))), one);
    assert!(read(&with(None)).is_empty());
    assert!(trusts_all(&mutating) && !trusts_all(&with(None)));
    assert!(trusts_all(&with(Some(both.to_pem().repeat(20)))), "more than we read");
    assert!(read(&with(Some("wiped".to_owned()))).is_empty());
}
