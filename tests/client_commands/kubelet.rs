//! What the kubelet makes of a container's `command`, written after its Go code: the measure for our escapes.

use std::os::unix::ffi::OsStringExt;

use juicefs_sidecar::{
    client::word::Word,
    inject::shell::{line, quote, shield_from_kubelet},
};
use proptest::prelude::*;

/// Expands `$(NAME)` and `$$`; bytes in, bytes out.
pub(crate) fn expand(input: &str, value: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let bytes = input.as_bytes();
    let mut output = Vec::new();
    let mut cursor = 0;
    while cursor < bytes.len() {
        if bytes[cursor] != b'$' || cursor + 1 == bytes.len() {
            output.push(bytes[cursor]);
            cursor += 1;
            continue;
        }
        let rest = &bytes[cursor + 1..];
        let closer = rest.iter().position(|byte| *byte == b')');
        match (rest[0], closer) {
            (b'$', _) => {
                output.push(b'$');
                cursor += 2;
            }
            (b'(', Some(closer)) => {
                let name = std::str::from_utf8(&rest[1..closer]).expect("parentheses are ASCII");
                output.extend(value(name).unwrap_or_else(|| format!("$({name})")).bytes());
                cursor += closer + 2;
            }
            (next, _) => {
                // Go's string(byte) is the character of that number.
                output.extend(format!("${}", char::from(next)).bytes());
                cursor += 2;
            }
        }
    }
    output
}

/// A container's `command` word as the container gets it.
pub(crate) fn expand_word(word: &str, pod_uid: &str) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(expand(word, |name| (name == "JFS_POD_UID").then(|| pod_uid.to_owned())))
}

fn survives(text: &str) -> bool {
    expand(&shield_from_kubelet(text), |_| Some("WRONG".into())) == text.as_bytes()
}

#[test]
fn the_measure_acts_as_the_kubelet_does() {
    let value = |name: &str| (name == "set").then(|| "value".to_owned());
    for (input, output) in [
        ("$(set) $(unset)", "value $(unset)"),
        ("$$(set) a$$b $", "$(set) a$b $"),
        ("${set} $x $(open", "${set} $x $(open"),
        ("$$$(set)", "$value"),
        ("$()", "$()"),
    ] {
        assert_eq!(expand(input, value), output.as_bytes(), "{input:?}");
    }
    assert_ne!(expand("$é", value), "$é".as_bytes());
}

proptest! {
    #[test]
    fn any_text_survives_the_kubelet(text in any::<String>()) {
        prop_assert!(survives(&text));
    }

    #[test]
    fn any_mix_of_dollars_and_parentheses_survives_the_kubelet(text in r"[$()a{}'é]{0,24}") {
        prop_assert!(survives(&text));
    }

    #[test]
    fn parts_of_a_word_do_not_meet_in_the_kubelet(left in r"[$()a' é]{0,9}", right in r"[$()a' é]{0,9}") {
        let word = Word::literal(left.clone()).and_pod_uid().and_variable("v").and(right.clone());
        let expanded = expand(&line(&[word]).unwrap(), |name| (name == "JFS_POD_UID").then(|| "1-2".into()));
        let quoted = |text: &str| if text.is_empty() { String::new() } else { quote(text).unwrap() };
        let wanted = format!("{}'1-2'\"${{v}}\"{}", quoted(&left), quoted(&right));
        prop_assert_eq!(String::from_utf8(expanded).unwrap(), wanted);
    }
}
