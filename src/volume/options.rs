//! Mount options: those of the ConfigMap first, then the volume's.

mod slips;

use std::borrow::Cow;

use super::{
    attributes::{self, Holder, Origin},
    settings::{Directory, Sources},
};
use crate::{
    notation::{Percentage, Quantity},
    outcome::{Code, Refusal},
};

/// The field of a volume's spec, or of a class. An attribute may have the same name.
const FIELD: &str = "spec.mountOptions";

/// One option, `name` or `name=value`, free of stray white space.
#[derive(Clone, Debug)]
pub(super) struct MountOption<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) origin: Origin<'a>,
}

impl<'a> MountOption<'a> {
    /// White space around the option, its name and its value goes; the value may have more equals signs.
    fn new(text: Cow<'a, str>, origin: Origin<'a>) -> Self {
        let tidy = match text.split_once('=') {
            Some((name, value)) if name != name.trim() || value != value.trim() => {
                Some(format!("{}={}", name.trim(), value.trim()))
            }
            None if text != text.trim() => Some(text.trim().to_owned()),
            _ => None,
        };
        Self { text: tidy.map_or(text, Cow::Owned), origin }
    }

    pub(super) fn name(&self) -> &str {
        self.text.split_once('=').map_or(&self.text, |(name, _)| name)
    }

    pub(super) fn value(&self) -> Option<&str> {
        self.text.split_once('=').map(|(_, value)| value)
    }
}

/// Options and what was taken out of them.
pub(super) struct Options<'a> {
    /// In their final order, without `subdir`.
    pub(super) list: Vec<MountOption<'a>>,
    pub(super) directory: Directory,
    /// By access modes or by option.
    pub(super) read_only: bool,
}

/// Options from all sources.
pub(super) fn settle<'a>(
    sources: &mut Sources<'a>,
    memory: Option<Quantity>,
) -> Result<Options<'a>, Refusal> {
    let mut list = collect(sources);
    for option in &list {
        if matches!(option.name(), "") {
            let place = sources.place(option.origin);
            let what = format!("option {:?} has no name", option.text);
            return Err(Refusal::new(Code::SettingInvalid, place, what, "write NAME or NAME=VALUE"));
        }
    }
    for option in &list {
        if let Some(what) = slips::of(&option.text) {
            let place = sources.place(option.origin);
            sources.warnings.push(format!("{place}: {what}"));
        }
    }
    let directory = directory(sources, &list)?;
    list.retain(|option| option.name() != "subdir");
    fit_buffers(sources, &mut list, memory);
    let read_only = list.iter().any(|option| matches!(&*option.text, "ro" | "read-only"));
    Ok(Options { list, directory, read_only })
}

/// The directory, and nothing else.
pub(super) fn directory_alone(sources: &mut Sources<'_>) -> Result<Directory, Refusal> {
    let list = collect(sources);
    directory(sources, &list)
}

/// The client ends an option at every comma, so an entry with commas is several.
fn collect<'a>(sources: &Sources<'a>) -> Vec<MountOption<'a>> {
    let resolved = sources.inputs.resolved;
    let mut list = Vec::with_capacity(resolved.volume.mount_options.len() + 4);
    if let Some(patch) = sources.patch.mount_options {
        let origin = Origin::picked(&patch);
        for text in patch.value {
            match sources.templates.fill(text) {
                Cow::Borrowed(text) => {
                    list.extend(text.split(',').map(|text| MountOption::new(text.into(), origin)));
                }
                Cow::Owned(text) => {
                    list.extend(text.split(',').map(|text| MountOption::new(text.to_owned().into(), origin)));
                }
            }
        }
    }
    let patched = list.len();
    let mut add = |text: &'a str, origin| {
        let option = MountOption::new(Cow::Borrowed(text), origin);
        if !list.iter().take(patched).any(|patch| patch.name() == option.name()) {
            list.push(option);
        }
    };
    if sources.only_reads {
        add("ro", Origin::Held(Holder::Volume, "spec.accessModes"));
    }
    for text in resolved.volume.mount_options.iter().flat_map(|text| text.split(',')) {
        add(text, Origin::Held(Holder::Volume, FIELD));
    }
    if let Some(attribute) = sources.attribute(attributes::MOUNT_OPTIONS) {
        for text in attribute.value.split(',') {
            add(text, Origin::Held(Holder::Volume, attributes::MOUNT_OPTIONS));
        }
    }
    // Nothing at all says nothing.
    list.retain(|option| !option.text.is_empty());
    list
}

