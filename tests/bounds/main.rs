//! What one review costs, whatever is in it, counted at the allocator.
#![cfg(feature = "engine")]

#[cfg(test)]
mod counted;
#[cfg(test)]
mod scaling;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use juicefs_sidecar::{
        admission::{Endpoint, answer},
        config::{Config, Process},
        inject::{Engine, Family},
        offline::{Manifests, documents},
    };
    use serde_json::{Value, json};

    use crate::counted::peak;

    /// The largest body that the webhook reads.
    const BODY: usize = 4 << 20;
    /// What answering it may cost beside it.
    const MOST: usize = 8 << 20;

    const CLUSTER: &str = r#"
{"apiVersion": "v1", "kind": "List", "items": [
 {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "s"},
  "stringData": {"name": "jfs", "metaurl": "redis://r/1"}},
 {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "p"}, "spec": {
  "claimRef": {"namespace": "team", "name": "data"},
  "csi": {"driver": "csi.juicefs.com", "volumeHandle": "p", "nodePublishSecretRef": {"namespace": "team", "name": "s"}}}},
 {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "team", "name": "data"},
  "spec": {"volumeName": "p"}}]}"#;

    fn review(kind: &str, object: &str) -> String {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u-1","kind":{{"group":"","version":"v1","kind":"{kind}"}},"operation":"CREATE","namespace":"team","object":{object}}}}}"#
        )
    }

    /// As many elements as there is room for, less a little for what is around them.
    fn fill(element: &str, room: usize) -> String {
        vec![element; (room - 4096) / (element.len() + 1)].join(",")
    }

    fn keys(value: &str, room: usize) -> String {
        let entry = |number: usize| format!(r#""{number:06x}":{value}"#);
        let count = (room - 4096) / (entry(0).len() + 1);
        (0..count).map(entry).collect::<Vec<_>>().join(",")
    }

    /// An injected pod as a template for those that are made worse.
    fn injected(engine: &Engine<'_>) -> Value {
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {
                "containers": [{"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
            }
        });
        let answer = answer(review("Pod", &pod.to_string()).as_bytes(), INJECT, engine);
        let response: Value = serde_json::from_slice(&answer.body).unwrap();
        let patch =
            base64::engine::general_purpose::STANDARD.decode(response["response"]["patch"].as_str().unwrap());
        json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch.unwrap()).unwrap())
            .unwrap();
        pod
    }

    const INJECT: Endpoint = Endpoint::Inject(Family::Node);

    /// An injected pod with a text of this length at a place.
    fn with(pod: &Value, pointer: &str, key: &str, text: &str) -> String {
        let mut pod = pod.clone();
        pod.pointer_mut(pointer).unwrap()[key] = "PLACE".into();
        pod.to_string().replacen("\"PLACE\"", text, 1)
    }

    #[expect(clippy::too_many_lines, reason = "a table of bodies")]
    fn hostile(injected: &Value) -> Vec<(&'static str, Endpoint, String)> {
        let spec = |text: String| review("Pod", &format!(r#"{{"spec":{{{text}}}}}"#));
        let zeros = format!("[{}]", fill("0", BODY));
        let deep = format!("{}{}", "[".repeat(BODY / 2 - 4096), "]".repeat(BODY / 2 - 4096));
        let mounts = fill(r#"{"name":"v","mountPath":"/d"}"#, BODY);
        let escaped = format!(r#""{}""#, fill(r"\n", BODY));
        let one =
            |field: &str, text: &str| spec(format!(r#""containers":[{{"name":"a","{field}":{text}}}]"#));
        let many = |pointer: &str, key: &str, text: &str| review("Pod", &with(injected, pointer, key, text));
        let pods = [
            ("containers", spec(format!(r#""containers":[{}]"#, fill("{}", BODY)))),
            ("volumes", spec(format!(r#""volumes":[{}]"#, fill("{}", BODY)))),
            (
                "claims",
                spec(format!(
                    r#""volumes":[{}]"#,
                    fill(r#"{"name":"v","persistentVolumeClaim":{"claimName":"data"}}"#, BODY)
                )),
            ),
            ("mounts of one container", one("volumeMounts", &format!("[{mounts}]"))),
            (
                "ports of many containers",
                spec(format!(
                    r#""containers":[{}]"#,
                    fill(&format!(r#"{{"ports":[{}]}}"#, vec!["{}"; 2000].join(",")), BODY)
                )),
            ),
            ("requests", one("resources", &format!(r#"{{"requests":{{{}}}}}"#, keys(r#""1""#, BODY)))),
            ("args", one("args", &zeros)),
            ("unknown", spec(format!(r#""x":{zeros}"#))),
            ("deep", spec(format!(r#""x":{deep}"#))),
            ("node selector", spec(format!(r#""nodeSelector":{{{}}}"#, keys(r#""1""#, BODY)))),
            (
                "owners",
                review("Pod", &format!(r#"{{"metadata":{{"ownerReferences":[{}]}}}}"#, fill("{}", BODY))),
            ),
            (
                "annotations",
                review("Pod", &format!(r#"{{"metadata":{{"annotations":{{{}}}}}}}"#, keys(r#""""#, BODY))),
            ),
            ("escapes in a name", spec(format!(r#""containers":[{{"name":{escaped}}}]"#))),
            ("no review", zeros.clone()),
            ("a status without end", many("/metadata/annotations", "sidecar.juicefs.com/status", &escaped)),
            ("injected: unknown", many("/spec", "x", &zeros)),
            ("injected: deep", many("/spec", "x", &deep)),
            ("injected: deep and kept", many("/spec", "os", &format!(r#"{{"x":{deep}}}"#))),
            ("injected: args", many("/spec/containers/0", "args", &zeros)),
            ("injected: args of ours", many("/spec/initContainers/0", "args", &zeros)),
            (
                "injected: annotations",
                many("/metadata/annotations", "x", &format!(r#""",{}"#, keys(r#""""#, BODY))),
            ),
            (
                "injected: one annotation",
                many("/metadata/annotations", "x", &format!(r#""{}""#, "x".repeat(BODY - 8192))),
            ),
            ("injected: labels", many("/metadata", "labels", &format!("{{{}}}", keys(r#""""#, BODY)))),
            (
                "injected: mounts",
                many(
                    "/spec/containers/0",
                    "volumeMounts",
                    &format!("[{}]", fill(r#"{"name":"v","mountPath":"/d"}"#, 80 << 10)),
                ),
            ),
            (
                "injected: environment of ours",
                many("/spec/initContainers/0", "env", &format!("[{}]", fill(r#"{"name":"A"}"#, BODY))),
            ),
            ("injected: volumes", many("/spec/volumes/0", "x", &zeros)),
        ];
        let secret = |data: String| review("Secret", &format!(r#"{{"data":{{{data}}}}}"#));
        let volume = |field: &str, text: String| {
            let csi = format!(
                r#""csi":{{"driver":"csi.juicefs.com","volumeHandle":"h","{field}":{text}}},"{field}":{text}"#
            );
            review(
                "PersistentVolume",
                &format!(r#"{{"metadata":{{"name":"p","{field}":{text}}},"spec":{{{csi}}}}}"#),
            )
        };
        let half = BODY / 4;
        let others = [
            ("secret: keys", Endpoint::ValidateSecret, secret(keys(r#""""#, BODY))),
            (
                "secret: one value",
                Endpoint::ValidateSecret,
                secret(format!(r#""envs":"{}""#, "A".repeat(BODY - 8192))),
            ),
            (
                "volume: options",
                Endpoint::ValidateVolume,
                volume("mountOptions", format!("[{}]", fill(r#""""#, half))),
            ),
            (
                "volume: attributes",
                Endpoint::ValidateVolume,
                volume("volumeAttributes", format!("{{{}}}", keys(r#""""#, half))),
            ),
            (
                "volume: labels",
                Endpoint::ValidateVolume,
                volume("labels", format!("{{{}}}", keys(r#""""#, half))),
            ),
        ];
        pods.into_iter().map(|(name, body)| (name, INJECT, body)).chain(others).collect()
    }

    #[test]
    fn no_review_costs_more_than_its_bound() {
        let documents = documents::parse("cluster", CLUSTER).unwrap();
        let manifests = Manifests::gather(&documents, "default").unwrap().0;
        let (config, process) = (Config::default(), Process::default());
        let engine =
            Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: false };
        let injected = injected(&engine);
        let mut failures = Vec::new();
        for (name, endpoint, body) in hostile(&injected) {
            assert!(body.len() <= BODY + (64 << 10), "{name}: {} bytes", body.len());
            let mut code = None;
            let cost = peak(|| code = Some(answer(body.as_bytes(), endpoint, &engine).summary.code));
            println!("{:>6} KiB  {:<20} {name}", cost >> 10, code.unwrap().as_str());
            if cost > MOST {
                failures.push(format!("{name}: {} KiB", cost >> 10));
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// The largest a pod can sensibly be is taken, and taken again when it is injected.
    #[test]
    fn a_large_pod_is_no_hostile_one() {
        let documents = documents::parse("cluster", CLUSTER).unwrap();
        let manifests = Manifests::gather(&documents, "default").unwrap().0;
        let (config, process) = (Config::default(), Process::default());
        let engine =
            Engine { catalog: &manifests.catalog, config: &config, process: &process, explain: false };
        let mut pod = injected(&engine);
        let environment: Vec<_> = (0..20_000)
            .map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "a value of some length"}))
            .collect();
        let mounts: Vec<_> =
            (0..30).map(|number| json!({"name": "v", "mountPath": format!("/d/{number}")})).collect();
        let container = |number| json!({"name": format!("app-{number}"), "image": "app:1", "volumeMounts": mounts, "ports": [{"containerPort": 80}]});
        pod["spec"]["containers"] = (0..60).map(container).collect();
        pod["spec"]["containers"][0]["env"] = environment.into();
        let body = review("Pod", &pod.to_string());
        assert!(body.len() > 1 << 20, "{} bytes", body.len());
        let mut code = None;
        let cost = peak(|| code = Some(answer(body.as_bytes(), INJECT, &engine).summary.code));
        assert!(matches!(code.unwrap().as_str(), "already-injected" | "repaired"), "{code:?}");
        assert!(cost <= MOST, "{} KiB", cost >> 10);
    }
}
