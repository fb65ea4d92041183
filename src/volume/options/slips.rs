//! Mount options that cannot be any, or were meant to be others.

use crate::slip;

/// Options of both clients and of FUSE, as `-o` takes them. One that is missing here is passed on all the same.
const KNOWN: &[&str] = &[
    "allow_other",
    "allow-other",
    "async-dlclose",
    "atime-mode",
    "attr-cache",
    "attrcacheto",
    "backup-meta",
    "backup-skip-trash",
    "batch-flush",
    "bucket",
    "buffer-size",
    "bwlimit",
    "cache-dir",
    "cache-eviction",
    "cache-expire",
    "cache-group",
    "cache-group-size",
    "cache-items",
    "cache-large-write",
    "cache-mode",
    "cache-partial-only",
    "cache-scan-interval",
    "cache-size",
    "check-storage",
    "conf-dir",
    "console-url",
    "debug",
    "default_permissions",
    "delayed-write",
    "dir-entry-cache",
    "direntrycacheto",
    "disable-acl",
    "download-limit",
    "enable-cap",
    "enable-ioctl",
    "enable-xattr",
    "entry-cache",
    "entrycacheto",
    "external",
    "fill-group-cache",
    "flip",
    "fsname",
    "get-timeout",
    "gid",
    "group-backup",
    "group-ip",
    "group-network",
    "group-weight",
    "heartbeat",
    "hide-internal",
    "io-retries",
    "log-level",
    "max-cached-inodes",
    "max-deletes",
    "max-downloads",
    "max-readahead",
    "max-space",
    "max-stage-write",
    "max-uploads",
    "max-write",
    "memprofile",
    "metacache",
    "metacacheto",
    "metrics",
    "nonempty",
    "negative-entry-cache",
    "no-bgjob",
    "no-sharing",
    "no-usage-report",
    "open-cache",
    "open-cache-limit",
    "prefetch",
    "put-timeout",
    "read-only",
    "readdir-cache",
    "ro",
    "root-squash",
    "rw",
    "skip-dir-mtime",
    "sort-dir",
    "storage",
    "subdir",
    "token",
    "uid",
    "umask",
    "upload-delay",
    "upload-limit",
    "verify-cache-checksum",
    "writeback",
    "writeback_cache",
    "write-back",
    "upload-hours",
    "free-space-ratio",
    "verbose",
    "no-update",
    "foreground",
    "update-fstab",
    "noatime",
    "suid",
    "dev",
];

/// What is odd about an option.
pub(super) fn of(option: &str) -> Option<String> {
    let name = option.split_once('=').map_or(option, |(name, _)| name);
    let written = |text: &str| text.trim_start_matches('-').replacen(": ", "=", 1).replacen(' ', "=", 1);
    if name.starts_with('-') {
        return Some(format!(
            "option {option:?} begins with a dash, which no mount option does; write {}",
            written(option)
        ));
    }
    if name.contains([' ', ':']) {
        return Some(format!("option {option:?} is none; write {}", written(option)));
    }
    if KNOWN.contains(&name) {
        return None;
    }
    let meant = slip::meant(name, KNOWN, slip::CLOSE)?;
    Some(format!("option {name:?} is not known; did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_options_are_spoken_about_and_others_are_not() {
        for (option, said) in [
            ("--cache-size 7", "begins with a dash, which no mount option does; write cache-size=7"),
            ("cache-size: 5", "is none; write cache-size=5"),
            ("cache_size=5", "is not known; did you mean cache-size?"),
            ("cachesize=5", "is not known; did you mean cache-size?"),
            ("wirteback", "is not known; did you mean writeback?"),
        ] {
            let what = of(option).unwrap_or_default();
            assert!(what.ends_with(said), "{option}: {what}");
        }
        for option in ["cache-size=5", "ro", "something-new=1", "writeback", "fsname=a: b"] {
            assert_eq!(of(option), None, "{option}");
        }
    }
}
