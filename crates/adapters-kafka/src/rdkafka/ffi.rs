//! The few calls of librdkafka that the client crate does not offer. The only unsafe code of the
//! workspace; every function here is safe to call.
#![allow(unsafe_code, reason = "librdkafka is a C library")]

pub(super) mod groups;

use ports::{ErrorKind, PortError, Result};
use rdkafka::{
    bindings as k,
    client::{Client, ClientContext},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionList,
    types::RDKafkaErrorCode as Code,
};
use std::{
    ffi::{CStr, CString, c_char},
    ptr, slice,
    time::Duration,
};

fn millis(timeout: Duration) -> i32 {
    timeout.as_millis().min(i32::MAX as u128) as i32
}

/// The text behind a pointer that librdkafka gave, or nothing.
///
/// # Safety
/// `text` is null or points to a text that ends in NUL and lives for this call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as this function demands.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A queue of ours, that answers come to.
struct Queue(*mut k::rd_kafka_queue_t);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    fn new<C: ClientContext>(client: &Client<C>) -> Self {
        // SAFETY: the client's handle is valid while the client is borrowed; a queue keeps its own
        // reference to it.
        Self(unsafe { k::rd_kafka_queue_new(client.native_ptr()) })
    }

    fn poll(&self, timeout: Duration) -> Option<Event> {
        // SAFETY: the queue lives as long as `self`.
        let event = unsafe { k::rd_kafka_queue_poll(self.0, millis(timeout)) };
        (!event.is_null()).then_some(Event(event))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new` and destroyed once.
        unsafe { k::rd_kafka_queue_destroy(self.0) };
    }
}

struct Event(*mut k::rd_kafka_event_t);

impl Event {
    fn error(&self) -> Code {
        // SAFETY: the event lives as long as `self`.
        unsafe { k::rd_kafka_event_error(self.0) }.into()
    }

    fn error_text(&self) -> String {
        // SAFETY: the text lives as long as the event.
        unsafe { text(k::rd_kafka_event_error_string(self.0)) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given to us by `rd_kafka_queue_poll` and destroyed once.
        unsafe { k::rd_kafka_event_destroy(self.0) };
    }
}

/// The overall code of a commit, and one for each partition.
pub(super) type CommitAnswer = (Code, Vec<(String, i32, Code)>);

/// A commit that was handed over and whose answer is to come.
pub(super) struct PendingCommit(Queue);

/// Hands a commit over without waiting. The answer has an outcome for each partition, which neither the
/// client crate's sync nor its async commit tells.
pub(super) fn commit<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
) -> Result<PendingCommit, Code> {
    let queue = Queue::new(client);
    // SAFETY: client, list and queue live for this call, which copies the list; without a callback the
    // answer comes to the queue.
    let code: Code = unsafe {
        k::rd_kafka_commit_queue(client.native_ptr(), offsets.ptr(), queue.0, None, ptr::null_mut())
    }
    .into();
    if code == Code::NoError { Ok(PendingCommit(queue)) } else { Err(code) }
}

impl PendingCommit {
    /// Waits for the answer: the overall code, and one for each partition. `None` when it did not come
    /// in time. Blocks.
    pub(super) fn wait(self, timeout: Duration) -> Option<CommitAnswer> {
        let event = self.0.poll(timeout)?;
        // SAFETY: the list belongs to the event, which lives for this call; its `cnt` elements are valid.
        let each = unsafe {
            let list = k::rd_kafka_event_topic_partition_list(event.0);
            if list.is_null() || (*list).elems.is_null() {
                Vec::new()
            } else {
                slice::from_raw_parts((*list).elems, (*list).cnt.max(0) as usize)
                    .iter()
                    .map(|element| (text(element.topic), element.partition, Code::from(element.err)))
                    .collect()
            }
        };
        Some((event.error(), each))
    }
}

/// The metadata of each element of a list, in order. Bytes that are not UTF-8, as another tool may
/// have committed, are replaced (the client crate would panic).
pub(super) fn metadata(list: &TopicPartitionList) -> Vec<String> {
    // SAFETY: the list lives for this call; its elements and their metadata are valid as librdkafka made them.
    unsafe {
        let list = list.ptr();
        if (*list).elems.is_null() {
            return Vec::new();
        }
        slice::from_raw_parts((*list).elems, (*list).cnt.max(0) as usize)
            .iter()
            .map(|element| {
                if element.metadata.is_null() {
                    return String::new();
                }
                let bytes = slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
                String::from_utf8_lossy(bytes).into_owned()
            })
            .collect()
    }
}

/// Gives each header of a message to `take`, as the bytes that the producer wrote (the client crate
/// would panic on a name that is not UTF-8).
pub(super) fn headers(message: &BorrowedMessage<'_>, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    // SAFETY: the message lives for this call, and names and values belong to it.
    unsafe {
        let mut headers = ptr::null_mut();
        if Code::from(k::rd_kafka_message_headers(message.ptr(), &raw mut headers)) != Code::NoError {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let code =
                k::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size);
            if Code::from(code) != Code::NoError {
                return;
            }
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            take(CStr::from_ptr(name).to_bytes(), value);
        }
    }
}

/// The end of a partition as the consumer last heard of it; `None` before its first fetch.
pub(super) fn known_end<C: ClientContext>(client: &Client<C>, topic: &CStr, partition: i32) -> Option<u64> {
    let (mut low, mut high) = (0, 0);
    // SAFETY: client and name live for this call, which only reads what is cached.
    let code: Code = unsafe {
        k::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    }
    .into();
    (code == Code::NoError).then(|| u64::try_from(high).ok()).flatten()
}

/// An array of C strings that lives as long as a call needs it.
fn c_string(text: &str, operation: &'static str) -> Result<CString> {
    CString::new(text).map_err(|_| PortError::new(ErrorKind::Invalid, operation, "a text must not hold NUL"))
}

struct Options(*mut k::rd_kafka_AdminOptions_t);

impl Options {
    fn new<C: ClientContext>(
        client: &Client<C>,
        operation: k::rd_kafka_admin_op_t,
        timeout: Duration,
    ) -> Self {
        // SAFETY: the client lives for this call; a null text with size 0 is allowed.
        unsafe {
            let options = k::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
            k::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), ptr::null_mut(), 0);
            Self(options)
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new` and destroyed once.
        unsafe { k::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

struct Resource(*mut k::rd_kafka_ConfigResource_t);

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_ConfigResource_new` and destroyed once.
        unsafe { k::rd_kafka_ConfigResource_destroy(self.0) };
    }
}

/// Changes some settings of a topic and leaves the others (KIP-339); `None` resets. Answers the code and
/// the broker's own words. Blocks.
pub(super) fn alter_topic_config<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    changes: &[(String, Option<String>)],
    timeout: Duration,
) -> Result<(Code, String)> {
    const OPERATION: &str = "topic_admin.alter";
    let name = c_string(topic, OPERATION)?;
    // SAFETY: the name lives for the call, which copies it.
    let resource = Resource(unsafe {
        k::rd_kafka_ConfigResource_new(k::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr())
    });
    for (key, value) in changes {
        let c_key = c_string(key, OPERATION)?;
        let c_value = value.as_deref().map(|value| c_string(value, OPERATION)).transpose()?;
        let (operation, value) = match &c_value {
            Some(value) => {
                (k::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, value.as_ptr())
            }
            None => (k::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, ptr::null()),
        };
        // SAFETY: the resource lives, the texts live for the call, which copies them; the error is
        // destroyed once.
        let refused = unsafe {
            let error = k::rd_kafka_ConfigResource_add_incremental_config(
                resource.0,
                c_key.as_ptr(),
                operation,
                value,
            );
            if error.is_null() {
                None
            } else {
                let said = text(k::rd_kafka_error_string(error));
                k::rd_kafka_error_destroy(error);
                Some(said)
            }
        };
        if let Some(said) = refused {
            return Err(PortError::new(ErrorKind::Invalid, OPERATION, format!("`{key}`: {said}")));
        }
    }
    let options =
        Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout);
    let queue = Queue::new(client);
    let mut resources = [resource.0];
    // SAFETY: everything lives for this call, which copies the resources.
    unsafe {
        k::rd_kafka_IncrementalAlterConfigs(
            client.native_ptr(),
            resources.as_mut_ptr(),
            1,
            options.0,
            queue.0,
        );
    }
    let Some(event) = queue.poll(timeout + Duration::from_secs(1)) else {
        return Ok((Code::OperationTimedOut, "no answer".to_owned()));
    };
    if event.error() != Code::NoError {
        return Ok((event.error(), event.error_text()));
    }
    // SAFETY: the result and its resources belong to the event, which lives for this block.
    unsafe {
        let result = k::rd_kafka_event_IncrementalAlterConfigs_result(event.0);
        let mut count = 0;
        let answers = k::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
        if answers.is_null() || count == 0 {
            return Ok((Code::Fail, "an empty answer".to_owned()));
        }
        let answer = *answers;
        let code: Code = k::rd_kafka_ConfigResource_error(answer).into();
        Ok((code, text(k::rd_kafka_ConfigResource_error_string(answer))))
    }
}

/// The id that the cluster gave a topic (KIP-516). Blocks.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>> {
    let name = c_string(topic, "topic_admin.describe")?;
    let options = Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
    let queue = Queue::new(client);
    let mut names = [name.as_ptr()];
    // SAFETY: everything lives for these calls, which copy the names; the collection is destroyed once.
    unsafe {
        let topics = k::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        k::rd_kafka_DescribeTopics(client.native_ptr(), topics, options.0, queue.0);
        k::rd_kafka_TopicCollection_destroy(topics);
    }
    let Some(event) = queue.poll(timeout + Duration::from_secs(1)) else { return Ok(None) };
    if event.error() != Code::NoError {
        return Ok(None);
    }
    // SAFETY: the result and what it holds belong to the event, which lives for this block.
    unsafe {
        let result = k::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let found = k::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if found.is_null() || count == 0 {
            return Ok(None);
        }
        let id = k::rd_kafka_TopicDescription_topic_id(*found);
        if id.is_null() {
            return Ok(None);
        }
        Ok(Some(text(k::rd_kafka_Uuid_base64str(id))).filter(|id| !id.is_empty()))
    }
}
