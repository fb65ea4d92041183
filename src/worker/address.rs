//! Passwords of metadata engines: in their addresses, where users have them, they would be on the client's command
//! line, where everybody sees them; in its environment they are not.

/// Redis reads this one before any other.
const REDIS_PASSWORD: &str = "REDIS_PASSWORD";

/// What the client reads for SQL databases.
const META_PASSWORD: &str = "META_PASSWORD";

/// An address in two parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The address without its password.
    pub address: String,
    /// The variable with the password that was in it, if there was one.
    pub password: Option<(&'static str, String)>,
}

/// Takes the password out of an address; says why not where it cannot be kept off the command line.
pub fn split(address: &str) -> Result<Split, &'static str> {
    // As the client has it: an address without a scheme is one of redis.
    let (scheme, rest) = address.split_once("://").unwrap_or(("redis", address));
    let written = &address[..address.len() - rest.len()];
    let as_it_is = || Split { address: address.to_owned(), password: None };
    let (authority, query) = if scheme == "mysql" {
        // The driver's own notation, `user:password@(host:port)/database`, in which passwords are not encoded.
        (rest.rsplit_once('/').map_or(rest, |(authority, _)| authority), "")
    } else {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        (&rest[..end], rest.split_once('?').map_or("", |(_, query)| query))
    };
    let key =
        |pair: &str| pair.split('=').next().is_some_and(|key| key.to_ascii_lowercase().contains("password"));
    if query.split('&').any(key) {
        return Err("has a password among its parameters; write it before the @ or into META_PASSWORD");
    }
    let Some((user, host)) = authority.rsplit_once('@') else { return Ok(as_it_is()) };
    let Some((user, password)) = user.split_once(':').filter(|(_, password)| !password.is_empty()) else {
        return Ok(as_it_is());
    };
    let variable = match scheme {
        "redis" | "rediss" | "unix" => REDIS_PASSWORD,
        "mysql" | "postgres" => META_PASSWORD,
        _ => {
            return Err(
                "has a password, which the client takes on its command line only for this kind of engine",
            );
        }
    };
    let after = &rest[authority.len()..];
    Ok(Split {
        address: format!("{written}{user}@{host}{after}"),
        password: Some((variable, decode(password))),
    })
}

/// The text with its `%xx` decoded; as it is where that makes no sense, as the client has it.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return text.to_owned();
        };
        bytes.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(address: &str) -> (String, Option<(&'static str, String)>) {
        let split = split(address).unwrap();
        (split.address, split.password)
    }

    #[test]
    fn passwords_leave_their_addresses() {
        for (whole, address, variable, password) in [
            ("redis://:p%40ss@h:6379/1", "redis://@h:6379/1", REDIS_PASSWORD, "p@ss"),
            ("rediss://u:p@ss@h1,h2:6379/1?a=b", "rediss://u@h1,h2:6379/1?a=b", REDIS_PASSWORD, "p@ss"),
            ("u:pw@h/1", "u@h/1", REDIS_PASSWORD, "pw"),
            ("redis://:100%@h/1", "redis://@h/1", REDIS_PASSWORD, "100%"),
            ("mysql://u:p/w:x@(h:3306)/db?a=b", "mysql://u@(h:3306)/db?a=b", META_PASSWORD, "p/w:x"),
            (
                "postgres://u:pw@h:5432/db?sslmode=off",
                "postgres://u@h:5432/db?sslmode=off",
                META_PASSWORD,
                "pw",
            ),
        ] {
            assert_eq!(parts(whole), (address.to_owned(), Some((variable, password.to_owned()))), "{whole}");
        }
    }

    #[test]
    fn what_has_no_password_stays_as_it_is() {
        for address in [
            "redis://h/1",
            "h:6379/1",
            "redis://u@h/1",
            "redis://:@h/1",
            "mysql://u:@(h:3306)/db",
            "tikv://a,b/p",
            "sqlite3:///a@b:c/d.db",
            "redis://h/1?x=u:p@q",
            "myjfs",
            "",
        ] {
            assert_eq!(parts(address), (address.to_owned(), None));
        }
    }

    #[test]
    fn what_would_be_seen_is_refused() {
        assert!(split("postgres://h/db?user=u&password=pw").is_err());
        assert!(split("etcd://u:pw@h/p").is_err());
    }
}
