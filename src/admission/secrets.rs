//! User secrets: everything that is wrong with one, said at once, before a pod is refused because of it.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Answer, answer_with,
    response::Verdict,
    review::{Request, text},
};
use crate::{
    outcome::{Code, Refusal},
    pod::Text,
    volume::secret::{UserSecret, check},
};

/// A Secret; `stringData` is merged into `data` before admission.
#[derive(Debug, Default, Deserialize)]
struct Secret<'a> {
    #[serde(borrow, default)]
    data: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
}

/// Answers a review sent to the path that validates secrets.
pub(super) fn answer(body: &[u8]) -> Answer {
    answer_with::<Secret<'_>>(body, wanted, |request| {
        let name = text(request.name.as_ref()).to_owned();
        let verdict = wanted(request).err().unwrap_or_else(|| decide(request));
        (name, verdict)
    })
}

fn wanted<O>(request: &Request<'_, O>) -> Result<(), Verdict> {
    if !request.is_core("Secret") {
        return Err(Verdict::new(Code::Valid, "only secrets are validated here"));
    }
    if !matches!(request.operation(), "CREATE" | "UPDATE") {
        return Err(Verdict::new(Code::Valid, "only creations and updates of secrets are validated"));
    }
    Ok(())
}

fn decide(request: &Request<'_, Secret<'_>>) -> Verdict {
    let Some(secret) = &request.object else {
        return Refusal::new(Code::Unreadable, "request.object", "is missing", "send the secret").into();
    };
    let (data, mut problems) = decoded(secret);
    for problem in check(&data) {
        separate(&mut problems);
        let _ = write!(problems, "{}: {}", problem.key, problem.what);
    }
    if problems.is_empty() {
        let warnings = UserSecret::parse(&data).map(|secret| secret.warnings).unwrap_or_default();
        return Verdict { warnings, ..Verdict::new(Code::Valid, "the secret can be used") };
    }
    let place = format!("secret \"{}/{}\"", text(request.namespace.as_ref()), text(request.name.as_ref()));
    Refusal::new(Code::SecretInvalid, place, problems, "correct these keys of its data").into()
}

/// The decoded data, and what could not be decoded; never a value.
fn decoded(secret: &Secret<'_>) -> (BTreeMap<String, Vec<u8>>, String) {
    let mut data = BTreeMap::new();
    let mut problems = String::new();
    for (key, value) in secret.data.iter().flatten() {
        if let Ok(value) = STANDARD.decode(text(value.as_ref())) {
            data.insert(key.to_string(), value);
        } else {
            separate(&mut problems);
            let _ = write!(problems, "{key}: is not base64");
        }
    }
    (data, problems)
}

fn separate(problems: &mut String) {
    if !problems.is_empty() {
        problems.push_str(", ");
    }
}
