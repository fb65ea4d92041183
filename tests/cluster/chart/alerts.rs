//! Alerts, by Prometheus' own tool: silent while all is well, and each fires for its cause alone.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{folder, objects};

/// Series of an installation that is well, a value each minute for three hours: a webhook, a leader and one that stood by
/// until now, with figures of a time when it led.
const WELL: [(&str, &str); 21] = [
    ("reviews_total{code='injected',instance='w'}", "0+5x180"),
    ("reviews_total{code='internal-error',instance='w'}", "3x180"),
    ("certificate_not_after_timestamp_seconds{instance='w'}", "864000x180"),
    ("requests_turned_away_total{reason='overload',instance='w'}", "7x180"),
    ("tls_handshake_failures_total{instance='w'}", "7x180"),
    ("certificate_reloads_total{result='failed',instance='w'}", "1x180"),
    ("leader{instance='a'}", "1x180"),
    ("leader{instance='b'}", "0x180"),
    ("configuration_valid{instance='a'}", "1x180"),
    ("configuration_valid{instance='b'}", "0x180"),
    ("claims_not_provisioned{instance='a'}", "0x180"),
    ("claims_not_provisioned{instance='b'}", "3x180"),
    ("volumes_not_deleted{instance='a'}", "0x180"),
    ("claims_without_credentials{instance='a'}", "0x180"),
    ("uninjected_pods{instance='a'}", "0x180"),
    ("uninjected_pods{instance='b'}", "3x180"),
    ("registration_held_back{instance='a'}", "0x180"),
    ("registration_waits{instance='a'}", "0x180"),
    ("stuck_pods{instance='a'}", "0x180"),
    ("other_registrations{instance='a'}", "0x180"),
    ("registration_changes_total{instance='a'}", "2x180"),
];

/// An alert, and the one series that is as it should not be when it fires; without values it is not there.
const ILL: [(&str, &str, &str); 17] = [
    ("WebhookAbsent", "reviews_total", ""),
    ("InternalErrors", "reviews_total{code='internal-error',instance='w'}", "0+1x180"),
    ("CertificateExpires", "certificate_not_after_timestamp_seconds{instance='w'}", "100000x180"),
    ("NoLeader", "leader{instance='a'}", "0x180"),
    ("TurnsRequestsAway", "requests_turned_away_total{reason='overload',instance='w'}", "0+60x180"),
    ("HandshakesFail", "tls_handshake_failures_total{instance='w'}", "0+60x180"),
    ("CertificateNotTaken", "certificate_reloads_total{result='failed',instance='w'}", "0+1x180"),
    ("ConfigurationInvalid", "configuration_valid{instance='a'}", "0x180"),
    ("ClaimsNotProvisioned", "claims_not_provisioned{instance='a'}", "1x180"),
    ("VolumesNotDeleted", "volumes_not_deleted{instance='a'}", "1x180"),
    ("ClaimsWithoutCredentials", "claims_without_credentials{instance='a'}", "1x180"),
    ("PodsWithoutClient", "uninjected_pods{instance='a'}", "1x180"),
    ("PodsStuck", "stuck_pods{instance='a'}", "1x180"),
    ("OtherRegistrations", "other_registrations{instance='a'}", "1x180"),
    ("RegistrationHeldBack", "registration_held_back{instance='a'}", "1x180"),
    ("RegistrationWaits", "registration_waits{instance='a'}", "1x180"),
    ("RegistrationFought", "registration_changes_total{instance='a'}", "0+1x180"),
];

fn rules_file() -> std::path::PathBuf {
    folder().join("files/rules.yaml")
}

fn rules() -> Vec<Value> {
    let rules = objects(&fs::read_to_string(rules_file()).unwrap());
    rules[0]["groups"][0]["rules"].as_array().unwrap().clone()
}

/// A test of `promtool`: with this series as it is said, just these alerts fire at the end.
fn case(ill: Option<(&str, &str)>, firing: &[&str]) -> Value {
    let named = |series: &str| format!("juicefs_sidecar_{}", series.replacen('{', "{namespace='n',", 1));
    let is_other = |series: &&(&str, &str)| ill.is_none_or(|(ill, _)| !series.0.starts_with(ill));
    let well = WELL.iter().filter(is_other).copied();
    let all = well.chain(ill.filter(|(_, values)| !values.is_empty()));
    let series: Vec<_> =
        all.map(|(series, values)| json!({"series": named(series), "values": values})).collect();
    let samples: Vec<_> = firing
        .iter()
        .map(|alert| json!({"labels": format!("{{alertname='JuicefsSidecar{alert}'}}"), "value": 1}))
        .collect();
    json!({"interval": "1m", "input_series": series, "promql_expr_test": [{
        "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
        "eval_time": "180m",
        "exp_samples": samples,
    }]})
}

#[test]
fn each_alert_fires_for_its_cause_alone() {
    let mut tests = vec![case(None, &[])];
    tests.extend(ILL.iter().map(|(alert, series, values)| case(Some((series, values)), &[alert])));
    let text = json!({"rule_files": [rules_file()], "evaluation_interval": "1m", "tests": tests}).to_string();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alerts.json");
    fs::write(&file, text).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output();
    let output = output.expect("promtool, which `make setup` installs");
    fs::remove_file(&file).unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).join("\n");
    assert!(output.status.success(), "{said}");

    let tested: BTreeSet<_> = ILL.iter().map(|(alert, ..)| format!("JuicefsSidecar{alert}")).collect();
    let there: BTreeSet<_> = rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(tested, there);
}

#[test]
fn alerts_name_metrics_that_there_are() {
    let documentation =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let metrics: Vec<_> = words.filter_map(|word| word.strip_prefix("juicefs_sidecar_")).collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            assert!(documentation.contains(&format!("| `{metric}` |")), "{metric} is not documented");
        }
        for text in ["summary", "description"] {
            assert!(
                rule["annotations"][text].as_str().is_some_and(|text| text.ends_with(['.', ')'])),
                "{rule}"
            );
        }
    }
}
