//! What the offline subcommands read, and the arguments that name it.

use std::str::FromStr;

use anyhow::ensure;
use clap::Args;

use super::{output::Output, process::ProcessArguments};
use crate::{
    config::{Config, Process},
    inject::Engine,
    offline::{
        Configuration, Document, Manifests,
        files::{self, Source},
        templates::TemplatePath,
        workloads::Scope,
    },
};

/// `-f`: the manifests.
#[derive(Args, Debug)]
pub(super) struct Files {
    /// Manifests: files, directories (their *.yaml, *.yml and *.json, not recursively), or `-` for the standard
    /// input; the storage objects, Secrets, Nodes, Namespaces and the ConfigMap among them count as the cluster
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    pub(super) filename: Vec<Source>,

    /// Where objects of a kind that is not known here have their pods: KIND.GROUP=POINTER, such as
    /// Tool.example.com=/spec/workers/*/template; may be given several times
    #[arg(long, value_name = "KIND.GROUP=POINTER")]
    pub(super) template_path: Vec<TemplatePath>,
}

impl Files {
    pub(super) fn read(&self) -> anyhow::Result<Vec<Document>> {
        once(&self.filename)?;
        Ok(files::read(&self.filename)?)
    }
}

/// What has been read from the standard input is gone for the next reader.
fn once<'a>(sources: impl IntoIterator<Item = &'a Source>) -> anyhow::Result<()> {
    let stdin = sources.into_iter().filter(|source| **source == Source::Stdin).count();
    ensure!(stdin < 2, "the standard input can be read only once: give `-` in one place");
    Ok(())
}

/// The cluster around the workloads.
#[derive(Args, Debug)]
pub(super) struct Cluster {
    /// More manifests that belong to the cluster and are not printed; may be given several times
    #[arg(long = "cluster", value_name = "PATH")]
    around: Vec<Source>,

    /// The driver's configuration: its ConfigMap, or the bare config.yaml; wins over a ConfigMap
    /// juicefs-csi-driver-config among the manifests
    #[arg(long, value_name = "FILE")]
    config: Option<Source>,

    #[command(flatten)]
    process: ProcessArguments,
}

/// What counts for each workload.
#[derive(Args, Debug)]
pub(super) struct Where {
    /// Namespace of objects that do not say theirs [default: default]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<Namespace>,

    /// Take every namespace for one of serverless Kubernetes, where pods have no host to mount on; otherwise those
    /// labelled juicefs.com/enable-serverless-injection=true are
    #[arg(long)]
    serverless: bool,
}

impl Where {
    pub(super) fn scope(&self) -> Scope {
        Scope { namespace: self.given().unwrap_or("default").to_owned(), serverless: self.serverless }
    }

    /// The namespace, if one was given.
    pub(super) fn given(&self) -> Option<&str> {
        self.namespace.as_ref().map(|namespace| namespace.0.as_str())
    }
}

/// The name of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespace(String);

impl FromStr for Namespace {
    type Err = String;

    /// A DNS label (RFC 1123), as the API server demands.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if (1..=63).contains(&text.len()) && text.bytes().all(inner) && edges {
            Ok(Self(text.to_owned()))
        } else {
            Err("give 1 to 63 lower case letters, digits and dashes, a letter or digit at either end"
                .to_owned())
        }
    }
}

/// Everything the engine needs beside a pod.
#[derive(Debug)]
pub(super) struct Situation {
    pub(super) manifests: Manifests,
    config: Config,
    process: Process,
}

impl Cluster {
    /// What the programs of a cluster are told by flags.
    pub(super) fn process_arguments(&self) -> &ProcessArguments {
        &self.process
    }

    /// Reads the cluster: `--cluster`, then the given documents, whose objects win; `input` is what else is read.
    pub(super) fn situation(
        &self,
        documents: &[Document],
        input: &[Source],
        namespace: &str,
        output: &mut Output,
    ) -> anyhow::Result<Situation> {
        once(input.iter().chain(&self.around).chain(&self.config))?;
        let around = files::read(&self.around)?;
        let (manifests, notices) = Manifests::gather(around.iter().chain(documents), namespace)?;
        for notice in notices {
            output.tell(&notice.to_string());
        }
        let given = match &self.config {
            Some(file) => Some(Configuration::of_file(&file.to_string(), &files::read_text(file)?)?),
            None => None,
        };
        let (config, notices) = manifests.config(given.as_ref())?;
        for notice in notices {
            output.tell(&notice.to_string());
        }
        Ok(Situation { manifests, config, process: self.process.process() })
    }
}

impl Situation {
    /// The engine over the situation; `explain` has it collect where each setting came from.
    pub(super) fn engine(&self, explain: bool) -> Engine<'_> {
        Engine { catalog: &self.manifests.catalog, config: &self.config, process: &self.process, explain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_checked_where_they_are_given() {
        for text in ["default", "a", "team-1", "0"] {
            assert!(text.parse::<Namespace>().is_ok(), "{text}");
        }
        for text in ["", "Team", "a.b", "-a", "a-", "a/b", &"a".repeat(64)] {
            assert!(text.parse::<Namespace>().is_err(), "{text}");
        }
    }
}
