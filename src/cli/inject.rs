//! `juicefs-sidecar inject`: manifests in, manifests with their JuiceFS clients out.

use clap::{Args, ValueEnum};

use super::{
    input::{Cluster, Files, Where},
    output::Output,
};
use crate::{
    offline::{
        changes::Changes,
        render,
        workloads::{Workload, workloads},
    },
    outcome::{Code, Kind},
};

/// `inject`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,

    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,

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

Documents that are not changed are printed as they are, byte for byte.
Changed ones lose their comments, save those above their first line.

Exit code:
  0  done, also when there was nothing to do
  1  a workload was refused: it is printed as it was, the reason is on the
     standard error
  2  a document could not be read at all: nothing is printed";

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
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
    pub(super) fn render(self, changes: &Changes<'_>, colours: bool) -> String {
        match self {
            Self::Yaml => render::stream(changes),
            Self::Json => render::json_stream(changes),
            Self::Patch => render::patches(changes),
            Self::Diff => render::diffs(changes, colours),
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
        let mut code = 0;
        let mut missing = false;
        for (index, document) in documents.iter().enumerate() {
            for workload in workloads(document) {
                let decision = workload.decide(&engine, &situation.manifests, &scope);
                let mut told = Told { workload: &workload, namespace: &scope.namespace, output };
                for warning in &decision.warnings {
                    told.warn(warning);
                }
                missing |= decision.code == Code::ClaimMissing;
                let kind = decision.code.kind();
                code = code.max(kind.exit_code());
                if !kind.allowed() {
                    told.refuse(decision.code, &decision.message);
                } else if let Err(error) =
                    changes.apply(index, &workload, workload.namespace(&scope), &decision.patch)
                {
                    code = code.max(Kind::Failure.exit_code());
                    told.refuse(Code::Internal, &format!("the patch does not apply: {error}"));
                }
            }
        }
        if missing {
            output.tell(
                "hint: claims are looked up among the manifests; name those of the cluster with --cluster",
            );
        }
        if code < Kind::Failure.exit_code() {
            output.write(self.output.render(&changes, output.colours).as_bytes())?;
        }
        Ok(code)
    }
}

/// Tells things about a workload, one line each, so that they can be searched and jumped to.
pub(super) struct Told<'a> {
    pub(super) workload: &'a Workload<'a>,
    pub(super) namespace: &'a str,
    pub(super) output: &'a mut Output,
}

impl Told<'_> {
    pub(super) fn warn(&mut self, what: &str) {
        self.tell("warning", what);
    }

    pub(super) fn refuse(&mut self, code: Code, what: &str) {
        self.tell(&format!("refused ({code})"), what);
    }

    fn tell(&mut self, how: &str, what: &str) {
        let object = &self.workload.object;
        let what = what.replace('\n', " ");
        self.output.tell(&format!("{} {}: {how}: {what}", object.place(), object.title(self.namespace)));
    }
}
