//! Whatever comes and goes, a catalogue answers as somebody would who walks all objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    config::match_labels,
    map::Map,
    volume::objects::{ClaimReference, CsiSource},
};

/// Few enough that objects meet, and one that is the beginning of another.
const NAMES: [&str; 4] = ["a", "ab", "b", ""];

fn name() -> impl Strategy<Value = &'static str> + Clone {
    select(&NAMES[..])
}

fn labels() -> impl Strategy<Value = Map> {
    vec((select(&["app", "tier"][..]), name()), 0..3).prop_map(|pairs| pairs.into_iter().collect())
}

/// One change to a catalogue.
#[derive(Clone, Debug)]
enum Change {
    Claim(Claim),
    Volume(PersistentVolume),
    Class(StorageClass),
    Node(Node),
    DeleteClaim(&'static str, &'static str),
    DeleteVolume(&'static str),
    DeleteClass(&'static str),
    DeleteNode(&'static str),
    ReplaceClaims(Vec<Claim>),
    ReplaceVolumes(Vec<PersistentVolume>),
    ReplaceClasses(Vec<StorageClass>),
    ReplaceNodes(Vec<Node>),
}

fn claims() -> impl Strategy<Value = Claim> + Clone {
    (name(), name(), name()).prop_map(|(namespace, name, volume)| {
        let mut claim = Claim::default();
        claim.metadata.namespace = namespace.into();
        claim.metadata.name = name.into();
        claim.spec.volume_name = volume.into();
        claim
    })
}

fn volumes() -> impl Strategy<Value = PersistentVolume> {
    let csi = option::of((name(), name()));
    let claim = option::weighted(0.4, (name(), name()));
    (name(), csi, claim, select(&["", "", "fast"][..]), labels()).prop_map(
        |(name, csi, claim, class, labels)| {
            let mut volume = PersistentVolume::default();
            volume.metadata.name = name.into();
            volume.metadata.labels = labels;
            volume.spec.storage_class_name = class.into();
            volume.spec.csi = csi.map(|(driver, handle)| CsiSource {
                driver: driver.into(),
                volume_handle: handle.into(),
                ..CsiSource::default()
            });
            volume.spec.claim_ref = claim.map(|(namespace, name)| ClaimReference {
                namespace: namespace.into(),
                name: name.into(),
                uid: "".into(),
            });
            volume
        },
    )
}

fn classes() -> impl Strategy<Value = StorageClass> {
    (name(), select(&["2025", "2026"][..]), select(&["true", "false"][..])).prop_map(
        |(name, created, default)| {
            let mut class = StorageClass::default();
            class.metadata.name = name.into();
            class.metadata.created = created.into();
            class.metadata.annotations =
                [("storageclass.kubernetes.io/is-default-class", default)].into_iter().collect();
            class
        },
    )
}

fn nodes() -> impl Strategy<Value = Node> {
    (name(), select(&["v1.28.3", "v1.29.0-eks", "v1.36.2", "unknown"][..])).prop_map(|(name, version)| {
        let mut node = Node::default();
        node.metadata.name = name.into();
        node.status.node_info.kubelet_version = version.into();
        node
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => claims().prop_map(Change::Claim),
        8 => volumes().prop_map(Change::Volume),
        3 => classes().prop_map(Change::Class),
        3 => nodes().prop_map(Change::Node),
        2 => (name(), name()).prop_map(|(namespace, name)| Change::DeleteClaim(namespace, name)),
        4 => name().prop_map(Change::DeleteVolume),
        1 => name().prop_map(Change::DeleteClass),
        2 => name().prop_map(Change::DeleteNode),
        1 => vec(claims(), 0..4).prop_map(Change::ReplaceClaims),
        1 => vec(volumes(), 0..4).prop_map(Change::ReplaceVolumes),
        1 => vec(classes(), 0..4).prop_map(Change::ReplaceClasses),
        1 => vec(nodes(), 0..4).prop_map(Change::ReplaceNodes),
    ]
}

/// The objects, in no order but that of their names.
#[derive(Default)]
struct Naive {
    claims: BTreeMap<(String, String), Claim>,
    volumes: BTreeMap<String, PersistentVolume>,
    classes: BTreeMap<String, StorageClass>,
    nodes: BTreeMap<String, Node>,
}

impl Naive {
    fn put_claim(&mut self, claim: Claim) {
        let key = (claim.metadata.namespace.to_string(), claim.metadata.name.to_string());
        self.claims.insert(key, claim);
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Claim(claim) => self.put_claim(claim),
            Change::Volume(volume) => {
                self.volumes.insert(volume.metadata.name.to_string(), volume);
            }
            Change::Class(class) => {
                self.classes.insert(class.metadata.name.to_string(), class);
            }
            Change::Node(node) => {
                self.nodes.insert(node.metadata.name.to_string(), node);
            }
            Change::DeleteClaim(namespace, name) => {
                self.claims.remove(&(namespace.to_owned(), name.to_owned()));
            }
            Change::DeleteVolume(name) => {
                self.volumes.remove(name);
            }
            Change::DeleteClass(name) => {
                self.classes.remove(name);
            }
            Change::DeleteNode(name) => {
                self.nodes.remove(name);
            }
            Change::ReplaceClaims(claims) => {
                self.claims.clear();
                for claim in claims {
                    self.put_claim(claim);
                }
            }
            Change::ReplaceVolumes(volumes) => {
                self.volumes.clear();
                for volume in volumes {
                    self.change(Change::Volume(volume));
                }
            }
            Change::ReplaceClasses(classes) => {
                self.classes.clear();
                for class in classes {
                    self.change(Change::Class(class));
                }
            }
            Change::ReplaceNodes(nodes) => {
                self.nodes.clear();
                for node in nodes {
                    self.change(Change::Node(node));
                }
            }
        }
    }

    fn volumes(&self, wanted: impl Fn(&PersistentVolume) -> bool) -> Vec<&str> {
        self.volumes.values().filter(|volume| wanted(volume)).map(|volume| &*volume.metadata.name).collect()
    }

    fn default_class(&self) -> Option<&str> {
        let defaults = self.classes.values().filter(|class| class.is_default());
        // Of equal ones the last wins, so they come from behind.
        defaults
            .rev()
            .max_by(|one, other| one.metadata.created.cmp(&other.metadata.created))
            .map(|class| &*class.metadata.name)
    }
}

fn apply(writer: &mut Writer, change: Change) {
    match change {
        Change::Claim(claim) => writer.apply(claim),
        Change::Volume(volume) => writer.apply(volume),
        Change::Class(class) => writer.apply(class),
        Change::Node(node) => writer.apply(node),
        Change::DeleteClaim(namespace, name) => writer.delete::<Claim>(namespace, name),
        Change::DeleteVolume(name) => writer.delete::<PersistentVolume>("", name),
        Change::DeleteClass(name) => writer.delete::<StorageClass>("", name),
        Change::DeleteNode(name) => writer.delete::<Node>("", name),
        Change::ReplaceClaims(claims) => writer.replace_all(claims),
        Change::ReplaceVolumes(volumes) => writer.replace_all(volumes),
        Change::ReplaceClasses(classes) => writer.replace_all(classes),
        Change::ReplaceNodes(nodes) => writer.replace_all(nodes),
    }
}

fn selectors() -> Vec<Option<LabelSelector>> {
    let expression = |operator: &str| LabelSelectorRequirement {
        key: "tier".into(),
        operator: operator.into(),
        values: None,
    };
    let selector = |labels: &[(&str, &str)], operators: &[&str]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Some(LabelSelector {
            match_labels: Some(labels.collect()),
            match_expressions: Some(operators.iter().map(|operator| expression(operator)).collect()),
        })
    };
    vec![
        None,
        selector(&[], &[]),
        selector(&[("app", "a")], &[]),
        selector(&[("app", "a"), ("tier", "b")], &[]),
        selector(&[], &["Exists"]),
        selector(&[("app", "ab")], &["DoesNotExist"]),
    ]
}

fn compare(naive: &Naive, catalog: &Catalog) {
    for namespace in NAMES {
        for name in NAMES {
            let known = catalog.claim(namespace, name).map(|claim| &claim.spec.volume_name);
            let claim = naive.claims.get(&(namespace.to_owned(), name.to_owned()));
            assert_eq!(known, claim.map(|claim| &claim.spec.volume_name));

            let reserved = naive.volumes(|volume| {
                volume
                    .spec
                    .claim_ref
                    .as_ref()
                    .is_some_and(|claim| *claim.namespace == *namespace && *claim.name == *name)
            });
            let known = catalog.volume_reserved_for(namespace, name);
            assert_eq!(known.map(|volume| &*volume.metadata.name), reserved.first().copied());

            let twins = naive.volumes(|volume| {
                volume
                    .spec
                    .csi
                    .as_ref()
                    .is_some_and(|csi| *csi.driver == *namespace && *csi.volume_handle == *name)
            });
            let known: Vec<_> =
                catalog.volumes_with_handle(namespace, name).map(|volume| &*volume.metadata.name).collect();
            assert_eq!(known, twins);
        }
        let volume = naive.volumes.get(namespace).map(|volume| &volume.spec.storage_class_name);
        assert_eq!(catalog.volume(namespace).map(|volume| &volume.spec.storage_class_name), volume);
        assert_eq!(catalog.class(namespace).is_some(), naive.classes.contains_key(namespace));
        assert_eq!(catalog.node(namespace).is_some(), naive.nodes.contains_key(namespace));
        for selector in selectors() {
            let mut claim = Claim::default();
            claim.spec.selector = selector;
            let free = naive.volumes(|volume| {
                let spec = &volume.spec;
                spec.csi.as_ref().is_some_and(|csi| *csi.driver == *namespace)
                    && spec.claim_ref.is_none()
                    && spec.storage_class_name.is_empty()
                    && claim.spec.selector.as_ref().is_none_or(|selector| {
                        let expressions = selector.match_expressions.as_deref();
                        match_labels(selector.match_labels.as_ref(), expressions, &volume.metadata.labels)
                    })
            });
            let known = catalog.free_volume_for(&claim, namespace);
            assert_eq!(known.map(|volume| &*volume.metadata.name), free.first().copied());
        }
    }
    assert_eq!(catalog.default_class().map(|class| &*class.metadata.name), naive.default_class());
    let old = naive.nodes.values().filter(|node| node.kubelet_before_native().is_some());
    assert!(
        catalog.remarkable_nodes().map(|node| &node.metadata.name).eq(old.map(|node| &node.metadata.name))
    );
    let sizes = [naive.claims.len(), naive.volumes.len(), naive.classes.len(), naive.nodes.len()];
    assert_eq!(catalog.sizes().map(|(_, size)| size)[..4], sizes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_index_answers_as_a_walk_through_all_objects_would(sequence in vec(changes(), 0..40)) {
        let (mut naive, mut writer) = (Naive::default(), Writer::default());
        for change in sequence {
            // What was given away before must not change.
            let before = writer.snapshot();
            compare(&naive, &before);
            naive.change(change.clone());
            apply(&mut writer, change);
        }
        compare(&naive, writer.catalog());
    }
}

#[test]
fn a_snapshot_stays_as_it_is() {
    let mut writer = Writer::default();
    let claim = |volume: &str| {
        let mut claim = Claim::default();
        claim.metadata.name = "data".into();
        claim.spec.volume_name = volume.into();
        claim
    };
    writer.apply(claim("one"));
    let snapshot = writer.snapshot();
    writer.apply(claim("two"));
    writer.delete::<Claim>("", "nothing");
    let volume =
        |catalog: &Catalog| catalog.claim("", "data").map(|claim| claim.spec.volume_name.to_string());
    assert_eq!(volume(&snapshot).as_deref(), Some("one"));
    assert_eq!(volume(writer.catalog()).as_deref(), Some("two"));
    writer.replace_all::<Claim>([]);
    assert_eq!((volume(writer.catalog()), volume(&snapshot).as_deref()), (None, Some("one")));
}

#[test]
fn what_nobody_asks_for_is_not_kept() {
    let mut writer = Writer::default();
    let annotations = [
        ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ("juicefs/mount-cpu-limit", "1"),
        ("team", "red"),
    ];
    for (name, volume) in [("bound", "pv"), ("unbound", "")] {
        let mut claim = Claim::default();
        claim.metadata.name = name.into();
        claim.metadata.annotations = annotations.into_iter().collect();
        claim.spec.volume_name = volume.into();
        writer.apply(claim);
    }
    let kept = |name: &str| {
        let claim = writer.catalog().claim("", name).expect("known");
        claim.metadata.annotations.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kept("bound"), ["juicefs/mount-cpu-limit"]);
    assert_eq!(kept("unbound"), ["juicefs/mount-cpu-limit", "team"]);
}
