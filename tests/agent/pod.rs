//! A pod without Kubernetes: namespaces for node, holder, client and application, and what they share.

use crate::{
    container::{Application, Runner},
    process::{PATIENCE, Process, children_of, free_port, holds_within, wait_until},
};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// One test at a time: they measure stalls, on few cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The inode of a JuiceFS volume's root.
const ROOT_INODE: u64 = 1;

/// The user as which the client runs.
pub(crate) const NOBODY: u32 = 65534;

/// The agent under test: a release build when one is given.
pub(crate) fn agent() -> PathBuf {
    std::env::var_os("JFS_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_jfs-agent").into(), PathBuf::from)
}

/// The JuiceFS client.
pub(crate) fn juicefs() -> PathBuf {
    installed("JUICEFS_BIN", "juicefs")
}

/// An older JuiceFS client.
pub(crate) fn older_juicefs() -> PathBuf {
    installed("JUICEFS_OLDER_BIN", "juicefs-older")
}

fn installed(variable: &str, directory: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(directory).join("bin/juicefs");
    let path = std::env::var_os(variable).map_or(here, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run tests/tools/install-juicefs", path.display());
    path
}

/// A metadata engine.
pub(crate) enum Engine {
    Sqlite,
    Redis(Redis),
}

/// A redis server on a port of its own.
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) process: Process,
}

impl Redis {
    pub(crate) fn start(directory: &Path, password: &str) -> Self {
        Self::start_on(free_port(), directory, password)
    }

