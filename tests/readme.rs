//! The README's first command does what the README shows.
#![cfg(feature = "engine")]

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    /// The text of the first fenced block in a language.
    fn block<'a>(readme: &'a str, language: &str) -> &'a str {
        let start = readme.split_once(&format!("```{language}\n")).unwrap().1;
        start.split_once("```").unwrap().0
    }

    #[test]
    fn the_first_command_gives_the_diff_that_is_shown() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let command = block(&readme, "sh").trim();
        let arguments = command.strip_prefix("cargo run --quiet -- ").expect("the README runs it with cargo");
        let mut program = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
        let output = program.current_dir(root).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let actual = String::from_utf8(output.stdout).unwrap();
        let mut rest = actual.as_str();
        for shown in block(&readme, "diff").split("…\n").filter(|shown| !shown.is_empty()) {
            let (_, after) =
                rest.split_once(shown).unwrap_or_else(|| panic!("not in the diff:\n{shown}\n\n{actual}"));
            rest = after;
        }
    }
}
