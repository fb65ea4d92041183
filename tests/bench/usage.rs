//! What a process takes, as the kernel counts it.

use std::fs;

use rustix::process::Pid;

/// One of its memory figures (`VmRSS`, `RssFile`, `VmHWM`), in MiB.
pub(crate) fn memory(process: Pid, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("its memory");
    let kibibytes = line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB");
    f64::from(kibibytes.parse::<u32>().expect("a number")) / 1024.0
}

/// Seconds of processor time so far.
pub(crate) fn processor(process: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).expect("a process");
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(11).take(2);
    let ticks: u32 = fields.filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}
