//! Names and UIDs as Kubernetes gives them.
//!
//! They become parts of paths and commands, and a manifest or a review may say anything: what cannot be a name or a
//! UID is refused where it enters.

/// The longest name of an object.
const LONGEST_NAME: usize = 253;
/// The longest name of a container, a pod's volume or a namespace.
const LONGEST_LABEL: usize = 63;
/// More than any UID of Kubernetes has.
const LONGEST_UID: usize = 64;

/// What [`is_name`] wants, for messages.
pub const NAME_GRAMMAR: &str = "lowercase letters, digits, '-' and '.', at most 253";
/// What [`is_label`] wants, for messages.
pub const LABEL_GRAMMAR: &str = "lowercase letters, digits and '-', at most 63";
/// What [`is_uid`] wants, for messages.
pub const UID_GRAMMAR: &str = "letters, digits and '-', at most 64";

/// Whether a text can be the name of an object (a DNS-1123 subdomain).
pub fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_component)
}

/// Whether a text can be the name of a container or of a pod's volume (a DNS-1123 label).
pub fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_component(text)
}

/// Whether a text can be a UID.
pub fn is_uid(text: &str) -> bool {
    (1..=LONGEST_UID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a text means itself to every shell, quoted or not.
pub fn is_plain_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_plain)
}

/// Whether a byte means itself to every shell, wherever it stands in a word.
pub fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_./:=,@%+^".contains(&byte)
}

fn is_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().next_back());
    ends.is_some_and(|(first, last)| inner(first) && inner(last))
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        for name in ["a", "a-b", "0.1", "data-web-0.team", &"a".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a.",
            "a..b",
            "-a",
            "a-",
            "A",
            "a b",
            "a/b",
            "..",
            "$(id)",
            "ä",
            "a\n",
            &"a".repeat(254),
        ] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_label("jfs-mount") && !is_label("a.b") && !is_label(&"a".repeat(64)));
    }

    #[test]
    fn a_uid_is_no_path_and_no_command() {
        assert!(is_uid("15a9c4cc-ad55-412b-b2d1-a430f77e12f2"));
        for uid in ["", "..", "a/b", "$(touch x);y", "a b", "a\n", "é", &"a".repeat(65)] {
            assert!(!is_uid(uid), "{uid}");
        }
    }

    #[test]
    fn what_is_a_name_is_a_plain_word() {
        assert!(is_plain_word("/jfs/15a9c4cc-ad55.x_y"));
        for text in ["", "a b", "$x", "a;b", "~", "*", "a'b", "a\\b"] {
            assert!(!is_plain_word(text), "{text}");
        }
    }
}
