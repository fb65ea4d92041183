//! Slips of the pen: what somebody may have meant by a name that nobody knows.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

/// How alike a name has to be where most unknown names are nobody's slips.
pub(crate) const CLOSE: f32 = 0.82;
/// How alike it has to be where an unknown name has no other meaning anyway.
pub(crate) const LIKELY: f32 = 0.6;

/// The known name that is meant by another one: the same but for case, dashes, underscores, dots and blanks, else the
/// most alike.
pub(crate) fn meant<'k>(name: &str, known: &[&'k str], likeness: f32) -> Option<&'k str> {
    let bare = bare(name);
    if bare.is_empty() {
        return None;
    }
    let all: Vec<String> = known.iter().map(|one| self::bare(one)).collect();
    let same = all.iter().position(|one| *one == bare);
    let place = same.or_else(|| {
        let texts: Vec<&str> = all.iter().map(String::as_str).collect();
        let close = similar::get_close_matches(bare.as_str(), &texts, 1, likeness);
        let close = *close.first()?;
        texts.iter().position(|one| *one == close)
    })?;
    known.get(place).copied()
}

fn bare(name: &str) -> String {
    let letters = name.chars().filter(|letter| !matches!(letter, '-' | '_' | '.') && !letter.is_whitespace());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant_and_other_names_nothing() {
        let known = [
            "name",
            "envs",
            "configs",
            "format-options",
            "trash-days",
            "encrypt_rsa_key",
            "access-key",
            "bucket",
        ];
        for (name, expected) in [
            ("env", Some("envs")),
            ("config", Some("configs")),
            ("format_options", Some("format-options")),
            ("trash-day", Some("trash-days")),
            ("encrypt-rsa-key", Some("encrypt_rsa_key")),
            ("accesskeys", Some("access-key")),
            ("Bucket ", Some("bucket")),
            ("password", None),
            ("region", None),
            ("", None),
            ("--", None),
        ] {
            assert_eq!(meant(name, &known, CLOSE), expected, "{name}");
        }
        assert_eq!(meant("enableQuota", &["enableSetQuota", "after"], LIKELY), Some("enableSetQuota"));
    }
}
