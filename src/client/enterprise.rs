//! The enterprise edition: `juicefs auth`, a ready-made configuration, ACL files.

use super::{CONFIG_DIRECTORY, Request, arguments, copy_initconfig, credentials, format_options, word::Word};
use crate::{
    outcome::{Code, Refusal},
    volume::{Edition, secret::AUTH_ARGUMENTS},
};

const CREDENTIALS: [(&str, &str); 4] = [
    ("token", "token"),
    ("secret-key", "secretkey"),
    ("secret-key2", "secretkey2"),
    ("passphrase", "passphrase"),
];

/// A `configs` path with this text holds the user database for ACLs.
const ACL_DIRECTORY: &str = "/root/.acl";
/// Its files, and those that they replace.
const ACL_FILES: [(&str, &str); 2] = [("group", "/etc/group"), ("passwd", "/etc/passwd")];

/// What comes before the mount: a configuration, by copy or by `auth`, and links to the ACL files.
pub(super) fn preparation<'a>(request: &Request<'a>) -> Result<Vec<Vec<Word<'a>>>, Refusal> {
    let mut commands = Vec::new();
    if request.uses_initconfig() {
        commands.push(copy_initconfig(request.secret));
    } else if request.secret.has_credential("token") {
        commands.push(auth(request)?);
    }
    let links = request.secret.configs.values().filter(|path| request.as_root && is_acl(request, path));
    for path in links {
        commands.extend(ACL_FILES.map(|(file, place)| link(path, file, place)));
    }
    Ok(commands)
}

/// Which files of a `configs` secret are mounted over those of the image, where no link can take their place.
pub(super) fn mounted_over(request: &Request<'_>, path: &str) -> &'static [(&'static str, &'static str)] {
    if !request.as_root && is_acl(request, path) { &ACL_FILES } else { &[] }
}

fn is_acl(request: &Request<'_>, path: &str) -> bool {
    request.secret.edition == Edition::Enterprise && path.contains(ACL_DIRECTORY)
}

pub(super) fn auth<'a>(request: &Request<'a>) -> Result<Vec<Word<'a>>, Refusal> {
    let secret = request.secret;
    let mut words = ["/usr/bin/juicefs", "auth", &secret.name].map(Word::literal).to_vec();
    words.extend(arguments(secret, &AUTH_ARGUMENTS));
    words.extend(credentials(secret, &CREDENTIALS));
    if request.process.no_update_config {
        if !secret.arguments.contains_key("bucket") {
            return Err(Refusal::new(
                Code::SecretInvalid,
                "user secret: bucket",
                "is missing, while JFS_NO_UPDATE_CONFIG keeps the client from asking the console for it",
                "add bucket to the user secret or unset JFS_NO_UPDATE_CONFIG",
            ));
        }
        words.push(Word::literal("--no-update"));
    }
    words.extend(format_options(secret));
    words.push(Word::literal(format!("--conf-dir={CONFIG_DIRECTORY}")));
    Ok(words)
}

fn link<'a>(directory: &'a str, file: &'a str, place: &'a str) -> Vec<Word<'a>> {
    let source = Word::literal(directory.trim_end_matches('/')).and(format!("/{file}"));
    vec![Word::literal("ln"), Word::literal("-sf"), source, Word::literal(place)]
}
