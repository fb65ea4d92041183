//! Mounting, detaching, and knowing what is mounted where.

use crate::{
    failure::{During, Failure, Result},
    look,
};
use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};
use std::{
    ffi::CString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The type under which JuiceFS mounts appear.
const FILE_SYSTEM: &str = "fuse.juicefs";

/// More layers than this on one mountpoint is a loop of somebody's, not a history.
const MOST_LAYERS: usize = 64;

/// How long somebody else's mount may take to prove that it is alive.
const ALIVE_LIMIT: Duration = Duration::from_secs(2);

/// What the kernel lets nobody do with a mount, unless its options say otherwise.
pub(crate) const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The flags that mount options ask for; of those, there are no others that only who mounts can give.
pub(crate) fn flags(options: &str) -> Result<MountFlags> {
    let mut flags = FLAGS;
    for option in options.split(',') {
        match option {
            "suid" => flags -= MountFlags::NOSUID,
            "dev" => flags -= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            other => return Err(Failure::usage(format!("--flags: {other:?} is not a flag of a mount"))),
        }
    }
    Ok(flags)
}

/// One mount, as `/proc/self/mountinfo` has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Where it is.
    pub(crate) mountpoint: PathBuf,
    /// The numbers of its device, `major:minor`.
    pub(crate) device: String,
    /// The type of its file system.
    pub(crate) file_system: String,
    /// What it says it was made from.
    pub(crate) source: String,
}

/// The source that our mounts of a volume show.
pub(crate) fn source(volume: &str) -> String {
    format!("JuiceFS:{volume}")
}

/// The mounts at exactly this path.
pub(crate) fn layers(path: &Path) -> Result<Vec<Layer>> {
    // Bytes, not text: somebody else's mountpoint may be no UTF-8.
    let table = std::fs::read("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo")?;
    Ok(table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_layer)
        .filter(|layer| layer.mountpoint == path)
        .collect())
}

/// Reads a line: `id parent major:minor root mountpoint options [tags...] - type source options`.
fn parse_layer(line: &[u8]) -> Option<Layer> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    Some(Layer {
        mountpoint: std::ffi::OsString::from_vec(unescape(mountpoint)).into(),
        device: text(device),
        file_system: text(rest.next()?),
        source: text(rest.next()?),
    })
}

/// Undoes the kernel's `\040` for spaces and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .first_chunk::<3>()
            .filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        if let Some(digits) = octal {
            plain.push(
                digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
            );
            rest = &after[3..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

/// The mountpoint without symbolic links on the way, made if it is not there.
///
/// The last component is never looked at through a mount that may be dead, and must not be a link itself.
pub(crate) fn resolve(mountpoint: &Path) -> Result<PathBuf> {
    let (Some(parent), Some(name)) = (mountpoint.parent(), mountpoint.file_name()) else {
        return Err(Failure::new(format!("{} cannot be a mountpoint", mountpoint.display())));
    };
    std::fs::create_dir_all(parent).during(|| format!("make {}", parent.display()))?;
    let parent = parent.canonicalize().during(|| format!("resolve {}", parent.display()))?;
    Ok(parent.join(name))
}

/// Detaches every layer of ours at a mountpoint; refuses, touching nothing, when a live one of somebody else is there.
pub(crate) fn detach_all(path: &Path, volume: &str) -> Result<usize> {
    let ours = source(volume);
    let found = layers(path)?;
    if let Some(layer) = found.iter().find(|layer| layer.file_system != FILE_SYSTEM) {
        return Err(foreign(path, layer));
    }
    if let Some(layer) = found.iter().find(|layer| layer.source != ours)
        && look::is_alive(path, ALIVE_LIMIT)
    {
        return Err(foreign(path, layer));
    }
    for detached in 0..MOST_LAYERS {
        if layers(path)?.is_empty() {
            return Ok(detached);
        }
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Detached by somebody else in between.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(Failure::new(format!("detach {}: {error}", path.display()))),
        }
    }
    Err(Failure::new(format!("{} is mounted again as fast as it is detached", path.display())))
}

fn foreign(path: &Path, layer: &Layer) -> Failure {
    Failure::new(format!(
        "{} already carries a mount of type {} from {:?}, which is not ours; unmount it or choose another mountpoint",
        path.display(),
        layer.file_system,
        layer.source
    ))
}

/// Mounts at a path that carries no mount, for a client that will serve the given device; returns the root.
pub(crate) fn mount(path: &Path, volume: &str, flags: MountFlags, device: &OwnedFd) -> Result<OwnedFd> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Failure::new(format!("make {}: {error}", path.display()))),
    }
    let directory = open_root(path)?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let options = CString::new(options).during(|| "mount options")?;
    // By descriptor: what was checked not to be a link is what is mounted on.
    let target = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::mount::mount(source(volume), target, FILE_SYSTEM, flags, options.as_c_str())
        .during(|| format!("mount {}", path.display()))?;
    open_root(path)
}

/// Opens a directory as a path only, which asks nothing of the file system.
fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).during(|| format!("open {}", path.display()))
}

/// Fails when a descriptor is not a path-only one, the only kind that is harmless to keep.
pub(crate) fn check_root(root: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(root).during(|| "look at a descriptor")?;
    if !flags.contains(OFlags::PATH) {
        return Err(Failure::new("the root of a mount has to be opened as a path only"));
    }
    Ok(())
}

/// The device numbers of an open root, without asking whoever serves it.
pub(crate) fn device_of(root: impl AsFd) -> Result<String> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found =
        rustix::fs::statx(root, c"", flags, StatxFlags::empty()).during(|| "look at the root of a mount")?;
    Ok(format!("{}:{}", found.stx_dev_major, found.stx_dev_minor))
}

/// Whether the mount with this root is the only one at the mountpoint.
pub(crate) fn is_alone_at(root: impl AsFd, path: &Path) -> Result<bool> {
    let device = device_of(root)?;
    let found = layers(path)?;
    Ok(matches!(found.as_slice(), [layer] if layer.device == device && layer.file_system == FILE_SYSTEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_its_escapes_and_tags() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 shared:2 - fuse.juicefs JuiceFS:x rw,errors=continue";
        let layer = parse_layer(line).unwrap();
        assert_eq!(layer.mountpoint, Path::new("/a b\\c"));
        assert_eq!(layer.device, "98:0");
        assert_eq!((layer.file_system.as_str(), layer.source.as_str()), ("fuse.juicefs", "JuiceFS:x"));
        assert_eq!(parse_layer(b""), None);
        assert_eq!(parse_layer(b"1 2 3:4 / /x rw - proc"), None);
    }

    #[test]
    fn flags_are_as_safe_as_they_were_unless_they_are_named() {
        assert_eq!(flags("noexec").unwrap(), FLAGS | MountFlags::NOEXEC);
        assert_eq!(flags("suid,dev,sync").unwrap(), MountFlags::SYNCHRONOUS);
        assert!(flags("noexec,bind").is_err());
        assert!(flags("").is_err());
    }

    #[test]
    fn our_own_root_is_found() {
        let found = layers(Path::new("/proc")).unwrap();
        assert!(found.iter().any(|layer| layer.file_system == "proc"), "{found:?}");
    }

    #[test]
    fn a_file_that_can_be_read_is_no_root() {
        assert!(check_root(std::fs::File::open("/").unwrap()).is_err());
        assert!(check_root(open_root(Path::new("/")).unwrap()).is_ok());
    }
}
