//! What the running program takes at most: its peak over its idle size, under whatever is sent to it.

use std::fs;

use hyper::body::Bytes;
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::{
    MACHINE,
    program::Program,
    recorded::{ENDPOINTS, directory, reviews},
    within,
};

/// Bytes of the largest body that is read.
const LARGEST: usize = 4 << 20;
/// Peers that send at once.
const SENDERS: usize = 64;
/// KiB that the program may take beyond its idle size.
const BOUND: u64 = 32 << 10;

/// A review of a pod that is as large as can be by repeating one piece of it.
fn filled(before: &str, piece: &str, after: &str) -> Bytes {
    let head = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","operation":"CREATE","namespace":"team-a","kind":{{"group":"","version":"v1","kind":"Pod"}},"object":{{{before}"#
    );
    let tail = format!("{after}}}}}}}");
    let times = (LARGEST - head.len() - tail.len()) / piece.len() - 1;
    let repeated = [piece].iter().cycle().take(times).copied().collect::<String>();
    Bytes::from([head.as_str(), &repeated, repeated_end(piece), &tail].concat())
}

/// The last piece, which nothing follows.
fn repeated_end(piece: &str) -> &str {
    piece.trim_end_matches(',')
}

/// A figure of the kernel's about a process, in KiB.
fn kibibytes(process: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

const STATUS: &str = r#""metadata":{"name":"a","labels":{"done.sidecar.juicefs.com/inject":"true"},"annotations":{"sidecar.juicefs.com/status":"{}"}},"#;
const VOLUME: &str = r#""volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"data"}}]"#;

#[tokio::test]
async fn no_body_makes_it_grow_beyond_its_bound() {
    let _machine = MACHINE.lock().await;
    let hostile = [
        ("containers", filled(r#""metadata":{"name":"a"},"spec":{"containers":["#, "{},", "]}")),
        ("zeros", filled(&format!(r#"{STATUS}"unknown":["#), "0,", "]")),
        (
            "args",
            filled(
                &format!(
                    r#""metadata":{{"name":"a"}},"spec":{{{VOLUME},"containers":[{{"name":"a","args":["#
                ),
                r#""","#,
                "]}]}",
            ),
        ),
        ("escapes", filled(r#""metadata":{"name":""#, r"\n", r#""}"#)),
        ("spaces", filled(r#""metadata":{"name":"a"}"#, " ", "")),
    ];
    for (name, body) in hostile {
        assert!(body.len() > LARGEST - 64 && body.len() <= LARGEST, "{name}: {}", body.len());
        let program = Program::start(&format!("memory-{name}"), &directory().join("cluster"), &[]);
        let (mut connection, _) = program.server.http1().await.unwrap();
        for (_, review) in reviews() {
            connection.post(ENDPOINTS[0].path(), review.into()).await.unwrap();
        }
        let idle = kibibytes(program.child.id(), "VmRSS");
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let (server, body) = (program.server.clone(), body.clone());
            senders.spawn(async move {
                // Answered with whatever there is to say, or not at all: what counts is what it costs.
                if let Ok((mut connection, _)) = server.http1().await {
                    let _ = connection.post(ENDPOINTS[0].path(), body).await;
                }
            });
        }
        within(120, senders.join_all()).await;
        let peak = kibibytes(program.child.id(), "VmHWM");
        println!("{name}: {} KiB over the idle {idle} KiB", peak.saturating_sub(idle));
        assert!(peak <= idle + BOUND, "{name}: {peak} KiB, idle {idle} KiB");
        program.signal(Signal::TERM);
        program.end();
    }
}