/// The `subdir` option and the volume's sub path, joined as paths are.
fn directory(sources: &mut Sources<'_>, list: &[MountOption<'_>]) -> Result<Directory, Refusal> {
    let resolved = sources.inputs.resolved;
    let option = list.iter().rev().find(|option| option.name() == "subdir");
    let base = option.and_then(MountOption::value).unwrap_or_default();
    let sub_path = sources.attribute(attributes::SUB_PATH);
    // As in path.Join: the whole is absolute if its first element is.
    let first = if base.is_empty() { sub_path.map_or("", |attribute| attribute.value) } else { base };
    let absolute = first.starts_with('/');
    let mut path =
        String::with_capacity(base.len() + sub_path.map_or(0, |attribute| attribute.value.len() + 1));
    if let Some(option) = option {
        append(&mut path, base, absolute).map_err(|what| {
            let remedy = "name a directory of the file system without leaving it";
            Refusal::new(
                Code::SettingInvalid,
                sources.place(option.origin),
                format!("subdir {base:?} {what}"),
                remedy,
            )
        })?;
        sources.explain("subdir", option.origin, || base.to_owned());
    }
    if let Some(attribute) = sub_path {
        append(&mut path, attribute.value, absolute).map_err(|what| {
            sources.refuse_attribute(attribute, what, "name a directory below that of the volume's class")
        })?;
        let pattern = sources.attribute(attributes::PATH_PATTERN).filter(|_| !resolved.volume.bound);
        let origin = pattern.filter(|pattern| pattern.value == attribute.value).unwrap_or(attribute).origin();
        sources.explain("subPath", origin, || attribute.value.to_owned());
    }
    Ok(Directory { path, ephemeral: resolved.ephemeral_directory.clone() })
}

/// Goes on from `path` to `further`, which may not lead above `path`.
fn append(path: &mut String, further: &str, absolute: bool) -> Result<(), &'static str> {
    // A comma ends an option: what follows could be a `subdir` of its own.
    if further.contains([',', '\0']) {
        return Err("has a comma, which a mount option cannot carry");
    }
    let floor = path.len();
    for part in further.split('/') {
        match part {
            "" | "." => {}
            ".." if path.len() > floor => {
                let parent = path.rfind('/').unwrap_or(0);
                path.truncate(parent.max(floor));
            }
            ".." => return Err("leads out of its directory"),
            part => {
                if absolute || !path.is_empty() {
                    path.push('/');
                }
                path.push_str(part);
            }
        }
    }
    Ok(())
}

/// Brings `buffer-size` below the memory limit, as a number of MiB; a share of no limit is dropped.
fn fit_buffers(sources: &mut Sources<'_>, list: &mut Vec<MountOption<'_>>, memory: Option<Quantity>) {
    list.retain_mut(|option| {
        let Some(size) = option.value().filter(|_| option.name() == "buffer-size") else { return true };
        let fitted = fit_buffer(size, memory);
        if let Some(warning) = fitted.warning(size) {
            sources.warnings.push(format!("{}: {warning}", sources.subject()));
        }
        match fitted {
            Buffer::AsIs => true,
            Buffer::Share(mebi) | Buffer::Clamped(mebi) => {
                option.text = Cow::Owned(format!("buffer-size={mebi}"));
                true
            }
            Buffer::Unreadable | Buffer::ShareOfNothing => false,
        }
    });
}

/// What becomes of a `buffer-size`; sizes in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffer {
    AsIs,
    Share(i128),
    Clamped(i128),
    Unreadable,
    ShareOfNothing,
}

impl Buffer {
    fn warning(self, size: &str) -> Option<String> {
        match self {
            Self::AsIs | Self::Share(_) => None,
            Self::Clamped(mebi) => {
                Some(format!("buffer-size {size} is above the memory limit, {mebi} is used"))
            }
            Self::Unreadable => {
                Some(format!("buffer-size {size} is not a size such as 300, 1G or 50%, ignored"))
            }
            Self::ShareOfNothing => Some(format!(
                "buffer-size {size} is a share of the memory limit, and there is no limit, ignored"
            )),
        }
    }
}

