//! What an admission costs, from the bytes of the question to the bytes of the answer: ours against the generic way.
//!
//! The generic way is that of most webhooks: parse the object into a typed Pod, change it, serialise it again, and
//! answer with the difference between that and the object as it came. Both ways make the same decision with the same engine (finding volumes, merging
//! settings, writing commands); beyond that the generic one is given its changes for free, prepared beforehand.
//! `decide` is the engine's share of both.
//!
//! `cargo bench --bench admission` prints a table of the recorded reviews and fails below 5× on injected small pods
//! or below 15× on the large one.

#![expect(clippy::expect_used, reason = "a comparison that cannot be set up has failed")]

#[path = "../webhook/recorded.rs"]
mod recorded;

use std::{
    collections::BTreeMap,
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use juicefs_sidecar::{
    admission::{
        answer,
        review::{parse, text, whole_object},
    },
    inject::{Engine, Family, Subject},
    outcome::Code,
    pod::Pod as LeanPod,
};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements, Volume, VolumeMount};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// How long one path is measured on one review, in batches that alternate with the other path's.
const MEASURED: Duration = Duration::from_millis(400);
/// Batches of each path; the fastest counts, as whatever else the machine does can only slow one down.
const BATCHES: u32 = 20;
/// Bodies of more bytes are large.
const LARGE: usize = 100_000;

#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    object: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kind: &'static str,
    api_version: &'static str,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// What the engine changes about a pod, ready to be put into a typed one.
struct Changes {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    grace_period: Option<i64>,
    resources: Option<ResourceRequirements>,
    init_containers: Vec<(usize, Container)>,
    containers: Vec<(usize, Container)>,
    mounts: Vec<(String, Option<Vec<VolumeMount>>)>,
    volumes: Vec<Volume>,
}

impl Changes {
    /// What has to be done to `before` for it to become `after`.
    fn between(before: &Pod, after: &Pod) -> Self {
        let (old, new) = (before.spec.as_ref().expect("a spec"), after.spec.as_ref().expect("a spec"));
        let known = |containers: &[Container], name: &str| containers.iter().any(|known| known.name == name);
        let added = |old: &[Container], new: &[Container]| {
            let added = new.iter().enumerate().filter(|(_, container)| !known(old, &container.name));
            added.map(|(index, container)| (index, container.clone())).collect()
        };
        let old_init = old.init_containers.as_deref().unwrap_or_default();
        let new_init = new.init_containers.as_deref().unwrap_or_default();
        let kept = new_init.iter().chain(&new.containers);
        let mounts = kept.filter(|new| {
            let mut olds = old_init.iter().chain(&old.containers);
            olds.any(|old| old.name == new.name && old.volume_mounts != new.volume_mounts)
        });
        Self {
            labels: after.metadata.labels.clone(),
            annotations: after.metadata.annotations.clone(),
            grace_period: new.termination_grace_period_seconds,
            resources: new.resources.clone(),
            init_containers: added(old_init, new_init),
            containers: added(&old.containers, &new.containers),
            mounts: mounts
                .map(|container| (container.name.clone(), container.volume_mounts.clone()))
                .collect(),
            volumes: new.volumes.clone().unwrap_or_default(),
        }
    }

    fn apply(&self, pod: &mut Pod) {
        pod.metadata.labels.clone_from(&self.labels);
        pod.metadata.annotations.clone_from(&self.annotations);
        let Some(spec) = &mut pod.spec else { return };
        spec.termination_grace_period_seconds = self.grace_period;
        spec.resources.clone_from(&self.resources);
        spec.volumes = Some(self.volumes.clone());
        for (name, mounts) in &self.mounts {
            let mut all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
            if let Some(container) = all.find(|container| container.name == *name) {
                container.volume_mounts.clone_from(mounts);
            }
        }
        for (index, container) in &self.init_containers {
            spec.init_containers.get_or_insert_default().insert(*index, container.clone());
        }
        for (index, container) in &self.containers {
            spec.containers.insert(*index, container.clone());
        }
    }
}

/// One review, ready to be measured.
struct Case {
    name: String,
    body: Vec<u8>,
    code: Code,
    changes: Option<Changes>,
}

