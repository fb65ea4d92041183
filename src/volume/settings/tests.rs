mod caches;
mod patches;
mod resources;

use std::sync::Arc;

use super::*;
use crate::{
    config::CacheSource,
    notation::Quantity,
    volume::{
        backing::Backing,
        objects::SecretReference,
        resolved::{ClaimIdentity, ClaimName, PodVolume},
    },
};

/// Everything [`Inputs`] borrows, with the usual values.
struct Case {
    resolved: Resolved,
    secret: UserSecret,
    config: Config,
    process: Process,
    pod: Pod<'static>,
    node_labels: Option<Map>,
    host_paths: bool,
    mode: Mode,
}

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().copied().collect()
}

fn case() -> Case {
    let resolved = Resolved {
        pod_volumes: PodVolume { index: 0, name: "data".into(), read_only: false }.into(),
        claim: ClaimIdentity {
            namespace: "ns".into(),
            name: ClaimName::Given { name: "claim".into(), uid: None },
            labels: Map::default(),
            annotations: Map::default(),
            class: "fast".into(),
        },
        volume: Backing {
            name: "pv-1".into(),
            handle: "handle-1".into(),
            attributes: Map::default(),
            mount_options: Arc::default(),
            only_reads: false,
            secret: SecretReference::default(),
            bound: true,
        },
        ephemeral_directory: None,
    };
    Case {
        resolved,
        secret: UserSecret { name: "myjfs".into(), ..UserSecret::default() },
        config: Config::default(),
        process: Process::default(),
        pod: Pod::default(),
        node_labels: None,
        host_paths: true,
        mode: Mode::Classic,
    }
}

impl Case {
    fn attributes(mut self, pairs: &[(&str, &str)]) -> Self {
        self.resolved.volume.attributes = map(pairs);
        self
    }

    fn annotations(mut self, pairs: &[(&str, &str)]) -> Self {
        self.resolved.claim.annotations = map(pairs);
        self
    }

    fn options(mut self, options: &[&str]) -> Self {
        self.resolved.volume.mount_options = options.iter().map(|option| (*option).into()).collect();
        self
    }

    fn config(mut self, text: &str) -> Self {
        self.config = Config::parse(text).unwrap().0;
        self
    }

    fn pod(mut self, json: &'static str) -> Self {
        self.pod = serde_json::from_str(json).unwrap();
        self
    }

    fn serverless(mut self) -> Self {
        self.host_paths = false;
        self
    }

    fn settle(&self) -> Result<Settings, Refusal> {
        settle(&Inputs {
            resolved: &self.resolved,
            secret: &self.secret,
            config: &self.config,
            process: &self.process,
            pod: &self.pod,
            node_labels: self.node_labels.as_ref(),
            mount_point: "/jfs/x",
            host_directories: self.host_paths,
            mode: self.mode,
            annotates_pod: !self.host_paths,
            explain: true,
        })
    }

    /// Settings there is nothing to say about.
    fn settings(&self) -> Settings {
        let settings = self.settle().unwrap();
        assert_eq!(settings.warnings, Vec::<String>::new());
        settings
    }

    fn refusal(&self) -> String {
        let refusal = self.settle().unwrap_err();
        assert_eq!(refusal.code, Code::SettingInvalid);
        refusal.to_string()
    }

    /// The only warning.
    fn warning(&self) -> String {
        let settings = self.settle().unwrap();
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        settings.warnings.into_iter().next().unwrap()
    }
}

/// `requests.cpu requests.memory limits.cpu limits.memory`, `-` for none.
fn resources(settings: &Settings) -> String {
    let get = |map: &Option<std::collections::BTreeMap<String, _>>, key| {
        let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            map.as_ref()?.get(key);
        quantity.map(|quantity| quantity.0.clone())
    };
    let (requests, limits) = (&settings.resources.requests, &settings.resources.limits);
    [get(requests, "cpu"), get(requests, "memory"), get(limits, "cpu"), get(limits, "memory")]
        .map(|text| text.unwrap_or_else(|| "-".into()))
        .join(" ")
}

fn cache_paths(settings: &Settings) -> Vec<&str> {
    settings.cache.iter().map(|directory| directory.path.as_str()).collect()
}

#[test]
fn defaults_apply_when_nobody_says_anything() {
    let settings = case().settings();
    assert_eq!(settings.image, "juicedata/mount:ce-v1.3.1");
    assert_eq!(resources(&settings), "1 1Gi 2 5Gi");
    assert_eq!(settings.options, Vec::<String>::new());
    assert_eq!(settings.directory, Directory::default());
    assert_eq!(
        settings.cache,
        [CacheDirectory { path: "/var/jfsCache".into(), source: CacheSource::HostPath }]
    );
    assert_eq!((settings.read_only, settings.flush_seconds, settings.exit_order), (false, 30, None));
    assert!(settings.provenance.iter().any(|line| line.setting == "limits.memory" && line.value == "5Gi"));
    assert!(case().serverless().settings().cache.is_empty());
}

