//! Cache directories: where the client keeps blocks, and what is mounted there.

use std::{borrow::Cow, fmt::Write};

use k8s_openapi::{api::core::v1 as api, apimachinery::pkg::api::resource::Quantity as ApiQuantity};

use super::{
    attributes::{self, Attribute, Origin},
    options::MountOption,
    settings::Sources,
};
use crate::{
    config::CacheSource,
    notation::{Mode, Quantity},
    outcome::{Code, Refusal},
};

/// The client's own default; warm caches of nodes live there.
const DEFAULT: &str = "/var/jfsCache";
const OPTION: &str = "cache-dir";
/// The client's word for caching in its own memory.
const IN_MEMORY: &str = "memory";

/// One directory of the client's `cache-dir` option and the volume behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheDirectory {
    /// Path in the client's container.
    pub path: String,
    /// What is mounted there.
    pub source: CacheSource,
}

/// Directories from all sources; leaves one `cache-dir` option with all of them at the end of the options.
pub(super) fn settle<'a>(
    sources: &mut Sources<'a>,
    options: &mut Vec<MountOption<'a>>,
) -> Result<Vec<CacheDirectory>, Refusal> {
    let mut found = Found::default();
    claims(sources, &mut found);
    empty_dir(sources, &mut found)?;
    ephemeral_volumes(sources, &mut found);
    inline_volumes(sources, &mut found)?;
    host_directories(sources, options, &mut found)?;
    warn_of_writeback(sources, options, &found);

    options.retain(|option| option.name() != OPTION);
    if let Some(origin) = found.origin {
        options.push(MountOption { text: Cow::Owned(format!("{OPTION}={}", found.paths)), origin });
    } else if sources.inputs.host_directories && !sources.is_mounted_by_patch(DEFAULT) {
        found.directories.push(CacheDirectory { path: DEFAULT.to_owned(), source: CacheSource::HostPath });
        sources.explain("cache", Origin::Default, || DEFAULT.to_owned());
        if sources.inputs.mode == Mode::Resilient {
            // The client's own default is root's alone.
            options.push(MountOption {
                text: Cow::Owned(format!("{OPTION}={DEFAULT}")),
                origin: Origin::Default,
            });
        }
    }
    Ok(found.directories)
}

/// With `writeback` data is in the cache alone for a while.
fn warn_of_writeback(sources: &mut Sources<'_>, options: &[MountOption<'_>], found: &Found<'_>) {
    if !options.iter().any(|option| option.name() == "writeback") {
        return;
    }
    let dies = |directory: &CacheDirectory| {
        !matches!(directory.source, CacheSource::HostPath | CacheSource::Claim(_))
    };
    let without_volume = !sources.inputs.host_directories && found.directories.is_empty();
    let what = if without_volume || found.directories.iter().any(dies) {
        "option writeback LOSES DATA here: what is not uploaded when the pod ends is gone with the pod's cache; cache in a \
         claim or on the node, or leave the option out"
    } else {
        "option writeback: what is not uploaded is lost with the cache's disk, and the client's makers advise against it"
    };
    let subject = sources.subject();
    sources.warnings.push(format!("{subject}: {what}"));
}

/// What was found so far.
#[derive(Default)]
struct Found<'a> {
    /// Joined by `:` as the option wants them.
    paths: String,
    /// Where the last one came from; the option has to have one.
    origin: Option<Origin<'a>>,
    directories: Vec<CacheDirectory>,
}

impl<'a> Found<'a> {
    /// Adds a directory with a volume, unless its path is there already.
    fn add(&mut self, sources: &mut Sources<'a>, path: String, source: CacheSource, origin: Origin<'a>) {
        if self.add_path(sources, &path, origin) {
            self.directories.push(CacheDirectory { path, source });
        }
    }

    /// Adds a directory without one.
    fn add_path(&mut self, sources: &mut Sources<'a>, path: &str, origin: Origin<'a>) -> bool {
        let bare = path.trim_end_matches('/');
        if !self.paths.is_empty()
            && self.paths.split(':').any(|earlier| earlier.trim_end_matches('/') == bare)
        {
            return false;
        }
        if !self.paths.is_empty() {
            self.paths.push(':');
        }
        self.paths.push_str(path);
        self.origin = Some(origin);
        sources.explain("cache", origin, || path.to_owned());
        true
    }
}

