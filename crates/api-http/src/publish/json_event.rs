//! The service's own JSON format: CloudEvents made easy, one event or `{"events": […]}`.

use super::draft::{ATTRIBUTES, Draft, Source};
use crate::json::{elements, members, short, unknown_field, wrong_type};
use bytes::Bytes;
use domain::{
    Error, Event, Result,
    publish::{Item, Rejected},
};

/// All members of an event, for the nearest name and to be listed.
const FIELDS: [&str; 23] = {
    let mut fields = [""; 23];
    let mut at = 0;
    while at < ATTRIBUTES.len() {
        fields[at] = ATTRIBUTES[at];
        at += 1;
    }
    let more = ["key", "partitionkey", "partition", "headers", "extensions", "idempotencykey", "messageType"];
    while at < fields.len() {
        fields[at] = more[at - ATTRIBUTES.len()];
        at += 1;
    }
    fields
};

/// What a body held.
#[derive(Debug)]
pub(crate) struct Published {
    /// Its events; a batch's bad items are rejected one by one.
    pub(crate) items: Vec<Item>,
    /// Whether it was a batch, and is answered as one.
    pub(crate) is_batch: bool,
}

impl Published {
    pub(crate) fn one(event: Event) -> Self {
        Self { items: vec![Ok(event)], is_batch: false }
    }

    pub(crate) fn batch(items: Vec<Item>) -> Self {
        Self { items, is_batch: true }
    }
}

/// Reads a body.
///
/// # Errors
/// It is no JSON, one event with a fault, or a batch whose envelope has one.
pub(crate) fn read(source: Source<'_>) -> Result<Published> {
    let mut draft = Draft::default();
    let mut batch = None;
    // The first other member, for a body that turns out to be a batch.
    let mut beside: Option<String> = None;
    members(source.body, |name, raw| {
        if name == "events" {
            if batch.is_some() {
                return Err(Error::invalid("events", "is given twice"));
            }
            batch = Some(read_batch(source, raw, read_event)?);
            return Ok(());
        }
        if batch.is_none() {
            take(&mut draft, source, &name, raw)?;
        }
        beside.get_or_insert_with(|| short(&name).to_owned());
        Ok(())
    })?;
    match (batch, beside) {
        (None, _) => draft.finish(source).map(Published::one),
        (Some(items), None) => Ok(Published::batch(items)),
        (Some(_), Some(name)) if FIELDS.contains(&&*name) => {
            Err(Error::invalid(name, "must not be given beside `events`; give it with each event"))
        }
        (Some(_), Some(name)) => Err(unknown_field(name.clone(), &name, &["events"])),
    }
}

/// Reads the array of a batch, each element by `read`.
///
/// # Errors
/// It is no array or holds too many elements. An element's fault is its own.
pub(crate) fn read_batch<'a>(
    source: Source<'a>,
    raw: &'a str,
    read: fn(Source<'a>, &'a str) -> Result<Event>,
) -> Result<Vec<Item>> {
    if !raw.trim_ascii_start().starts_with('[') {
        return Err(wrong_type("events", "an array", raw));
    }
    let mut items: Vec<Item> = Vec::new();
    elements(raw, |index, raw| {
        let most = source.limits.batch_events_max;
        if index >= most {
            return Err(Error::invalid("events", format!("must hold at most {most} events")));
        }
        let item = if raw.starts_with('{') { read(source, raw) } else { Err(no_object(raw)) };
        items.push(item.map_err(|error| Rejected { error, key: key_of(source, raw) }));
        Ok(())
    })?;
    Ok(items)
}

fn no_object(raw: &str) -> Error {
    // The item itself is at fault: the path below it is empty.
    let error = wrong_type("", "an object", raw);
    let message = error.fields().first().map_or_else(String::new, |field| field.message.clone());
    Error::new(error.code(), format!("an event {message}")).with_field("", message)
}

/// Reads one event.
fn read_event<'a>(source: Source<'a>, raw: &'a str) -> Result<Event> {
    let mut draft = Draft::default();
    members(raw, |name, raw| take(&mut draft, source, &name, raw))?;
    draft.finish(source)
}

fn take<'a>(draft: &mut Draft<'a>, source: Source<'a>, name: &str, raw: &'a str) -> Result<()> {
    if draft.attribute(source, name, raw)? {
        return Ok(());
    }
    match name {
        "key" | "partitionkey" => draft.key(source, name, raw),
        "partition" => draft.partition(raw),
        "headers" => draft.headers(source, raw),
        "extensions" => draft.extensions(source, raw),
        "idempotencykey" => draft.idempotency_key(source, raw),
        "messageType" => draft.message_type(source, name, raw),
        _ => Err(unknown_field(short(name).to_owned(), name, &FIELDS)),
    }
}