#[test]
fn images_follow_the_edition_and_the_precedence() {
    let mut case = case();
    let from = |case: &Case| {
        let settings = case.settle().unwrap();
        let line = settings.provenance.iter().find(|line| line.setting == "image").unwrap();
        assert_eq!(line.value, settings.image);
        (settings.image.clone(), line.source.clone())
    };
    case.secret.edition = Edition::Enterprise;
    assert_eq!(from(&case), ("juicedata/mount:ee-5.3.9-9d376a1".into(), Source::Default));
    case.process.enterprise_image = "process:1".into();
    assert_eq!(from(&case), ("process:1".into(), Source::Process));
    case = case.attributes(&[("juicefs/mount-image", "volume:1")]);
    assert_eq!(from(&case), ("volume:1".into(), Source::Volume("juicefs/mount-image".into())));
    case.resolved.volume.bound = false;
    assert_eq!(from(&case), ("volume:1".into(), Source::Class("juicefs/mount-image".into())));
    case = case.annotations(&[("juicefs/mount-image", "claim:1")]);
    assert_eq!(from(&case).0, "volume:1", "claims may not choose images");
    case = case.config("allowUnsafePVCAnnotations: true");
    assert_eq!(from(&case), ("claim:1".into(), Source::Claim("juicefs/mount-image".into())));
    case = case
        .config("mountPodPatch: [{ceMountImage: c}, {eeMountImage: '${VOLUME_NAME}:e'}, {eeMountImage: ''}]");
    assert_eq!(from(&case), ("myjfs:e".into(), Source::Config(1, "eeMountImage".into())));
}

#[test]
fn claims_set_only_what_tenants_may_set() {
    let case = case().annotations(&[
        ("juicefs/host-path", "/"),
        ("juicefs/mount-memory-limit", "6Gi"),
        ("juicefs/mount-cache-emptydir", ":1Gi"),
        ("juicefs.com/other", "x"),
        ("subPath", "../other"),
        ("mountOptions", "subdir=/other"),
    ]);
    let settings = case.settle().unwrap();
    assert_eq!(
        settings.warnings,
        ["persistentvolumeclaim \"ns/claim\": annotation \"juicefs/host-path\": claims may not set this \
          (allowUnsafePVCAnnotations), ignored"]
    );
    assert_eq!(settings.host_paths, Vec::<String>::new());
    assert_eq!(settings.directory, Directory::default());
    assert_eq!(resources(&settings), "1 1Gi 2 6Gi");
    assert_eq!(settings.options, ["cache-dir=/var/jfsCache-emptyDir"]);
    let settings = case.config("allowUnsafePVCAnnotations: true").settings();
    assert_eq!(settings.host_paths, ["/"]);
    assert_eq!(settings.directory, Directory::default(), "only keys that begin with juicefs count");
}

#[test]
fn a_write_cache_is_warned_of_loudly_where_it_dies_with_the_pod() {
    let said = |case: Case| case.settle().unwrap().warnings.join("\n");
    assert!(said(case().options(&["writeback"])).contains("lost with the cache's disk"));
    let in_pod = case().options(&["writeback"]).attributes(&[("juicefs/mount-cache-emptydir", "Memory:")]);
    assert!(said(in_pod).contains("LOSES DATA"));
}

