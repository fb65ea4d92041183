//! A connection that ends when its peer sends nothing for too long.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A stream whose reads fail with `TimedOut` after `limit` without a byte.
///
/// hyper's own limits begin with the first bytes of a request; before these a connection could stay open for ever.
#[derive(Debug)]
pub(super) struct Idle<S> {
    stream: S,
    limit: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Idle<S> {
    /// Begins to wait for the first byte.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        let last = Instant::now();
        Self { stream, limit, last, alarm: Box::pin(tokio::time::sleep_until(last + limit)) }
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            // Moved only when it rings: most reads come long before, and a timer is dearer than a time.
            let due = self.last + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(due);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Idle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                self.last = Instant::now();
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_alarm(context).map(Err),
        }
    }
}

/// Passed through, vectored writes too: they are what puts head and body of an answer into one segment.
impl<S: AsyncWrite + Unpin> AsyncWrite for Idle<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up_and_a_talking_one_is_not() {
        let limit = Duration::from_secs(10);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Idle::new(ours, limit);
        let mut byte = [0];
        for _ in 0..5 {
            let writing = async {
                tokio::time::sleep(Duration::from_secs(8)).await;
                theirs.write_all(b"x").await
            };
            let (read, written) = tokio::join!(stream.read_exact(&mut byte), writing);
            assert!(read.is_ok() && written.is_ok());
        }
        let before = Instant::now();
        let error = stream.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(before.elapsed(), limit);
    }
}
