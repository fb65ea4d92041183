//! Asks the workers beside the controller for what takes a JuiceFS client; see [`crate::worker`].

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Semaphore,
    time::timeout,
};

use crate::worker::{Answer, Edition, Failed, Identity, LONGEST_ANSWER, LONGEST_REQUEST, Request};

/// Requests that a worker is asked at the same time: as many as it works on, so that none waits there and its limit is
/// for the work alone.
const MOST_REQUESTS: usize = 8;

/// How much longer than its limit a request is waited for: the worker notices the limit first, and says what it knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// The worker, or one for each edition of the client, as the controller sees them.
#[derive(Debug)]
pub struct Worker {
    own: Peer,
    /// The worker of the enterprise edition, if that has one of its own.
    enterprise: Option<Peer>,
    patience: Duration,
}

/// One worker.
#[derive(Debug)]
struct Peer {
    socket: PathBuf,
    places: Semaphore,
}

impl Peer {
    fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), places: Semaphore::new(MOST_REQUESTS) }
    }
}

/// Why something was not done, or why nobody knows whether it was. All requests may be made again.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// The worker says why.
    #[error("{}", .0.message)]
    Failed(Failed),
    /// There is no worker.
    #[error("the worker does not answer on {}: {source}", .socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What came instead.
        source: io::Error,
    },
    /// The worker ended, or was ended, before it answered.
    #[error("the worker hung up: {0}")]
    HungUp(String),
    /// It has said nothing, not even that the time is over.
    #[error("the worker has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// The request is longer than the worker takes.
    #[error(
        "the request would be {0} bytes long, more than {LONGEST_REQUEST}; the secret of the file system is too large"
    )]
    TooLong(usize),
}

impl Worker {
    /// The worker that listens on a socket, and that of the enterprise edition, if there are two. Nothing is connected
    /// yet.
    pub fn new(socket: impl Into<PathBuf>, enterprise: Option<impl Into<PathBuf>>) -> Self {
        Self { own: Peer::new(socket), enterprise: enterprise.map(Peer::new), patience: PATIENCE }
    }

    /// Who serves file systems of an edition.
    fn of(&self, edition: Edition) -> &Peer {
        match edition {
            Edition::Community => &self.own,
            Edition::Enterprise => self.enterprise.as_ref().unwrap_or(&self.own),
        }
    }

    /// Has something done, in its turn. Who drops the future calls it off.
    pub async fn ask(&self, request: &Request) -> Result<Option<Identity>, NotDone> {
        let mut text = serde_json::to_vec(request).map_err(|error| NotDone::HungUp(error.to_string()))?;
        text.push(b'\n');
        if text.len() > LONGEST_REQUEST {
            return Err(NotDone::TooLong(text.len()));
        }
        let peer = self.of(request.file_system.edition);
        // It is never closed.
        let _place = peer.places.acquire().await;
        let limit = Duration::from_secs(request.limit).saturating_add(self.patience);
        match timeout(limit, peer.exchange(&text)).await {
            Ok(Ok(Answer::Done { identity })) => Ok(identity),
            Ok(Ok(Answer::Failed(failed))) => Err(NotDone::Failed(failed)),
            Ok(Err(not_done)) => Err(not_done),
            Err(_) => Err(NotDone::Silent(limit)),
        }
    }
}

impl Peer {
    async fn exchange(&self, request: &[u8]) -> Result<Answer, NotDone> {
        let mut stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| NotDone::Unreachable { socket: self.socket.clone(), source })?;
        let hung_up = |error: io::Error| NotDone::HungUp(error.to_string());
        stream.write_all(request).await.map_err(hung_up)?;
        let mut answer = Vec::new();
        let longest = u64::try_from(LONGEST_ANSWER).unwrap_or(u64::MAX);
        stream.take(longest).read_to_end(&mut answer).await.map_err(hung_up)?;
        if answer.is_empty() {
            return Err(NotDone::HungUp("there was no answer".to_owned()));
        }
        serde_json::from_slice(&answer).map_err(|error| NotDone::HungUp(format!("its answer: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{FileSystem, Kind, Task};
    use std::{future::Future, path::Path, sync::Arc};
    use tokio::{
        io::{AsyncBufReadExt, BufReader},
        net::UnixListener,
        task::JoinSet,
    };

    fn request(limit: u64) -> Request {
        let file_system = FileSystem { address: "redis://:pw@h/1".into(), ..FileSystem::default() };
        Request { file_system, task: Task::Identify, limit }
    }

    /// A socket that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("worker-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("s")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Serves every connection like this.
    fn serve<F>(path: &Path, one: impl Fn(UnixStream) -> F + Send + 'static) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(one(stream));
            }
        });
        tasks
    }

