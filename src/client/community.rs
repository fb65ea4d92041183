//! The community edition: `juicefs format`.

use super::{
    RSA_KEY_DIRECTORY, RSA_KEY_FILE, Request, arguments, copy_initconfig, credentials, format_options,
    word::Word,
};

use crate::volume::secret::FORMAT_ARGUMENTS;

/// What comes before the mount: a ready-made configuration, or a `format`.
pub(super) fn preparation<'a>(request: &Request<'a>) -> Vec<Vec<Word<'a>>> {
    vec![format(request).unwrap_or_else(|| copy_initconfig(request.secret))]
}

/// What makes the file system or updates its settings; none with a ready-made configuration.
pub(super) fn format<'a>(request: &Request<'a>) -> Option<Vec<Word<'a>>> {
    let secret = request.secret;
    if request.uses_initconfig() {
        return None;
    }
    let mut words = vec![Word::literal("/usr/local/bin/juicefs"), Word::literal("format")];
    // Without its storage the file system cannot be made, and its settings must not be overwritten with defaults.
    if !secret.arguments.contains_key("storage") || !secret.arguments.contains_key("bucket") {
        words.push(Word::literal("--no-update"));
    }
    words.extend(arguments(secret, &FORMAT_ARGUMENTS));
    words.extend(credentials(secret, &[("secret-key", "secretkey")]));
    words.push(Word::variable("metaurl"));
    words.push(Word::literal(secret.name.as_str()));
    words.extend(format_options(secret));
    if secret.rsa_key {
        words.push(Word::literal(format!("--encrypt-rsa-key={RSA_KEY_DIRECTORY}/{RSA_KEY_FILE}")));
    }
    Some(words)
}
