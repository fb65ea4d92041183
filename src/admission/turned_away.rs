//! Why a request got no review.

use super::limits::Limits;

/// Why a request got no review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Its turn did not come in time.
    Overload,
    /// The body exceeds its limit.
    TooLarge,
    /// The head does not say how long the body is.
    LengthMissing,
    /// Not `application/json`.
    ContentType,
    /// The query's `timeout` is not a duration.
    Timeout,
    /// The body did not arrive in time, or stood still.
    TooSlow,
    /// The body ended early.
    Broken,
}

impl TurnedAway {
    /// Every reason there is.
    pub const ALL: [Self; 7] = [
        Self::Overload,
        Self::TooLarge,
        Self::LengthMissing,
        Self::ContentType,
        Self::Timeout,
        Self::TooSlow,
        Self::Broken,
    ];

    /// The reason in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::TooLarge => "too-large",
            Self::LengthMissing => "length-missing",
            Self::ContentType => "content-type",
            Self::Timeout => "timeout-invalid",
            Self::TooSlow => "too-slow",
            Self::Broken => "body-broken",
        }
    }

    /// The HTTP status it is answered with.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Overload => 503,
            Self::TooLarge => 413,
            Self::LengthMissing => 411,
            Self::ContentType => 415,
            Self::Timeout | Self::Broken => 400,
            Self::TooSlow => 408,
        }
    }

    /// What is wrong and what to do.
    pub(super) fn message(self, limits: &Limits) -> String {
        match self {
            Self::Overload => format!(
                "the webhook had no room for this request in time ({} MiB of bodies at once); try again, or run more \
                 replicas of it",
                limits.bodies >> 20
            ),
            Self::TooLarge => format!(
                "the request's body exceeds {} MiB; the API server's own limit is lower",
                limits.body >> 20
            ),
            Self::LengthMissing => {
                "the request does not say how long its body is; send a content-length, as the API server does"
                    .to_owned()
            }
            Self::ContentType => {
                "content-type is not application/json; send what the API server sends".to_owned()
            }
            Self::Timeout => {
                "the query's timeout is not a valid duration; write it like timeout=10s".to_owned()
            }
            Self::TooSlow => "the request's body did not arrive in time; try again".to_owned(),
            Self::Broken => "the request's body ended before it was complete; try again".to_owned(),
        }
    }
}
