//! The output of other programs, line by line, without secrets.

use crate::{
    failure::{During, Result},
    log,
    mask::Mask,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use std::process::{Command, Stdio};

/// Longer lines are cut.
const LONGEST_LINE: usize = 16 * 1024;

/// So much of the beginning is remembered.
const LONGEST_BEGINNING: usize = 16 * 1024;

/// Reads what a program prints and passes it on.
pub(crate) struct Output {
    pipe: OwnedFd,
    line: Vec<u8>,
    /// Whether it goes to the log as well.
    pub(crate) logged: bool,
    /// The first lines.
    beginning: String,
    /// The last line, and the last that reported an error.
    last: Option<String>,
    last_error: Option<String>,
}

impl Output {
    /// Makes a program print into a pipe that is read here.
    pub(crate) fn of(command: &mut Command) -> Result<Self> {
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC).during(|| "make a pipe")?;
        rustix::io::ioctl_fionbio(&pipe, true).during(|| "prepare a pipe")?;
        let copy = writer.try_clone().during(|| "copy a pipe")?;
        command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::from(copy));
        Ok(Self {
            pipe,
            line: Vec::new(),
            logged: true,
            beginning: String::new(),
            last: None,
            last_error: None,
        })
    }

    /// Passes on what has come; false once nothing can come any more.
    pub(crate) fn forward(&mut self, volume: &str, source: &str, mask: &Mask) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => {
                    self.end_line(volume, source, mask);
                    return false;
                }
                Ok(count) => self.take(&buffer[..count], volume, source, mask),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], volume: &str, source: &str, mask: &Mask) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(volume, source, mask);
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, volume: &str, source: &str, mask: &Mask) {
        let line = std::mem::take(&mut self.line);
        let line = mask.apply(&plain(&String::from_utf8_lossy(&line)));
        if line.is_empty() {
            return;
        }
        if self.logged {
            log::forward(volume, source, &line);
        }
        if line.contains("<ERROR>") || line.contains("<FATAL>") {
            self.last_error = Some(line.clone());
        }
        if self.beginning.len() + line.len() < LONGEST_BEGINNING {
            self.beginning.push_str(&line);
            self.beginning.push('\n');
        }
        self.last = Some(line);
    }

    /// What it printed first.
    pub(crate) fn beginning(&self) -> &str {
        &self.beginning
    }

    /// The line that most likely says what went wrong.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.last_error.as_deref().or(self.last.as_deref())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The text without colours and other escape sequences.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // ESC [ parameters letter
            if letters.next() == Some('[') {
                letters.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if !letter.is_control() || letter == '\t' {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(plain("\u{1b}[92mOK\u{1b}[0m, vol is ready\r"), "OK, vol is ready");
        assert_eq!(plain("\u{1b}"), "");
        assert_eq!(plain("\u{1b}[12"), "");
    }
}
