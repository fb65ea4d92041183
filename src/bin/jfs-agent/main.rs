//! The in-pod agent: holds FUSE descriptors and supervises the JuiceFS client.
//!
//! `hold` is the only privileged part of a pod: it mounts and keeps the descriptors. `run` is process 1 of the
//! unprivileged client container. Each keeps a copy of what the other needs, so only the loss of both loses
//! the mount. `work` is no part of a pod: it serves the controller, from a container of the client's image, where
//! `install` puts the program. `docs/agent.md` draws the life of a mount.

mod arguments;
mod clock;
mod command;
mod connections;
mod crashed;
mod device;
mod failure;
mod foreign;
mod handover;
mod hold;
mod install;
mod layout;
mod log;
mod look;
mod mask;
mod message;
mod mountpoint;
mod output;
mod packet;
mod processes;
mod ready;
mod release;
mod run;
mod signals;
mod status;
mod wait_exit;
mod work;

use crate::{arguments::Arguments, failure::Failure};
use std::process::ExitCode;

const USAGE: &str = "\
usage:
  jfs-agent hold      --run-dir DIR --volume NAME=MOUNTPOINT... [--client-uid UID] [--own DIR]...
                      [--flags NAME=FLAG,...]...
  jfs-agent run       --run-dir DIR --volume NAME [--first JSON-ARGV]... [--first-limit SECONDS]
                      [--grace SECONDS] [--on-crash resume|fail] -- CLIENT ARG...
  jfs-agent ready     --run-dir DIR [--volume NAME] [--limit SECONDS] [--wait SECONDS]
  jfs-agent status    --run-dir DIR
  jfs-agent wait-exit --strategy idle --mountpoint DIR [--quiet SECONDS] --limit SECONDS
  jfs-agent wait-exit --strategy staging --mountpoint DIR --limit SECONDS
  jfs-agent wait-exit --strategy port --port PORT --limit SECONDS
  jfs-agent wait-exit --strategy sleep --limit SECONDS
  jfs-agent work      --socket PATH --scratch DIR [--controller-uid UID] [--client PATH]
                      [--enterprise-client PATH]
  jfs-agent crashed   --run-dir DIR --volume NAME
  jfs-agent install   --directory DIR
  jfs-agent release   --directory DIR --mountpoint NAME[/NAME]...
  jfs-agent version";

fn main() -> ExitCode {
    let mut words = std::env::args();
    let _program = words.next();
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words);
    let outcome = match command.as_str() {
        "hold" => hold::main(arguments),
        "run" => run::main(arguments),
        "ready" => ready::main(arguments),
        "status" => status::main(arguments),
        "wait-exit" => wait_exit::main(arguments),
        "crashed" => crashed::main(arguments),
        "look" => look::main(arguments),
        "work" => work::main(arguments),
        "install" => install::main(arguments),
        "release" => release::main(arguments),
        "work-request" => work::request::main(arguments),
        "version" | "--version" => Ok(log::print(concat!("jfs-agent ", env!("CARGO_PKG_VERSION")))),
        "help" | "--help" => Ok(log::print(USAGE)),
        "" => Err(Failure::usage(format!("a command is missing\n{USAGE}"))),
        other => Err(Failure::usage(format!("unknown command: {other}\n{USAGE}"))),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            log::error(None, &failure.to_string());
            failure.exit_code()
        }
    }
}
