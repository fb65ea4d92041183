//! `juicefs-sidecar review`: one AdmissionReview in, the webhook's answer out.

use clap::Args;

use super::{input::Cluster, output::Output};

/// `review`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    cluster: Cluster,

    /// Answer as the webhook path for serverless Kubernetes does
    #[arg(long)]
    serverless: bool,
}

const EXAMPLES: &str = "\
Example:
  juicefs-sidecar review --cluster cluster.yaml < review.json

Exit code:
  0  the answer was printed, whatever it says
  2  the input is no AdmissionReview, or the cluster was not understood";

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let situation = self.cluster.situation(&[], "default", output)?;
        let _ = (situation.engine(false), self.serverless);
        anyhow::bail!("not there yet")
    }
}
