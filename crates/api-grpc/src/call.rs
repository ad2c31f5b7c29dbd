//! What is the same for every call: its correlation id, and the statuses that the transport makes by
//! itself.

use crate::error::{self, status};
use domain::{Error, ErrorCode};
use futures::future::BoxFuture;
use std::task::{Context, Poll};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{HeaderMap, HeaderValue, Request, Response},
};
use tower::{Layer, Service};

/// The name of the metadata that carries a call's correlation id.
pub(crate) const CORRELATION_ID: &str = "x-correlation-id";
/// A correlation id beyond this is somebody's mistake; another one is made.
const CORRELATION_ID_BYTES_MAX: usize = 256;

/// Gives each call a correlation id, and gives it back; says in the service's own words what the transport
/// refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLayer;

/// What [`CallLayer`] makes of a service.
#[derive(Clone, Debug)]
pub(crate) struct Call<S>(S);

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Call<S> {
        Call(inner)
    }
}

impl<S> Service<Request<Body>> for Call<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = correlation_id(request.headers());
        request.headers_mut().insert(CORRELATION_ID, id.clone());
        let answering = self.0.call(request);
        Box::pin(async move {
            let mut response = answering.await?;
            if let Some(status) = Status::from_header_map(response.headers()).filter(|s| s.code() != Code::Ok)
            {
                let status = said(status);
                tracing::debug!(correlation_id = ?id, code = ?status.code(), detail = status.message(), "a call failed");
                response = status.into_http();
            }
            response.headers_mut().insert(CORRELATION_ID, id);
            Ok(response)
        })
    }
}

fn correlation_id(metadata: &HeaderMap) -> HeaderValue {
    let good = |value: &&HeaderValue| {
        (1..=CORRELATION_ID_BYTES_MAX).contains(&value.len())
            && value.to_str().is_ok_and(|text| text == text.trim() && !text.contains('\t'))
    };
    metadata.get(CORRELATION_ID).filter(good).cloned().unwrap_or_else(|| {
        let mut buffer = uuid::Uuid::encode_buffer();
        let made = uuid::Uuid::new_v4();
        HeaderValue::from_str(made.hyphenated().encode_lower(&mut buffer))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// The status with the service's own code in it. The transport says `INTERNAL` of a message that is no
/// protocol buffer and `OUT_OF_RANGE` of one that is too large: both are the client's to mend.
pub(crate) fn said(failed: Status) -> Status {
    if error::has_code(&failed) {
        return failed;
    }
    let detail = failed.message();
    match failed.code() {
        Code::Internal => {
            let detail = format!("the message cannot be read: {detail}");
            status(&Error::new(ErrorCode::InvalidRequest, detail))
        }
        Code::OutOfRange => {
            let detail = detail.strip_prefix("Error, ").unwrap_or(detail);
            status(&Error::new(ErrorCode::RequestTooLarge, detail))
        }
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_is_taken_where_it_can_be_and_made_otherwise() {
        let of = |given: &[u8]| {
            let mut metadata = HeaderMap::new();
            metadata.insert(CORRELATION_ID, HeaderValue::from_bytes(given).unwrap());
            correlation_id(&metadata)
        };
        assert_eq!(of(b"trace-me-7"), "trace-me-7");
        for bad in [&b""[..], b"a\tb", b"\xff", &[b'x'; 257]] {
            assert_eq!(of(bad).len(), 36, "{bad:?}");
        }
    }

    #[test]
    fn what_the_transport_refuses_is_the_clients_mistake_and_a_defect_stays_one() {
        let code = |status: Status| said(status).code();
        assert_eq!(code(Status::internal("failed to decode Protobuf message")), Code::InvalidArgument);
        assert_eq!(
            code(Status::out_of_range("Error, decoded message length too large")),
            Code::InvalidArgument
        );
        assert_eq!(code(status(&Error::new(ErrorCode::Internal, "a defect"))), Code::Internal);
        assert_eq!(code(Status::unimplemented("")), Code::Unimplemented);
    }
}
