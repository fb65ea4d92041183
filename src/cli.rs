//! The command line: one file per subcommand, each a thin shell around the library.

mod check;
mod completion;
mod controller;
mod explain;
mod inject;
mod input;
mod installation;
mod installed;
mod migration;
mod output;
mod pods;
pub mod process;
mod program;
mod reading;
mod review;
mod serve;
mod signals;
mod status;
mod support;
mod uninject;
mod upgrade;
pub mod webhook;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::output::Output;

/// Gives every pod that mounts a JuiceFS volume its own JuiceFS client as a sidecar
#[derive(Debug, Parser)]
#[command(name = "juicefs-sidecar", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Start here:
  juicefs-sidecar inject -f app.yaml -o diff
      what would be added to the workloads of a manifest
  juicefs-sidecar explain -f app.yaml
      what is decided about each volume, and where each setting comes from
  juicefs-sidecar inject --help
      more examples

The manifests have to hold the storage objects too (claim, StorageClass,
secret), or --cluster names files that do:
  kubectl get pvc,pv,sc,secret,ns,node -A -o yaml > cluster.yaml";

#[derive(Debug, Subcommand)]
enum Action {
    /// Add the JuiceFS clients to the workloads of manifests
    Inject(inject::Arguments),
    /// Take away what was added to the workloads of manifests
    Uninject(uninject::Arguments),
    /// Tell what is decided about each workload and volume, and where each setting comes from
    Explain(explain::Arguments),
    /// Answer an AdmissionReview on the standard input as the webhook would
    Review(review::Arguments),
    /// Serve the admission webhook over TLS, with manifests for a cluster
    Webhook(Box<webhook::WebhookArguments>),
    /// Keep the webhook's certificates and registration in a cluster, and watch for pods without a client
    Controller(Box<controller::ControllerArguments>),
    /// Serve the webhook and do the controller's work, in one process
    Serve(Box<serve::ServeArguments>),
    /// Tell whether juicefs-sidecar is installed as it should be and works, and what to do where not
    Check(check::Arguments),
    /// Tell what will change when pods move from the JuiceFS CSI driver's sidecar mode, and in which order to go
    Migration(Box<migration::Arguments>),
    /// Show which clients run in the pods of a cluster, and how they are
    Status(status::Arguments),
    /// Change the image of running clients, under open files, one pod after the other
    Upgrade(upgrade::Arguments),
    /// Pack what a maintainer asks for into an archive, without credentials
    Support(support::Arguments),
    /// Print a completion script for a shell
    Completion(completion::Arguments),
}

/// Parses the arguments, runs, and reports: 0 done, 1 a workload was refused, 2 not understood.
pub fn run() -> ExitCode {
    let command = Command::parse();
    let mut output = Output::standard();
    let done = match command.action {
        Action::Inject(arguments) => arguments.run(&mut output),
        Action::Uninject(arguments) => arguments.run(&mut output),
        Action::Explain(arguments) => arguments.run(&mut output),
        Action::Review(arguments) => arguments.run(&mut output),
        Action::Webhook(arguments) => Ok(arguments.run()),
        Action::Controller(arguments) => Ok(arguments.run()),
        Action::Serve(arguments) => Ok(arguments.run()),
        Action::Check(arguments) => arguments.run(&mut output),
        Action::Migration(arguments) => arguments.run(&mut output),
        Action::Status(arguments) => arguments.run(&mut output),
        Action::Upgrade(arguments) => arguments.run(&mut output),
        Action::Support(arguments) => arguments.run(&mut output),
        Action::Completion(arguments) => arguments.run(&mut output, Command::command()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.tell(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }
}
