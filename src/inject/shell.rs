//! Commands as a line of a POSIX shell.
//!
//! A line is read twice, one reader after the other. The kubelet expands `$(NAME)` and `$$` in a container's
//! `command`; then `sh` (dash or bash) reads what is left. After both, every argument is exactly the text that its
//! word stands for.

use crate::{
    client::{
        POD_UID, Script,
        word::{Nul, Part, Word},
    },
    identifier::{is_plain, is_plain_word},
};

/// The `command` of the container that runs a client: `sh`, `-c` and a script of a few lines, of which the last is
/// `exec <client> <file system> <mount point> -o <options>`.
///
/// With a file, whose name needs no quotes, the client is told to end as soon as there is something in it.
pub fn command(script: &Script<'_>, until: Option<&str>) -> Result<Vec<String>, Nul> {
    let preparation = script.preparation.iter().map(|words| line(words)).collect::<Result<Vec<_>, _>>()?;
    let mut lines = Vec::with_capacity(4);
    // A client that failed while it ended is started again by the kubelet, and has nothing to do any more.
    lines.extend(until.map(|file| format!("if [ -s {file} ]; then exit 0; fi")));
    if !preparation.is_empty() {
        // One line, which ends the script when any of its commands fails.
        lines.push(format!("{} || exit 1", preparation.join(" && ")));
    }
    let watch = |file| format!("until [ -s {file} ]; do sleep 1; done && kill -TERM $$ &");
    lines.extend(until.map(|file| shield_from_kubelet(&watch(file))));
    lines.push(format!("exec {}", line(&script.mount)?));
    Ok(vec!["sh".into(), "-c".into(), lines.join("\n")])
}

/// A command line: words joined by spaces.
pub fn line(words: &[Word<'_>]) -> Result<String, Nul> {
    let mut text = String::with_capacity(words.len() * 32);
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        write(word, &mut text)?;
    }
    Ok(text)
}

fn write(word: &Word<'_>, text: &mut String) -> Result<(), Nul> {
    let start = text.len();
    for part in word.parts() {
        match part {
            Part::Literal(literal) if literal.bytes().all(is_plain) => text.push_str(literal),
            // The quotes around a text with `$` keep its escapes from meeting those of its neighbours.
            Part::Literal(literal) => text.push_str(&shield_from_kubelet(&quote(literal)?)),
            Part::Variable(name) => text.extend(["\"${", name, "}\""]),
            // The kubelet fills it in, between quotes that a UID cannot end.
            Part::PodUid => text.extend(["'$(", POD_UID, ")'"]),
        }
    }
    if text.len() == start {
        text.push_str("''");
    }
    Ok(())
}

/// Quotes text as one word of a POSIX shell. Safe words stay bare.
///
/// This is all that hooks and probes need: the kubelet expands nothing in them.
pub fn quote(text: &str) -> Result<String, Nul> {
    if text.contains('\0') {
        return Err(Nul);
    }
    if is_plain_word(text) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Doubles each `$` that the kubelet's expansion would act on, so that the text survives it unchanged.
///
/// The kubelet turns `$$` into `$` and `$(NAME)` into a value. A `$` before any other ASCII character is left
/// alone; before a character beyond ASCII it is copied with that character's first byte as if that were a
/// character of its own, which would spoil the text.
#[must_use]
pub fn shield_from_kubelet(text: &str) -> String {
    let mut shielded = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        shielded.push(character);
        let acted_on = |next: &char| matches!(next, '$' | '(') || !next.is_ascii();
        if character == '$' && characters.peek().is_some_and(acted_on) {
            shielded.push('$');
        }
    }
    shielded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(word: Word<'_>) -> Result<String, Nul> {
        line(&[word])
    }

    #[test]
    fn safe_words_stay_bare_and_others_are_quoted() {
        for (text, wanted) in [
            ("abc", "abc"),
            ("http://m.example:9000/b_1-2", "http://m.example:9000/b_1-2"),
            ("a=b,c@d%e+f^g", "a=b,c@d%e+f^g"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("~root", "'~root'"),
            ("a\nb", "'a\nb'"),
            ("ünï", "'ünï'"),
            ("$HOME", "'$HOME'"),
            ("$(id)", "'$$(id)'"),
            ("a$$b", "'a$$$b'"),
            ("end$", "'end$'"),
        ] {
            assert_eq!(rendered(Word::literal(text)).as_deref(), Ok(wanted), "{text:?}");
        }
    }

    #[test]
    fn expansions_are_quoted_on_their_own() {
        let word = Word::literal("--secret-key=").and_variable("secretkey");
        assert_eq!(rendered(word).as_deref(), Ok(r#"--secret-key="${secretkey}""#));
        let word = Word::literal("subdir=a$").and_pod_uid().and("-v");
        assert_eq!(rendered(word).as_deref(), Ok("'subdir=a$''$(JFS_POD_UID)'-v"));
    }

    #[test]
    fn nul_is_refused_wherever_it_is() {
        assert_eq!(rendered(Word::literal("a").and("b\0c")), Err(Nul));
        assert_eq!(line(&[Word::literal("a"), Word::literal("\0")]), Err(Nul));
    }
}
