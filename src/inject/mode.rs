//! Which kind of sidecars a pod gets, and on whose word.
//!
//! The narrower word counts: the pod's, its namespace's, that of its volumes, the ConfigMap's. What somebody asked for
//! and cannot have is refused; the ConfigMap's word is for many pods, and those that cannot have it stay classic. Where
//! nobody says anything, pods of ordinary nodes get resilient mode if every node they may run on can bear it.

use crate::{
    inject::{Engine, Family, Subject, check::is_sandbox, node::Native, profile::Profile},
    notation::{
        Mode,
        mode::{self, NotAMode},
    },
    outcome::{Code, Refusal},
    volume::{Resolved, settings::Source, wanted_mode},
};

/// The pod's annotation.
const ANNOTATION: &str = "annotation sidecar.juicefs.com/mode";
/// The namespace's label.
pub(crate) const LABEL: &str = "sidecar.juicefs.com/mode";

/// What was decided.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) mode: Mode,
    /// Whose word it is.
    pub(super) source: Source,
    /// Why it is not what that word says, or why somebody's word did not count.
    pub(super) warnings: Vec<String>,
}

/// A word for a mode.
struct Wish {
    mode: Mode,
    source: Source,
    /// The object and field, for refusals; `None` if it was not meant for this pod above others.
    place: Option<String>,
}

/// Why a pod cannot have resilient mode, and what helps.
struct Obstacle {
    what: String,
    remedy: &'static str,
}

/// Decides on the mode of a pod.
pub(super) fn choose(
    engine: &Engine<'_>,
    subject: &Subject<'_>,
    resolved: &[Resolved],
    profile: &Profile,
    native: &Native,
) -> Result<Chosen, Refusal> {
    let mut warnings = Vec::new();
    let wish = match of_pod(subject)? {
        Some(wish) => wish,
        None => match of_namespace(engine, subject)? {
            Some(wish) => wish,
            None => {
                of_volumes(engine, resolved, &mut warnings)?.unwrap_or_else(|| of_config(engine, profile))
            }
        },
    };
    let Wish { mode, source, place } = wish;
    let obstacle = if mode == Mode::Resilient { obstacle(subject, profile, native) } else { None };
    match (obstacle, place) {
        (None, _) => Ok(Chosen { mode, source, warnings }),
        (Some(Obstacle { what, remedy }), Some(place)) => Err(Refusal::new(
            Code::PodUnsupported,
            place,
            format!("asks for resilient mode, but {what}"),
            format!("{remedy}, or ask for classic"),
        )),
        // What nobody asked for nobody misses.
        (Some(Obstacle { what, .. }), None) if source == Source::Default => {
            Ok(Chosen { mode: Mode::Classic, source: Source::Fallback(what), warnings })
        }
        (Some(Obstacle { what, .. }), None) => {
            warnings.push(format!("{source}: the pod gets classic instead of resilient mode: {what}"));
            Ok(Chosen { mode: Mode::Classic, source, warnings })
        }
    }
}

fn of_pod(subject: &Subject<'_>) -> Result<Option<Wish>, Refusal> {
    let annotations = subject.pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.mode.as_deref()) else { return Ok(None) };
    let place = format!("pod: {ANNOTATION}");
    let mode = parse(text, &place)?;
    Ok(Some(Wish { mode, source: Source::Pod(ANNOTATION.to_owned()), place: Some(place) }))
}

fn of_namespace(engine: &Engine<'_>, subject: &Subject<'_>) -> Result<Option<Wish>, Refusal> {
    let namespace = engine.catalog.namespace(subject.namespace);
    let Some(text) = namespace.and_then(|namespace| namespace.metadata.labels.get(LABEL)) else {
        return Ok(None);
    };
    let place = format!("namespace {:?}: label {LABEL}", subject.namespace);
    let mode = parse(text, &place)?;
    Ok(Some(Wish { mode, source: Source::Namespace(LABEL), place: Some(place) }))
}

/// The word of the volumes. A pod has one mode: where they disagree it is the one that works for all of them.
fn of_volumes(
    engine: &Engine<'_>,
    resolved: &[Resolved],
    warnings: &mut Vec<String>,
) -> Result<Option<Wish>, Refusal> {
    let mut found: Option<Wish> = None;
    let mut differ = false;
    for one in resolved {
        let Some((mode, place, source)) = wanted_mode(one, engine.config)? else { continue };
        let wish = Wish { mode, source, place: Some(place) };
        match &found {
            None => found = Some(wish),
            Some(first) if first.mode == mode => {}
            Some(first) => {
                differ = true;
                if first.mode == Mode::Resilient {
                    found = Some(wish);
                }
            }
        }
    }
    if differ {
        warnings.push(format!(
            "the pod's volumes ask for different modes and get classic, which all of them can have; {ANNOTATION} decides \
             for the pod"
        ));
    }
    Ok(found)
}

fn of_config(engine: &Engine<'_>, profile: &Profile) -> Wish {
    match engine.config.mode {
        Some(mode) => Wish { mode, source: Source::Setting("mode"), place: None },
        None => Wish { mode: profile.mode, source: Source::Default, place: None },
    }
}

fn parse(text: &str, place: &str) -> Result<Mode, Refusal> {
    text.parse().map_err(|error: NotAMode| {
        let text: String = text.chars().take(64).collect();
        Refusal::new(Code::SettingInvalid, place, format!("{text:?} is {error}"), mode::GRAMMAR)
    })
}

/// What keeps a pod from resilient mode. What keeps it from any client is not asked here.
fn obstacle(subject: &Subject<'_>, profile: &Profile, native: &Native) -> Option<Obstacle> {
    if !profile.takes_an_agent() {
        return Some(Obstacle {
            what: format!(
                "nodes of the {} profile take no privileged container whose mounts propagate",
                profile.name
            ),
            remedy: "keep the pod on other nodes",
        });
    }
    if let Native::No(why) | Native::OldNode(why) = native {
        return Some(Obstacle {
            what: format!("it needs native sidecars, and {why}"),
            remedy: "run it with Kubernetes 1.29 or later, and without enableNativeSidecar",
        });
    }
    // On ordinary nodes no client at all works in a sandbox, which is said elsewhere.
    let serverless = subject.family == Family::Serverless;
    let class = subject.pod.spec.runtime_class_name.as_deref();
    let class = class.filter(|class| serverless && is_sandbox(class))?;
    Some(Obstacle {
        what: format!(
            "spec.runtimeClassName {class:?} is a sandbox, in which no mount of the agent's reaches the application"
        ),
        remedy: "run the pod with the node's usual runtime",
    })
}
