//! `${.PVC.name}` and its like: in `pathPattern`, in other parameters, in mount options.

use super::{ClaimFacts, Expanded, NO_NAME, NO_NODE, PatternError, SelectedNode};
use crate::map::Map;

/// The directory that a `pathPattern` gives: relative, clean, never empty.
pub fn resolve_path(template: &str, facts: &ClaimFacts<'_>) -> Result<Expanded, PatternError> {
    let expansion = expand(template, facts)?;
    match unclean(&expansion.result.text) {
        Some(what) => Err(PatternError::Path {
            template: template.to_owned(),
            path: expansion.result.text,
            what,
            empty: expansion.empty,
        }),
        None => Ok(expansion.result),
    }
}

/// Mount options of a class, separated by commas: the class may write several, a value must not add one.
///
/// Else whoever may write a label could choose, say, the directory.
pub fn resolve_options(template: &str, facts: &ClaimFacts<'_>) -> Result<Expanded, PatternError> {
    let result = expand(template, facts)?.result;
    let commas = |text: &str| text.matches(',').count();
    if commas(&result.text) > commas(template) {
        return Err(PatternError::Options { template: template.to_owned() });
    }
    Ok(result)
}

/// Any other parameter of a class: the values as they are.
pub fn resolve_parameter(template: &str, facts: &ClaimFacts<'_>) -> Result<Expanded, PatternError> {
    Ok(expand(template, facts)?.result)
}

#[derive(Default)]
struct Expansion {
    result: Expanded,
    /// Variables without a value, as they are written.
    empty: Vec<String>,
}

/// Replaces every `${.PVC.…}`, `${.pvc.…}` and `${.node.…}` once; values are not looked through again.
fn expand(template: &str, facts: &ClaimFacts<'_>) -> Result<Expansion, PatternError> {
    let mut expansion = Expansion::default();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        expansion.result.text.push_str(before);
        let found = after.split_once('}').and_then(|(inside, rest)| Some((variable(inside)?, inside, rest)));
        let Some((field, inside, remaining)) = found else {
            expansion.result.text.push_str("${");
            expansion.result.warnings.push(format!(
                "{template:?}: a \"${{\" that begins neither \"${{.PVC.\" nor \"${{.node.\" is taken as it is"
            ));
            rest = after;
            continue;
        };
        rest = remaining;
        let written = format!("${{{inside}}}");
        let value = field.value(facts).map_err(|why| PatternError::Unknown {
            template: template.to_owned(),
            variable: written.clone(),
            why,
        })?;
        if value.is_empty() {
            expansion.result.warnings.push(format!("{template:?}: {written} is empty"));
            expansion.empty.push(written);
        }
        expansion.result.text.push_str(value);
    }
    expansion.result.text.push_str(rest);
    Ok(expansion)
}

enum Variable<'a> {
    Claim(&'a str),
    Node(&'a str),
}

fn variable(inside: &str) -> Option<Variable<'_>> {
    let claim = inside.strip_prefix(".PVC.").or_else(|| inside.strip_prefix(".pvc."));
    claim.map(Variable::Claim).or_else(|| inside.strip_prefix(".node.").map(Variable::Node))
}

impl Variable<'_> {
    /// The value, empty where there is none; the error is why it cannot be known.
    fn value<'f>(&self, facts: &ClaimFacts<'f>) -> Result<&'f str, &'static str> {
        match *self {
            Self::Claim("name") => facts.name.ok_or(NO_NAME),
            Self::Claim("namespace") => Ok(facts.namespace),
            Self::Claim(field) => Ok(entry(field, facts.labels, facts.annotations)),
            Self::Node(field) => match facts.node {
                SelectedNode::None => Ok(""),
                SelectedNode::Later => Err(NO_NODE),
                SelectedNode::Known(node) => Ok(match field {
                    "name" => &node.metadata.name,
                    "podCIDR" => &node.spec.pod_cidr,
                    field => entry(field, &node.metadata.labels, &node.metadata.annotations),
                }),
            },
        }
    }
}

/// `labels.<key>` or `annotations.<key>`; keys hold dots and slashes of their own.
fn entry<'f>(field: &str, labels: &'f Map, annotations: &'f Map) -> &'f str {
    let found = if let Some(key) = field.strip_prefix("labels.") {
        labels.get(key)
    } else if let Some(key) = field.strip_prefix("annotations.") {
        annotations.get(key)
    } else {
        None
    };
    found.map_or("", |value| value)
}

/// The longest name of a directory.
const LONGEST_NAME: usize = 255;

/// What is wrong with a path that must stay below its parent and name one directory in one way only.
fn unclean(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("is empty and would be the whole file system".into());
    }
    if path.starts_with('/') {
        return Some("begins with a slash".into());
    }
    if path.chars().any(char::is_control) {
        return Some("contains a control character".into());
    }
    if path.contains(',') {
        return Some("contains a comma, which no mount option can carry".into());
    }
    path.split('/').find_map(|component| match component {
        "" => Some("has an empty component (a double or trailing slash)".into()),
        "." | ".." => Some(format!("has the component {component:?}")),
        long if long.len() > LONGEST_NAME => {
            Some(format!("has a component longer than {LONGEST_NAME} bytes"))
        }
        _ => None,
    })
}
