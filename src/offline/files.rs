//! Reading manifests: the one place of the offline engine that does I/O.

use std::{
    convert::Infallible,
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::Context as _;

use super::{Document, InputError, documents};

/// What `-f` and `--cluster` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-`.
    Stdin,
    /// A file, or a directory of manifests.
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::Path(text.into()) })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => formatter.write_str("<stdin>"),
            Self::Path(path) => path.display().fmt(formatter),
        }
    }
}

/// Endings of the files that are read from a directory, as `kubectl` does.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];

/// Reads and parses every document of the sources, in their order.
///
/// Of a directory, the files ending in `.yaml`, `.yml` or `.json` are read in the order of their names, hidden
/// ones and sub-directories left out, as `kubectl apply -f` does.
pub fn read(sources: &[Source]) -> Result<Vec<Document>, InputError> {
    let mut parsed = Vec::new();
    for source in sources {
        match source {
            Source::Path(path) if path.is_dir() => {
                for file in manifests_in(path).map_err(|error| unread(source, &error))? {
                    parsed.extend(read_one(&Source::Path(file))?);
                }
            }
            source => parsed.extend(read_one(source)?),
        }
    }
    Ok(parsed)
}

fn read_one(source: &Source) -> Result<Vec<Document>, InputError> {
    documents::parse(&source.to_string(), &read_text(source)?)
}

/// Reads one file, or the standard input.
pub fn read_text(source: &Source) -> Result<String, InputError> {
    let bytes = match source {
        Source::Stdin => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        Source::Path(path) => fs::read(path),
    }
    .map_err(|error| unread(source, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = valid.split(|&byte| byte == b'\n').count();
        let file: Arc<str> = source.to_string().into();
        let what = "not UTF-8 text".to_owned();
        InputError { file, line: Some(line), document: 0, object: String::new(), field: String::new(), what }
    })
}

/// Writes texts into their files.
///
/// # Errors
/// A file that cannot be written; those before it are.
pub fn write(files: &[(&str, String)]) -> anyhow::Result<()> {
    for (file, text) in files {
        anyhow::ensure!(
            *file != Source::Stdin.to_string(),
            "the standard input cannot be written in place: name files"
        );
        fs::write(file, text).with_context(|| format!("{file}: cannot be written"))?;
    }
    Ok(())
}

fn manifests_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if known && !hidden && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no .yaml, .yml or .json file in this directory",
        ));
    }
    files.sort();
    Ok(files)
}

fn unread(source: &Source, error: &io::Error) -> InputError {
    InputError {
        file: source.to_string().into(),
        line: None,
        document: 0,
        object: String::new(),
        field: String::new(),
        what: format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_is_the_standard_input() {
        assert_eq!("-".parse(), Ok(Source::Stdin));
        assert_eq!("./-".parse(), Ok(Source::Path("./-".into())));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(&[Source::Path("/nonexistent/x.yaml".into())]).expect_err("missing");
        assert!(error.to_string().starts_with("/nonexistent/x.yaml: cannot be read: "), "{error}");
    }
}
