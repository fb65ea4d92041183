//! Command line arguments: `--key value` or `--key=value`, then `--` and a command of somebody else.

use crate::failure::{Failure, Result};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// The arguments after the command's name.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    options: Vec<(String, String)>,
    command: Vec<String>,
    mistake: Option<String>,
}

impl Arguments {
    /// Splits the words; mistakes are kept for [`Self::finish`], which every command calls.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            if word == "--" {
                arguments.command = words.by_ref().collect();
                break;
            }
            let Some(option) = word.strip_prefix("--") else {
                arguments.mistake.get_or_insert(format!("unexpected argument: {word}"));
                continue;
            };
            match option.split_once('=') {
                Some((key, value)) => arguments.options.push((key.to_owned(), value.to_owned())),
                None => match words.next() {
                    Some(value) => arguments.options.push((option.to_owned(), value)),
                    None => _ = arguments.mistake.get_or_insert(format!("--{option} needs a value")),
                },
            }
        }
        arguments
    }

    /// Takes every value of an option that may be repeated.
    pub(crate) fn take_all(&mut self, key: &str) -> Vec<String> {
        let (taken, kept) = std::mem::take(&mut self.options).into_iter().partition(|(name, _)| name == key);
        self.options = kept;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes an option; when it is given twice the last one counts.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.take_all(key).pop()
    }

    /// Takes an option that must be there.
    pub(crate) fn require(&mut self, key: &str) -> Result<String> {
        self.take(key).ok_or_else(|| Failure::usage(format!("--{key} is missing")))
    }

    /// Takes a directory, which must be absolute: the processes that share it have different working directories.
    pub(crate) fn require_directory(&mut self, key: &str) -> Result<PathBuf> {
        let path = PathBuf::from(self.require(key)?);
        if !path.is_absolute() {
            return Err(Failure::usage(format!("--{key} must be an absolute path: {}", path.display())));
        }
        Ok(path)
    }

    /// Takes a number.
    pub(crate) fn take_number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        self.take(key)
            .map(|value| {
                value.parse().map_err(|_| Failure::usage(format!("--{key} is not a valid number: {value}")))
            })
            .transpose()
    }

    /// Takes a time in seconds, to the millisecond.
    pub(crate) fn take_seconds(&mut self, key: &str) -> Result<Option<Duration>> {
        self.take(key)
            .map(|value| {
                seconds(&value)
                    .ok_or_else(|| Failure::usage(format!("--{key} is not a valid duration: {value}")))
            })
            .transpose()
    }

    /// Takes what follows `--`.
    pub(crate) fn take_command(&mut self) -> Vec<String> {
        std::mem::take(&mut self.command)
    }

    /// Fails when the words made no sense or something was left over.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(mistake) = self.mistake {
            return Err(Failure::usage(mistake));
        }
        if let Some((key, _)) = self.options.first() {
            return Err(Failure::usage(format!("unknown option here: --{key}")));
        }
        if !self.command.is_empty() {
            return Err(Failure::usage("no command is expected after --"));
        }
        Ok(())
    }
}

/// Reads `12` or `1.25`; by hand, because reading and printing floating point takes thirty kilobytes.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let milliseconds = fraction.get(..3).unwrap_or(fraction);
    let missing = u32::try_from(3 - milliseconds.len()).ok()?;
    let digits =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let milliseconds = digits(milliseconds)? * 10_u32.pow(missing);
    Some(Duration::from_secs(digits(whole)?.into()) + Duration::from_millis(milliseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Arguments {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn both_spellings_of_an_option_are_read() {
        let mut arguments = parse(&["--a", "1", "--b=2=3", "--a=4", "--", "c", "--d"]);
        assert_eq!(arguments.take_all("a"), ["1", "4"]);
        assert_eq!(arguments.take("b").as_deref(), Some("2=3"));
        assert_eq!(arguments.take_command(), ["c", "--d"]);
        arguments.finish().unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        for (words, mistake) in [
            (&["--a"][..], "--a needs a value"),
            (&["a"], "unexpected argument: a"),
            (&["--a", "b"], "unknown option here: --a"),
            (&["--", "a"], "no command is expected after --"),
        ] {
            assert_eq!(parse(words).finish().unwrap_err().to_string(), mistake);
        }
    }

    #[test]
    fn seconds_may_have_fractions_but_not_a_sign() {
        assert_eq!(parse(&["--a=0.5"]).take_seconds("a").unwrap(), Some(Duration::from_millis(500)));
        assert_eq!(parse(&["--a=7"]).take_seconds("a").unwrap(), Some(Duration::from_secs(7)));
        assert_eq!(parse(&["--a=1.0625"]).take_seconds("a").unwrap(), Some(Duration::from_millis(1062)));
        for wrong in ["-1", "+1", "NaN", "", ".", "1.", ".5", "1.é5", "99999999999"] {
            assert!(parse(&["--a", wrong]).take_seconds("a").is_err(), "{wrong}");
        }
    }
}
