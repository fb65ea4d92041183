//! The special files of a JuiceFS mount: what the client says of itself.

use super::Seen;
use crate::failure::{During, Failure, Result};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno,
};
use serde::Deserialize;
use std::{fs::File, io::Read};

/// Longest special file worth reading.
const LONGEST_FILE: u64 = 1 << 20;

/// Reads a special file, under either of the names it may have; nothing when the client does not show it.
pub(super) fn read(root: &OwnedFd, name: &str) -> Result<Option<String>> {
    let open = |name: String| {
        rustix::fs::openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    };
    let file = match open(format!(".{name}")).or_else(|_| open(format!(".jfs.{name}"))) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(Failure::new(format!("open .{name}: {error}"))),
    };
    let mut text = String::new();
    File::from(file).take(LONGEST_FILE).read_to_string(&mut text).during(|| format!("read .{name}"))?;
    Ok(Some(text))
}

/// What is read of `.config`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    version: Option<String>,
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Meta {
    sid: Option<u64>,
}

pub(super) fn read_config(seen: &mut Seen, text: &str) -> Result<()> {
    let config: Config = serde_json::from_str(text).during(|| "read .config")?;
    seen.session = config.meta.sid;
    seen.version = config.version;
    Ok(())
}

/// Reads lines of `name value`.
pub(super) fn read_stats(seen: &mut Seen, text: &str) {
    let value = |name: &str| {
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        count(number.trim())
    };
    // The client counts the handle on which this was read.
    seen.open_handles = value("juicefs_fuse_open_handlers").map(|count| count.saturating_sub(1));
    let staging = [value("juicefs_staging_blocks"), value("juicefs_staging_writing_blocks")];
    seen.staging_blocks = staging.into_iter().flatten().reduce(u64::saturating_add);
}

/// Reads a count, which is printed like `1.5e+06` once it is large.
fn count(number: &str) -> Option<u64> {
    let (digits, exponent) = number.split_once("e+").unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent: usize = exponent.parse().ok()?;
    // The point moves to the right; what is still behind it then is dropped.
    let moved: String = fraction.chars().chain(std::iter::repeat('0')).take(exponent.min(20)).collect();
    format!("{whole}{moved}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_whole_name() {
        let mut seen = Seen::default();
        let text =
            "juicefs_fuse_open_handlers_x 9\njuicefs_fuse_open_handlers 3\njuicefs_staging_blocks 1.5e+01\n";
        read_stats(&mut seen, text);
        assert_eq!((seen.open_handles, seen.staging_blocks), (Some(2), Some(15)));
        read_stats(&mut seen, "");
        assert_eq!((seen.open_handles, seen.staging_blocks), (None, None));
    }

    #[test]
    fn counts_of_any_size_are_read() {
        for (text, number) in
            [("0", 0), ("17", 17), ("1.5e+01", 15), ("1.234567e+06", 1_234_567), ("2e+03", 2000)]
        {
            assert_eq!(count(text), Some(number), "{text}");
        }
        for text in ["", "-1", "NaN", "e+1e", "1e+99", "+Inf"] {
            assert_eq!(count(text), None, "{text}");
        }
    }
}
