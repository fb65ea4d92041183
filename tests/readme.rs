//! The README's first command does what the README shows, commands of the documentation are understood, and the page about
//! production names what there is.
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

    /// Lines of shell blocks, without comments, that run our program; as a plugin of kubectl too.
    fn commands(page: &str) -> Vec<Vec<&str>> {
        let lines = between(page, "```sh\n", "```").into_iter().flat_map(str::lines);
        let words = lines.filter_map(|line| {
            let line = line.split_once(" #").map_or(line, |(command, _)| command).trim();
            let words = line.strip_prefix("kubectl ").unwrap_or(line).strip_prefix("juicefs-sidecar ")?;
            Some(words.split_whitespace().collect())
        });
        words.collect()
    }

    /// Against no cluster: what they do in one has tests of its own.
    #[test]
    fn commands_of_the_documentation_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("commands-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, "none").unwrap();
        let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        let others = ["README.md", "certs/README.md", "webhook-config/README.md"].map(|name| root.join(name));
        let mut understood = 0;
        for page in pages.chain(others) {
            let text = fs::read_to_string(&page).unwrap();
            for words in commands(&text) {
                let mut program = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"));
                program.args(&words).current_dir(&folder).env("KUBECONFIG", &kubeconfig);
                let output = program.output().unwrap();
                let error = String::from_utf8_lossy(&output.stderr);
                // What the command line is told apart by from all else that goes wrong.
                assert!(!error.contains("--help"), "{}: {}: {error}", page.display(), words.join(" "));
                understood += 1;
            }
        }
        fs::remove_dir_all(&folder).unwrap();
        assert!(understood > 10, "{understood}");
    }

    /// What stands between a pair of words, every time.
    fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
        text.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
    }

    #[test]
    fn what_the_page_about_production_names_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = fs::read_to_string(root.join("docs/production.md")).unwrap();
        // Tests: a function in a file.
        let mut tests = 0;
        for (name, rest) in page.match_indices("` in `tests/").map(|(at, _)| page.split_at(at)) {
            let name = name.rsplit('`').next().unwrap();
            let file = rest.trim_start_matches("` in `").split('`').next().unwrap();
            let source = fs::read_to_string(root.join(file)).unwrap();
            assert!(source.contains(&format!("fn {name}(")), "{file} has no {name}");
            tests += 1;
        }
        assert!(tests > 10, "{tests}");
        // Values of the chart.
        let schema = fs::read_to_string(root.join("charts/juicefs-sidecar/values.schema.json")).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let spans = page.split('`').flat_map(|span| span.split([' ', ',']));
        let mut values = 0;
        for span in spans {
            let path = span.split(['=', ':']).next().unwrap();
            let Some((first, rest)) = path.split_once('.') else { continue };
            // The end of a sentence is none.
            if !rest.starts_with(|letter: char| letter.is_ascii_alphabetic())
                || schema["properties"].get(first).is_none()
            {
                continue;
            }
            let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
            let found = schema.pointer(&pointer).unwrap_or_else(|| panic!("the chart has no value {path}"));
            assert_ne!(found["deprecated"], true, "{path} is the driver's");
            values += 1;
        }
        assert!(values > 8, "{values}");
        // Configurations: taken without a word.
        let configurations = between(&page, "```yaml\n", "```");
        assert_eq!(configurations.len(), 2);
        for text in configurations {
            let (_, warnings) = juicefs_sidecar::config::Config::parse(text).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}\n{text}");
        }
    }
}
