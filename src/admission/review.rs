//! AdmissionReview requests as they arrive: lean, borrowed, parsed in one pass together with the object.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::pod::Text;

/// Versions of AdmissionReview that are understood; the answer is given in the version of the question.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];

/// An AdmissionReview with an object of type `O`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Review<'a, O> {
    /// `admission.k8s.io/v1` or `…/v1beta1`.
    #[serde(borrow, default)]
    pub api_version: Option<Text<'a>>,
    /// `AdmissionReview`.
    #[serde(borrow, default)]
    pub kind: Option<Text<'a>>,
    /// The question.
    #[serde(borrow, default = "none")]
    pub request: Option<Request<'a, O>>,
}

/// `request` of an AdmissionReview.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O> {
    /// Names the question; the answer repeats it.
    #[serde(borrow, default)]
    pub uid: Option<Text<'a>>,
    /// The kind of `object`.
    #[serde(borrow, default)]
    pub kind: Option<Kind<'a>>,
    /// Empty unless a subresource is asked for, `ephemeralcontainers` for example.
    #[serde(borrow, default)]
    pub sub_resource: Option<Text<'a>>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow, default)]
    pub operation: Option<Text<'a>>,
    /// Absent for cluster-wide objects.
    #[serde(borrow, default)]
    pub namespace: Option<Text<'a>>,
    /// Absent while the API server is still to generate it.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The object as it is to be; absent for deletions.
    #[serde(default = "none")]
    pub object: Option<O>,
}

/// Group, version and kind.
#[derive(Debug, Default, Deserialize)]
pub struct Kind<'a> {
    /// Empty for core objects.
    #[serde(borrow, default)]
    pub group: Option<Text<'a>>,
    /// For example `v1`.
    #[serde(borrow, default)]
    pub version: Option<Text<'a>>,
    /// For example `Pod`.
    #[serde(borrow, default)]
    pub kind: Option<Text<'a>>,
}

/// Stands for an object nobody reads.
#[derive(Debug, Default, Deserialize)]
pub struct Ignored {}

/// Why a body cannot be answered with a review at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAReview {
    /// Not JSON, or not even its outline fits.
    #[error("body is not an AdmissionReview: {0}: {1}; send what the API server sends to webhooks")]
    Malformed(String, String),
    /// Another kind of object.
    #[error("kind is {0:?}; send an AdmissionReview")]
    OtherKind(String),
    /// A version of AdmissionReview from the past or the future.
    #[error("apiVersion is {0:?}; list v1 in the webhook's admissionReviewVersions")]
    OtherVersion(String),
    /// Nothing to answer to.
    #[error("request.uid is missing; without it there is nothing to answer to")]
    NoUid,
}

impl<'a, O> Review<'a, O> {
    /// The version to answer in and the request, if this is a review that can be answered.
    pub fn question(&self) -> Result<(&'static str, &Request<'a, O>), NotAReview> {
        let kind = text(self.kind.as_ref());
        if kind != "AdmissionReview" {
            return Err(NotAReview::OtherKind(clipped(kind)));
        }
        let given = text(self.api_version.as_ref());
        let Some(version) = VERSIONS.into_iter().find(|version| *version == given) else {
            return Err(NotAReview::OtherVersion(clipped(given)));
        };
        match &self.request {
            Some(request) if !request.uid().is_empty() => Ok((version, request)),
            _ => Err(NotAReview::NoUid),
        }
    }
}

impl<O> Request<'_, O> {
    /// The request's UID; not empty in a request that [`Review::question`] returned.
    pub fn uid(&self) -> &str {
        text(self.uid.as_ref())
    }

    /// Whether `object` is of this core/v1 kind and no subresource.
    pub fn is_core(&self, kind: &str) -> bool {
        let Some(given) = &self.kind else { return false };
        text(given.group.as_ref()).is_empty()
            && text(given.version.as_ref()) == "v1"
            && text(given.kind.as_ref()) == kind
            && text(self.sub_resource.as_ref()).is_empty()
    }

    /// The operation, empty if it is missing.
    pub fn operation(&self) -> &str {
        text(self.operation.as_ref())
    }
}

/// Text that may be missing.
pub fn text<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map_or("", |text| text)
}

