//! Answers and their bodies.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// An answer.
pub(crate) type Reply = Response<ReplyBody>;

/// The body of an answer: at hand as a whole, or made bit by bit.
pub struct ReplyBody(Inner);

enum Inner {
    Whole(Bytes),
    Stream(BoxStream<'static, Bytes>),
}

impl ReplyBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self(Inner::Whole(Bytes::new()))
    }

    /// A body that ends when `stream` does.
    pub(crate) fn stream(stream: BoxStream<'static, Bytes>) -> Self {
        Self(Inner::Stream(stream))
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Inner::Stream(_) => f.write_str("stream"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Stream(stream) => {
                stream.poll_next_unpin(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer with a body of some type.
pub(crate) fn reply(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(ReplyBody(Inner::Whole(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// An answer in JSON that has been written by hand.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Reply {
    reply(status, HeaderValue::from_static("application/json"), body)
}

/// An answer in JSON.
pub(crate) fn value(status: StatusCode, value: &serde_json::Value) -> Reply {
    json(status, value.to_string().into_bytes())
}

/// An answer that has nothing to say.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}
