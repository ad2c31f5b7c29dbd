//! Reads the body of a request, within bounds of size and time.

use crate::{HttpConfig, problem::Problem};
use bytes::{Bytes, BytesMut};
use domain::{Error, ErrorCode};
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Body;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a body that is not complete is waited for once the server is told to stop, and how long one
/// that is too large is read on, so that its sender reads the answer instead of a reset.
const GRACE: Duration = Duration::from_secs(1);
/// What is set aside for a body that is announced to be large and has not come yet.
const AHEAD_MAX: usize = 256 << 10;

/// What bounds a body.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    /// The most bytes.
    pub(crate) bytes_max: usize,
    /// The times.
    pub(crate) config: &'a HttpConfig,
    /// Cancelled when the server is told to stop.
    pub(crate) stop: &'a CancellationToken,
}

/// The whole body. It is not copied where it came in one piece.
///
/// # Errors
/// Too large, not all there, or not in time: all of them end the connection.
pub(crate) async fn read<B>(mut body: B, bounds: &Bounds<'_>) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > bounds.bytes_max as u64 {
        return Err(too_large(body, bounds).await);
    }
    let mut whole = Bytes::new();
    let mut pieces: Option<BytesMut> = None;
    let mut deadline = None;
    while !body.is_end_stream() {
        // What is there already needs no timer.
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => patient(&mut body, bounds, &mut deadline).await?,
        };
        let data = match frame {
            None => break,
            Some(Err(_)) => return Err(refused("the body ended before it was complete")),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let length = pieces.as_ref().map_or(whole.len(), BytesMut::len);
        if length + data.len() > bounds.bytes_max {
            return Err(too_large(body, bounds).await);
        }
        if length == 0 {
            whole = data;
            continue;
        }
        let pieces = pieces.get_or_insert_with(|| {
            let mut pieces =
                BytesMut::with_capacity((announced as usize).clamp(length, AHEAD_MAX.max(length)));
            pieces.extend_from_slice(&whole);
            pieces
        });
        pieces.extend_from_slice(&data);
    }
    Ok(pieces.map_or(whole, BytesMut::freeze))
}

type Next<B> = Option<Result<hyper::body::Frame<Bytes>, <B as Body>::Error>>;

/// The next piece, if it comes in time.
async fn patient<B>(
    body: &mut B,
    bounds: &Bounds<'_>,
    deadline: &mut Option<Instant>,
) -> Result<Next<B>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let deadline = *deadline.get_or_insert_with(|| Instant::now() + bounds.config.body_timeout);
    let until = deadline.min(Instant::now() + bounds.config.body_idle_timeout);
    let stopped = async {
        bounds.stop.cancelled().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        frame = body.frame() => Ok(frame),
        () = sleep_until(until) => Err(refused("the body did not come in time")),
        () = stopped => Err(Problem::from(Error::new(ErrorCode::Unavailable, "the service is stopping")).closing()),
    }
}

fn refused(detail: &str) -> Problem {
    Problem::from(Error::new(ErrorCode::InvalidRequest, detail)).closing()
}

async fn too_large<B>(mut body: B, bounds: &Bounds<'_>) -> Problem
where
    B: Body<Data = Bytes> + Unpin,
{
    let most = bounds.bytes_max;
    let discard = async {
        let mut left = most.max(1 << 20);
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                break;
            }
            left -= length;
        }
    };
    let _ = tokio::time::timeout(GRACE, discard).await;
    let detail = format!("the body must have at most {most} bytes (`limits.request-bytes-max`)");
    Problem::from(Error::new(ErrorCode::RequestTooLarge, detail)).closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::convert::Infallible;

    async fn read_within<B: Body<Data = Bytes> + Unpin>(
        body: B,
        bytes_max: usize,
    ) -> Result<Bytes, ErrorCode> {
        let config = HttpConfig::default();
        let stop = CancellationToken::new();
        let bounds = Bounds { bytes_max, config: &config, stop: &stop };
        read(body, &bounds).await.map_err(|problem| problem.code())
    }

    fn pieces(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_in_one_piece_is_not_copied() {
        let sent = Bytes::from(vec![7; 100]);
        let read = read_within(Full::new(sent.clone()), 100).await.unwrap();
        assert_eq!(read.as_ptr(), sent.as_ptr());
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        assert_eq!(read_within(pieces(&["ab", "", "cd", "e"]), 5).await.unwrap(), "abcde");
        assert_eq!(read_within(pieces(&["ab", "cd", "e"]), 4).await, Err(ErrorCode::RequestTooLarge));
        assert_eq!(read_within(Full::new(Bytes::from("abcde")), 4).await, Err(ErrorCode::RequestTooLarge));
        assert_eq!(read_within(pieces(&[]), 4).await.unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = StreamBody::new(
            stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("a")))]).chain(stream::pending()),
        );
        assert_eq!(read_within(never, 100).await, Err(ErrorCode::InvalidRequest));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_too() {
        let trickle = stream::unfold((), |()| async {
            sleep(Duration::from_secs(10)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from("a"))), ()))
        });
        let read = read_within(StreamBody::new(Box::pin(trickle)), 1 << 20).await;
        assert_eq!(read, Err(ErrorCode::InvalidRequest));
    }
}
