//! The shapes of public templates in every profile and mode, judged by the API server.

use std::path::Path;

use juicefs_sidecar::{inject::Family, notation::Mode, outcome::Code};
use serde_json::{Value, json};

use super::{
    control_plane,
    objects::{create, parse},
    settings::{Setting, decide, patched},
};

/// Marks of the platforms that have profiles of their own.
const PLATFORMS: [(&str, &str, &str); 3] = [
    ("", "", ""),
    ("annotations", "vke.volcengine.com/burst-to-vci", "enforce"),
    ("labels", "virtual-kubelet.io/burst-to-cci", "enforce"),
];

/// Every setting, each with the mark of a platform.
fn settings() -> Vec<(Setting, usize)> {
    let mut all = Vec::new();
    for mode in [Mode::Classic, Mode::Resilient] {
        for native in [true, false] {
            for (family, platform) in
                [(Family::Node, 0), (Family::Serverless, 0), (Family::Serverless, 1), (Family::Serverless, 2)]
            {
                // Patches are for nodes.
                let patched = family == Family::Node && native;
                all.push((Setting { family, mode, native, patched }, platform));
            }
        }
    }
    all
}

#[tokio::test]
async fn the_api_server_takes_the_shapes_of_public_templates_in_every_setting() {
    let Some(plane) = control_plane::shared() else { return };
    let client = plane.client().await;
    let namespace = plane.namespace("shapes", &[]).await;
    let shapes = parse(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/shapes.yaml"));
    let complaint = async |mut pod: Value| {
        pod["metadata"]["namespace"] = namespace.as_str().into();
        create(&client, pod, true).await.err()
    };
    let (mut profiles, mut judged, mut failures) = (std::collections::BTreeMap::new(), 0, Vec::new());
    for shape in &shapes {
        let name = &shape["metadata"]["name"];
        assert_eq!(complaint(shape.clone()).await, None, "{name} is no pod");
        let mut injections = 0;
        for (setting, platform) in settings() {
            let mut pod = shape.clone();
            pod["metadata"]["namespace"] = "app".into();
            let (map, key, value) = PLATFORMS[platform];
            if !key.is_empty() {
                let mut all = pod["metadata"][map].as_object().cloned().unwrap_or_default();
                all.insert(key.to_owned(), value.into());
                pod["metadata"][map] = json!(all);
            }
            let decision = decide(setting, &pod);
            if decision.code != Code::Injected {
                // Without native sidecars no init container can use a volume, which is said.
                assert_eq!(decision.code, Code::PodUnsupported, "{name} {setting:?}: {}", decision.message);
                continue;
            }
            (judged, injections) = (judged + 1, injections + 1);
            let result = patched(&pod, &decision.patch);
            let status = result["metadata"]["annotations"]["sidecar.juicefs.com/status"].as_str().unwrap();
            let status: Value = serde_json::from_str(status).unwrap();
            *profiles.entry(format!("{} {}", status["profile"], status["mode"])).or_insert(0) += 1;
            if let Some(complaint) = complaint(result).await {
                failures.push(format!("{name} {setting:?} {key}: {complaint}"));
            }
        }
        assert!(injections >= 6, "{name} was injected in {injections} settings");
    }
    assert!(failures.is_empty(), "{} of {judged}:\n{}", failures.len(), failures.join("\n"));
    assert!(profiles.len() >= 5 && judged > 100, "{judged} were judged: {profiles:?}");
}