    /// Reads a request and answers with this.
    async fn reply(stream: UnixStream, answer: String) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let request: Request = serde_json::from_str(&line).unwrap();
        assert_eq!(request.file_system.address, "redis://:pw@h/1");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn answers_come_as_what_they_are() {
        let place = Place::new("answers");
        let identity = Identity { uuid: "u".into(), name: "n".into() };
        let failed = Failed::new(Kind::WrongPassword, "no");
        for (answer, expected) in [
            (Answer::Done { identity: Some(identity.clone()) }, Ok(Some(identity))),
            (Answer::Failed(failed.clone()), Err(failed)),
        ] {
            _ = std::fs::remove_file(place.socket());
            let text = serde_json::to_string(&answer).unwrap() + "\n";
            let _server = serve(&place.socket(), move |stream| reply(stream, text.clone()));
            match (Worker::new(place.socket(), None::<PathBuf>).ask(&request(5)).await, expected) {
                (Ok(identity), Ok(expected)) => assert_eq!(identity, expected),
                (Err(NotDone::Failed(failed)), Err(expected)) => assert_eq!(failed, expected),
                (answer, _) => panic!("{answer:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_edition_with_a_worker_of_its_own_is_served_by_that() {
        let place = Place::new("editions");
        let enterprise = place.0.join("enterprise");
        let [own, other] = ["own", "other"].map(|name| {
            let identity = Identity { uuid: name.into(), name: name.into() };
            serde_json::to_string(&Answer::Done { identity: Some(identity) }).unwrap() + "\n"
        });
        let _servers = [
            serve(&place.socket(), move |stream| reply(stream, own.clone())),
            serve(&enterprise, move |stream| reply(stream, other.clone())),
        ];
        let (one, two) =
            (Worker::new(place.socket(), None::<PathBuf>), Worker::new(place.socket(), Some(enterprise)));
        for (worker, edition, expected) in [
            (&one, Edition::Community, "own"),
            (&one, Edition::Enterprise, "own"),
            (&two, Edition::Community, "own"),
            (&two, Edition::Enterprise, "other"),
        ] {
            let mut request = request(5);
            request.file_system.edition = edition;
            assert_eq!(worker.ask(&request).await.unwrap().unwrap().name, expected, "{edition:?}");
        }
    }

    #[tokio::test]
    async fn a_worker_that_is_gone_silent_or_mad_is_told_apart() {
        let place = Place::new("gone");
        let mut worker = Worker::new(place.socket(), None::<PathBuf>);
        worker.patience = Duration::from_millis(20);
        assert!(matches!(worker.ask(&request(1)).await, Err(NotDone::Unreachable { .. })));
        for (answer, silent) in [("", false), ("garbage\n", false), ("", true)] {
            _ = std::fs::remove_file(place.socket());
            let _server = serve(&place.socket(), move |mut stream| async move {
                if silent {
                    // Until who asked gives up.
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                } else {
                    reply(stream, answer.to_owned()).await;
                }
            });
            match worker.ask(&request(0)).await {
                Err(NotDone::Silent(_)) => assert!(silent),
                Err(NotDone::HungUp(_)) => assert!(!silent),
                other => panic!("{other:?}"),
            }
        }
        let mut large = request(1);
        large.file_system.rsa_key = Some("x".repeat(LONGEST_REQUEST));
        assert!(matches!(worker.ask(&large).await, Err(NotDone::TooLong(_))));
    }

    #[tokio::test]
    async fn no_more_are_asked_at_once_than_are_worked_on_and_who_leaves_calls_it_off() {
        let place = Place::new("places");
        let open = Arc::new(Semaphore::new(0));
        let seen = open.clone();
        let _server = serve(&place.socket(), move |mut stream| {
            let seen = seen.clone();
            async move {
                seen.add_permits(1);
                stream.read_to_end(&mut Vec::new()).await.unwrap();
                // Where the end of the connection is noticed, the work ends.
                seen.add_permits(1000);
            }
        });
        let worker = Arc::new(Worker::new(place.socket(), None::<PathBuf>));
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let worker = worker.clone();
            asking.spawn(async move { worker.ask(&request(60)).await.is_ok() });
        }
        let all = u32::try_from(MOST_REQUESTS).unwrap();
        _ = open.acquire_many(all).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(open.available_permits(), MOST_REQUESTS);
        asking.shutdown().await;
        _ = open.acquire_many(1000 * all).await.unwrap();
    }
}
