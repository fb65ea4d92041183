//! Manifests and configuration, as files.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    admission::{reload::Source, state::State},
    cli::process::ProcessArguments,
    offline::{self, Configuration, Manifests},
};

/// Manifests and configuration, as files.
pub(in crate::cli) struct Files {
    pub(super) manifests: Vec<PathBuf>,
    pub(super) config: Option<PathBuf>,
    pub(super) process: ProcessArguments,
}

impl Source for Files {
    type Value = State;

    fn fingerprint(&self) -> anyhow::Result<u64> {
        let mut hasher = DefaultHasher::new();
        for path in self.manifests.iter().chain(&self.config) {
            hash(path, &mut hasher).with_context(|| format!("{}: cannot be read", path.display()))?;
        }
        Ok(hasher.finish())
    }

    fn load(&self) -> anyhow::Result<State> {
        let sources: Vec<_> = self.manifests.iter().cloned().map(offline::files::Source::Path).collect();
        let documents = offline::files::read(&sources)?;
        let (manifests, notices) = Manifests::gather(&documents, "default")?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        let given = match &self.config {
            Some(path) => {
                let source = offline::files::Source::Path(path.clone());
                Some(Configuration::of_file(&source.to_string(), &offline::files::read_text(&source)?)?)
            }
            None => None,
        };
        let (config, notices) = manifests.config(given.as_ref())?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        Ok(State {
            catalog: manifests.catalog,
            config: config.into(),
            process: self.process.process().into(),
        })
    }
}

/// Feeds names and contents of a file, or of the files right in a directory.
pub(super) fn hash(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if !path.is_dir() {
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        file.hash(hasher);
        fs::read(file)?.hash(hasher);
    }
    Ok(())
}
