//! The client's version, as far as an image reference tells.

/// The first enterprise version that reads an encrypted `initconfig`.
pub(super) const READS_ENCRYPTED_INITCONFIG: [u32; 3] = [5, 1, 0];

/// Whether an image's tag names an older version. A tag that names none (`nightly`, a digest) is taken as new.
pub(super) fn is_before(image: &str, wanted: [u32; 3]) -> bool {
    version(image).is_some_and(|version| version < wanted)
}

/// Major, minor and patch of tags like `ee-5.1.2-1faf43b`, `ce-v1.2.3` or `v5.0`.
fn version(image: &str) -> Option<[u32; 3]> {
    // A colon before the last slash belongs to the registry's port.
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let (_, tag) = name.split_once(':')?;
    let tag = tag.strip_prefix("ee-").or_else(|| tag.strip_prefix("ce-")).unwrap_or(tag);
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let numbers = tag.split(['-', '+']).next().unwrap_or_default();
    let mut version = [0; 3];
    let mut count = 0;
    for number in numbers.split('.') {
        *version.get_mut(count)? = number.parse().ok()?;
        count += 1;
    }
    // One number alone is a date or a build, not a version.
    (count >= 2).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_tags() {
        for (image, wanted) in [
            ("juicedata/mount:ee-5.0.23-1faf43b", Some([5, 0, 23])),
            ("registry.example:5000/juicedata/mount:ee-5.1.0", Some([5, 1, 0])),
            ("registry.example:5000/juicedata/mount", None),
            ("juicedata/mount:ce-v1.2.3", Some([1, 2, 3])),
            ("juicedata/mount:v4.9", Some([4, 9, 0])),
            ("mount:ee-4.9.16@sha256:00ff", Some([4, 9, 16])),
            ("juicedata/mount@sha256:00ff", None),
            ("juicedata/mount:ee-nightly", None),
            ("juicedata/mount:20240102", None),
            ("juicedata/mount:1.2.3.4", None),
            ("juicedata/mount:99999999999.1", None),
            ("", None),
            (":", None),
        ] {
            assert_eq!(version(image), wanted, "{image}");
        }
    }

    #[test]
    fn only_a_version_known_to_be_older_is_before() {
        assert!(is_before("m:ee-5.0.9", READS_ENCRYPTED_INITCONFIG));
        for image in ["m:ee-5.1.0", "m:ee-5.10.0", "m:ee-nightly", "m"] {
            assert!(!is_before(image, READS_ENCRYPTED_INITCONFIG), "{image}");
        }
    }
}