/// Items of `cacheDirs` in the ConfigMap.
fn patched<'a>(
    sources: &Sources<'a>,
) -> impl Iterator<Item = (&'a CacheSource, &'a str, Origin<'a>)> + use<'a> {
    sources.patch.cache_dirs.into_iter().flat_map(|picked| {
        let origin = Origin::picked(&picked);
        picked.value.iter().map(move |directory| (&directory.source, directory.path.as_str(), origin))
    })
}

/// Claims must be in the namespace of the pod. Their numbers count empty names too, as existing caches expect.
fn claims<'a>(sources: &mut Sources<'a>, found: &mut Found<'a>) {
    let attribute = sources.attribute(attributes::CACHE_CLAIMS);
    let listed = attribute.into_iter().flat_map(|attribute| {
        attribute.value.split(',').map(move |name| (Cow::Borrowed(name.trim()), attribute.origin()))
    });
    let templates = sources.templates;
    let patched = patched(sources).filter_map(|(source, _, origin)| match source {
        CacheSource::Claim(name) => Some((templates.fill(name), origin)),
        _ => None,
    });
    for (number, (name, origin)) in
        listed.chain(patched).enumerate().filter(|(_, (name, _))| !name.is_empty())
    {
        found.add(sources, format!("{DEFAULT}-{number}"), CacheSource::Claim(name.into_owned()), origin);
    }
}

/// There is at most one; the ConfigMap's replaces the volume's.
fn empty_dir<'a>(sources: &mut Sources<'a>, found: &mut Found<'a>) -> Result<(), Refusal> {
    let patched = patched(sources).find_map(|(source, _, origin)| match source {
        CacheSource::EmptyDir(source) => Some((source.clone(), origin)),
        _ => None,
    });
    let (source, origin) = match (patched, sources.attribute(attributes::CACHE_EMPTY_DIR)) {
        (Some(patched), _) => patched,
        (None, Some(attribute)) => (parse_empty_dir(sources, attribute)?, attribute.origin()),
        (None, None) => return Ok(()),
    };
    found.add(sources, format!("{DEFAULT}-emptyDir"), CacheSource::EmptyDir(source), origin);
    Ok(())
}

fn parse_empty_dir(
    sources: &mut Sources<'_>,
    attribute: Attribute<'_>,
) -> Result<api::EmptyDirVolumeSource, Refusal> {
    const REMEDY: &str = "write MEDIUM or MEDIUM:SIZE, such as Memory:1Gi, or :10Gi for the disk of the node";
    let (medium, size) = match attribute.value.split_once(':') {
        // As in the Go driver, which then looks at neither.
        Some((_, size)) if size.contains(':') => {
            sources.warnings.push(format!(
                "{}: {:?} has more than two parts, so the emptyDir is on the node's disk and without a limit",
                sources.place(attribute.origin()),
                attribute.value
            ));
            ("", None)
        }
        Some((medium, size)) => (medium.trim(), Some(size.trim()).filter(|size| !size.is_empty())),
        None => (attribute.value.trim(), None),
    };
    if !(medium.is_empty() || medium == "Memory" || medium.starts_with("HugePages")) {
        return Err(sources.refuse_attribute(
            attribute,
            "does not begin with a medium of an emptyDir",
            REMEDY,
        ));
    }
    let size_limit = match size.map(str::parse::<Quantity>) {
        Some(Ok(size)) if size.is_positive() => Some(ApiQuantity(size.to_string())),
        // Nothing and zero are no limit.
        Some(Ok(size)) if !size.is_negative() => None,
        None => None,
        Some(_) => return Err(sources.refuse_attribute(attribute, "has no size", REMEDY)),
    };
    Ok(api::EmptyDirVolumeSource {
        medium: Some(medium.to_owned()).filter(|medium| !medium.is_empty()),
        size_limit,
    })
}

fn ephemeral_volumes<'a>(sources: &mut Sources<'a>, found: &mut Found<'a>) {
    let patched = patched(sources).filter_map(|(source, _, origin)| match source {
        CacheSource::Ephemeral(_) => Some((source, origin)),
        _ => None,
    });
    for (number, (source, origin)) in patched.enumerate() {
        found.add(sources, format!("{DEFAULT}-ephemeral-{number}"), source.clone(), origin);
    }
}

fn inline_volumes<'a>(sources: &mut Sources<'a>, found: &mut Found<'a>) -> Result<(), Refusal> {
    let Some(attribute) = sources.attribute(attributes::CACHE_INLINE) else { return Ok(()) };
    let remedy = "write a JSON array of CSI volume sources, each with a driver";
    let volumes: Vec<api::CSIVolumeSource> = serde_json::from_str(attribute.value)
        .map_err(|error| sources.refuse_attribute(attribute, &format!("is not valid: {error}"), remedy))?;
    for (number, volume) in volumes.into_iter().enumerate() {
        if volume.driver.is_empty() {
            return Err(sources.refuse_attribute(attribute, "has a volume without a driver", remedy));
        }
        let path = format!("{DEFAULT}-inlineVolume-{number}");
        found.add(sources, path, CacheSource::Inline(volume), attribute.origin());
    }
    Ok(())
}

