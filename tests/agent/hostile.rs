//! Peers that mean no good.

use crate::pod::{NOBODY, Pod, agent};
use crate::process::wait_until;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType,
    },
};
use std::{
    fs::{self, File, Permissions},
    io::{IoSlice, Read},
    mem::MaybeUninit,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

fn connect(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let address = SocketAddrUnix::new(path).unwrap();
    wait_until("a place in the queue", || rustix::net::connect(&socket, &address).is_ok());
    socket
}

/// Sends bytes with some descriptors; the peer may have hung up already.
fn send(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
    _ = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
}

/// What the peer answers before it hangs up.
fn answer(socket: OwnedFd) -> String {
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = vec![0; 8192];
    let length = (&stream).read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

fn open_descriptors(pid: rustix::process::Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count()
}

/// Everything at once, at one socket.
fn attack(path: &Path, kind: SocketType) {
    let null = File::open("/dev/null").unwrap();
    let deposit = |generation: &str, setting: &str| {
        format!(
            r#"{{"ask":"deposit","mount":{{"generation":"{generation}","mountpoint":"/","setting":"{setting}"}}}}"#
        )
    };
    let messages: Vec<Vec<u8>> = vec![
        b"garbage".into(),
        b"\0".into(),
        b"{".into(),
        b"[]".into(),
        br#"{"ask":"fetch""#.into(),
        br#"{"ask":"conquer"}"#.into(),
        br#"{"ask":"look","wish":{"statfs":4294967296}}"#.into(),
        vec![b'['; 4000],
        vec![b' '; 60_000],
        deposit("", "").into(),
        deposit("x", &"00".repeat(104)).into(),
        deposit("x", "zz").into(),
    ];
    for message in &messages {
        for count in [0, 1, 2, 3, 10, 200] {
            let socket = connect(path, kind);
            send(&socket, message, &vec![null.as_fd(); count]);
        }
    }
    let mut state = 0x5eed_u64;
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        send(&connect(path, kind), &bytes, &[]);
    }
    // Many that say nothing, all at the same time.
    let silent: Vec<OwnedFd> = (0..100).map(|_| connect(path, kind)).collect();
    drop(silent);
}

#[test]
fn hostile_peers_harm_nobody() {
    let pod = Pod::on_sqlite();
    pod.format();
    let mut holder = pod.holder();
    let mut runner = pod.runner();
    let application = pod.application("busy");
    let run = pod.directory.join("run/data");
    let pids = [holder.pid(), runner.pid().unwrap()];
    let before = pids.map(open_descriptors);
    attack(&run.join("hold.sock"), SocketType::SEQPACKET);
    attack(&run.join("client/run.sock"), SocketType::SEQPACKET);
    attack(&run.join("client/comm.sock"), SocketType::STREAM);
    wait_until("connections to be closed", || {
        pids.map(open_descriptors).iter().zip(before).all(|(now, then)| *now <= then + 1)
    });
    assert!(holder.ended().is_none() && runner.container.ended().is_none());
    // Both still have all they need: the whole client container dies, then the holder, then the client.
    runner.kill();
    runner = pod.runner();
    holder.kill();
    let _holder = pod.holder();
    runner.kill_client();
    pod.wait_until_ready();
    assert_eq!(pod.layers("data"), 1);
    let report = application.finish(&pod);
    assert_eq!(report.errors, [""; 0]);
}

#[test]
fn a_deposit_of_something_else_is_refused() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let _runner = pod.runner();
    let path = pod.directory.join("run/data/hold.sock");
    let ask = |question: &str, descriptors: &[BorrowedFd<'_>]| {
        let socket = connect(&path, SocketType::SEQPACKET);
        send(&socket, question.as_bytes(), descriptors);
        answer(socket)
    };
    let fetched: serde_json::Value = serde_json::from_str(&ask(r#"{"ask":"fetch"}"#, &[])).unwrap();
    assert!(fetched["mount"]["setting"].as_str().unwrap().len() > 100);
    let mut deposit = serde_json::json!({"ask": "deposit", "mount": fetched["mount"]});
    let (null, fuse) = (File::open("/dev/null").unwrap(), File::open("/dev/fuse").unwrap());
    for descriptors in
        [&[][..], &[null.as_fd()], &[null.as_fd(), null.as_fd()], &[fuse.as_fd(), null.as_fd()]]
    {
        let said = ask(&deposit.to_string(), descriptors);
        assert!(said.contains("error"), "{said}");
    }
    deposit["mount"]["generation"] = "another".into();
    assert!(ask(&deposit.to_string(), &[]).contains(r#""gone":true"#));
    assert!(ask(r#"{"ask":"adopt"}"#, &[]).contains("error"));
    pod.wait_until_ready();
}

#[test]
fn other_users_are_kept_out() {
    let pod = Pod::on_sqlite();
    pod.format();
    let _holder = pod.holder();
    let _runner = pod.runner();
    let path = pod.directory.join("run/data/hold.sock");
    let run = pod.path("run");
    // The agent as the test has it may lie where other users cannot go.
    let copy = PathBuf::from(pod.path("agent-for-all"));
    fs::copy(agent(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let asks_as = |uid: u32| {
        let uid = uid.to_string();
        let user = ["--reuid", &uid, "--regid", &uid, "--clear-groups", copy.to_str().unwrap()];
        let output = Command::new("setpriv").args(user).args(["ready", "--run-dir", &run]).output().unwrap();
        output.status.code()
    };
    assert_eq!(asks_as(NOBODY), Some(0));
    assert_eq!(asks_as(1000), Some(1), "the mode of the socket keeps others out");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(asks_as(1000), Some(1), "the holder itself keeps others out");
    let refused = |message: &String| message == "refused a peer that runs as another user";
    assert!(pod.messages("holder").iter().any(refused));
}
