//! `jfs-agent install`: puts this program where containers of other images find it.

use crate::{
    arguments::Arguments,
    failure::{During, Result},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

/// The program's name there.
pub(crate) const NAME: &str = "jfs-agent";

/// Runs the command.
pub(crate) fn main(mut arguments: Arguments) -> Result<ExitCode> {
    let directory = arguments.require_directory("directory")?;
    arguments.finish()?;
    into(&directory)?;
    Ok(ExitCode::SUCCESS)
}

/// Puts this program into a directory; atomically, because it may be running from there.
pub(crate) fn into(directory: &Path) -> Result<()> {
    let program = directory.join(NAME);
    fs::create_dir_all(directory).during(|| format!("make {}", directory.display()))?;
    let fresh = directory.join(format!(".jfs-agent.{}", std::process::id()));
    fs::copy("/proc/self/exe", &fresh).during(|| format!("write {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
        .during(|| format!("chmod {}", fresh.display()))?;
    fs::rename(&fresh, &program).during(|| format!("install {}", program.display()))
}
