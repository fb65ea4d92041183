//! Attributes of the volume (or parameters of its class), and the claim's annotations over them.

use std::collections::BTreeMap;

use super::{
    class::SECRET_PARAMETERS,
    resolved::Resolved,
    settings::{Source, Sources},
};
use crate::{
    config::{Config, Picked},
    map::Map,
    notation::{
        Mode,
        duration::is_duration,
        mode::{self, NotAMode},
    },
    outcome::{Code, Refusal},
    slip,
};

/// The sub directory of a volume.
pub(super) const SUB_PATH: &str = "subPath";
/// Where volumes of a class have their directories.
pub(crate) const PATH_PATTERN: &str = "pathPattern";
/// The volume's size when it was made, in bytes (contract 5.2); nobody's setting.
pub(crate) const CAPACITY: &str = "capacity";
/// A mark: a controller looks after the volume's quota (contract 5.2).
pub(crate) const QUOTA_SET: &str = "juicefs/controller-quota-set";
/// More mount options, separated by commas.
pub(super) const MOUNT_OPTIONS: &str = "mountOptions";
/// The client's image.
pub(super) const IMAGE: &str = "juicefs/mount-image";
/// Limits; zero or less means no limit.
pub(super) const CPU_LIMIT: &str = "juicefs/mount-cpu-limit";
/// See [`CPU_LIMIT`].
pub(super) const MEMORY_LIMIT: &str = "juicefs/mount-memory-limit";
/// Requests; less than zero means no request.
pub(super) const CPU_REQUEST: &str = "juicefs/mount-cpu-request";
/// See [`CPU_REQUEST`].
pub(super) const MEMORY_REQUEST: &str = "juicefs/mount-memory-request";
/// Claims to cache in, separated by commas.
pub(super) const CACHE_CLAIMS: &str = "juicefs/mount-cache-pvc";
/// `MEDIUM` or `MEDIUM:SIZE` of an `emptyDir` to cache in.
pub(super) const CACHE_EMPTY_DIR: &str = "juicefs/mount-cache-emptydir";
/// CSI volume sources to cache in, a JSON array.
pub(super) const CACHE_INLINE: &str = "juicefs/mount-cache-inline-volume";
/// Directories of the node, mounted at the same path, separated by commas.
pub(super) const HOST_PATH: &str = "juicefs/host-path";
/// Annotations of the pod on VCI and CCI, a YAML map.
pub(super) const ANNOTATIONS: &str = "juicefs/mount-annotations";
/// The kind of sidecars.
pub(super) const MODE: &str = "juicefs/mode";
/// The user secret is kept for as long as the volume may need it.
pub(crate) const SECRET_FINALIZER: &str = "secretFinalizer";
/// How the exit is ordered where native sidecars are missing.
pub(super) const EXIT_ORDER: &str = "juicefs/exit-order";
/// What becomes of the mount when its client crashes.
pub(super) const ON_CRASH: &str = "juicefs/on-crash";

const LABELS: &str = "juicefs/mount-labels";
const DELETE_DELAY: &str = "juicefs/mount-delete-delay";

/// What whoever may create claims may set by annotation: nothing that reaches the node.
const FOR_TENANTS: [&str; 8] =
    [CPU_LIMIT, MEMORY_LIMIT, CPU_REQUEST, MEMORY_REQUEST, CACHE_EMPTY_DIR, MODE, EXIT_ORDER, ON_CRASH];
/// Everything else with an effect here.
const FOR_ADMINISTRATORS: [&str; 5] = [IMAGE, CACHE_CLAIMS, CACHE_INLINE, HOST_PATH, ANNOTATIONS];
/// Settings of clients in pods of their own.
const WITHOUT_EFFECT: [&str; 4] =
    [LABELS, DELETE_DELAY, "juicefs/mount-service-account", "juicefs/clean-cache"];
/// Marks that provisioners and drivers leave; nobody's settings.
const MARKS: [&str; 4] =
    [QUOTA_SET, "juicefs/mount-share-mode", "juicefs/last-update-at", "juicefs/secret-fields-hash"];

/// Keys without the prefix of the others.
const BARE: [&str; 3] = [SUB_PATH, PATH_PATTERN, MOUNT_OPTIONS];

/// Whether an attribute of a volume is ever read, if only to say that it is a slip.
pub(super) fn is_read(key: &str) -> bool {
    key.starts_with("juicefs") || BARE.contains(&key) || key == SECRET_FINALIZER || bare_meant(key).is_some()
}

/// The key without a prefix that is meant by another one. Those of others are longer, but for one that every dynamic
/// volume has.
fn bare_meant(key: &str) -> Option<&'static str> {
    let meant = || slip::meant(key, &BARE, slip::CLOSE);
    (key.len() <= 14 && key != CAPACITY && !BARE.contains(&key)).then(meant).flatten()
}

