//! What holder, runner and probe say to each other: JSON, one message each way a connection.
//!
//! Unknown fields are ignored and unknown questions answered with an error, because holder and runner may be of
//! different versions while one of them is being replaced.

use crate::{
    device::{Setting, check},
    failure::{During, Failure, Result},
    look::{Seen, Wish},
    packet::Packet,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug)]
pub(crate) enum Question {
    /// Runner to holder: the descriptors, please.
    Fetch,
    /// Holder to runner, after a restart: the descriptors, please, if you still have them.
    Adopt,
    /// Runner to holder: keep this; the descriptors come along.
    Deposit(Mount),
    /// Runner to holder: give this mount up, for good, and mount anew.
    Abandon(Mount),
    /// Probe to either: how is it going, and the root of the mount.
    Status,
    /// Probe or runner to holder: look at the mount.
    Look(Wish),
}

/// A question as it is sent: a plain structure, which takes twelve kilobytes less than a tagged enum.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Words {
    ask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wish: Option<Wish>,
}

/// An answer.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Why the question was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The mount that was deposited is no longer the volume's: ask for the new one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gone: bool,
    /// The mount that the descriptors belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mount: Option<Mount>,
    /// How it is going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    /// What was seen of the mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Seen>,
}

/// What is known of a mount besides its descriptors.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Mount {
    /// Names this mount(2), so that nothing left from an earlier one is taken for it.
    pub(crate) generation: String,
    /// Where it is, in the holder's eyes.
    pub(crate) mountpoint: String,
    /// The client's setting in hexadecimal, once a client has served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) setting: Option<String>,
}

/// The state of a volume as one of its two keepers sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Status {
    /// One word; `docs/agent.md` lists them.
    pub(crate) state: String,
    /// When that state began.
    pub(crate) since: String,
    /// How often the client (runner) or the mount (holder) was started again.
    pub(crate) restarts: u64,
    /// The version that the client reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_version: Option<String>,
    /// The client's session in the metadata engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<u64>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
}

/// A mount with its descriptors.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The FUSE device that serves it.
    pub(crate) device: OwnedFd,
    /// Its root, opened as a path only: that asks nothing of whoever serves it.
    pub(crate) root: OwnedFd,
    /// Names this mount(2).
    pub(crate) generation: String,
    /// Where it is, in the holder's eyes.
    pub(crate) mountpoint: String,
    /// The client's setting, once a client has served.
    pub(crate) setting: Option<Setting>,
}

impl Kept {
    /// Takes a mount out of a message, checking that the descriptors are what they have to be.
    pub(crate) fn from_message(mount: Mount, descriptors: Vec<OwnedFd>) -> Result<Self> {
        let Ok([device, root]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err(Failure::new("a mount comes with two descriptors"));
        };
        check(&device)?;
        crate::mountpoint::check_root(&root)?;
        let setting = match mount.setting {
            Some(text) => {
                Some(Setting::from_hex(&text).ok_or_else(|| Failure::new("the setting is not valid"))?)
            }
            None => None,
        };
        Ok(Self { device, root, generation: mount.generation, mountpoint: mount.mountpoint, setting })
    }

    /// What a message says of it.
    pub(crate) fn to_mount(&self) -> Mount {
        Mount {
            generation: self.generation.clone(),
            mountpoint: self.mountpoint.clone(),
            setting: self.setting.as_ref().map(Setting::to_hex),
        }
    }

    /// What a message brings along.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.device.as_fd(), self.root.as_fd()]
    }
}

impl Question {
    /// Reads a question.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let words: Words = serde_json::from_slice(bytes).during(|| "not understood")?;
        match words.ask.as_str() {
            "fetch" => Ok(Self::Fetch),
            "adopt" => Ok(Self::Adopt),
            "status" => Ok(Self::Status),
            "look" => Ok(Self::Look(words.wish.unwrap_or(Wish::ALIVE))),
            "deposit" | "abandon" => {
                let mount = words.mount.ok_or_else(|| Failure::new("which mount is not said"))?;
                Ok(if words.ask == "deposit" { Self::Deposit(mount) } else { Self::Abandon(mount) })
            }
            other => Err(Failure::new(format!("unknown question: {other:?}"))),
        }
    }

    /// The question as it is sent.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (ask, mount, wish) = match self {
            Self::Fetch => ("fetch", None, None),
            Self::Adopt => ("adopt", None, None),
            Self::Status => ("status", None, None),
            Self::Look(wish) => ("look", None, Some(*wish)),
            Self::Deposit(mount) => ("deposit", Some(mount.clone()), None),
            Self::Abandon(mount) => ("abandon", Some(mount.clone()), None),
        };
        serde_json::to_vec(&Words { ask: ask.to_owned(), mount, wish }).unwrap_or_default()
    }
}

impl Answer {
    /// A refusal.
    pub(crate) fn refusal(reason: impl Into<String>) -> Self {
        Self { error: Some(reason.into()), ..Self::default() }
    }

    /// Reads an answer; a refusal becomes the error it is.
    pub(crate) fn parse(packet: &Packet) -> Result<Self> {
        let answer: Self = serde_json::from_slice(&packet.bytes).during(|| "the answer is not understood")?;
        match answer.error {
            Some(reason) => Err(Failure::new(reason)),
            None => Ok(answer),
        }
    }

    /// The answer as it is sent.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of numbers that are the same in every run (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
        }
    }

    fn samples() -> Vec<Vec<u8>> {
        let mount = Mount {
            generation: "g".to_owned(),
            mountpoint: "/m".to_owned(),
            setting: Some("00".repeat(104)),
        };
        [
            Question::Fetch,
            Question::Adopt,
            Question::Status,
            Question::Look(Wish::STATS),
            Question::Deposit(mount),
        ]
        .iter()
        .map(Question::to_bytes)
        .collect()
    }

    #[test]
    fn questions_are_read_as_they_were_asked() {
        for bytes in samples() {
            assert_eq!(Question::parse(&bytes).unwrap().to_bytes(), bytes);
        }
        assert!(matches!(Question::parse(br#"{"ask":"status","new":1}"#), Ok(Question::Status)));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut numbers = Numbers(0x5eed);
        let samples = samples();
        for _ in 0..200_000 {
            let mut bytes = samples[numbers.next(samples.len())].clone();
            for _ in 0..=numbers.next(4) {
                let place = numbers.next(bytes.len());
                match numbers.next(4) {
                    0 => bytes[place] = u8::try_from(numbers.next(256)).unwrap(),
                    1 => bytes.truncate(place.max(1)),
                    2 => bytes.insert(place, b"{}[]\",:\\0n\xff"[numbers.next(11)]),
                    _ => bytes.extend_from_within(place..),
                }
            }
            if let Ok(Question::Deposit(mount)) = Question::parse(&bytes) {
                assert!(Kept::from_message(mount, Vec::new()).is_err());
            }
            let packet = Packet { bytes, descriptors: Vec::new() };
            _ = Answer::parse(&packet);
        }
    }

    #[test]
    fn a_mount_without_its_descriptors_is_refused() {
        let mount = || Mount { generation: String::new(), mountpoint: String::new(), setting: None };
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(Kept::from_message(mount(), Vec::new()).is_err());
        assert!(Kept::from_message(mount(), vec![null(), null()]).is_err());
    }
}
