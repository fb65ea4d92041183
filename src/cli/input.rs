//! What the offline subcommands read, and the arguments that name it.

use std::{fmt, str::FromStr};

use clap::Args;

use super::{output::Output, process::ProcessArguments};
use crate::{
    config::{Config, Process},
    inject::Engine,
    offline::{
        Document, InputError, Manifests, documents,
        files::{self, Source},
        manifests::config_text,
        objects::objects,
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
    /// Namespace of objects that do not say theirs
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(super) namespace: Namespace,

    /// Take every namespace for one of serverless Kubernetes, where pods have no host to mount on; otherwise those
    /// labelled juicefs.com/enable-serverless-injection=true are
    #[arg(long)]
    serverless: bool,
}

impl Where {
    pub(super) fn scope(&self) -> Scope {
        Scope { namespace: self.namespace.to_string(), serverless: self.serverless }
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

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
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
    /// Reads the cluster: `--cluster`, then the given documents, whose objects win.
    pub(super) fn situation(
        &self,
        documents: &[Document],
        namespace: &str,
        output: &mut Output,
    ) -> anyhow::Result<Situation> {
        let around = files::read(&self.around)?;
        let (manifests, notices) = Manifests::gather(around.iter().chain(documents), namespace)?;
        for notice in notices {
            output.tell(&notice.to_string());
        }
        let config = match &self.config {
            Some(file) => read_config(
                &file.to_string(),
                &bare_config(&file.to_string(), &files::read_text(file)?)?,
                output,
            )?,
            None => match manifests.config() {
                Some(text) => read_config(crate::offline::manifests::CONFIG_MAP, text, output)?,
                None => Config::default(),
            },
        };
        Ok(Situation { manifests, config, process: self.process.process() })
    }
}

impl Situation {
    pub(super) fn engine(&self) -> Engine<'_> {
        Engine { lookup: &self.manifests, config: &self.config, process: &self.process }
    }
}

/// The `config.yaml` in a ConfigMap, or the text itself if it is no ConfigMap.
fn bare_config(file: &str, text: &str) -> Result<String, InputError> {
    let Ok(found) = documents::parse(file, text) else {
        // The parser of the configuration says better what is wrong.
        return Ok(text.to_owned());
    };
    for object in found.iter().flat_map(objects) {
        if object.kind == "ConfigMap" && object.group().is_empty() {
            return match config_text(&object) {
                Some(text) => Ok(text.to_owned()),
                None => Err(object.error("/data/config.yaml", "is missing")),
            };
        }
    }
    Ok(text.to_owned())
}

/// Stands in until the real parser is there.
#[expect(clippy::unnecessary_wraps, reason = "stands in")]
fn read_config(_origin: &str, _text: &str, _output: &mut Output) -> anyhow::Result<Config> {
    Ok(Config::default())
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

    #[test]
    fn a_configuration_may_be_bare_or_in_its_config_map() {
        let bare = "enableNativeSidecar: true\n";
        assert_eq!(bare_config("c.yaml", bare).as_deref(), Ok(bare));
        let wrapped = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: any}\ndata:\n  config.yaml: |\n    enableNativeSidecar: true\n";
        assert_eq!(bare_config("c.yaml", wrapped).as_deref(), Ok(bare));
        let error = bare_config(
            "c.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: any}\ndata: {other: x}\n",
        );
        let error = error.expect_err("no such key").to_string();
        assert_eq!(error, "c.yaml:4: document 1: ConfigMap/any: data.[config.yaml]: is missing");
    }
}