/// The key of an event that has a fault elsewhere, so that later events of that key wait for it.
fn key_of<'a>(source: Source<'a>, raw: &'a str) -> Option<Bytes> {
    let mut draft = Draft::default();
    // What stands before the fault is enough; the fault itself has been told.
    let _ = members(raw, |name, raw| match &*name {
        "key" | "partitionkey" => draft.key(source, &name, raw),
        _ => Ok(()),
    });
    draft.event.key
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytestring::ByteString;
    use domain::{ErrorCode, Limits};
    use ports::{Header, Timestamp};
    use proptest::prelude::*;

    fn published(body: &str) -> Result<Published> {
        let body = ByteString::from(body);
        read(Source { body: &body, limits: &Limits::default() })
    }

    fn one(body: &str) -> Event {
        let mut published = published(body).unwrap();
        assert!(!published.is_batch, "a batch: {published:?}");
        published.items.remove(0).unwrap()
    }

    fn batch(body: &str) -> Vec<Item> {
        let published = published(body).unwrap();
        assert!(published.is_batch, "one event: {published:?}");
        published.items
    }

    fn refused(body: &str) -> (ErrorCode, String) {
        let error = published(body).unwrap_err();
        (error.code(), error.fields().first().map_or_else(String::new, |field| field.field.clone()))
    }

    #[test]
    fn every_field_is_read() {
        let event = one(
            r#"{"specversion":"1.0","id":"i","type":"t","source":"/s","subject":"su","time":"1970-01-01T00:00:01Z",
            "key":"k","partition":2,"headers":{"a":"1","b":null,"c":["x",{"base64":"AP8="}]},
            "data":{"any": [1.50]},"tenantid":"te","userid":"u","correlationid":"c","causationid":"ca",
            "traceparent":"tp","tracestate":"ts","datacontenttype":"application/json","dataschema":"ds",
            "extensions":{"region":"eu","n":7,"yes":true,"none":null},"idempotencykey":"once","messageType":"a.B"}"#,
        );
        let text = |text: &str| Some(ByteString::from(text));
        let expected = Event {
            id: text("i"),
            event_type: text("t"),
            source: text("/s"),
            subject: text("su"),
            time: Some(Timestamp(1000)),
            key: Some(Bytes::from("k")),
            partition: Some(2),
            headers: vec![
                Header::new("a", "1"),
                Header { name: "b".into(), value: None },
                Header::new("c", "x"),
                Header::new("c", Bytes::from_static(b"\x00\xff")),
            ],
            data: Some(Bytes::from(r#"{"any": [1.50]}"#)),
            tenant_id: text("te"),
            user_id: text("u"),
            correlation_id: text("c"),
            causation_id: text("ca"),
            traceparent: text("tp"),
            tracestate: text("ts"),
            content_type: text("application/json"),
            data_schema: text("ds"),
            extensions: [("region", "eu"), ("n", "7"), ("yes", "true")]
                .map(|(n, v)| (n.into(), v.into()))
                .into(),
            idempotency_key: text("once"),
            message_type: text("a.B"),
        };
        assert_eq!(event, expected);
    }

    #[test]
    fn value_and_attributes_are_slices_of_the_body() {
        let body = ByteString::from(r#"{"id":"order-1","key":"a-key","data":{"a":[1,2,3]}}"#);
        let within = body.as_bytes().as_ptr_range();
        let published = read(Source { body: &body, limits: &Limits::default() }).unwrap();
        let event = published.items.into_iter().next().unwrap().unwrap();
        for slice in [&event.data.unwrap(), &event.key.unwrap(), event.id.unwrap().as_bytes()] {
            assert!(within.contains(&slice.as_ptr()), "{slice:?} was copied");
        }
    }

    #[test]
    fn a_value_is_kept_as_it_was_sent() {
        let data = |body: &str| one(body).data;
        assert_eq!(data("{}"), None);
        assert_eq!(data(r#"{"data":null}"#), None);
        assert_eq!(data(r#"{"data_base64":""}"#), Some(Bytes::new()));
        assert_eq!(data(r#"{"data_base64":"AP8="}"#), Some(Bytes::from_static(b"\x00\xff")));
        assert_eq!(data(r#"{"data": 1.0e2 }"#), Some(Bytes::from("1.0e2")));
        assert_eq!(data(r#"{"data":"a\u0062"}"#), Some(Bytes::from(r#""a\u0062""#)));
        // The type may stand behind the value that it says something about.
        assert_eq!(data(r#"{"data":"a\u0062","datacontenttype":"text/plain"}"#), Some(Bytes::from("ab")));
        assert_eq!(
            data(r#"{"data":"x","datacontenttype":"application/a+json"}"#),
            Some(Bytes::from("\"x\""))
        );
        assert_eq!(
            data(r#"{"data":{"a":1},"datacontenttype":"text/plain"}"#),
            Some(Bytes::from("{\"a\":1}"))
        );
    }

    #[test]
    fn a_fault_is_named() {
        let invalid = |field: &str| (ErrorCode::InvalidRequest, field.to_owned());
        for (body, field) in [
            (r#"{"data":1,"typo":2}"#, "typo"),
            (r#"{"type":5}"#, "type"),
            (r#"{"id":["x"]}"#, "id"),
            (r#"{"id":"\ud800"}"#, "id"),
            (r#"{"id":"a","id":"b"}"#, "id"),
            (r#"{"key":"a","partitionkey":"b"}"#, "partitionkey"),
            (r#"{"time":"yesterday"}"#, "time"),
            (r#"{"time":1.5}"#, "time"),
            (r#"{"partition":-1}"#, "partition"),
            (r#"{"partition":1.5}"#, "partition"),
            (r#"{"partition":"0"}"#, "partition"),
            (r#"{"partition":1e30}"#, "partition"),
            (r#"{"partition":99999999999}"#, "partition"),
            (r#"{"key":{"a":1}}"#, "key"),
            (r#"{"key":7}"#, "key"),
            (r#"{"headers":["a"]}"#, "headers"),
            (r#"{"headers":{"a":5}}"#, "headers.a"),
            (r#"{"headers":{"a":[[]]}}"#, "headers.a"),
            (r#"{"headers":{"a":{"base64":"%"}}}"#, "headers.a"),
            (r#"{"headers":{"a":{}}}"#, "headers.a"),
            (r#"{"extensions":{"nested":{}}}"#, "extensions.nested"),
            (r#"{"data":1,"data_base64":"AA=="}"#, "data_base64"),
            (r#"{"data_base64":"not base 64"}"#, "data_base64"),
            (r#"{"specversion":"0.3"}"#, "specversion"),
            (r#"{"events":{}}"#, "events"),
            (r#"{"events":[],"typo":1}"#, "typo"),
            (r#"{"id":"a","events":[]}"#, "id"),
            (r#"{"events":[],"events":[]}"#, "events"),
        ] {
            assert_eq!(refused(body), invalid(field), "{body}");
        }
        assert_eq!(refused(r#"{"idempotencykey":7}"#), invalid("idempotencykey"));
        assert_eq!(refused(r#"{"idempotencykey":"a","idempotencykey":"a"}"#), invalid("idempotencykey"));
        let deep = format!("{{\"data\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(refused(&deep), invalid("data"));
        let many: Vec<String> = (0..200).map(|n| format!("\"h{n}\":null")).collect();
        assert_eq!(refused(&format!("{{\"headers\":{{{}}}}}", many.join(","))), invalid("headers"));
    }

    #[test]
    fn a_batchs_bad_items_fail_alone_with_their_keys() {
        let items =
            batch(r#"{"events":[{"id":"a"},{"key":"k","type":5},7,{"typo":1,"key":"late"},{"id":"b"}]}"#);
        let said: Vec<_> = items
            .iter()
            .map(|item| match item {
                Ok(event) => (event.id.as_deref().unwrap_or_default().to_owned(), None),
                Err(rejected) => (rejected.error.fields()[0].field.clone(), rejected.key.clone()),
            })
            .collect();
        let key = |key: &'static str| Some(Bytes::from(key));
        let expected = [("a", None), ("type", key("k")), ("", None), ("typo", key("late")), ("b", None)];
        assert_eq!(said, expected.map(|(field, key)| (field.to_owned(), key)));
    }

    #[test]
    fn a_batch_of_too_many_is_refused_before_it_is_read() {
        let items = vec!["{}"; Limits::default().batch_events_max + 1].join(",");
        assert_eq!(
            refused(&format!("{{\"events\":[{items}]}}")),
            (ErrorCode::InvalidRequest, "events".into())
        );
    }

    /// JSON of the shapes that an event has, right and wrong.
    fn body() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| serde_json::to_string(&n).unwrap()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just("{}".to_owned()),
            Just("[]".to_owned()),
            Just(r#"{"a":"b","c":null,"d":[1]}"#.to_owned()),
            Just(r#"{"base64":"AA=="}"#.to_owned()),
            "\\PC{0,12}",
        ];
        let name = prop_oneof![proptest::sample::select(&FIELDS[..]).prop_map(str::to_owned), "[a-z_]{0,8}"];
        let event = proptest::collection::vec((name, value), 0..6).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        let batch = proptest::collection::vec(event.clone(), 0..4)
            .prop_map(|events| format!("{{\"events\":[{}]}}", events.join(",")));
        prop_oneof![event, batch, any::<String>()]
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_by_the_client_s_fault(body in body()) {
            let fault = |error: &Error| {
                matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotSupported)
            };
            match published(&body) {
                Ok(published) => {
                    for rejected in published.items.into_iter().filter_map(Item::err) {
                        prop_assert!(fault(&rejected.error), "{rejected:?}");
                    }
                }
                Err(error) => prop_assert!(fault(&error), "{error:?}"),
            }
        }
    }
}
