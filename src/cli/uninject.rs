//! `juicefs-sidecar uninject`: takes away what `inject` or the webhook put in.

use clap::Args;

use super::{
    inject::{Results, Said, Told},
    input::Files,
    output::Output,
};
use crate::{
    inject,
    offline::{changes::Changes, workloads::workloads},
    outcome::{Code, Kind},
};

/// `uninject`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    results: Results,
}

const EXAMPLES: &str = "\
Examples:
  juicefs-sidecar uninject -f injected.yaml > app.yaml
  kubectl get deployment web -o yaml | juicefs-sidecar uninject -f - -o diff

What was added is known by the annotation sidecar.juicefs.com/status; workloads without it are left alone.";

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let documents = self.files.read()?;
        let mut changes = Changes::new(&documents);
        let mut said = Said::default();
        let (mut code, mut found) = (0, false);
        for (index, document) in documents.iter().enumerate() {
            for workload in workloads(document, &self.files.template_path) {
                found = true;
                let mut told = Told { workload: &workload, namespace: "", said: &mut said };
                match inject::uninject(workload.pod) {
                    Ok(None) => {}
                    Ok(Some(patch)) => {
                        if let Err(error) =
                            changes.apply(index, &workload, workload.object.namespace(), &patch)
                        {
                            code = code.max(Kind::Failure.exit_code());
                            told.refuse(Code::Internal, &format!("the patch does not apply: {error}"));
                        }
                    }
                    Err(refusal) => {
                        code = code.max(refusal.code.kind().exit_code());
                        told.refuse(refusal.code, &refusal.to_string());
                    }
                }
            }
        }
        said.tell(output);
        if !found {
            output.tell("no workload among the manifests");
        }
        if code < Kind::Failure.exit_code() {
            self.results.deliver(&changes, output)?;
        }
        Ok(code)
    }
}