#[test]
fn slips_among_attributes_and_options_are_noticed() {
    let settings = case()
        .options(&["cache_size=5", "--debug"])
        .attributes(&[("mountoptions", "ro"), ("juicefs/mount-cpu-limits", "1"), ("note", "x")])
        .settle()
        .unwrap();
    let said = settings.warnings.join("\n");
    for part in [
        "did you mean mountOptions?",
        "did you mean juicefs/mount-cpu-limit?",
        "did you mean cache-size?",
        "write debug",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(settings.warnings.len(), 4, "{said}");
}

#[test]
fn sub_directories_are_joined_and_confined() {
    let mut case =
        case().options(&["subdir=/first", "debug", "subdir=/team/"]).attributes(&[("subPath", "pvc-1")]);
    let settings = case.serverless_settings();
    assert_eq!(
        (settings.directory.path.as_str(), settings.options),
        ("/team/pvc-1", vec!["debug".to_owned()])
    );
    case = case.config("mountPodPatch: [{mountOptions: [subdir=/patched]}]");
    assert_eq!(case.serverless_settings().directory.path, "/patched/pvc-1");
    case.resolved.ephemeral_directory = Some("scratch".into());
    assert_eq!(case.serverless_settings().directory.ephemeral.as_deref(), Some("scratch"));
    case = case.attributes(&[("subPath", "../other")]);
    assert_eq!(
        case.refusal(),
        "persistentvolume \"pv-1\": spec.csi.volumeAttributes[\"subPath\"]: \"../other\" leads out of its directory; \
         name a directory below that of the volume's class"
    );
    let hidden =
        super::tests::case().options(&["debug, subdir=/team", "cache-size=1,ro"]).serverless_settings();
    assert_eq!(hidden.directory.path, "/team");
    assert!(hidden.read_only);
    assert_eq!(hidden.options, ["debug", "cache-size=1", "ro"]);
    case = case.attributes(&[("subPath", "a,subdir=/")]);
    assert!(case.refusal().contains("comma"));
    let mut case = super::tests::case().options(&["debug", "subdir=.."]);
    assert!(
        case.refusal()
            .starts_with("persistentvolume \"pv-1\": spec.mountOptions: subdir \"..\" leads out of")
    );
    case.resolved.volume.bound = false;
    assert!(case.refusal().starts_with("storageclass \"fast\": mountOptions: subdir"));
}

impl Case {
    fn serverless_settings(&mut self) -> Settings {
        self.host_paths = false;
        self.settings()
    }
}

#[test]
fn host_paths_are_for_nodes() {
    let case = case().attributes(&[("juicefs/host-path", "/a, /b,,/a,/var/jfsCache")]);
    assert_eq!(case.settings().host_paths, ["/a", "/b"]);
    let case = case.serverless();
    assert_eq!(case.settle().unwrap().host_paths, Vec::<String>::new());
    assert!(case.warning().contains("no effect here"));
}

#[test]
fn attributes_nothing_comes_of_are_spoken_about() {
    for (key, value, expected) in [
        ("juicefs/mount-labels", "a: b", Some("no effect in a sidecar")),
        ("juicefs/mount-service-account", "x", Some("no effect in a sidecar")),
        ("juicefs/mount-delete-delay", "5m", Some("no effect in a sidecar")),
        ("juicefs/clean-cache", "true", Some("no effect in a sidecar")),
        ("juicefs/mount-annotations", "a: b", Some("VCI and CCI only")),
        ("juicefs/mount-imagee", "x", Some("is not a setting")),
        ("juicefs/controller-quota-set", "true", None),
        ("juicefs/mount-share-mode", "x", None),
        ("capacity", "1", None),
        ("pathPattern", "x", None),
        ("secretFinalizer", "true", None),
        ("csi.storage.k8s.io/node-publish-secret-name", "x", None),
        ("storage.kubernetes.io/csiProvisionerIdentity", "x", None),
    ] {
        let warnings = case().attributes(&[(key, value)]).settle().unwrap().warnings;
        match expected {
            Some(text) => assert!(warnings.len() == 1 && warnings[0].contains(text), "{key}: {warnings:?}"),
            None => assert_eq!(warnings, Vec::<String>::new(), "{key}"),
        }
    }
    for (key, value) in [
        ("juicefs/mount-labels", "[a]"),
        ("juicefs/mount-annotations", "a"),
        ("juicefs/mount-delete-delay", "5 minutes"),
    ] {
        assert!(case().attributes(&[(key, value)]).refusal().contains(key));
    }
}

#[test]
fn annotations_are_kept_for_profiles_that_use_them() {
    let case = case().attributes(&[("juicefs/mount-annotations", "{a: 1}")]).serverless();
    assert_eq!(case.settings().annotations, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    let case = case.config("mountPodPatch: [{annotations: {b: '${SUB_PATH}'}}]");
    assert_eq!(case.settings().annotations, BTreeMap::from([("b".to_owned(), String::new())]));
}

#[test]
fn provenance_is_only_collected_on_demand() {
    let case = case();
    let inputs = Inputs {
        resolved: &case.resolved,
        secret: &case.secret,
        config: &case.config,
        process: &case.process,
        pod: &case.pod,
        node_labels: None,
        mount_point: "/jfs/x",
        host_directories: true,
        mode: Mode::Classic,
        annotates_pod: false,
        explain: false,
    };
    assert_eq!(settle(&inputs).unwrap().provenance, []);
    assert!(!settle(&Inputs { explain: true, ..inputs }).unwrap().provenance.is_empty());
}
