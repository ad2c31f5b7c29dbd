//! Messages in and out as protocol buffers. Reading is tonic's own; writing sets aside as much as a message
//! takes before it is written, where a buffer that grows by doubling would copy a batch's payloads once more
//! and hold up to three times as much.

use prost::Message;
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// Writes `T` and reads `U`.
#[derive(Debug)]
pub(crate) struct SizedCodec<T, U>(PhantomData<(T, U)>);

/// Writes `T`.
#[derive(Debug)]
pub(crate) struct SizedEncoder<T>(PhantomData<T>);

impl<T, U> Default for SizedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SizedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SizedEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl<T: Message> Encoder for SizedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.encoded_len());
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}
