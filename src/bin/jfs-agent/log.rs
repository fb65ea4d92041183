//! Logs on standard error: one JSON object a line, or text on a terminal.

use crate::clock;
use serde::Serialize;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

/// Says something worth knowing.
pub(crate) fn info(volume: Option<&str>, message: &str) {
    write("info", volume, None, message);
}

/// Says something an operator may have to look at.
pub(crate) fn warn(volume: Option<&str>, message: &str) {
    write("warn", volume, None, message);
}

/// Says that something failed.
pub(crate) fn error(volume: Option<&str>, message: &str) {
    write("error", volume, None, message);
}

/// Passes on a line that another program printed.
pub(crate) fn forward(volume: &str, source: &str, line: &str) {
    write(level_of(line), Some(volume), Some(source), line);
}

/// Prints a result on standard output.
pub(crate) fn print(text: &str) -> ExitCode {
    // A reader that has gone away is not a failure of ours.
    _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

/// The level that the JuiceFS client wrote into its line.
fn level_of(line: &str) -> &'static str {
    let marks = [("<ERROR>", "error"), ("<FATAL>", "error"), ("<WARNING>", "warn"), ("<DEBUG>", "debug")];
    marks.into_iter().find(|(mark, _)| line.contains(mark)).map_or("info", |(_, level)| level)
}

/// A line of the log.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    message: &'a str,
}

fn write(level: &str, volume: Option<&str>, source: Option<&str>, message: &str) {
    let mut output = std::io::stderr().lock();
    let line = if output.is_terminal() {
        let volume = volume.map(|name| format!("{name}: ")).unwrap_or_default();
        let source = source.map(|name| format!("[{name}] ")).unwrap_or_default();
        format!("{} {level:5} {volume}{source}{message}\n", clock::now())
    } else {
        let entry = Entry { time: clock::now(), level, volume, source, message };
        format!("{}\n", serde_json::to_string(&entry).unwrap_or_default())
    };
    // One write a line, so that lines of several processes do not mix. Nobody is left to tell when it fails.
    _ = output.write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_client_line_is_its_own() {
        assert_eq!(level_of("2026/11/22 06:46:54.1 juicefs[7] <WARNING>: x"), "warn");
        assert_eq!(level_of("2026/11/22 06:46:54.1 juicefs[7] <FATAL>: x"), "error");
        assert_eq!(level_of("anything"), "info");
    }
}
