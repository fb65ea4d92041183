//! What was measured, beside what it may be.

use std::time::Duration;

/// Figures in the order they were taken.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    what: String,
    figure: String,
    bar: String,
    within: bool,
}

impl Table {
    /// A figure that may not be more than its bar.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, bar: f64, unit: &str) {
        let within = figure <= bar;
        let row = Row {
            what: what.to_owned(),
            figure: format!("{figure:.2} {unit}"),
            bar: format!("≤ {bar} {unit}"),
            within,
        };
        self.add(row);
    }

    /// A figure that may not be less than its bar.
    pub(crate) fn at_least(&mut self, what: &str, figure: f64, bar: f64, unit: &str) {
        let within = figure >= bar;
        let row = Row {
            what: what.to_owned(),
            figure: format!("{figure:.2} {unit}"),
            bar: format!("≥ {bar} {unit}"),
            within,
        };
        self.add(row);
    }

    /// A figure without a bar.
    pub(crate) fn note(&mut self, what: &str, figure: String) {
        self.add(Row { what: what.to_owned(), figure, bar: String::new(), within: true });
    }

    /// Said at once as well: the table comes late.
    fn add(&mut self, row: Row) {
        eprintln!("{}: {}", row.what, row.figure);
        self.0.push(row);
    }

    pub(crate) fn print(&self) {
        println!("\n| what | figure | bar |\n|---|---|---|");
        for Row { what, figure, bar, within } in &self.0 {
            let beyond = if *within { "" } else { " **beyond**" };
            println!("| {what} | {figure}{beyond} | {bar} |");
        }
    }

    /// Whether every figure keeps to its bar.
    pub(crate) fn within(&self) -> bool {
        self.0.iter().all(|row| row.within)
    }
}

/// A value that this share of all are not above.
pub(crate) fn quantile(durations: &mut [Duration], share: f64) -> Duration {
    durations.sort_unstable();
    let last = durations.len().checked_sub(1).expect("a measurement");
    let last = u32::try_from(last).expect("not as many");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let index = (f64::from(last) * share).round() as usize;
    durations[index]
}

/// In milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
