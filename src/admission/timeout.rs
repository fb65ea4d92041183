//! The `timeout` the API server puts into the query of a webhook call.

use std::time::Duration;

use crate::notation::duration;

/// What the API server waits when the query says nothing: the default of `timeoutSeconds`.
const DEFAULT: Duration = Duration::from_secs(10);
/// The most `timeoutSeconds` can be.
const LONGEST: Duration = Duration::from_secs(30);
/// Kept back so that our answer arrives before the API server gives up, and at most a tenth of its patience.
const MARGIN: Duration = Duration::from_millis(500);

/// How long the handling of a request may take, given the `timeout` of its query.
///
/// `None` if it is not a duration.
pub fn budget(timeout: Option<&str>) -> Option<Duration> {
    let patience = match timeout {
        None | Some("") => DEFAULT,
        Some(text) => duration::parse(text).ok()?.min(LONGEST),
    };
    Some(patience.saturating_sub(MARGIN.min(patience / 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_due_a_little_before_the_api_server_gives_up() {
        assert_eq!(budget(Some("10s")), Some(Duration::from_millis(9_500)));
        assert_eq!(budget(Some("1s")), Some(Duration::from_millis(900)));
        assert_eq!(budget(None), Some(Duration::from_millis(9_500)));
        assert_eq!(budget(Some("1h")), Some(Duration::from_millis(29_500)));
        assert_eq!(budget(Some("soon")), None);
    }
}