impl Case {
    fn prepare(name: String, body: Vec<u8>, engine: &Engine<'_>) -> Self {
        let answer = answer(&body, recorded::ENDPOINTS[0], engine);
        let review: Value = serde_json::from_slice(&answer.body).expect("a review");
        let changes = review["response"]["patch"].as_str().map(|patch| {
            let patch = STANDARD.decode(patch).expect("base64");
            let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
            let asked: Value = serde_json::from_slice(&body).expect("a review");
            let before = asked["request"]["object"].clone();
            let mut after = before.clone();
            json_patch::patch(&mut after, &patch).expect("the patch applies");
            let typed = |object: Value| serde_json::from_value::<Pod>(object).expect("a pod");
            let (mut before, after) = (typed(before), typed(after));
            let changes = Changes::between(&before, &after);
            changes.apply(&mut before);
            assert!(before == after, "{name}: both ways make the same pod");
            changes
        });
        Self { name, body, code: answer.summary.code, changes }
    }

    fn generic(&self) -> Vec<u8> {
        let Review { request } = serde_json::from_slice(&self.body).expect("a review");
        let mut pod: Pod = serde_json::from_str(request.object.get()).expect("a pod");
        let patch = self.changes.as_ref().map(|changes| {
            changes.apply(&mut pod);
            let changed = serde_json::to_vec(&pod).expect("a pod");
            let before: Value = serde_json::from_str(request.object.get()).expect("an object");
            let after: Value = serde_json::from_slice(&changed).expect("an object");
            let patch = json_patch::diff(&before, &after);
            STANDARD.encode(serde_json::to_vec(&patch).expect("a patch"))
        });
        let answer = Answer {
            kind: "AdmissionReview",
            api_version: "admission.k8s.io/v1",
            response: Response {
                uid: request.uid,
                allowed: true,
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch,
            },
        };
        serde_json::to_vec(&answer).expect("an answer")
    }

    fn measure(&self, engine: &Engine<'_>) -> Measured {
        let review = parse::<LeanPod<'_>>(&self.body).expect("a review");
        let request = review.request.expect("a request");
        let pod = request.object.expect("a pod");
        let subject = Subject {
            pod: &pod,
            object: &|| whole_object(&self.body),
            namespace: text(request.namespace.as_ref()),
            identity: Some(text(request.uid.as_ref())),
            family: Family::Node,
        };
        let decides = !matches!(self.code, Code::NotACreation | Code::NotAPod);
        let decide = if decides { f64::MAX } else { 0.0 };
        let mut best = Measured { ours: f64::MAX, changes: f64::MAX, decide };
        for _ in 0..BATCHES {
            let ours = batch(|| answer(black_box(&self.body), recorded::ENDPOINTS[0], engine));
            best.ours = best.ours.min(ours);
            best.changes = best.changes.min(batch(|| black_box(self).generic()));
            if decides {
                best.decide = best.decide.min(batch(|| engine.decide(black_box(&subject))));
            }
        }
        best
    }

    /// How many times as fast ours has to be, if this review is one of those that count.
    fn bar(&self) -> Option<f64> {
        (self.code == Code::Injected).then_some(if self.body.len() > LARGE { 15.0 } else { 5.0 })
    }
}

/// Seconds per answer.
struct Measured {
    /// Ours, from bytes to bytes.
    ours: f64,
    /// The generic way without its decision.
    changes: f64,
    /// The decision, a part of both.
    decide: f64,
}

impl Measured {
    fn generic(&self) -> f64 {
        self.changes + self.decide
    }
}

/// Seconds per call.
fn batch<T>(call: impl Fn() -> T) -> f64 {
    let limit = MEASURED / BATCHES;
    let started = Instant::now();
    let mut calls = 0_u32;
    while started.elapsed() < limit || calls < 3 {
        black_box(call());
        calls += 1;
    }
    started.elapsed().as_secs_f64() / f64::from(calls)
}

fn main() -> ExitCode {
    let state = recorded::state();
    let engine = state.engine();
    let mut failed = false;
    println!(
        "{:<60} {:>7} {:>8} {:>8} {:>10} {:>7}  decision",
        "review (times in µs)", "bytes", "decide", "ours", "generic", "ratio"
    );
    for (name, body) in recorded::reviews() {
        let case = Case::prepare(name, body, &engine);
        let measured = case.measure(&engine);
        let ratio = measured.generic() / measured.ours;
        let short = case.bar().is_some_and(|bar| ratio < bar);
        failed |= short;
        println!(
            "{:<60} {:>7} {:>8.1} {:>8.1} {:>10.1} {:>6.1}×  {}{}",
            case.name,
            case.body.len(),
            measured.decide * 1e6,
            measured.ours * 1e6,
            measured.generic() * 1e6,
            ratio,
            case.code,
            if short { "  TOO SLOW" } else { "" }
        );
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
