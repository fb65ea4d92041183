//! `${pvc.name}` and its like: in the secret references of a class.

use super::{ClaimFacts, Expanded, NO_NAME, PatternError, SHARED_SECRET};

/// A name or namespace of a secret, from a value of `csi.storage.k8s.io/…-secret-name` or `…-namespace`.
///
/// Expands as a shell would: `${pvc.name}`, `${pvc.namespace}`, `${pv.name}` and `${pvc.annotations['key']}`.
/// Anything else that begins with `$` comes out empty, with a warning.
pub fn resolve_secret_reference(template: &str, facts: &ClaimFacts<'_>) -> Result<Expanded, PatternError> {
    let mut expanded = Expanded::default();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.text.push_str(before);
        let (name, remaining) = match after.strip_prefix('{') {
            Some(inside) => inside
                .split_once('}')
                .ok_or_else(|| PatternError::Unclosed { template: template.to_owned() })?,
            None => after.split_at(bare_name_length(after)),
        };
        if after.is_empty() || (name.is_empty() && !after.starts_with('{')) {
            // A lone dollar sign.
            expanded.text.push('$');
            rest = after;
            continue;
        }
        rest = remaining;
        let written = format!("${{{name}}}");
        let value = value(name, facts).map_err(|why| PatternError::Unknown {
            template: template.to_owned(),
            variable: written.clone(),
            why,
        })?;
        let value = value.unwrap_or_else(|| {
            expanded.warnings.push(format!("{template:?}: {written} is empty"));
            ""
        });
        expanded.text.push_str(value);
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// The length of the name after a bare `$`: one special character or digit, or letters, digits and underscores.
fn bare_name_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if b"*#$@!?-".contains(&first) || first.is_ascii_digit() => 1,
        _ => text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count(),
    }
}

/// The value of a name, `None` where there is none; the error is why it cannot be known.
fn value<'f>(name: &str, facts: &ClaimFacts<'f>) -> Result<Option<&'f str>, &'static str> {
    match name {
        "pvc.name" if facts.shares_secret => Err(SHARED_SECRET),
        "pvc.name" => facts.name.map(Some).ok_or(NO_NAME),
        "pvc.namespace" => Ok(Some(facts.namespace)),
        "pv.name" => facts.volume.map(Some).ok_or("the claim has no UID to name its volume after"),
        name => {
            let key = name.strip_prefix("pvc.annotations['").and_then(|rest| rest.strip_suffix("']"));
            Ok(key.and_then(|key| facts.annotations.get(key)).map(|value| &**value))
        }
    }
}