/// What an unknown key may have meant.
fn meant(key: &str) -> Option<&'static str> {
    let known: Vec<&str> =
        FOR_TENANTS.iter().chain(&FOR_ADMINISTRATORS).chain(&WITHOUT_EFFECT).chain(&BARE).copied().collect();
    slip::meant(key, &known, slip::CLOSE)
}

/// Who says something about a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The volume, or its class while the claim is not bound.
    Volume,
    /// The claim, by annotation.
    Claim,
}

/// One attribute, parameter or annotation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) holder: Holder,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// Where a value came from; turned into a [`Source`] only when somebody asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    Default,
    Process,
    /// An attribute, or a field of the volume's spec.
    Held(Holder, &'a str),
    Config(usize, &'static str),
    Pod(&'static str),
}

impl Origin<'_> {
    /// A whole field of the ConfigMap.
    pub(super) fn picked<T: ?Sized>(picked: &Picked<'_, T>) -> Self {
        Self::Config(picked.item, picked.field.as_str())
    }

    pub(super) fn source(self, bound: bool) -> Source {
        match self {
            Self::Default => Source::Default,
            Self::Process => Source::Process,
            Self::Held(Holder::Claim, key) => Source::Claim(key.to_owned()),
            Self::Held(Holder::Volume, key) if bound => Source::Volume(key.to_owned()),
            Self::Held(Holder::Volume, key) => {
                Source::Class(key.strip_prefix("spec.").unwrap_or(key).to_owned())
            }
            Self::Config(item, field) => Source::Config(item, field.to_owned()),
            Self::Pod(key) => Source::Pod(key.to_owned()),
        }
    }
}

impl<'a> Attribute<'a> {
    pub(super) fn origin(self) -> Origin<'a> {
        Origin::Held(self.holder, self.key)
    }
}

/// The attribute that counts: the claim's, as far as it may set it, else the volume's. Empty counts as absent.
fn find<'a>(resolved: &'a Resolved, config: &Config, key: &'a str) -> Option<Attribute<'a>> {
    let held = |holder, map: &'a Map| {
        let value = map.get(key).filter(|value| !value.is_empty())?;
        Some(Attribute { holder, key, value })
    };
    let allowed =
        FOR_TENANTS.contains(&key) || (key.starts_with("juicefs") && config.allow_unsafe_claim_annotations);
    allowed
        .then(|| held(Holder::Claim, &resolved.claim.annotations))
        .flatten()
        .or_else(|| held(Holder::Volume, &resolved.volume.attributes))
}

/// Refuses the value of an attribute, quoting it if it is short; longer ones may hold anything.
fn refuse(resolved: &Resolved, attribute: Attribute<'_>, what: &str, remedy: &str) -> Refusal {
    let place = place(resolved, attribute);
    let what = match attribute.value {
        long if long.len() > 64 => format!("the value {what}"),
        value => format!("{value:?} {what}"),
    };
    Refusal::new(Code::SettingInvalid, place, what, remedy)
}

/// The mode that a volume asks for, where it does so, and the source of that.
pub(crate) fn wanted_mode(
    resolved: &Resolved,
    config: &Config,
) -> Result<Option<(Mode, String, Source)>, Refusal> {
    let Some(attribute) = find(resolved, config, MODE) else { return Ok(None) };
    let mode = attribute
        .value
        .parse()
        .map_err(|error: NotAMode| refuse(resolved, attribute, &format!("is {error}"), mode::GRAMMAR))?;
    Ok(Some((mode, place(resolved, attribute), attribute.origin().source(resolved.volume.bound))))
}

