//! The engine in every setting that a pod may meet.

use std::{path::Path, sync::LazyLock};

use juicefs_sidecar::{
    config::{Config, Process},
    inject::{self, Decision, Engine, Family, Subject},
    notation::Mode,
    offline::{Manifests, documents},
    pod::Pod,
};
use proptest::prelude::*;
use serde_json::Value;

use super::pods::UID;

static MANIFESTS: LazyLock<Manifests> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cluster");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(documents::parse("cluster", &std::fs::read_to_string(path).unwrap()).unwrap());
    }
    Manifests::gather(&all, "default").unwrap().0
});

/// Which shape of cluster is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) family: Family,
    pub(crate) mode: Mode,
    pub(crate) native: bool,
    /// Whether [`PATCHES`] are applied.
    pub(crate) patched: bool,
}

/// A ConfigMap with much of what the API server writes in another form than it was given.
const PATCHES: &str = "
mountPodPatch:
- env: [{name: EMPTY, value: ''}, {name: JFS_FOREGROUND, value: '0'}, {name: UNSET}]
  volumes: [{name: certs, secret: {secretName: ca}}, {name: scratch, emptyDir: {sizeLimit: 1024Mi}}]
  volumeMounts: [{name: certs, mountPath: /certs, readOnly: false}, {name: scratch, mountPath: /scratch}]
  livenessProbe: {exec: {command: [stat, '${MOUNT_POINT}']}, initialDelaySeconds: 0}
  startupProbe: {httpGet: {port: 80}, periodSeconds: 2}
  lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 3']}}}
  resources: {limits: {cpu: 1000m, memory: 1024Mi}}
  cacheDirs: [{type: EmptyDir, sizeLimit: 1024Mi}]
";

pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let mode = prop::sample::select(vec![Mode::Classic, Mode::Resilient]);
    (any::<bool>(), mode, any::<bool>(), any::<bool>()).prop_map(|(serverless, mode, native, patched)| {
        let family = if serverless { Family::Serverless } else { Family::Node };
        Setting { family, mode, native, patched }
    })
}

pub(crate) fn with_engine<T>(setting: Setting, ask: impl FnOnce(&Engine<'_>) -> T) -> T {
    let base = if setting.patched { Config::parse(PATCHES).unwrap().0 } else { Config::default() };
    let config = Config { mode: Some(setting.mode), enable_native_sidecar: Some(setting.native), ..base };
    let process = Process::default();
    ask(&Engine { catalog: &MANIFESTS.catalog, config: &config, process: &process, explain: false })
}

pub(crate) fn decide(setting: Setting, object: &Value) -> Decision {
    let text = object.to_string();
    let pod: Pod<'_> = serde_json::from_str(&text).unwrap();
    with_engine(setting, |engine| {
        engine.decide(&Subject {
            pod: &pod,
            object: &|| Ok(object.to_string().into()),
            namespace: "app",
            identity: Some(UID),
            family: setting.family,
        })
    })
}

pub(crate) fn patched(object: &Value, patch: &inject::Patch) -> Value {
    let mut changed = object.clone();
    patch.apply(&mut changed).unwrap();
    changed
}
