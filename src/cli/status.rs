//! `juicefs-sidecar status`: which clients run in the pods of a cluster, and how they are.

use std::io::Write as _;

use clap::{Args, ValueEnum};
use tabwriter::TabWriter;

use super::{output::Output, pods::PodArguments, program};
use crate::{
    offline::render,
    running::{Container, Pod},
};

/// `status`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pods: PodArguments,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,
}

const EXAMPLES: &str = "\
Examples:
  juicefs-sidecar status
      the clients of the kubeconfig's namespace
  juicefs-sidecar status -A -o wide
      of all namespaces, with node, volume and how each client ended last
  juicefs-sidecar status web-0 -n app -o json

Exit code:
  0  every client serves
  1  one does not, in a pod that has not ended
  2  arguments, kubeconfig or API server cannot be used";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Table,
    /// For people with wide terminals
    Wide,
    /// For programs
    Json,
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        program::wait_for(async {
            let client = self.pods.client("status").await?;
            let pods = self.pods.read(&client, output).await?;
            let text = match self.output {
                Form::Json => render::json(&serde_json::to_value(&pods)?),
                Form::Table | Form::Wide => table(&pods, self.output == Form::Wide)?,
            };
            output.write(text.as_bytes())?;
            if pods.is_empty() {
                output.tell("no injected pod was found");
            }
            Ok(u8::from(pods.iter().any(Pod::is_impaired)))
        })
    }
}

fn table(pods: &[Pod], wide: bool) -> anyhow::Result<String> {
    if pods.is_empty() {
        return Ok(String::new());
    }
    let mut table = TabWriter::new(Vec::new()).padding(2);
    let more = if wide { "\tNODE\tVOLUME\tLAST END" } else { "" };
    writeln!(table, "NAMESPACE\tPOD\tCLAIM\tCONTAINER\tMODE\tSTATE\tRESTARTS\tIMAGE{more}")?;
    for pod in pods {
        let mut row = |claim: &str, volume: &str, container: &Container| {
            let Container { name, image, state, restarts, last_end } = container;
            let state = if pod.over { "over".to_owned() } else { state.to_string() };
            let mode = pod.mode.as_str();
            let (namespace, pod_name) = (&pod.namespace, &pod.name);
            write!(table, "{namespace}\t{pod_name}\t{claim}\t{name}\t{mode}\t{state}\t{restarts}\t{image}")?;
            if wide {
                let last = last_end.as_ref().map(ToString::to_string).unwrap_or_default();
                write!(table, "\t{}\t{volume}\t{last}", pod.node)?;
            }
            writeln!(table)
        };
        for client in &pod.clients {
            row(&client.claim, &client.persistent_volume, &client.container)?;
        }
        for agent in &pod.agents {
            row("", "", agent)?;
        }
    }
    table.flush()?;
    let text = table.into_inner().map_err(|error| anyhow::anyhow!("cannot lay the table out: {error}"))?;
    Ok(String::from_utf8(text)?)
}
