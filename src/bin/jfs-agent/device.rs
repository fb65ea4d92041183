//! The descriptor of `/dev/fuse` and what can be asked of the kernel through it.

use crate::failure::{During, Failure, Result};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{FileType, Mode, OFlags},
};

/// Major and minor number of `/dev/fuse`, the same on every Linux.
const NUMBER: (u32, u32) = (10, 229);

/// The shortest and longest setting worth keeping: the client reads answers into 120 bytes.
const SETTING_SIZES: std::ops::RangeInclusive<usize> = 16..=120;

/// `FUSE_NOTIFY_RESEND`: asks the kernel to queue again every request that was read but never answered.
const NOTIFY_RESEND: u32 = 7;

/// What the JuiceFS client needs to go on serving a mount: the kernel's INIT request, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting(Vec<u8>);

impl Setting {
    /// Accepts what may be a setting: a length like that of a FUSE request, and the request says it is that long.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let length = bytes.first_chunk().map(|start| u32::from_ne_bytes(*start))?;
        let sound = SETTING_SIZES.contains(&bytes.len()) && usize::try_from(length) == Ok(bytes.len());
        sound.then(|| Self(bytes.to_vec()))
    }

    /// Reads what [`Self::to_hex`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        Self::new(&bytes)
    }

    /// Two hexadecimal digits a byte.
    pub(crate) fn to_hex(&self) -> String {
        use std::fmt::Write;
        self.0.iter().fold(String::new(), |mut text, byte| {
            _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The bytes themselves.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Opens the device.
pub(crate) fn open() -> Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .during(|| "open /dev/fuse")?;
    check(&device)?;
    Ok(device)
}

/// Fails when a descriptor is anything but the FUSE device.
pub(crate) fn check(descriptor: impl AsFd) -> Result<()> {
    let found = rustix::fs::fstat(descriptor).during(|| "look at a descriptor")?;
    let number = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
    if FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice || number != NUMBER {
        return Err(Failure::new("the descriptor is not /dev/fuse"));
    }
    Ok(())
}

/// What became of a request to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resent {
    /// The kernel queued what was in flight again.
    Yes,
    /// The kernel is older than 6.9 and does not know how.
    Unknown,
    /// The mount is gone.
    Gone,
}

/// Has the kernel queue again what the last client read and never answered.
///
/// NB: only while nobody serves. A client that already reads would carry out twice what it has in hand.
pub(crate) fn resend(device: impl AsFd) -> Resent {
    let mut notification = [0; 16];
    notification[..4].copy_from_slice(&16_u32.to_ne_bytes());
    notification[4..8].copy_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    match rustix::io::write(device, &notification) {
        Ok(_) => Resent::Yes,
        Err(rustix::io::Errno::NODEV | rustix::io::Errno::PERM | rustix::io::Errno::NOTCONN) => Resent::Gone,
        Err(_) => Resent::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_survives_its_spelling_and_nothing_else_passes_for_one() {
        let mut bytes = vec![0; 104];
        bytes[0] = 104;
        bytes[4] = 26;
        let setting = Setting::new(&bytes).unwrap();
        assert_eq!(Setting::from_hex(&setting.to_hex()), Some(setting));
        for wrong in [&b""[..], b"FUSE", b"CLOSE", &[104; 104], &[0; 104], &[121; 121]] {
            assert_eq!(Setting::new(wrong), None);
        }
        for wrong in ["", "0", "zz", "é", &"00".repeat(104)] {
            assert_eq!(Setting::from_hex(wrong), None);
        }
    }

    #[test]
    fn only_the_fuse_device_passes_for_it() {
        assert!(check(std::fs::File::open("/dev/null").unwrap()).is_err());
        assert!(check(std::fs::File::open("/proc/self/status").unwrap()).is_err());
    }
}
