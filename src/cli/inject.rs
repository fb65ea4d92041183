//! `juicefs-sidecar inject`: manifests in, manifests with their JuiceFS clients out.

use clap::{Args, ValueEnum};

use super::{
    input::{Cluster, Files, Where},
    output::Output,
};
use crate::{
    offline::{
        changes::Changes,
        files, render,
        workloads::{Workload, remarks, workloads},
    },
    outcome::{Code, Kind},
};

/// `inject`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    results: Results,

    #[command(flatten)]
    place: Where,

    #[command(flatten)]
    cluster: Cluster,
}

const EXAMPLES: &str = "\
Examples:
  See what would change, the storage objects being in the same directory:
    juicefs-sidecar inject -f examples/quickstart/ -o diff

  Inject and apply, with the storage objects of the cluster (secrets too:
  keep the file to yourself):
    kubectl get pvc,pv,sc,secret,ns,node -A -o yaml > cluster.yaml
    juicefs-sidecar inject -f app.yaml --cluster cluster.yaml |
      kubectl apply -f -

  In a pipe, for nodes of a given version:
    kustomize build . | juicefs-sidecar inject --kube-version 1.31 -f -

  Into the files themselves:
    juicefs-sidecar inject -i -f app.yaml --cluster cluster.yaml

Documents that are not changed are printed as they are, byte for byte.
Changed ones keep their comments, order, quotes and line ends: only what
changes is written. One whose anchors stand in the way is written anew.
The diff is one for patch -p0 and git apply -p0.

Exit code:
  0  done, also when there was nothing to do
  1  a workload was refused: it is printed as it was, the reason is on the
     standard error
  2  a document could not be read at all: nothing is printed";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Every document, in the format it was given in
    #[default]
    Yaml,
    /// Every document as JSON, one after another
    Json,
    /// The JSON Patch operations on each changed document
    Patch,
    /// A unified diff of each changed workload
    Diff,
}

impl Form {
    fn render(self, changes: &Changes<'_>, colours: bool) -> String {
        match self {
            Self::Yaml => render::stream(changes),
            Self::Json => render::json_stream(changes),
            Self::Patch => render::patches(changes),
            Self::Diff => render::diffs(changes, colours),
        }
    }
}

/// How the result leaves, for all commands that change manifests.
#[derive(Args, Debug)]
pub(super) struct Results {
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,

    /// Write what changes into its files, and print nothing
    #[arg(short, long, conflicts_with = "output")]
    in_place: bool,

    /// Colours in the diff
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

/// What `--color` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal whose owner likes colours
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Results {
    /// Prints the changes, or writes them into their files.
    pub(super) fn deliver(&self, changes: &Changes<'_>, output: &mut Output) -> anyhow::Result<()> {
        if self.in_place {
            return files::write(&render::changed_files(changes));
        }
        let colours = match self.color {
            Color::Auto => output.colours,
            Color::Always => true,
            Color::Never => false,
        };
        output.write(self.output.render(changes, colours).as_bytes())
    }

    /// Says what else the reader of the output should know.
    pub(super) fn hint_at_refused(&self, refused: usize, output: &mut Output) {
        let prints_all = matches!(self.output, Form::Yaml | Form::Json) && !self.in_place;
        if refused > 0 && prints_all {
            output.tell("hint: what was refused is printed as it was, without clients");
        }
    }
}

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let documents = self.files.read()?;
        let scope = self.place.scope();
        let situation = self.cluster.situation(&documents, &self.files.filename, &scope.namespace, output)?;
        let engine = situation.engine(false);
        let mut changes = Changes::new(&documents);
        let mut said = Said::default();
        let (mut code, mut refused, mut missing, mut found) = (0, 0, false, false);
        for (index, document) in documents.iter().enumerate() {
            for notice in remarks(document, &self.files.template_path, &scope.namespace) {
                said.add(&notice.place, "warning", &notice.what);
            }
            for workload in workloads(document, &self.files.template_path) {
                found = true;
                let decision = workload.decide(&engine, &situation.manifests, &scope);
                let mut told = Told { workload: &workload, namespace: &scope.namespace, said: &mut said };
                for warning in &decision.warnings {
                    told.warn(warning);
                }
                missing |= matches!(decision.code, Code::ClaimMissing | Code::SecretMissing);
                let kind = decision.code.kind();
                code = code.max(kind.exit_code());
                if !kind.allowed() {
                    refused += 1;
                    told.refuse(decision.code, &decision.message);
                } else if let Err(error) =
                    changes.apply(index, &workload, workload.namespace(&scope), &decision.patch)
                {
                    code = code.max(Kind::Failure.exit_code());
                    told.refuse(Code::Internal, &format!("the patch does not apply: {error}"));
                }
            }
        }
        said.tell(output);
        if missing {
            output.tell(
                "hint: claims and secrets are looked up among the manifests; name those of the cluster with --cluster",
            );
        }
        self.results.hint_at_refused(refused, output);
        if !found {
            output.tell("no workload among the manifests");
        }
        if code < Kind::Failure.exit_code() {
            self.results.deliver(&changes, output)?;
        }
        Ok(code)
    }
}

/// Things that are told, in their order; what holds for several workloads of a file is told once.
#[derive(Default)]
pub(super) struct Said {
    lines: Vec<Line>,
}

struct Line {
    place: String,
    how: String,
    what: String,
    /// Of how many more workloads it holds.
    more: usize,
}

impl Said {
    pub(super) fn add(&mut self, place: &str, how: &str, what: &str) {
        let file = |place: &str| place.rsplit_once(':').map_or("", |(file, _)| file).to_owned();
        let what = what.replace('\n', " ");
        let same = |line: &&mut Line| {
            line.how == how && line.what == what && how == "warning" && file(&line.place) == file(place)
        };
        match self.lines.iter_mut().find(same) {
            Some(line) => line.more += 1,
            None => self.lines.push(Line { place: place.to_owned(), how: how.to_owned(), what, more: 0 }),
        }
    }

    pub(super) fn tell(self, output: &mut Output) {
        for Line { place, how, what, more } in self.lines {
            let more = if more == 0 { String::new() } else { format!(" (and {more} more in this file)") };
            output.tell(&format!("{place}{more}: {how}: {what}"));
        }
    }
}

/// Tells things about a workload, one line each, so that they can be searched and jumped to.
pub(super) struct Told<'a> {
    pub(super) workload: &'a Workload<'a>,
    pub(super) namespace: &'a str,
    pub(super) said: &'a mut Said,
}

impl Told<'_> {
    fn warn(&mut self, what: &str) {
        self.tell("warning", what);
    }

    pub(super) fn refuse(&mut self, code: Code, what: &str) {
        self.tell(&format!("refused ({code})"), what);
    }

    fn tell(&mut self, how: &str, what: &str) {
        let object = &self.workload.object;
        self.said.add(&format!("{} {}", object.place(), object.title(self.namespace)), how, what);
    }
}
