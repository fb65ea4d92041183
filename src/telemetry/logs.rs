//! Logs on standard error: for people, or as JSON, one line each.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::admission::{Summary, response::single_line};

/// Characters of a text in a log line.
const TEXT_LENGTH: usize = 2048;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

/// Flags about logs, for every subcommand that runs for long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogArguments {
    /// How log lines look
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    /// Which lines are written: error, warn, info, debug or trace, also per module (`info,juicefs_sidecar=debug`)
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL", value_parser = filter)]
    log_level: String,
}

impl LogArguments {
    /// Sends log lines to standard error from here on; later calls change nothing.
    pub fn start(&self) {
        // What kube says of a watch that ended we say too, and once.
        let Ok(filter) = EnvFilter::try_new(format!("kube_runtime=off,kube_client=off,{}", self.log_level))
        else {
            return;
        };
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            // A closed standard error must not end the process.
            .log_internal_errors(false);
        // The only error is that there are logs already.
        let _ = match self.log_format {
            LogFormat::Human => {
                builder.with_ansi(io::stderr().is_terminal()).with_target(false).compact().try_init()
            }
            LogFormat::Json => builder.json().flatten_event(true).with_target(false).try_init(),
        };
    }
}

fn filter(text: &str) -> Result<String, String> {
    let text = if text.is_empty() { "info" } else { text };
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The one line of a decision, at the level its code has.
pub fn decision(endpoint: &'static str, summary: &Summary, duration: Duration) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                $level,
                endpoint,
                code = summary.code.as_str(),
                uid = line(&summary.uid),
                namespace = line(&summary.namespace),
                name = line(&summary.name),
                operation = line(&summary.operation),
                dry_run = summary.dry_run,
                duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
                "{}",
                line(&summary.message)
            )
        };
    }
    match summary.code.kind().level() {
        tracing::Level::ERROR => line!(tracing::Level::ERROR),
        tracing::Level::WARN => line!(tracing::Level::WARN),
        _ => line!(tracing::Level::INFO),
    }
}

/// Text of a request cannot be trusted not to look like another line.
fn line(text: &str) -> String {
    single_line(text, TEXT_LENGTH)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::outcome::Code;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(summary: &Summary) -> serde_json::Value {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            decision("inject", summary, Duration::from_micros(19));
        });
        let bytes = buffer.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_decision_is_one_line_with_the_level_of_its_code() {
        let mut summary = Summary::new(Code::SecretMissing, "no\nsecret".to_owned());
        summary.namespace = "team-a".to_owned();
        summary.dry_run = true;
        let line = logged(&summary);
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["code"], "secret-missing");
        assert_eq!(line["namespace"], "team-a");
        assert_eq!(line["dry_run"], true);
        assert_eq!(line["duration_us"], 19);
        assert_eq!(line["message"], "no secret");

        summary.code = Code::Injected;
        assert_eq!(logged(&summary)["level"], "INFO");
        summary.code = Code::Internal;
        assert_eq!(logged(&summary)["level"], "ERROR");
    }
}
