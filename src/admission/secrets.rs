//! User secrets: everything that is wrong with one, said at once, before a pod is refused because of it.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Answer, answer_with,
    review::{Request, text},
};
use crate::{
    inject::Decision,
    outcome::{Code, Refusal},
    pod::{Text, bounded},
    volume::secret::{UserSecret, check},
};

/// What Kubernetes lets the data of a secret be.
const LARGEST: usize = 1 << 20;

/// A Secret; `stringData` is merged into `data` before admission.
#[derive(Debug, Default, Deserialize)]
struct Secret<'a> {
    #[serde(borrow, default, deserialize_with = "bounded::map::<4096, _, _, _>")]
    data: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
}

/// Answers a review sent to the path that validates secrets.
pub(super) fn answer(body: &[u8]) -> Answer {
    answer_with::<Secret<'_>>(body, unwanted, |request| {
        let name = text(request.name.as_ref()).to_owned();
        let decision = unwanted(request).unwrap_or_else(|| decide(request));
        (name, decision)
    })
}

fn unwanted<O>(request: &Request<'_, O>) -> Option<Decision> {
    if !request.is_core("Secret") {
        return Some(Decision::new(Code::Valid, "only secrets are validated here"));
    }
    if !matches!(request.operation(), "CREATE" | "UPDATE") {
        return Some(Decision::new(Code::Valid, "only creations and updates of secrets are validated"));
    }
    None
}

fn decide(request: &Request<'_, Secret<'_>>) -> Decision {
    let Some(secret) = &request.object else {
        return Refusal::new(Code::Unreadable, "request.object", "is missing", "send the secret").into();
    };
    let place = format!("secret \"{}/{}\"", text(request.namespace.as_ref()), text(request.name.as_ref()));
    let length: usize = secret.data.iter().flatten().map(|(_, value)| text(value.as_ref()).len()).sum();
    if length / 4 * 3 > LARGEST {
        return Refusal::new(
            Code::SecretInvalid,
            place,
            "is larger than 1 MiB",
            "give it what the client needs",
        )
        .into();
    }
    let (data, mut problems) = decoded(secret);
    for problem in check(&data) {
        separate(&mut problems);
        let _ = write!(problems, "{}: {}", problem.key, problem.what);
    }
    if problems.is_empty() {
        let warnings = UserSecret::parse(&data).map(|secret| secret.warnings).unwrap_or_default();
        return Decision { warnings, ..Decision::new(Code::Valid, "the secret can be used") };
    }
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