    pub(crate) fn start_on(port: u16, directory: &Path, password: &str) -> Self {
        let words = [
            "redis-server",
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "3600 1",
            "--dir",
            directory.to_str().unwrap(),
            "--requirepass",
            password,
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        let process = Process::start(&words, &directory.join("redis.log"));
        wait_until("redis to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, process }
    }
}

/// A pod: its directory, its processes, and the lock that keeps other tests waiting.
pub(crate) struct Pod {
    pub(crate) directory: PathBuf,
    node: Process,
    pub(crate) engine: Engine,
    pub(crate) metrics_port: u16,
    client: PathBuf,
    _lock: MutexGuard<'static, ()>,
}

impl Pod {
    /// A pod whose volume is on sqlite.
    pub(crate) fn on_sqlite() -> Self {
        Self::new(|_| Engine::Sqlite)
    }

    /// A pod whose volume is on redis.
    pub(crate) fn on_redis() -> Self {
        Self::new(|directory| Engine::Redis(Redis::start(directory, "pass-of-redis")))
    }

    fn new(engine: impl FnOnce(&Path) -> Engine) -> Self {
        let lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let fuse = fs::metadata("/dev/fuse").map(|found| found.file_type().is_char_device());
        assert!(matches!(fuse, Ok(true)), "/dev/fuse is missing: the agent cannot be tested here");
        assert!(rustix::process::geteuid().is_root(), "the agent's tests run as root");
        // Short: the paths of sockets have to fit into 108 bytes.
        let base = format!("/var/tmp/jfa-{}-", std::process::id());
        let directory =
            (0..1000).map(|number| PathBuf::from(format!("{base}{number}"))).find(|path| !path.exists());
        let directory = directory.unwrap();
        for name in ["", "volume", "store", "cache", "meta", "application"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        for name in ["store", "cache", "meta"] {
            std::os::unix::fs::chown(directory.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::write(directory.join("juicefs"), "").unwrap();
        let script = "mount --bind $0 $0 && mount --make-shared $0 && mount --bind $1 $0/juicefs \
                      && touch $0/node-is-up && exec sleep infinity";
        let (place, client) = (directory.to_str().unwrap(), juicefs());
        let node = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            place,
            client.to_str().unwrap(),
        ];
        let node = Process::start(&node, &directory.join("node.log"));
        wait_until("the node", || directory.join("node-is-up").exists());
        let engine = engine(&directory);
        let client = directory.join("juicefs");
        Self { directory, node, engine, metrics_port: free_port(), client, _lock: lock }
    }

    /// Uses another client from now on.
    pub(crate) fn use_client(&mut self, client: &Path) {
        let place = self.client.to_str().unwrap().to_owned();
        let output =
            self.on_node(&["sh", "-c", "umount -l $0; mount --bind $1 $0", &place, client.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command in the node's namespace.
    pub(crate) fn on_node(&self, words: &[&str]) -> Output {
        let pid = self.node.pid().as_raw_nonzero().to_string();
        Command::new("nsenter").args(["-t", &pid, "--mount", "--"]).args(words).output().unwrap()
    }

    /// Starts a command in a container's own mount namespace.
    pub(crate) fn container(&self, propagation: &str, more: &[&str], words: &[&str], log: &str) -> Process {
        let pid = self.node.pid().as_raw_nonzero().to_string();
        let outer =
            ["nsenter", "-t", &pid, "--mount", "--", "unshare", "--mount", "--propagation", propagation];
        let words: Vec<&str> = outer.iter().chain(more).chain(&["--"]).chain(words).copied().collect();
        Process::start(&words, &self.directory.join(log))
    }

    /// The mountpoint of a volume, as the holder sees it.
    pub(crate) fn mountpoint(&self, volume: &str) -> String {
        self.path(&format!("volume/{volume}"))
    }

    /// Starts the privileged container, for these volumes.
    pub(crate) fn start_holder(&self, volumes: &[&str]) -> Process {
        self.start_holder_with(volumes, &[])
    }

    /// The same with more options.
    pub(crate) fn start_holder_with(&self, volumes: &[&str], more: &[&str]) -> Process {
        let volumes: Vec<String> =
            volumes.iter().map(|name| format!("--volume={name}={}", self.mountpoint(name))).collect();
        let (agent, run) = (agent(), self.path("run"));
        let mut words = vec![agent.to_str().unwrap(), "hold", "--run-dir", &run];
        words.extend(volumes.iter().map(String::as_str));
        words.extend(more);
        self.container("unchanged", &[], &words, "holder.log")
    }

    /// Starts the holder of `data` and waits until it serves.
    pub(crate) fn holder(&self) -> Process {
        let holder = self.start_holder(&["data"]);
        wait_until("the holder", || self.ready(None).0 == Some(0));
        holder
    }

    /// The address of the metadata engine.
    pub(crate) fn metadata(&self) -> String {
        match &self.engine {
            Engine::Sqlite => format!("sqlite3://{}", self.path("meta/meta.db")),
            Engine::Redis(redis) => format!("redis://:pass-of-redis@127.0.0.1:{}/1", redis.port),
        }
    }

    /// Formats the volume.
    pub(crate) fn format(&self) {
        Self::format_by(&self.format_words());
    }

    /// The same by other words.
    pub(crate) fn format_by(words: &[String]) {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The command that formats the volume.
    pub(crate) fn format_words(&self) -> Vec<String> {
        let client = juicefs().to_str().unwrap().to_owned();
        let words = [
            client,
            "format".into(),
            "--no-update".into(),
            self.metadata(),
            "vol".into(),
            "--storage".into(),
            "file".into(),
            "--bucket".into(),
            format!("{}/", self.path("store")),
        ];
        words.into()
    }

    /// The command of the client, with more options.
    pub(crate) fn client_words(&self, more: &[&str]) -> Vec<String> {
        let mut words: Vec<String> =
            [self.client.to_str().unwrap(), "--no-agent", "mount", "--no-usage-report"]
                .map(str::to_owned)
                .into();
        words.extend(["--no-bgjob".into(), "--metrics".into(), format!("127.0.0.1:{}", self.metrics_port)]);
        words.extend(["--cache-dir".into(), self.path("cache"), "--cache-size".into(), "200M".into()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend([self.metadata(), "{mountpoint}".into()]);
        words
    }

    /// Starts the client's container: no privilege, no `/dev/fuse`, a `/tmp` of its own, its own process 1.
    pub(crate) fn start_runner(&self, volume: &str, options: &[&str], client: &[String]) -> Runner {
        let script = "mount --bind /dev/null /dev/fuse && mount -t tmpfs tmpfs /tmp && cd / \
                      && exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all \
                      --no-new-privs --pdeathsig KILL \"$@\"";
        let (program, run) = (self.path("run/.bin/jfs-agent"), self.path("run"));
        let mut words =
            vec!["sh", "-c", script, "sh", &program, "run", "--run-dir", &run, "--volume", volume];
        words.extend(options);
        words.push("--");
        words.extend(client.iter().map(String::as_str));
        let more = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        Runner { container: self.container("slave", &more, &words, "runner.log") }
    }

    /// How long the client takes without the agent: mounting by itself, until its mount answers.
    pub(crate) fn plain_start(&self) -> Duration {
        let begin = Instant::now();
        self.plain_client(&["--cache-dir", "memory"], &self.metadata());
        begin.elapsed()
    }

    /// Starts a client that mounts by itself, as root and with all privileges, and waits until its mount answers; where
    /// that is, seen from outside.
    pub(crate) fn plain_client(&self, options: &[&str], metadata: &str) -> (Process, PathBuf) {
        let (mountpoint, client) = (self.path("plain"), self.path("juicefs"));
        fs::create_dir_all(&mountpoint).unwrap();
        // A client that runs as root adds itself to updatedb.conf.
        let script = "mount -t tmpfs tmpfs /tmp && cd / \
                      && if [ -e /etc/updatedb.conf ]; then mount --bind /dev/null /etc/updatedb.conf; fi \
                      && exec \"$@\"";
        let mut words = vec!["sh", "-c", script, "sh", &client, "--no-agent", "mount", "--no-usage-report"];
        let metrics = format!("127.0.0.1:{}", free_port());
        words.extend(["--no-bgjob", "--metrics", &metrics]);
        words.extend(options);
        words.extend([metadata, &mountpoint]);
        let more = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        let container = self.container("private", &more, &words, "plain.log");
        let mut place = PathBuf::new();
        wait_until("a client without the agent", || {
            let Some(pid) = children_of(container.pid()).first().copied() else { return false };
            place = PathBuf::from(format!("/proc/{}/root{mountpoint}", pid.as_raw_nonzero()));
            fs::metadata(&place).is_ok_and(|root| root.ino() == ROOT_INODE)
        });
        (container, place)
    }

    /// Starts the client of `data` and waits until the mount answers.
    pub(crate) fn runner(&self) -> Runner {
        let runner = self.start_runner("data", &[], &self.client_words(&[]));
        self.wait_until_ready();
        runner
    }

    pub(crate) fn wait_until_ready(&self) {
        let ready = holds_within(PATIENCE, || self.ready(Some("data")).0 == Some(0));
        assert!(ready, "never ready: {}", self.ready(Some("data")).1);
    }

    /// Runs the probe: exit code and what it says.
    pub(crate) fn ready(&self, volume: Option<&str>) -> (Option<i32>, String) {
        let mut words = vec!["ready", "--run-dir"];
        let run = self.path("run");
        words.push(&run);
        words.extend(volume.iter().flat_map(|name| ["--volume", name]));
        let output = self.agent(&words);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs the agent on the node.
    pub(crate) fn agent(&self, words: &[&str]) -> Output {
        let agent = agent();
        let words: Vec<&str> = [agent.to_str().unwrap()].iter().chain(words).copied().collect();
        self.on_node(&words)
    }

    /// The status of a volume.
    pub(crate) fn status(&self, volume: &str) -> serde_json::Value {
        let output = self.agent(&["status", "--run-dir", &self.path("run")]);
        let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        all.into_iter().find(|one| one["name"] == volume).unwrap_or_default()
    }

    /// Starts an application with a private bind of the mountpoint, made now, as a kubelet's subPath is.
    pub(crate) fn application(&self, plan: &str) -> Application {
        let script =
            "mount --bind $0 $1 && cd / && exec \"$2\" --exact application::process --ignored --nocapture";
        let exe = std::env::current_exe().unwrap();
        let (mount, place) = (self.mountpoint("data"), self.path("application"));
        let words = [
            "env",
            &format!("JFS_TEST_PLAN={plan}"),
            &format!("JFS_TEST_POD={}", self.path("")),
            "sh",
            "-c",
            script,
            &mount,
            &place,
            exe.to_str().unwrap(),
        ];
        let process = self.container("private", &[], &words, "application.log");
        wait_until("the application", || self.directory.join("application-is-up").exists());
        Application { process }
    }

    /// A container's log.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The messages of a container's own log, without those it passes on.
    pub(crate) fn messages(&self, name: &str) -> Vec<String> {
        let Ok(file) = File::open(self.directory.join(format!("{name}.log"))) else { return Vec::new() };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let entries = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
        let own = entries.filter(|entry| entry.get("source").is_none());
        own.filter_map(|entry| Some(entry.get("message")?.as_str()?.to_owned())).collect()
    }

    /// The layers of JuiceFS mounts on the node at a volume's mountpoint.
    pub(crate) fn layers(&self, volume: &str) -> usize {
        let table = String::from_utf8(self.on_node(&["cat", "/proc/self/mountinfo"]).stdout).unwrap();
        let mountpoint = self.mountpoint(volume);
        table.lines().filter(|line| line.split(' ').nth(4) == Some(mountpoint.as_str())).count()
    }

    /// Reads a file of the volume on the node, giving up after a time.
    pub(crate) fn node_reads(&self, name: &str) -> bool {
        let path = format!("{}/{name}", self.mountpoint("data"));
        self.on_node(&["timeout", "-s", "KILL", "20", "cat", &path]).status.success()
    }

    /// Writes a file of the volume on the node, giving up after a time.
    pub(crate) fn node_writes(&self, name: &str) -> bool {
        let path = format!("{}/{name}", self.mountpoint("data"));
        let words = ["timeout", "-s", "KILL", "20", "sh", "-c", "echo hello > $0", &path];
        self.on_node(&words).status.success()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["holder", "runner", "application", "worker"] {
                let log = self.log(name);
                let start = log.len().saturating_sub(6000);
                eprintln!("--- {name}\n{}", log.get(start..).unwrap_or(&log));
            }
        }
        // The node goes first: its namespace has mounts in it. What the tests started is gone already.
        self.node.kill();
        if let Engine::Redis(redis) = &mut self.engine {
            redis.process.kill();
        }
        _ = fs::remove_dir_all(&self.directory);
    }
}
