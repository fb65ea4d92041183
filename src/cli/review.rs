//! `juicefs-sidecar review`: one AdmissionReview in, the webhook's answer out.

use std::io::{self, Read as _};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{input::Cluster, output::Output};
use crate::{
    admission::{Endpoint, answer},
    inject::Family,
    offline::files::Source,
};

/// `review`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Answer as the webhook path for serverless Kubernetes does
    #[arg(long)]
    serverless: bool,

    #[command(flatten)]
    cluster: Cluster,
}

const EXAMPLES: &str = "\
Example:
  juicefs-sidecar review --cluster cluster.yaml < review.json

Exit code:
  0  the answer was printed, whatever it says
  2  the input is not an AdmissionReview, or the cluster could not be read";

impl Arguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<u8> {
        let situation = self.cluster.situation(&[], &[Source::Stdin], "default", output)?;
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).context("cannot read the standard input")?;
        let family = if self.serverless { Family::Serverless } else { Family::Node };
        let answer = answer(&body, Endpoint::Inject(family), &situation.engine(false));
        if !answer.is_review() {
            bail!("<stdin>: {}", answer.summary.message);
        }
        output.write(&answer.body)?;
        if output.terminal {
            output.write(b"\n")?;
        }
        Ok(0)
    }
}
