//! `juicefs-sidecar completion`: scripts that teach a shell our subcommands and options.

use clap::Args;
use clap_complete::Shell;

use super::output::Output;

/// `completion`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  bash, for this session:  source <(juicefs-sidecar completion bash)
  zsh, for good:           juicefs-sidecar completion zsh > \"${fpath[1]}/_juicefs-sidecar\"
  fish, for good:          juicefs-sidecar completion fish > ~/.config/fish/completions/juicefs-sidecar.fish";

impl Arguments {
    pub(super) fn run(&self, output: &mut Output, mut command: clap::Command) -> anyhow::Result<u8> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        output.write(&script)?;
        Ok(0)
    }
}
