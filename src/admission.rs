//! Admission: reviews in, reviews out.
//!
//! [`answer`] is the whole of it and does no I/O: the bytes of a question, the endpoint it was sent to and an
//! [`Engine`] give the bytes of the answer. The server ([`serve`]) and the command line call the same function, so
//! that they cannot disagree.

mod body;
pub mod connections;
pub mod http;
pub mod limits;
pub mod pods;
mod port;
pub mod reload;
pub mod response;
pub mod review;
pub mod secrets;
pub mod serve;
mod shares;
mod stalled;
pub mod state;
pub mod timeout;
pub mod turned_away;
pub mod volumes;

use serde::Deserialize;

use crate::{
    inject::{Decision, Engine, Family},
    outcome::{Code, Kind, Miss, Refusal},
};
use response::render;
use review::{Ignored, NotAReview, Request, complaint, parse, text};

/// What a webhook configuration can send reviews to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Creations of pods, to be given their sidecars.
    Inject(Family),
    /// User secrets, to be checked.
    ValidateSecret,
    /// Static volumes, to be checked.
    ValidateVolume,
}

impl Endpoint {
    /// Every endpoint there is.
    pub const ALL: [Self; 4] = [
        Self::Inject(Family::Node),
        Self::Inject(Family::Serverless),
        Self::ValidateSecret,
        Self::ValidateVolume,
    ];

    /// The path, as in the webhook configurations of the Go driver.
    pub fn path(self) -> &'static str {
        match self {
            Self::Inject(Family::Node) => "/juicefs/inject-v1-pod",
            Self::Inject(Family::Serverless) => "/juicefs/serverless/inject-v1-pod",
            Self::ValidateSecret => "/juicefs/validate-secret",
            Self::ValidateVolume => "/juicefs/validate-pv",
        }
    }

    /// The endpoint in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inject(Family::Node) => "inject",
            Self::Inject(Family::Serverless) => "inject-serverless",
            Self::ValidateSecret => "validate-secret",
            Self::ValidateVolume => "validate-pv",
        }
    }
}

/// An answer as it is sent, with what there is to say about it in a log.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status: 200 for every review, allowed or not.
    pub status: u16,
    /// A review as JSON, or plain text for what could not be answered with one.
    pub body: Vec<u8>,
    /// What it was about and what came of it.
    pub summary: Summary,
    /// What was not known; whoever can look should, and ask again.
    pub misses: Vec<Miss>,
}

/// What a log line says about an answer; nothing of it is confidential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The machine code.
    pub code: Code,
    /// What was done, or what is wrong.
    pub message: String,
    /// The request's UID; empty if there was none.
    pub uid: String,
    /// Empty for cluster-wide objects.
    pub namespace: String,
    /// The object's name, or what it will be generated from.
    pub name: String,
    /// `CREATE` and its like.
    pub operation: String,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

impl Answer {
    /// Whether the body is a review; otherwise it is plain text.
    pub fn is_review(&self) -> bool {
        self.status == 200
    }

    /// An answer to what is not a review: plain text, and a status that is not 200.
    fn plain(status: u16, code: Code, message: String) -> Self {
        let body = format!("{message}\n").into_bytes();
        Self { status, body, summary: Summary::new(code, message), misses: Vec::new() }
    }

    /// The answer when the code that should have given one panicked.
    pub fn panicked() -> Self {
        Self::plain(
            Kind::Failure.status_code(),
            Code::Internal,
            "the webhook failed on this request; its log says where".to_owned(),
        )
    }
}

impl Summary {
    /// A summary of something that is not a request.
    pub fn new(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            uid: String::new(),
            namespace: String::new(),
            name: String::new(),
            operation: String::new(),
            dry_run: false,
        }
    }

    fn of<O>(request: &Request<'_, O>, name: &str, decision: Decision) -> Self {
        Self {
            code: decision.code,
            message: decision.message,
            uid: request.uid().to_owned(),
            namespace: text(request.namespace.as_ref()).to_owned(),
            name: name.to_owned(),
            operation: request.operation().to_owned(),
            dry_run: request.dry_run.unwrap_or_default(),
        }
    }
}

/// Answers one review: exactly the bytes the webhook sends.
///
/// Never fails and does not panic on any body: what cannot be read is answered with a refusal that names the field,
/// or with plain text and HTTP 400 where not even the request's UID is to be found.
pub fn answer(body: &[u8], endpoint: Endpoint, engine: &Engine<'_>) -> Answer {
    match endpoint {
        Endpoint::Inject(family) => pods::answer(body, family, engine),
        Endpoint::ValidateSecret => secrets::answer(body),
        Endpoint::ValidateVolume => volumes::answer(body, engine),
    }
}

/// Parses a body with an object of type `O` and answers with what `decide` makes of the request.
///
/// `unwanted` decides on objects that this endpoint does not read at all; of others, one that cannot be parsed is an
/// error. `decide` also returns the name to log.
fn answer_with<'a, O: Deserialize<'a>>(
    body: &'a [u8],
    unwanted: fn(&Request<'_, Ignored>) -> Option<Decision>,
    decide: impl FnOnce(&Request<'a, O>) -> (String, Decision),
) -> Answer {
    let Ok(review) = parse::<O>(body) else {
        return unreadable::<O>(body, unwanted);
    };
    match review.question() {
        Ok((version, request)) => {
            let (name, decision) = decide(request);
            finish(version, request, &name, decision)
        }
        Err(problem) => no_review(&problem),
    }
}

/// The answer to a body whose outline or object does not parse: a review if at least the outline does.
fn unreadable<'a, O: Deserialize<'a>>(
    body: &'a [u8],
    unwanted: fn(&Request<'_, Ignored>) -> Option<Decision>,
) -> Answer {
    let Ok(review) = parse::<Ignored>(body) else {
        let (place, what) = complaint::<O>(body);
        return no_review(&NotAReview::Malformed(place, what));
    };
    match review.question() {
        Ok((version, request)) => {
            let decision = unwanted(request).unwrap_or_else(|| {
                let (place, what) = complaint::<O>(body);
                let remedy = "correct this field; it is not what the API of Kubernetes says it is, or larger than \
                              any real one";
                Refusal::new(Code::Unreadable, place, what, remedy).into()
            });
            finish(version, request, text(request.name.as_ref()), decision)
        }
        Err(problem) => no_review(&problem),
    }
}

fn no_review(problem: &NotAReview) -> Answer {
    Answer::plain(Kind::Unreadable.status_code(), Code::Unreadable, problem.to_string())
}

/// Puts a decision into bytes; our own failure is an HTTP error, so that `failurePolicy` decides.
fn finish<O>(version: &'static str, request: &Request<'_, O>, name: &str, mut decision: Decision) -> Answer {
    let misses = std::mem::take(&mut decision.misses);
    let rendered = if decision.code.kind() == Kind::Failure {
        Err(decision.message.clone())
    } else {
        render(version, request.uid(), &decision)
            .map_err(|error| format!("answer cannot be written: {error}"))
    };
    match rendered {
        Ok(body) => Answer { status: 200, body, summary: Summary::of(request, name, decision), misses },
        Err(message) => {
            let summary = Summary::of(request, name, Decision::new(Code::Internal, message.clone()));
            Answer { summary, ..Answer::plain(Kind::Failure.status_code(), Code::Internal, message) }
        }
    }
}

#[cfg(test)]
mod tests;
