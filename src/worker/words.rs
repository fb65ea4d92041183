//! Command lines of `format` and `auth`, as they come in requests and as they are run.

use super::{Edition, FileSystem};

/// Where the worker puts what a client reads from files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The RSA key, if there is one.
    pub rsa_key: &'a str,
    /// The directory of the enterprise client's configurations.
    pub configurations: &'a str,
}

/// A command line and the variables it needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The words after the program.
    pub words: Vec<String>,
    /// Variables, in addition to the file system's own.
    pub environment: Vec<(&'static str, String)>,
}

/// Credentials that `format` takes from its environment when no option gives them.
const CREDENTIALS: [(&str, &str); 3] =
    [("access-key", "ACCESS_KEY"), ("secret-key", "SECRET_KEY"), ("session-token", "SESSION_TOKEN")];

/// `format` as it is run: its address without a password (`address`), its credentials in the environment.
pub fn format(
    words: &[String],
    file_system: &FileSystem,
    address: &str,
    files: Files<'_>,
) -> Result<Command, String> {
    if file_system.edition != Edition::Community {
        return Err("format is a command of the community edition".to_owned());
    }
    let arguments = arguments(words, "format")?;
    let mut command = Command { words: vec!["format".into()], environment: Vec::new() };
    let mut others = Vec::new();
    for argument in arguments {
        let Argument::Option { name, value } = argument else {
            others.push(argument);
            continue;
        };
        let credential = CREDENTIALS.iter().find(|(option, _)| *option == name);
        match (credential, value) {
            (Some((_, variable)), Some(value)) => command.environment.push((variable, value.to_owned())),
            (Some(_), None) => return Err(format!("--{name} has no value")),
            (None, _) if name == "encrypt-rsa-key" => {
                command.words.push(format!("--encrypt-rsa-key={}", files.rsa_key));
            }
            (None, _) => command.words.push(written(name, value)),
        }
    }
    match others[..] {
        [Argument::Word(first), Argument::Word(name)] if first == file_system.address => {
            command.words.extend([address.to_owned(), name.to_owned()]);
            Ok(command)
        }
        _ => Err("format takes the file system's address, then its name".to_owned()),
    }
}

/// `auth` as it is run. The enterprise client takes a token only as an option: who wants it off the command line, which
/// in the worker's container nobody but the worker sees, gives a configuration instead.
pub fn auth(words: &[String], file_system: &FileSystem, files: Files<'_>) -> Result<Command, String> {
    let mut command = Command { words: vec!["auth".into()], environment: Vec::new() };
    for argument in arguments(words, "auth")? {
        match argument {
            Argument::Word(name) if name == file_system.address => command.words.push(name.to_owned()),
            Argument::Word(_) => return Err("auth takes the file system's name and options".to_owned()),
            Argument::Option { name: "conf-dir", .. } => {}
            Argument::Option { name, value } => command.words.push(written(name, value)),
        }
    }
    command.words.push(format!("--conf-dir={}", files.configurations));
    Ok(command)
}

#[derive(Clone, Copy)]
enum Argument<'a> {
    Option { name: &'a str, value: Option<&'a str> },
    Word(&'a str),
}

/// The words after the subcommand, which has to be this one.
fn arguments<'a>(words: &'a [String], subcommand: &str) -> Result<Vec<Argument<'a>>, String> {
    let (first, rest) =
        words.split_first().ok_or_else(|| format!("the words of {subcommand} are missing"))?;
    if first != subcommand {
        return Err(format!("the words of {subcommand} have to begin with it"));
    }
    rest.iter().map(|word| argument(word)).collect()
}

fn argument(word: &str) -> Result<Argument<'_>, String> {
    if word.contains('\0') {
        return Err("a word has a NUL byte in it".to_owned());
    }
    let Some(option) = word.strip_prefix("--") else {
        let taken = !word.is_empty() && !word.starts_with('-');
        return if taken { Ok(Argument::Word(word)) } else { Err("a word begins with one dash".to_owned()) };
    };
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let letters = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_".contains(&letter));
    if name.is_empty() || name.starts_with('-') || !letters {
        return Err("an option has a name that cannot be one".to_owned());
    }
    Ok(Argument::Option { name, value })
}

fn written(name: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: Files<'_> = Files { rsa_key: "/s/key", configurations: "/s/.juicefs" };

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_credentials_of_format_go_into_the_environment() {
        let file_system = FileSystem { address: "redis://:pw@h/1".into(), ..FileSystem::default() };
        let given = words(&[
            "format",
            "--no-update",
            "--storage=s3",
            "--bucket=b",
            "--access-key=who",
            "--secret-key=a=b",
            "redis://:pw@h/1",
            "vol",
            "--session-token=t",
            "--trash-days=0",
            "--encrypt-rsa-key=/root/.rsa/rsa-key.pem",
        ]);
        let command = format(&given, &file_system, "redis://@h/1", FILES).unwrap();
        assert_eq!(
            command.words,
            [
                "format",
                "--no-update",
                "--storage=s3",
                "--bucket=b",
                "--trash-days=0",
                "--encrypt-rsa-key=/s/key",
                "redis://@h/1",
                "vol"
            ]
        );
        let environment = [("ACCESS_KEY", "who"), ("SECRET_KEY", "a=b"), ("SESSION_TOKEN", "t")];
        assert_eq!(command.environment, environment.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn auth_writes_where_the_worker_says() {
        let edition = Edition::Enterprise;
        let file_system = FileSystem { edition, address: "vol".into(), ..FileSystem::default() };
        let given = words(&["auth", "vol", "--bucket=b", "--token=t", "--conf-dir=/root/.juicefs"]);
        let command = auth(&given, &file_system, FILES).unwrap();
        assert_eq!(command.words, ["auth", "vol", "--bucket=b", "--token=t", "--conf-dir=/s/.juicefs"]);
        assert!(format(&words(&["format", "vol", "vol"]), &file_system, "vol", FILES).is_err());
    }

    #[test]
    fn other_commands_are_refused() {
        let file_system = FileSystem { address: "h/1".into(), ..FileSystem::default() };
        for given in [
            &[][..],
            &["destroy", "h/1", "vol"],
            &["format"],
            &["format", "h/1"],
            &["format", "other/1", "vol"],
            &["format", "h/1", "vol", "more"],
            &["format", "-f", "h/1", "vol"],
            &["format", "--", "h/1", "vol"],
            &["format", "---x", "h/1", "vol"],
            &["format", "--a b=c", "h/1", "vol"],
            &["format", "h/1", ""],
            &["format", "h/1", "v\0"],
            &["format", "--secret-key", "h/1", "vol"],
        ] {
            assert!(format(&words(given), &file_system, "h/1", FILES).is_err(), "{given:?}");
        }
        assert!(auth(&words(&["auth", "other"]), &file_system, FILES).is_err());
    }
}
