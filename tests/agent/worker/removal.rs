//! Trees are removed, and nothing else.

use super::{create, done, failed, mounted, path, quota, request, shell};
use crate::pod::Pod;
use juicefs_sidecar::worker::{Kind, Task};

/// The names and contents of everything below a directory of the mount.
fn contents(pod: &Pod, directory: &str) -> String {
    let script = "cd \"$0\" && find . -mindepth 1 ! -path './.*' | sort \
                  && find . -type f ! -path './.*' | sort | xargs -d '\\n' -r cat";
    let output = pod.on_node(&["sh", "-c", script, &format!("{}/{directory}", pod.mountpoint("data"))]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_tree_goes_and_nothing_beside_above_or_behind_a_link_does() {
    let (pod, _mount, worker) = mounted();
    let siblings = ["pv-10", "pv-1x", "pv-1.y", "pv-1 z", "pv-", "pv", "PV-1", "pv-1%2f", "pv-1;x"];
    for name in siblings.iter().chain(&["pv-1"]) {
        assert_eq!(worker.ask(&request(&pod, create(&format!("team/{name}"), Some(1)))), done());
    }
    // Whoever has a volume can put links anywhere in it.
    shell(
        &pod,
        "for name in pv-10 pv-1x pv-1.y 'pv-1 z' pv- pv PV-1 pv-1%2f 'pv-1;x'; do mkdir \"team/$name/d\"; echo \"$name\" > \"team/$name/d/f\"; done
         mkdir -p team/pv-1/deep/deeper; echo x > team/pv-1/deep/deeper/f; echo x > 'team/pv-1/deep/a b'
         ln -s ../pv-10 team/pv-1/relative; ln -s ../../pv-10/d team/pv-1/deep/more; ln -s / team/pv-1/root
         mkdir -p team/pv-1/.trash; chmod 0 team/pv-1/deep; mkfifo team/pv-1/fifo; echo top > top",
    );
    let others =
        || -> Vec<String> { siblings.iter().map(|name| contents(&pod, &format!("team/{name}"))).collect() };
    let before = others();
    // Twice: a controller that was killed asks again.
    for _ in 0..2 {
        assert_eq!(worker.ask(&request(&pod, Task::Remove(path("team/pv-1")))), done());
    }
    let mut left: Vec<String> =
        contents(&pod, "").lines().filter(|name| name.matches('/').count() == 2).map(str::to_owned).collect();
    left.retain(|name| name.starts_with("./team/"));
    let mut expected: Vec<String> = siblings.iter().map(|name| format!("./team/{name}")).collect();
    expected.sort();
    left.sort();
    assert_eq!(left, expected);
    assert_eq!(others(), before);
    assert!(siblings.iter().all(|name| quota(&pod, &format!("/team/{name}")).is_some()));
    // An odd name is a name all the same.
    for name in ["pv-1%2f", "pv-1 z", "pv-1;x"] {
        assert_eq!(worker.ask(&request(&pod, Task::Remove(path(&format!("team/{name}"))))), done());
    }
    assert_eq!(contents(&pod, "team/pv-10"), before[0]);
    // Trash is respected: what was removed is there.
    let trash = pod.on_node(&["sh", "-c", &format!("ls {}/.trash/*", pod.mountpoint("data"))]);
    assert!(String::from_utf8_lossy(&trash.stdout).contains("-pv-1\n"), "{trash:?}");
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let (pod, _mount, worker) = mounted();
    shell(
        &pod,
        "mkdir -p victim/x shared; echo v > victim/x/f; ln -s victim dir; ln -s ../victim shared/a; ln -s /victim shared/b; echo f > file",
    );
    let before = contents(&pod, "");
    for led in ["dir", "dir/x", "shared/a", "shared/a/x", "shared/b/x", "file", "file/x"] {
        let (kind, message) = failed(worker.ask(&request(&pod, Task::Remove(path(led)))));
        assert_eq!(kind, Kind::NotADirectory, "{led}: {message}");
        let (kind, message) = failed(worker.ask(&request(&pod, create(led, Some(1)))));
        assert_eq!(kind, Kind::NotADirectory, "{led}: {message}");
    }
    // As the bytes of a request: the types of this test do not let them through.
    let request = serde_json::to_string(&request(&pod, Task::Remove(path("victim")))).unwrap();
    for hostile in [
        "",
        "/",
        ".",
        "..",
        "victim/..",
        "victim/../victim",
        "/victim",
        "victim/",
        "victim//x",
        "./victim",
        "victim\\u0000",
        ".trash",
        ".trash/x",
    ] {
        let bytes = request.replace("\"victim\"", &format!("\"{hostile}\""));
        assert_ne!(bytes, request);
        let mut stream = worker.connect();
        std::io::Write::write_all(&mut stream, format!("{bytes}\n").as_bytes()).unwrap();
        assert_eq!(failed(super::answer(stream)).0, Kind::Invalid, "{hostile:?}");
    }
    assert_eq!(contents(&pod, ""), before);
    assert_eq!(worker.ask(&super::request(&pod, Task::Remove(path("victim/x")))), done());
    assert!(!contents(&pod, "victim").contains('x'));
}
