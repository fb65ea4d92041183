//! Real file systems: a redis, the real client, and the workers as they run beside the controller.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use serde_json::{Value, json};

/// The password of redis, which is nobody's business.
pub(crate) const PASSWORD: &str = "pass-of-redis";

/// Where file systems are made, and who makes them.
pub(crate) struct FileSystems {
    directory: PathBuf,
    port: u16,
    /// They end when the pipe to it closes, as it does when this process ends.
    _keeper: Child,
}

/// The ones that tests share.
pub(crate) fn shared() -> &'static FileSystems {
    static SHARED: OnceLock<FileSystems> = OnceLock::new();
    SHARED.get_or_init(FileSystems::start)
}

/// The packaged client.
fn juicefs() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/juicefs/bin/juicefs");
    let path = env::var_os("JUICEFS_BIN").map_or(here, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run tests/tools/install-juicefs", path.display());
    path
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

impl FileSystems {
    fn start() -> Self {
        let directory = env::temp_dir().join(format!("file-systems-{}", std::process::id()));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut keeper =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/file-systems"))
                .arg(&directory)
                .arg(port.to_string())
                .args([juicefs(), env!("CARGO_BIN_EXE_jfs-agent").into()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "no redis, or no worker; the reason is above");
        Self { directory, port, _keeper: keeper }
    }

    /// Where the worker listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Where the worker of the enterprise edition listens.
    pub(crate) fn enterprise_socket(&self) -> PathBuf {
        self.directory.join("enterprise")
    }

    /// How the enterprise client was run: a line each.
    pub(crate) fn enterprise_commands(&self) -> String {
        fs::read_to_string(self.directory.join("enterprise-client.log")).unwrap_or_default()
    }

    /// Everything that the worker has logged.
    pub(crate) fn worker_log(&self) -> String {
        fs::read_to_string(self.directory.join("worker.log")).unwrap()
    }

    /// One that is not made yet.
    pub(crate) fn one(&self) -> FileSystem {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = format!("redis://:{PASSWORD}@127.0.0.1:{}/{number}", self.port);
        FileSystem {
            address,
            directory: self.directory.join(format!("fs-{number}")),
            store: self.directory.join(format!("store-{number}")),
        }
    }
}

/// One file system.
pub(crate) struct FileSystem {
    /// The address of its metadata.
    pub(crate) address: String,
    directory: PathBuf,
    store: PathBuf,
}

impl FileSystem {
    /// The user secret that leads to it, and may make it.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
            "stringData": {"name": "jfs", "metaurl": self.address, "storage": "file",
                           "bucket": format!("{}/", self.store.display()), "trash-days": "0"}})
    }

    /// The same file system under another address.
    pub(crate) fn by_another_way(&self) -> Self {
        let address = self.address.replace("127.0.0.1", "localhost");
        Self { address, directory: self.directory.clone(), store: self.store.clone() }
    }

    /// Makes it, without anybody's help.
    pub(crate) fn format(&self) {
        let bucket = format!("--bucket={}/", self.store.display());
        let words =
            ["format", "--no-update", "--storage=file", &bucket, "--trash-days=0", &self.address, "jfs"];
        stdout(&Command::new(juicefs()).args(words).output().unwrap());
    }

    fn sync(&self, from: &str, to: &str) {
        let words = ["--no-agent", "sync", "--dirs", from, to];
        stdout(&Command::new(juicefs()).args(words).env("vol", &self.address).output().unwrap());
    }

    /// Writes a file, whose path is from the root.
    pub(crate) fn write(&self, path: &str) {
        let local = self.directory.join("in");
        let file = local.join(path.rsplit_once('/').map_or(path, |(_, name)| name));
        fs::create_dir_all(&local).unwrap();
        fs::write(file, path).unwrap();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.sync(&format!("{}/", local.display()), &format!("jfs://vol/{parent}/"));
        fs::remove_dir_all(local).unwrap();
    }

    /// Every directory and file there is, from the root; directories end with a slash. Files hold their own paths.
    pub(crate) fn tree(&self) -> BTreeSet<String> {
        let contents = self.contents().into_iter();
        contents
            .map(|(name, content)| {
                assert!(name.ends_with('/') || content == name, "what was written to {name}: {content}");
                name
            })
            .collect()
    }

    /// As [`Self::tree`], with what is in the files.
    pub(crate) fn contents(&self) -> BTreeMap<String, String> {
        fn walk(directory: &Path, base: &Path, found: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    walk(&path, base, found);
                    found.insert(name + "/", String::new());
                } else {
                    found.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        let local = self.directory.join("out");
        fs::create_dir_all(&local).unwrap();
        self.sync("jfs://vol/", &format!("{}/", local.display()));
        let mut found = BTreeMap::new();
        walk(&local, &local, &mut found);
        fs::remove_dir_all(local).unwrap();
        found
    }

    /// Mounts it below a directory, by a client that tells its metrics at a port of this machine.
    pub(crate) fn mount(&self, name: &str, metrics: u16) -> Mounted {
        let point = self.directory.join(name);
        fs::create_dir_all(&point).unwrap();
        let cache = self.directory.join(format!("{name}-cache"));
        let child = Command::new(juicefs())
            .args(["mount", "--no-bgjob", "--no-usage-report", "--cache-size=64", "--cache-dir"])
            .arg(cache)
            .args(["--metrics", &format!("127.0.0.1:{metrics}"), &self.address])
            .arg(&point)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Mounted { child, point }
    }

    /// The size of a directory's quota, as the client says it: `3.0 GiB`.
    pub(crate) fn quota(&self, path: &str) -> Option<String> {
        let words = ["quota", "get", &self.address, "--path", path];
        let output = Command::new(juicefs()).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let row = text.lines().find(|line| line.contains(&format!(" {path} ")))?;
        Some(row.split('|').nth(2)?.trim().to_owned())
    }
}

/// A mounted file system; it is unmounted with this value.
pub(crate) struct Mounted {
    child: Child,
    point: PathBuf,
}

impl Mounted {
    /// Where it is, once it answers.
    pub(crate) fn point(&self) -> Option<&Path> {
        self.point.join(".config").exists().then_some(self.point.as_path())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // One that is not mounted any more, or has ended, needs neither.
        let _ = Command::new("umount").arg("-l").arg(&self.point).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
