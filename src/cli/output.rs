//! Results to the standard output, everything else to the standard error; neither being closed is a failure.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

/// Text for people, in which objects and events of others may be quoted: a terminal would obey what is in them.
pub(super) fn plain(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")
}

/// Where a subcommand writes.
#[derive(Debug)]
pub(super) struct Output {
    stdout: io::Stdout,
    stderr: io::Stderr,
    /// Whether the standard output is a terminal.
    pub(super) terminal: bool,
    /// Whether it is one whose owner likes colours.
    pub(super) colours: bool,
}

impl Output {
    /// The process's own streams. Colours only on a terminal, and not if `NO_COLOR` is set (no-color.org).
    pub(super) fn standard() -> Self {
        let unwanted = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let terminal = stdout.is_terminal();
        let colours = terminal && !unwanted("NO_COLOR") && !dumb;
        Self { stdout, stderr, terminal, colours }
    }

    /// Writes the result. A reader that has seen enough (`| head`) is none of our business.
    pub(super) fn write(&mut self, result: &[u8]) -> anyhow::Result<()> {
        let mut stdout = self.stdout.lock();
        match stdout.write_all(result).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to the standard output")
            }
            _ => Ok(()),
        }
    }

    /// Tells the user something, in one line.
    pub(super) fn tell(&mut self, line: &str) {
        // NB: eprintln panics when nobody listens any more.
        let _ = writeln!(self.stderr, "{line}");
    }
}