/// Parses a body in one pass.
pub fn parse<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Review<'a, O>, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Where a body that [`parse`] refused does not fit (`request.object.spec…`) and why, with line and column.
///
/// A second pass, so that the first one need not keep track of where it is.
pub fn complaint<'a, O: Deserialize<'a>>(body: &'a [u8]) -> (String, String) {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, Review<'a, O>>(&mut deserializer) {
        Ok(_) => ("review".to_owned(), "trailing characters after it".to_owned()),
        Err(error) => (error.path().to_string(), without_values(&error.into_inner().to_string())),
    }
}

/// The text of the object of a review that was parsed already, for what the lean view leaves out.
pub fn whole_object(body: &[u8]) -> Result<Cow<'_, str>, serde_json::Error> {
    let object = parse::<&RawValue>(body)?.request.and_then(|request| request.object);
    Ok(Cow::Borrowed(object.map_or("null", RawValue::get)))
}

/// The parser quotes the value it did not expect, and that may be a secret.
fn without_values(message: &str) -> String {
    let Some((before, rest)) =
        message.split_once("invalid type: ").or_else(|| message.split_once("invalid value: "))
    else {
        return message.to_owned();
    };
    let Some((found, after)) = rest.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let found = found.find(['"', '`']).and_then(|quote| found.get(..quote)).unwrap_or(found).trim();
    format!("{before}invalid type: {found}, expected {after}")
}

fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

fn none<T>() -> Option<T> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Pod;

    const REVIEW: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1",
        "kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"team-a",
        "object":{"metadata":{"generateName":"web-"},"spec":{"containers":[{"name":"app","ports":[{"containerPort":80}]}]}}}}"#;

    #[test]
    fn a_review_is_read_with_its_pod_in_one_pass() {
        let review = parse::<Pod<'_>>(REVIEW.as_bytes()).unwrap();
        let (version, request) = review.question().unwrap();
        assert_eq!(version, "admission.k8s.io/v1");
        assert_eq!(request.uid(), "u-1");
        assert!(request.is_core("Pod"));
        assert!(!request.is_core("Secret"));
        let pod = request.object.as_ref().unwrap();
        assert_eq!(&*pod.spec.containers[0].name, "app");
        assert!(matches!(pod.spec.containers[0].name.0, std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn the_older_version_is_answered_in_kind() {
        let body = REVIEW.replace("k8s.io/v1\"", "k8s.io/v1beta1\"");
        assert_eq!(
            parse::<Ignored>(body.as_bytes()).unwrap().question().unwrap().0,
            "admission.k8s.io/v1beta1"
        );
    }

    #[test]
    fn what_is_no_review_is_named() {
        let cases = [
            (REVIEW.replace("\"u-1\"", "\"\""), NotAReview::NoUid),
            (REVIEW.replace("\"u-1\"", "null"), NotAReview::NoUid),
            (REVIEW.replace("AdmissionReview", "Pod"), NotAReview::OtherKind("Pod".into())),
            (
                REVIEW.replace("k8s.io/v1\"", "k8s.io/v2\""),
                NotAReview::OtherVersion("admission.k8s.io/v2".into()),
            ),
            ("{}".into(), NotAReview::OtherKind(String::new())),
        ];
        for (body, expected) in cases {
            assert_eq!(parse::<Ignored>(body.as_bytes()).unwrap().question().err(), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_complaint_names_field_and_position_and_no_value() {
        let body = REVIEW.replace("\"app\"", "17").replace('\n', "");
        let (place, complaint) = complaint::<Pod<'_>>(body.as_bytes());
        assert_eq!(place, "request.object.spec.containers[0].name");
        assert!(complaint.starts_with("invalid type: integer"), "{complaint}");
        assert!(complaint.contains("line 1 column"), "{complaint}");

        let body = REVIEW.replace("[{\"containerPort\":80}]", "\"hunter2, expected\"").replace('\n', "");
        let (_, complaint) = super::complaint::<Pod<'_>>(body.as_bytes());
        assert!(complaint.starts_with("invalid type: string, expected a sequence"), "{complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }

    #[test]
    fn nulls_count_as_absent() {
        let body = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":null,
            "subResource":null,"operation":null,"namespace":null,"name":null,"dryRun":null,"object":null}}"#;
        let review = parse::<Pod<'_>>(body.as_bytes()).unwrap();
        let (_, request) = review.question().unwrap();
        assert!(request.object.is_none() && !request.is_core("Pod") && request.operation().is_empty());
    }

    #[test]
    fn the_whole_object_keeps_what_the_lean_view_leaves_out() {
        let text = whole_object(REVIEW.as_bytes()).unwrap();
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
        assert!(whole_object(b"{").is_err());
    }
}
