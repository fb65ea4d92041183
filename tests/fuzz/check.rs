//! What has to hold for any bytes; shared by the fuzz target and by the tests that replay its corpus.

use std::{path::Path, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::{
    admission::{self, Endpoint},
    config::{Config, Process},
    inject::Engine,
    notation::Mode,
    offline::{Manifests, documents},
    outcome::Code,
};
use serde_json::Value;

/// A ConfigMap that reaches as much of the engine as one can.
const CONFIG: &str = "
mountPodPatch:
- mountOptions: [buffer-size=50%, 'cache-dir=/a:/b']
  env: [{name: A, value: '${SUB_PATH}'}]
  resourcePercentages: {requests: {cpu: 10%, memory: 10%}, limits: {memory: 50%}}
  cacheDirs: [{type: EmptyDir, sizeLimit: 1Gi}, {type: HostPath, path: '/x/${VOLUME_ID}'}]
  volumes: [{name: certs, secret: {secretName: ca}}]
  volumeMounts: [{name: certs, mountPath: /certs}]
  lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 1; stat ${MOUNT_POINT}']}}}
- nodeSelector: {matchLabels: {disk: ssd}}
  annotations: {a: b}
";

struct World {
    manifests: Manifests,
    config: Config,
    process: Process,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|above| {
        let folder = above.join("tests/reviews/cluster");
        folder.is_dir().then_some(folder)
    });
    let mut cluster = Vec::new();
    for entry in std::fs::read_dir(folder.unwrap()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        cluster.extend(documents::parse("cluster", &text).unwrap());
    }
    World {
        manifests: Manifests::gather(&cluster, "default").unwrap().0,
        config: Config::parse(CONFIG).unwrap().0,
        process: Process::default(),
    }
});

/// Asks every endpoint; panics where an answer is not valid. How the engine is configured depends on the length.
pub(crate) fn check(body: &[u8]) {
    let config = if body.len() % 4 < 2 { WORLD.config.clone() } else { Config::default() };
    let mode = body.len().is_multiple_of(3).then_some(Mode::Resilient);
    let config = Config { mode, enable_native_sidecar: Some(body.len().is_multiple_of(2)), ..config };
    let engine =
        Engine { catalog: &WORLD.manifests.catalog, config: &config, process: &WORLD.process, explain: true };
    for endpoint in Endpoint::ALL {
        answer(body, endpoint, &engine);
    }
}

fn answer(body: &[u8], endpoint: Endpoint, engine: &Engine<'_>) {
    let answer = admission::answer(body, endpoint, engine);
    assert_ne!(answer.summary.code, Code::Internal, "{}", answer.summary.message);
    if !answer.is_review() {
        assert_eq!(answer.status, 400);
        return;
    }
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    let Some(patch) = review["response"]["patch"].as_str() else { return };
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
    // Text that nobody reads may hold bytes that are not UTF-8.
    let Ok(mut question) = serde_json::from_slice::<Value>(body) else { return };
    json_patch::patch(&mut question["request"]["object"], &patch).unwrap();
}
