//! What a client that failed has to say about it.

use super::Kind;

/// What the client, its drivers and the engines say, as far as it means something to us; the first that is found counts.
const SYMPTOMS: [(&str, Kind); 20] = [
    ("is not configured correctly", Kind::StorageUnusable),
    ("database is not formatted", Kind::NotFormatted),
    ("WRONGPASS", Kind::WrongPassword),
    ("NOAUTH", Kind::WrongPassword),
    ("Access denied for user", Kind::WrongPassword),
    ("authentication failed", Kind::WrongPassword),
    ("No help topic for", Kind::Unsupported),
    ("invalid command", Kind::Unsupported),
    ("unknown option", Kind::Unsupported),
    ("flag provided but not defined", Kind::Unsupported),
    ("permission denied", Kind::PermissionDenied),
    ("operation not permitted", Kind::PermissionDenied),
    ("failed to dial", Kind::MetadataUnreachable),
    ("connection refused", Kind::MetadataUnreachable),
    ("no such host", Kind::MetadataUnreachable),
    ("i/o timeout", Kind::MetadataUnreachable),
    ("network is unreachable", Kind::MetadataUnreachable),
    ("no route to host", Kind::MetadataUnreachable),
    ("connection reset by peer", Kind::MetadataUnreachable),
    ("LOADING Redis", Kind::MetadataUnreachable),
];

/// How the client begins to say that it did not find the path it was given.
const PATHS: [&str; 2] = ["resolve dir ", "Chroot to "];

/// How it goes on. Only a whole message counts: a removal is done when the directory is missing, and not when a
/// certificate is, or when a name reads like this.
const ENDS: [(&str, Kind); 2] =
    [(": no such file or directory", Kind::Missing), (": not a directory", Kind::NotADirectory)];

/// What kind of failure it is: the line with the reason decides, and if that says nothing all there is.
pub fn kind(reason: &str, output: &str) -> Kind {
    path(message(reason)).or_else(|| symptom(reason)).or_else(|| symptom(output)).unwrap_or(Kind::Other)
}

fn path(message: &str) -> Option<Kind> {
    PATHS.iter().find(|beginning| message.starts_with(*beginning))?;
    ENDS.iter().find(|(end, _)| message.ends_with(end)).map(|(_, kind)| *kind)
}

fn symptom(text: &str) -> Option<Kind> {
    SYMPTOMS.iter().find(|(words, _)| text.contains(words)).map(|(_, kind)| *kind)
}

/// Whether a client that was to make a directory without a quota has nothing else to say against it: older ones make
/// it and then complain.
pub fn says_no_limit(message: &str) -> bool {
    message.ends_with(": limitation not set or deleted")
}

/// Whether a client of this version (`juicefs version 1.4.2+…`) clones as it is asked to: before 1.3 it read the request
/// differently.
pub fn clones(version: &str) -> bool {
    let (_, number) = version.split_once("version ").unwrap_or_default();
    let (major, rest) = number.split_once('.').unwrap_or_default();
    let (minor, _) = rest.split_once('.').unwrap_or_default();
    match (major.parse::<u32>(), minor.parse::<u32>()) {
        (Ok(major), Ok(minor)) => (major, minor) >= (1, 3),
        _ => false,
    }
}

/// The message of a line of the client's log: without time, process, level, function and file.
pub fn message(line: &str) -> &str {
    let message = line.split_once(">: ").map_or(line, |(_, message)| message);
    match message.rsplit_once(" [") {
        Some((message, place)) if place.ends_with(']') && place.contains(".go:") => message,
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_understood() {
        for (line, said, expected) in [
            (
                "2026/11/25 14:19:51.608544 juicefs[7] <FATAL>: Load setting: WRONGPASS invalid username-password pair \
                 or user is disabled. [quota@quota.go:188]",
                "Load setting: WRONGPASS invalid username-password pair or user is disabled.",
                Kind::WrongPassword,
            ),
            (
                "2026/11/25 14:19:51.760219 juicefs[7] <FATAL>: Load setting: database is not formatted, please run \
                 `juicefs format ...` first [quota@quota.go:188]",
                "Load setting: database is not formatted, please run `juicefs format ...` first",
                Kind::NotFormatted,
            ),
            (
                "2026/11/25 14:21:40.532989 juicefs[7] <FATAL>: resolve dir /t/x: not a directory [main@main.go:31]",
                "resolve dir /t/x: not a directory",
                Kind::NotADirectory,
            ),
            (
                "2026/11/25 14:21:43.878670 juicefs[7] <FATAL>: Chroot to \"/x\": no such file or directory \
                 [initForSvc@gateway.go:261]",
                "Chroot to \"/x\": no such file or directory",
                Kind::Missing,
            ),
            ("No help topic for 'quota'", "No help topic for 'quota'", Kind::Unsupported),
            (
                "redis: 2026/11/25 14:19:52 pool.go:617: redis: connection pool: failed to dial after 5 attempts: dial \
                 tcp 127.0.0.1:7399: connect: connection refused",
                "redis: 2026/11/25 14:19:52 pool.go:617: redis: connection pool: failed to dial after 5 attempts: dial \
                 tcp 127.0.0.1:7399: connect: connection refused",
                Kind::MetadataUnreachable,
            ),
        ] {
            assert_eq!((message(line), kind(line, "")), (said, expected));
        }
        assert_eq!(
            kind("exit code 1", "x\ndial tcp 10.0.0.1:6379: i/o timeout\n"),
            Kind::MetadataUnreachable
        );
        assert_eq!(kind("a [b]", ""), Kind::Other);
        assert_eq!(kind("open /ca.pem: no such file or directory", ""), Kind::Other);
        assert_eq!(kind("x", "resolve dir /x: no such file or directory"), Kind::Other);
    }

    #[test]
    fn old_clients_and_unknown_ones_do_not_clone() {
        for version in
            ["juicefs version 1.3.0+2025-07-07.x", "juicefs version 1.10.0", "juicefs version 2.0.0-beta1\n"]
        {
            assert!(clones(version), "{version}");
        }
        for version in
            ["juicefs version 1.2.9+2024", "juicefs version 0.17.5", "juicefs version 1", "", "version x"]
        {
            assert!(!clones(version), "{version}");
        }
    }

    #[test]
    fn an_object_storage_that_is_down_is_not_the_metadata_engine() {
        let line = "2026/11/25 14:00:00.000000 juicefs[7] <FATAL>: Storage s3://b/ is not configured correctly: Failed \
                    to create bucket s3://b/: dial tcp 127.0.0.1:1: connect: connection refused [format@format.go:559]";
        assert_eq!(kind(line, ""), Kind::StorageUnusable);
    }
}
