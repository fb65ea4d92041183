//! The program under load: TLS, keep-alive, as many connections as an API server keeps; loopback only.
//!
//! `cargo bench --bench load` starts the release binary over the recorded cluster and prints requests per second,
//! latencies and memory, first paced at 200 requests per second, then as fast as it goes. `-- --seconds 30
//! --connections 25` changes how long each part takes, and how. Client and server share the machine, and the program writes its
//! log line per decision, as it would in production. Fails on any answer but the expected one.

#![expect(clippy::expect_used, reason = "what cannot be set up has failed")]

#[path = "../webhook/client.rs"]
mod client;
#[path = "../webhook/recorded.rs"]
mod recorded;
mod usage;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use client::Server;
use hyper::body::Bytes;
use juicefs_sidecar::admission::answer;
use recorded::{ENDPOINTS, directory, reviews, state};
use rustix::process::Pid;
use serde_json::Value;
use usage::{memory, processor};

type Failure = Box<dyn Error + Send + Sync>;

/// Requests per second of the paced part.
const PACE: u32 = 200;
/// Bodies of more bytes are left out of the mix: one is worth a hundred others.
const SMALL: usize = 100_000;

/// A question and its answer.
struct Exchange {
    body: Bytes,
    answer: Vec<u8>,
}

/// A started program, ended with its owner.
struct Program {
    child: Child,
    directory: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Whether it could be killed and swept away changes no figure.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Program {
    fn start() -> Result<(Self, Server), Failure> {
        let own = std::env::temp_dir().join(format!("juicefs-sidecar-load-{}", std::process::id()));
        fs::create_dir_all(&own)?;
        let (ca, log) = (own.join("ca.crt"), own.join("log"));
        let child = Command::new(env!("CARGO_BIN_EXE_juicefs-sidecar"))
            .args(["webhook", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--log-format=json"])
            .arg("--manifests")
            .arg(directory().join("cluster"))
            .arg("--ca-out")
            .arg(&ca)
            .env_remove("RUST_LOG")
            .stderr(Stdio::from(fs::File::create(&log)?))
            .spawn()?;
        let program = Self { child, directory: own };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(address) = listening(&log)? {
                return Ok((
                    program,
                    Server { address: address.parse()?, ca: fs::read_to_string(&ca)?, identity: None },
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("it does not start: {}", fs::read_to_string(&log)?).into())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

fn listening(log: &Path) -> Result<Option<String>, Failure> {
    for line in fs::read_to_string(log)?.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if line["message"] == "listening" {
            return Ok(line["address"].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}

/// One connection's latencies; `pause` lies between the starts of two requests.
async fn ask(
    server: Server,
    exchanges: Arc<Vec<Exchange>>,
    first: usize,
    pause: Option<Duration>,
    until: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut connection = server.http1().await?.0;
    let mut latencies = Vec::with_capacity(1 << 16);
    let mut ticks = pause.map(tokio::time::interval);
    for exchange in exchanges.iter().cycle().skip(first) {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let started = Instant::now();
        if started >= until {
            break;
        }
        let response = connection.post(ENDPOINTS[0].path(), exchange.body.clone()).await?;
        latencies.push(started.elapsed());
        if response.status() != 200 || response.body() != exchange.answer.as_slice() {
            return Err(format!("{}: {}", response.status(), String::from_utf8_lossy(response.body())).into());
        }
    }
    Ok(latencies)
}

struct Options {
    seconds: u64,
    connections: u32,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { seconds: 10, connections: 25 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => options.seconds = arguments.next().ok_or("--seconds needs a number")?.parse()?,
            "--connections" => {
                options.connections = arguments.next().ok_or("--connections needs a number")?.parse()?;
            }
            // Cargo adds it.
            "--bench" => {}
            other => {
                return Err(format!("{other}: not known; --seconds and --connections are").into());
            }
        }
    }
    // Bounded, whatever is asked for.
    options.seconds = options.seconds.clamp(1, 300);
    options.connections = options.connections.clamp(1, 200);
    Ok(options)
}

async fn part(
    title: &str,
    program: &Program,
    server: &Server,
    exchanges: &Arc<Vec<Exchange>>,
    options: &Options,
    pause: Option<Duration>,
) -> Result<(), Failure> {
    let (started, before) = (Instant::now(), processor(program.pid()));
    let until = started + Duration::from_secs(options.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..options.connections {
        let first = usize::try_from(index)? % exchanges.len();
        tasks.spawn(ask(server.clone(), Arc::clone(exchanges), first, pause, until));
    }
    let mut latencies = Vec::new();
    while let Some(asked) = tasks.join_next().await {
        latencies.extend(asked??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let count = u32::try_from(latencies.len())?;
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let index = (f64::from(count.saturating_sub(1)) * share) as usize;
        latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    let rate = f64::from(count) / seconds;
    let busy = processor(program.pid()) - before;
    println!(
        "{title}: {count} reviews in {seconds:.1} s over {} connections, all as expected",
        options.connections
    );
    println!(
        "  {rate:>8.0} requests/s   latency ms: p50 {:.2}  p99 {:.2}  max {:.2}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!(
        "  server: {:.0} µs of processor time per review, {:.2} cores; resident memory {:.1} MiB",
        busy / f64::from(count) * 1e6,
        busy / seconds,
        memory(program.pid(), "VmRSS")
    );
    Ok(())
}

async fn run() -> Result<(), Failure> {
    let options = options()?;
    let state = state();
    let exchange = |body: Vec<u8>| Exchange {
        answer: answer(&body, ENDPOINTS[0], &state.engine()).body,
        body: body.into(),
    };
    let small = reviews().into_iter().map(|(_, body)| body).filter(|body| body.len() < SMALL);
    let exchanges: Arc<Vec<Exchange>> = Arc::new(small.map(exchange).collect());
    let (program, server) = Program::start()?;
    println!("resident memory after the start: {:.1} MiB", memory(program.pid(), "VmRSS"));
    let pause = Duration::from_secs(1) * options.connections / PACE;
    part("paced at 200/s", &program, &server, &exchanges, &options, Some(pause)).await?;
    part("as fast as it goes", &program, &server, &exchanges, &options, None).await?;
    println!("resident memory at the end: {:.1} MiB", memory(program.pid(), "VmRSS"));
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
