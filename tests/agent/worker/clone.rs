//! Trees are cloned, all of them or not at all.

use super::{LIMIT, create, done, failed, file_system, mounted, path, request, shell};
use juicefs_sidecar::worker::{Edition, FileSystem, Kind, Request, Task};

fn clone(from: &str, to: &str) -> Task {
    Task::Clone { from: path(from), to: path(to) }
}

#[test]
fn a_clone_is_what_its_source_was() {
    let (pod, _mount, worker) = mounted();
    for name in ["team/pv-1", "to"] {
        assert_eq!(worker.ask(&request(&pod, create(name, None))), done());
    }
    shell(
        &pod,
        "cd team/pv-1; mkdir -p deep/empty 'a b'; echo x > deep/f; echo y > 'a b/é'; chmod 750 deep; chown 1000:2000 deep/f
         chmod 4711 'a b/é'; ln -s ../f deep/link; ln -s /nowhere gone; mkfifo fifo
         head -c 9000000 /dev/urandom > large; truncate -s 5G hole; touch -d 2001-02-03T04:05:06Z deep/f",
    );
    // All but the named pipe: the client leaves out what is neither file, directory nor link.
    let look = "find . -type d -printf '%P d %m %U %G\n' -o -type f -printf '%P f %m %U %G %s %T@\n' -o -type l -printf '%P l %l\n' | sort; md5sum large deep/f 'a b/é'";
    let source = shell(&pod, &format!("cd team/pv-1; {look}"));
    assert_eq!(failed(worker.ask(&request(&pod, Task::Find(path("to/pv-2"))))).0, Kind::Missing);
    assert_eq!(worker.ask(&request(&pod, clone("team/pv-1", "to/pv-2"))), done());
    assert_eq!(worker.ask(&request(&pod, Task::Find(path("to/pv-2")))), done());
    assert_eq!(shell(&pod, &format!("cd to/pv-2; {look}")), source);
    assert_eq!(shell(&pod, "ls to/pv-2 | grep fifo || echo none"), "none\n");
    // Each goes its own way from here on.
    shell(
        &pod,
        "echo changed > to/pv-2/deep/f; rm team/pv-1/large; dd if=/dev/zero of=to/pv-2/large bs=1 count=1 conv=notrunc status=none",
    );
    assert_eq!(shell(&pod, "cat team/pv-1/deep/f"), "x\n");
    assert_eq!(shell(&pod, "stat -c %s to/pv-2/large"), "9000000\n");
    // Again: what is there is left as it is.
    let (kind, message) = failed(worker.ask(&request(&pod, clone("team/pv-1", "to/pv-2"))));
    assert_eq!(kind, Kind::Exists, "{message}");
    assert_eq!(shell(&pod, "cat to/pv-2/deep/f"), "changed\n");
}

#[test]
fn what_is_not_there_or_leads_elsewhere_is_not_cloned() {
    let (pod, _mount, worker) = mounted();
    shell(
        &pod,
        "mkdir -p victim/x shared; echo v > victim/x/f; ln -s ../victim shared/a; ln -s victim dir; echo f > file",
    );
    let before = shell(&pod, "find . ! -path './.*' | sort");
    for (from, to, expected) in [
        ("missing", "new", Kind::Missing),
        ("victim", "missing/new", Kind::Missing),
        ("dir", "new", Kind::NotADirectory),
        ("shared/a", "new", Kind::NotADirectory),
        ("shared/a/x", "new", Kind::NotADirectory),
        ("file", "new", Kind::NotADirectory),
        ("victim", "shared/a/new", Kind::NotADirectory),
        ("victim", "shared/a", Kind::Exists),
        ("victim", "file", Kind::Exists),
    ] {
        let (kind, message) = failed(worker.ask(&request(&pod, clone(from, to))));
        assert_eq!(kind, expected, "{from} {to}: {message}");
    }
    for led in ["dir", "shared/a/x", "file"] {
        assert_eq!(failed(worker.ask(&request(&pod, Task::Find(path(led))))).0, Kind::NotADirectory, "{led}");
    }
    let enterprise =
        FileSystem { edition: Edition::Enterprise, configuration: Some("{}".into()), ..file_system("vol") };
    let asked = Request { file_system: enterprise, task: clone("victim", "new"), limit: LIMIT };
    assert_eq!(failed(worker.ask(&asked)).0, Kind::Unsupported);
    assert_eq!(shell(&pod, "find . ! -path './.*' | sort"), before);
}

#[test]
fn a_clone_that_is_called_off_is_not_seen() {
    let (pod, _mount, worker) = mounted();
    shell(&pod, "mkdir src; cd src; for d in $(seq 20); do mkdir $d; (cd $d; touch $(seq 300)); done");
    let whole = shell(&pod, "find src | wc -l");
    for before in 0..20 {
        let asked = worker.begin(&request(&pod, clone("src", "new")));
        crate::process::wait_until("the clone to begin, or to be over", || {
            pod.log("worker").matches("Start to clone").count() > before
        });
        drop(asked);
        crate::process::wait_until("the client to be gone", || worker.descendants().is_empty());
        let seen = shell(&pod, "if [ -e new ]; then find new | wc -l; rm -r new; else echo none; fi");
        assert!(seen == "none\n" || seen == whole, "{seen} of {whole}");
        if seen == "none\n" {
            break;
        }
    }
    assert_eq!(worker.ask(&request(&pod, clone("src", "new"))), done());
    assert_eq!(shell(&pod, "find new | wc -l"), whole);
}