fn fit_buffer(size: &str, memory: Option<Quantity>) -> Buffer {
    if size.ends_with('%') {
        return match (size.parse::<Percentage>(), memory) {
            (Err(_), _) => Buffer::Unreadable,
            (_, None) => Buffer::ShareOfNothing,
            (Ok(share), Some(memory)) => {
                Buffer::Share(memory.share(share.at_most_whole()).rounded_to_mebi().mebi())
            }
        };
    }
    // MiB unless it says otherwise.
    let (number, bits) = match size.char_indices().next_back() {
        Some((end, unit)) if unit.is_ascii_alphabetic() => {
            let step = "kmgtpe".find(unit.to_ascii_lowercase()).and_then(|step| u32::try_from(step).ok());
            (size.get(..end).unwrap_or_default(), step.map(|step| (step + 1) * 10))
        }
        _ => (size, Some(20)),
    };
    match (bits.and_then(|bits| Quantity::from_shifted(number, bits)), memory) {
        (None, _) => Buffer::Unreadable,
        (Some(size), _) if size.is_negative() => Buffer::Unreadable,
        (Some(size), Some(memory)) if size > memory => Buffer::Clamped(memory.mebi().max(1)),
        _ => Buffer::AsIs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_tidied_around_their_first_equals_sign() {
        for (text, tidy) in [
            (" cache-dir = x ", "cache-dir=x"),
            ("writeback", "writeback"),
            ("\tdebug\n", "debug"),
            ("token=a=b = c", "token=a=b = c"),
            ("json={\"a\": 1}", "json={\"a\": 1}"),
        ] {
            assert_eq!(MountOption::new(Cow::Borrowed(text), Origin::Default).text, tidy);
        }
    }

    #[test]
    fn directories_are_joined_and_confined() {
        let join = |base: &str, sub: &str| {
            let mut path = String::new();
            let absolute = format!("{base}{sub}").starts_with('/');
            append(&mut path, base, absolute)?;
            append(&mut path, sub, absolute).map(|()| path)
        };
        for (base, sub, joined) in [
            ("", "", ""),
            ("/", "", ""),
            ("", "a/b/", "a/b"),
            ("", "/a//b", "/a/b"),
            ("/", "a", "/a"),
            ("/x/", "/a", "/x/a"),
            ("x", "./a/../b", "x/b"),
            ("x", "a/..", "x"),
            ("x", "a/../../x/b", "!"),
            ("x", "..", "!"),
            ("x/y", "../y", "!"),
            ("../x", "", "!"),
            ("/..", "", "!"),
            ("x", "a,subdir=/", "!"),
        ] {
            let result = join(base, sub);
            assert_eq!(result.as_deref().unwrap_or("!"), joined, "{base:?} {sub:?}");
        }
    }

    #[test]
    fn buffers_fit_the_memory_limit() {
        let memory = Some(Quantity::from_mebi(5120));
        for (size, memory, buffer) in [
            ("300", memory, Buffer::AsIs),
            ("5120", memory, Buffer::AsIs),
            ("5G", memory, Buffer::AsIs),
            ("5121", memory, Buffer::Clamped(5120)),
            ("1t", memory, Buffer::Clamped(5120)),
            ("1.5G", Some(Quantity::from_mebi(1000)), Buffer::Clamped(1000)),
            ("50%", memory, Buffer::Share(2560)),
            ("33.3%", Some(Quantity::from_mebi(100)), Buffer::Share(34)),
            ("200%", memory, Buffer::Share(5120)),
            ("9000", None, Buffer::AsIs),
            ("50%", None, Buffer::ShareOfNothing),
            ("", memory, Buffer::Unreadable),
            ("many", memory, Buffer::Unreadable),
            ("-5", memory, Buffer::Unreadable),
            ("-5%", memory, Buffer::Unreadable),
            ("300MiB", memory, Buffer::Unreadable),
            ("1µ", memory, Buffer::Unreadable),
        ] {
            assert_eq!(fit_buffer(size, memory), buffer, "{size}");
        }
    }
}
