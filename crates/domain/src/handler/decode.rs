//! From a record's value to a handler's type.

use bytes::Bytes;
use ports::{BoxError, Record};
use serde::de::DeserializeOwned;

/// Decodes values.
///
/// A closure or function `Fn(&Record) -> Result<T, E>` is one too, which is how other formats come in; with
/// `prost`, as an example, `|record: &Record| Order::decode(record.value.clone().unwrap_or_default())`.
pub trait Decode<T>: Send + Sync + 'static {
    /// The value of a record. Attributes and headers may be looked at to choose how to read it.
    ///
    /// # Errors
    /// Why it cannot be decoded. The same record must give the same answer at any time: it becomes a dead
    /// letter without another try.
    fn decode(&self, record: &Record) -> Result<T, BoxError>;
}

/// The value as it is.
///
/// As `Option<Bytes>` every record can be decoded. As `Bytes` one whose value is null cannot, which is not the
/// same as an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

/// The value as JSON.
///
/// A null value is JSON's `null`: an `Option` is `None` then, as tombstones are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Decode<Option<Bytes>> for Raw {
    fn decode(&self, record: &Record) -> Result<Option<Bytes>, BoxError> {
        Ok(record.value.clone())
    }
}

impl Decode<Bytes> for Raw {
    fn decode(&self, record: &Record) -> Result<Bytes, BoxError> {
        record.value.clone().ok_or_else(|| "the value is null, where bytes are expected".into())
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, record: &Record) -> Result<T, BoxError> {
        let value = record.value.as_deref().unwrap_or(b"null");
        serde_json::from_slice(value).map_err(|error| match record.value {
            Some(_) => error.into(),
            None => format!("the value is null: {error}").into(),
        })
    }
}

impl<T, E, F> Decode<T> for F
where
    F: Fn(&Record) -> Result<T, E> + Send + Sync + 'static,
    E: Into<BoxError>,
{
    fn decode(&self, record: &Record) -> Result<T, BoxError> {
        self(record).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Option<&'static [u8]>) -> Record {
        Record { value: value.map(Bytes::from_static), ..Record::default() }
    }

    #[test]
    fn json_says_where_it_is_wrong() {
        let decoded: Result<u32, _> = Json.decode(&of(Some(b"\n  \"seven\"")));
        assert!(decoded.unwrap_err().to_string().contains("line 2"));
        assert_eq!(Decode::<u32>::decode(&Json, &of(Some(b"7"))).unwrap(), 7);
    }

    #[test]
    fn a_null_value_is_none_where_that_is_expected_and_an_error_where_it_is_not() {
        assert_eq!(Decode::<Option<u32>>::decode(&Json, &of(None)).unwrap(), None);
        let error = Decode::<u32>::decode(&Json, &of(None)).unwrap_err();
        assert!(error.to_string().contains("null"), "{error}");
        assert_eq!(Decode::<Option<Bytes>>::decode(&Raw, &of(None)).unwrap(), None);
        assert!(Decode::<Bytes>::decode(&Raw, &of(None)).is_err());
        assert_eq!(Decode::<Bytes>::decode(&Raw, &of(Some(b""))).unwrap(), Bytes::new(), "empty is not null");
    }

    #[test]
    fn a_closure_decodes_too() {
        let text = |record: &Record| String::from_utf8(record.value.clone().unwrap_or_default().to_vec());
        assert_eq!(text.decode(&of(Some(b"a"))).unwrap(), "a");
        assert!(text.decode(&of(Some(b"\xff"))).is_err());
    }
}