impl<'a> Sources<'a> {
    /// See [`find`].
    pub(super) fn attribute(&self, key: &'a str) -> Option<Attribute<'a>> {
        find(self.inputs.resolved, self.inputs.config, key)
    }

    /// See [`refuse`].
    pub(super) fn refuse_attribute(&self, attribute: Attribute<'_>, what: &str, remedy: &str) -> Refusal {
        refuse(self.inputs.resolved, attribute, what, remedy)
    }

    /// The object and field a value came from.
    pub(super) fn place(&self, origin: Origin<'_>) -> String {
        match origin {
            Origin::Held(holder, key) => place(self.inputs.resolved, Attribute { holder, key, value: "" }),
            origin => origin.source(self.inputs.resolved.volume.bound).to_string(),
        }
    }

    /// Refuses a directory of the node.
    pub(super) fn refuse_path(&self, path: &str, origin: Origin<'_>) -> Refusal {
        let what = format!("{path:?} is not an absolute path without \"..\"");
        Refusal::new(
            Code::SettingInvalid,
            self.place(origin),
            what,
            "name a directory of the node from its root",
        )
    }

    /// Speaks about attributes and annotations that nothing comes of, and refuses what the Go driver refuses.
    pub(super) fn check_attributes(&mut self) -> Result<(), Refusal> {
        let resolved = self.inputs.resolved;
        for (key, value) in resolved.volume.attributes.iter() {
            self.check_attribute(Attribute { holder: Holder::Volume, key, value })?;
        }
        let every_one = self.inputs.config.allow_unsafe_claim_annotations;
        for (key, value) in resolved.claim.annotations.iter() {
            let attribute = Attribute { holder: Holder::Claim, key, value };
            if FOR_TENANTS.contains(&&**key) || !key.starts_with("juicefs") {
                continue;
            }
            if every_one || !FOR_ADMINISTRATORS.contains(&&**key) {
                self.check_attribute(attribute)?;
            } else {
                let place = place(resolved, attribute);
                self.warnings
                    .push(format!("{place}: claims may not set this (allowUnsafePVCAnnotations), ignored"));
            }
        }
        Ok(())
    }

    fn check_attribute(&mut self, attribute: Attribute<'_>) -> Result<(), Refusal> {
        let key = attribute.key;
        if MARKS.contains(&key) || FOR_TENANTS.contains(&key) || BARE.contains(&key) {
            return Ok(());
        }
        if !key.starts_with("juicefs/") {
            // Every class has these: nothing is looked for that they might be like.
            let of_kubernetes = key.starts_with(SECRET_PARAMETERS);
            if let Some(meant) = (!of_kubernetes).then(|| meant(key)).flatten() {
                let place = place(self.inputs.resolved, attribute);
                self.warnings.push(format!("{place}: is not a setting, ignored; did you mean {meant}?"));
            }
            return Ok(());
        }
        let fault = match key {
            LABELS | ANNOTATIONS if string_map(attribute.value).is_none() => {
                Some("is not a map of strings in YAML")
            }
            DELETE_DELAY if !is_duration(attribute.value) => Some("is not a duration such as 90s or 1h30m"),
            _ => None,
        };
        if let Some(what) = fault {
            return Err(self.refuse_attribute(
                attribute,
                what,
                "correct it, or remove it: a sidecar does not need it",
            ));
        }
        let what = match key {
            HOST_PATH if !self.inputs.host_directories => {
                "has no effect here: these nodes have no directories to mount"
            }
            ANNOTATIONS if !self.inputs.annotates_pod => "has an effect on VCI and CCI only",
            _ if FOR_ADMINISTRATORS.contains(&key) => return Ok(()),
            _ if WITHOUT_EFFECT.contains(&key) => "has no effect in a sidecar",
            _ => "is not a setting, ignored",
        };
        let known = FOR_ADMINISTRATORS.contains(&key) || WITHOUT_EFFECT.contains(&key);
        let hint = if known { None } else { meant(key) };
        let hint = hint.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        self.warnings.push(format!("{}: {what}{hint}", place(self.inputs.resolved, attribute)));
        Ok(())
    }
}

/// A YAML or JSON map of strings; numbers and booleans are taken as text.
pub(super) fn string_map(text: &str) -> Option<BTreeMap<String, String>> {
    serde_saphyr::from_str::<Option<BTreeMap<String, String>>>(text).ok().map(Option::unwrap_or_default)
}

/// The object and field an attribute is in; a key with `spec.` before it is a field of the volume's spec.
pub(super) fn place(resolved: &Resolved, attribute: Attribute<'_>) -> String {
    let key = attribute.key;
    match (attribute.holder, key.strip_prefix("spec.")) {
        (Holder::Volume, None) if resolved.volume.bound => {
            format!("persistentvolume {:?}: spec.csi.volumeAttributes[{key:?}]", resolved.volume.name)
        }
        (Holder::Volume, None) => format!("storageclass {:?}: parameters[{key:?}]", resolved.claim.class),
        (Holder::Volume, Some(_)) if resolved.volume.bound => {
            format!("persistentvolume {:?}: {key}", resolved.volume.name)
        }
        (Holder::Volume, Some(field)) => format!("storageclass {:?}: {field}", resolved.claim.class),
        (Holder::Claim, _) => {
            if let Some(name) = resolved.claim.name() {
                let namespace = &resolved.claim.namespace;
                format!("persistentvolumeclaim \"{namespace}/{name}\": annotation {key:?}")
            } else {
                let volume = &resolved.pod_volumes.first().name;
                format!("pod volume {volume:?}: ephemeral.volumeClaimTemplate annotation {key:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_yaml_or_json() {
        let map = |text: &str| string_map(text).map(|map| map.into_iter().collect::<Vec<_>>());
        assert_eq!(map("{\"a\": \"b\"}"), Some(vec![("a".into(), "b".into())]));
        assert_eq!(map("a: 1\n"), Some(vec![("a".into(), "1".into())]));
        assert_eq!(map("[a]"), None);
        assert_eq!(map("a: {b: c}"), None);
    }
}
