//! The words of commands as they are given: `{NAME}` stands for a variable of the environment, `{{` for a brace.
//!
//! Values are put in here and not by whoever starts the agent, so that they are not on its own command line.

use crate::failure::{Failure, Result};

/// Stands in the client's command for where it is to mount.
const MOUNTPOINT: &str = "mountpoint";

/// A command with every variable replaced by its value; the place of the mount only when it is known.
pub(super) fn fill(words: &[String], mountpoint: Option<&str>) -> Result<Vec<String>> {
    words.iter().map(|word| fill_word(word, mountpoint)).collect()
}

fn fill_word(word: &str, mountpoint: Option<&str>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('{') {
            filled.push('{');
            rest = after;
            continue;
        }
        let (name, after) =
            after.split_once('}').ok_or_else(|| Failure::usage(format!("no }} after {{ in {word:?}")))?;
        let value = match mountpoint.filter(|_| name == MOUNTPOINT) {
            Some(mountpoint) => Some(mountpoint.to_owned()),
            None => std::env::var(name).ok(),
        };
        let value = value.ok_or_else(|| Failure::usage(format!("there is no variable {name}")))?;
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_once() {
        let filled = |word: &str| fill(&[word.to_owned()], Some("/dev/fd/{7}")).map(|words| words[0].clone());
        let path = std::env::var("PATH").unwrap();
        assert_eq!(filled("a={PATH}").unwrap(), format!("a={path}"));
        assert_eq!(filled("{mountpoint}").unwrap(), "/dev/fd/{7}");
        assert_eq!(filled("{{mountpoint}{{{{x").unwrap(), "{mountpoint}{{x");
        assert_eq!(filled("}a}").unwrap(), "}a}");
        for wrong in ["{", "a{b", "{NO_SUCH_VARIABLE_HERE}", "{}"] {
            assert!(filled(wrong).is_err(), "{wrong}");
        }
        assert!(fill(&["{mountpoint}".to_owned()], None).is_err());
    }
}
