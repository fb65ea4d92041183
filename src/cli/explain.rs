//! `juicefs-sidecar explain`: what is decided about each workload and volume, and why.

mod running;

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    input::{Cluster, Files, Where},
    output::Output,
    program,
};
use crate::{
    inject::{Decision, VolumeReport},
    offline::{
        render,
        workloads::{remarks, workloads},
    },
};

/// `explain`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A pod of the cluster, `pod/NAME`: what was decided about it, and what would be decided now
    #[arg(value_name = "POD", conflicts_with = "filename")]
    pod: Option<String>,

    #[command(flatten)]
    files: Files,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,

    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    running: running::RunningArguments,
}

const EXAMPLES: &str = "\
Examples:
  juicefs-sidecar explain pod/web-0 -n app
      why it has its clients, or none, and what would be other were it created now
  juicefs-sidecar explain -f examples/quickstart/
  juicefs-sidecar explain -f app.yaml --cluster cluster.yaml -o json |
    jq '.[].volumes[].settings'

Exit code:
  0  done
  1  a workload would be refused, or the pod lacks clients that it would get now
  2  a document, the kubeconfig or the API server could not be read at all";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// A decision and the workload it is about.
struct Explained {
    place: String,
    title: String,
    decision: Decision,
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        match &self.pod {
            Some(pod) => self.of_cluster(pod, output),
            None => self.of_manifests(output),
        }
    }

    fn of_cluster(&self, pod: &str, output: &mut Output) -> anyhow::Result<u8> {
        let namespace = self.place.given();
        let process = self.cluster.process_arguments();
        let found = program::wait_for(self.running.find(pod, namespace, process, output))?;
        let text = match self.output {
            Form::Text => found.text(),
            Form::Json => render::json(&found.value()?),
        };
        output.write(text.as_bytes())?;
        Ok(found.exit_code())
    }

    fn of_manifests(&self, output: &mut Output) -> anyhow::Result<u8> {
        let documents = self.files.read()?;
        let scope = self.place.scope();
        let situation = self.cluster.situation(&documents, &self.files.filename, &scope.namespace, output)?;
        let engine = situation.engine(true);
        let mut explained = Vec::new();
        let mut code = 0;
        for notice in
            documents.iter().flat_map(|one| remarks(one, &self.files.template_path, &scope.namespace))
        {
            output.tell(&notice.to_string());
        }
        for workload in documents.iter().flat_map(|one| workloads(one, &self.files.template_path)) {
            let decision = workload.decide(&engine, &situation.manifests, &scope);
            code = code.max(decision.code.kind().exit_code());
            let (place, title) = (workload.object.place(), workload.object.title(&scope.namespace));
            explained.push(Explained { place, title, decision });
        }
        let text = match self.output {
            Form::Text => explained.iter().map(text).collect::<Vec<_>>().join("\n"),
            Form::Json => render::json(&explained.iter().map(value).collect()),
        };
        output.write(text.as_bytes())?;
        if explained.is_empty() {
            output.tell("no workload among the manifests");
        }
        Ok(code)
    }
}

fn text(Explained { place, title, decision }: &Explained) -> String {
    let mut text = format!("{title} ({place}): {}\n", decision.code);
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if !decision.message.is_empty() {
        line(&format!("  {}", decision.message));
    }
    for warning in &decision.warnings {
        line(&format!("  warning: {warning}"));
    }
    for volume in &decision.volumes {
        line("");
        for row in volume_lines(volume) {
            line(&row);
        }
    }
    text
}

/// The claim; that of an ephemeral volume gets its name when its pod does.
fn claim_of(volume: &VolumeReport) -> String {
    match volume.claim.as_str() {
        "" => "a claim of the pod's own".to_owned(),
        claim => format!("claim {claim}"),
    }
}

fn volume_lines(volume: &VolumeReport) -> Vec<String> {
    let behind = if volume.volume.is_empty() { String::new() } else { format!(", volume {}", volume.volume) };
    let native = if volume.native { "native sidecar" } else { "ordinary container" };
    let mut lines = vec![
        format!("  {}: {}{behind}", volume.pod_volumes.join(", "), claim_of(volume)),
        format!(
            "    container {}, {native}, {} mode, {} profile",
            volume.container, volume.mode, volume.profile
        ),
    ];
    let rows: Vec<[String; 3]> = std::iter::once(["SETTING", "VALUE", "SOURCE"].map(str::to_owned))
        .chain(volume.settings.iter().map(|setting| {
            [setting.setting.to_owned(), setting.value.replace('\n', "\\n"), setting.source.to_string()]
        }))
        .collect();
    if rows.len() < 2 {
        return lines;
    }
    let width =
        |column: fn(&[String; 3]) -> &String| rows.iter().map(|row| column(row).chars().count()).max();
    let first = width(|[setting, _, _]| setting).unwrap_or_default();
    // One long value shall not push every source out of sight.
    let second = width(|[_, value, _]| value).unwrap_or_default().min(40);
    for [setting, value, source] in &rows {
        let mut row = String::new();
        let _ = write!(row, "    {setting:first$}  {value:second$}  {source}");
        lines.push(row);
    }
    lines
}

fn value(Explained { place, title, decision }: &Explained) -> Value {
    let volumes: Vec<Value> = decision
        .volumes
        .iter()
        .map(|volume| {
            let settings: Vec<Value> = volume
                .settings
                .iter()
                .map(|one| json!({"setting": one.setting, "value": one.value, "source": one.source.to_string()}))
                .collect();
            json!({
                "podVolumes": volume.pod_volumes, "claim": volume.claim, "volume": volume.volume,
                "container": volume.container, "mode": volume.mode, "profile": volume.profile, "native": volume.native,
                "settings": settings,
            })
        })
        .collect();
    json!({
        "workload": title, "place": place, "code": decision.code.as_str(), "message": decision.message,
        "warnings": decision.warnings, "volumes": volumes,
    })
}
