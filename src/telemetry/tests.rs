//! `docs/metrics.md` lists what there is, all of it and nothing else.

use std::collections::BTreeSet;

use http::StatusCode;
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{ControllerMetrics, Metrics};
use crate::{
    admission::turned_away::TurnedAway,
    controller::{events::Reason, problem::Problem},
    outcome::Code,
};

const PAGE: &str = include_str!("../../docs/metrics.md");

/// What the first column of a table under a heading names in code font; tables are told apart by their header.
fn listed(heading: &str, header: &str) -> BTreeSet<String> {
    let section = PAGE.split_once(heading).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let table = section.split_once(header).unwrap().1.split("\n\n").next().unwrap();
    let cells = table.lines().skip(2).map(|row| row.split('|').nth(1).unwrap());
    let names: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let distinct: BTreeSet<_> = names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(names.len(), distinct.len(), "one is listed twice: {names:?}");
    distinct
}

/// The metrics of a scrape, by the names that their series have.
fn scraped(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE juicefs_sidecar_")?.split_once(' '));
    let series = types.map(|(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    });
    series.collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_metric_is_on_the_page() {
    let webhook = Metrics::new();
    webhook.cached([("Node", 1)], ["Node"]);
    webhook.api_calls.count("get", Some(StatusCode::OK));
    assert_eq!(listed("## Webhook", "| metric |"), scraped(&webhook.render()));

    let mut registry = Registry::with_prefix("juicefs_sidecar");
    let controller = ControllerMetrics::register(&mut registry);
    controller.expires("serving", 1);
    webhook.api_calls.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert_eq!(listed("## Controller", "| metric |"), scraped(&text));
}

#[test]
fn every_code_reason_and_outcome_is_on_the_page() {
    assert_eq!(listed("## Webhook", "| code |"), names(Code::ALL.iter().map(|code| code.as_str())));
    assert_eq!(listed("## Webhook", "| reason |"), names(TurnedAway::ALL.map(TurnedAway::label)));
    assert_eq!(listed("## Controller", "| outcome of a round |"), names(Problem::OUTCOMES));
    assert_eq!(listed("## Events", "| reason |"), names(Reason::ALL.map(Reason::name)));
}
