//! How a classic client's exit is ordered after the application's, and how that is written.

use std::{fmt, str::FromStr};

/// How the exit of a classic, non-native client is ordered after the application's.
///
/// Written `sleep:SECONDS`, `port:NUMBER`, `idle:SECONDS` or `staging` wherever it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum ExitOrder {
    /// Wait a fixed number of seconds.
    Sleep(u32),
    /// Wait until nothing listens on the port any more.
    Port(u16),
    /// Wait until the client has reported no open handles for so many seconds.
    Idle(u32),
    /// Wait until the write-back cache is uploaded.
    Staging,
}

/// What an exit order looks like, for remedies.
pub const GRAMMAR: &str = "write sleep:SECONDS, port:NUMBER, idle:SECONDS or staging";

/// Why a text is not an exit order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnExitOrder {
    /// Neither of the four words.
    #[error("not an exit order")]
    Word,
    /// `sleep` or `idle` without a number of seconds.
    #[error("the number of seconds is missing or not a whole number up to 4294967295")]
    Seconds,
    /// `port` without a port.
    #[error("the port is missing or not a number from 1 to 65535")]
    Port,
    /// `staging` with something after it.
    #[error("staging takes no number")]
    Staging,
}

impl FromStr for ExitOrder {
    type Err = NotAnExitOrder;

    fn from_str(text: &str) -> Result<Self, NotAnExitOrder> {
        let (word, number) = match text.trim().split_once(':') {
            Some((word, number)) => (word.trim_end(), Some(number.trim())),
            None => (text.trim(), None),
        };
        let seconds = || whole_number(number).ok_or(NotAnExitOrder::Seconds);
        match word {
            "sleep" => Ok(Self::Sleep(seconds()?)),
            "idle" => Ok(Self::Idle(seconds()?)),
            "port" => match whole_number::<u16>(number) {
                Some(port) if port > 0 => Ok(Self::Port(port)),
                _ => Err(NotAnExitOrder::Port),
            },
            "staging" if number.is_none() => Ok(Self::Staging),
            "staging" => Err(NotAnExitOrder::Staging),
            _ => Err(NotAnExitOrder::Word),
        }
    }
}

/// Digits only: `+5` is not how anyone writes a port.
fn whole_number<T: FromStr>(text: Option<&str>) -> Option<T> {
    text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

impl fmt::Display for ExitOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleep(seconds) => write!(formatter, "sleep:{seconds}"),
            Self::Port(port) => write!(formatter, "port:{port}"),
            Self::Idle(seconds) => write!(formatter, "idle:{seconds}"),
            Self::Staging => formatter.write_str("staging"),
        }
    }
}

/// For `exitOrder` in the ConfigMap.
impl TryFrom<String> for ExitOrder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{text:?}: {error}; {GRAMMAR}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_orders_are_read_and_written_alike() {
        for (text, order) in [
            ("sleep:30", ExitOrder::Sleep(30)),
            ("port:8080", ExitOrder::Port(8080)),
            ("idle:5", ExitOrder::Idle(5)),
            ("staging", ExitOrder::Staging),
        ] {
            assert_eq!(text.parse(), Ok(order));
            assert_eq!(order.to_string(), text);
        }
        assert_eq!(" sleep : 3 ".parse(), Ok(ExitOrder::Sleep(3)));
    }

    #[test]
    fn other_texts_say_what_is_wrong_with_them() {
        for (text, error) in [
            ("", NotAnExitOrder::Word),
            ("Sleep:3", NotAnExitOrder::Word),
            ("sleep", NotAnExitOrder::Seconds),
            ("sleep:+3", NotAnExitOrder::Seconds),
            ("idle:1.5", NotAnExitOrder::Seconds),
            ("sleep:4294967296", NotAnExitOrder::Seconds),
            ("port:0", NotAnExitOrder::Port),
            ("port:65536", NotAnExitOrder::Port),
            ("staging:1", NotAnExitOrder::Staging),
        ] {
            assert_eq!(text.parse::<ExitOrder>(), Err(error), "{text}");
        }
    }
}
