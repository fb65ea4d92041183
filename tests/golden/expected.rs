//! The expected files of a case.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Texts by file name.
pub(crate) type Files = BTreeMap<&'static str, String>;

/// What a case is made of; every other file of its folder is an expectation.
const INPUTS: [&str; 4] = ["case.yaml", "input.yaml", "cluster.yaml", "config.yaml"];

/// Says how what came out differs from what is expected.
pub(crate) fn compare(folder: &Path, files: &Files) -> Result<(), String> {
    let mut problems = Vec::new();
    let expected = names(folder);
    for name in &expected {
        let text = fs::read_to_string(folder.join(name)).map_err(|error| error.to_string())?;
        match files.get(name.as_str()) {
            None => problems.push(format!("{name} is expected, but nothing comes out for it")),
            Some(actual) if *actual != text => {
                let diff = similar::TextDiff::from_lines(&text, actual);
                problems.push(format!("{name}:\n{}", diff.unified_diff().header("expected", "actual")));
            }
            Some(_) => {}
        }
    }
    for (name, actual) in files.iter().filter(|(name, _)| !expected.contains(**name)) {
        problems.push(format!("{name} is not expected:\n{actual}"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Makes what came out the expectation.
pub(crate) fn update(folder: &Path, files: &Files) -> Result<(), String> {
    for name in names(folder) {
        fs::remove_file(folder.join(name)).map_err(|error| error.to_string())?;
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    all.map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !INPUTS.contains(&name.as_str()))
        .collect()
}
