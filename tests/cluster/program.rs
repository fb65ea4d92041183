//! Our program, as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running `juicefs-sidecar`. It ends with this value, and with this process however that ends.
pub(crate) struct Program {
    child: Child,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Program {
    /// Starts it with these arguments; it logs JSON.
    pub(crate) fn start(configure: impl FnOnce(&mut Command)) -> Self {
        // The kernel ends what setpriv has become when the thread that started it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_juicefs-sidecar")]);
        configure(&mut command);
        command.arg("--log-format=json").env_remove("RUST_LOG").stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = spawn(command);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines: Mutex::new(lines) }
    }

    /// The next log line whose message has this in it.
    pub(crate) fn wait_for(&self, message: &str) -> Value {
        let lines = self.lines.lock().unwrap();
        let mut seen = Vec::new();
        loop {
            let Ok(line) = lines.recv_timeout(Duration::from_mins(1)) else {
                panic!("waited in vain for {message:?}; the log says\n{}", seen.join("\n"));
            };
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"].as_str().is_some_and(|text| text.contains(message)) {
                return value;
            }
            seen.push(line);
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Tells it to stop, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().expect("an exit code")
    }

    /// Where it says that it listens: for reviews, and for health and metrics.
    pub(crate) fn listening(&self) -> [SocketAddr; 2] {
        let line = self.wait_for("listening");
        ["address", "metrics_address"].map(|key| line[key].as_str().unwrap().parse().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that is gone cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process from a thread that lives as long as this process; those of tests do not.
fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // Who does not wait for the answer any more does not want the process either.
                let _ = reply.send(command.spawn().expect("setpriv, and a program that can be run"));
            }
        });
        Mutex::new(sender)
    });
    let (reply, child) = mpsc::channel();
    starter.lock().unwrap().send((command, reply)).unwrap();
    child.recv().unwrap()
}