/// Directories of the node: those of the option, then those of the ConfigMap. Where there is no node to mount from,
/// they stay in the option and the cache goes to the container's own layer.
fn host_directories<'a>(
    sources: &mut Sources<'a>,
    options: &[MountOption<'a>],
    found: &mut Found<'a>,
) -> Result<(), Refusal> {
    let mut homeless = String::new();
    let templates = sources.templates;
    let mut written = options.iter().filter(|option| option.name() == OPTION);
    let first = written.next();
    if written.next().is_some() {
        sources.warnings.push(format!("{}: only the first {OPTION} option is used", sources.subject()));
    }
    let listed = first.and_then(|option| Some((templates.fill(option.value()?), option.origin)));
    let listed =
        listed.iter().flat_map(|(value, origin)| value.split(':').map(|path| (path.trim(), *origin)));
    let patched: Vec<_> = patched(sources)
        .filter(|(source, ..)| **source == CacheSource::HostPath)
        .map(|(_, path, origin)| (templates.fill(path), origin))
        .collect();
    let patched = patched.iter().map(|(path, origin)| (&**path, *origin));
    // The option names those of the volume first, while the pod's volumes are numbered from the ConfigMap's.
    let paths = listed.map(|(path, origin)| (path, origin, false));
    let paths = paths.chain(patched.map(|(path, origin)| (path, origin, true)));
    let mut next_patched = found.directories.len();
    for (path, origin, is_patched) in paths.filter(|(path, ..)| !path.is_empty()) {
        let (on_host, as_root) = (sources.inputs.host_directories, sources.inputs.mode == Mode::Classic);
        // Only root can make directories in the container's own layer.
        let is_path = path != IN_MEMORY && (on_host || !as_root);
        if is_path && !is_host_path(path) {
            return Err(sources.refuse_path(path, origin));
        }
        if is_path && is_of_the_client(path) {
            let what = format!("{path:?} is where the client itself has something mounted");
            let place = sources.place(origin);
            return Err(Refusal::new(
                Code::SettingInvalid,
                place,
                what,
                "name another directory to cache in",
            ));
        }
        if is_path && path.contains(['*', '?', '[']) {
            let place = sources.place(origin);
            sources.warnings.push(format!(
                "{place}: {path:?} is mounted from the node under this very name, in which * and its like stand for themselves"
            ));
        }
        // Where the ConfigMap mounts a volume of its own, at the directory or above it, that is the cache.
        let has_volume = is_path && !sources.is_mounted_by_patch(path);
        if !found.add_path(sources, path, origin) {
            continue;
        }
        if has_volume {
            let source = if on_host {
                CacheSource::HostPath
            } else {
                CacheSource::EmptyDir(api::EmptyDirVolumeSource::default())
            };
            let directory = CacheDirectory { path: path.to_owned(), source };
            let position = if is_patched { next_patched } else { found.directories.len() };
            found.directories.insert(position, directory);
            next_patched += usize::from(is_patched);
        } else if path != IN_MEMORY && !is_path {
            let _ = write!(homeless, "{}{path}", if homeless.is_empty() { "" } else { ", " });
        }
    }
    if !homeless.is_empty() {
        sources.warnings.push(format!(
            "{}: cache directories {homeless} cannot have a volume on serverless nodes, so the cache is in the container's own layer",
            sources.subject()
        ));
    }
    Ok(())
}

/// Directories of the node that are mounted at the same path.
///
/// A cache directory is mounted there already, and two mounts at one path are not allowed.
pub(super) fn host_paths(
    sources: &mut Sources<'_>,
    cache: &[CacheDirectory],
) -> Result<Vec<String>, Refusal> {
    let Some(attribute) =
        sources.attribute(attributes::HOST_PATH).filter(|_| sources.inputs.host_directories)
    else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<String> = Vec::new();
    let templates = sources.templates;
    let value = templates.fill(attribute.value);
    for path in value.split(',').map(str::trim).filter(|path| !path.is_empty()) {
        if !is_host_path(path) {
            return Err(sources.refuse_path(path, attribute.origin()));
        }
        if !paths.iter().chain(cache.iter().map(|directory| &directory.path)).any(|earlier| earlier == path) {
            paths.push(path.to_owned());
            sources.explain("hostPath", attribute.origin(), || path.to_owned());
        }
    }
    Ok(paths)
}

impl Sources<'_> {
    /// Whether the ConfigMap has a volume mounted at a path or above it.
    fn is_mounted_by_patch(&self, path: &str) -> bool {
        let templates = self.templates;
        self.patch.volume_mounts.iter().any(|mount| is_within(path, &templates.fill(&mount.value.mount_path)))
    }
}

/// Whether the client would find something else than a cache there: its mount, or a file.
fn is_of_the_client(path: &str) -> bool {
    ["/jfs", "/etc/updatedb.conf", "/run/jfs-agent"].iter().any(|taken| is_within(path, taken))
}

/// Whether a path is a directory or something below it.
fn is_within(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Kubernetes takes nothing else for a `hostPath`.
fn is_host_path(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}
