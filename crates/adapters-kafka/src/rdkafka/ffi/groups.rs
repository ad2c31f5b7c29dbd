//! What is seen and changed of consumer groups from outside: all of it blocks, each call with an end.

use super::{Event, Options, Queue, c_string, text};
use ports::{GroupState, GroupType, Result};
use rdkafka::{
    bindings as k,
    client::{Client, ClientContext},
    topic_partition_list::TopicPartitionList,
    types::RDKafkaErrorCode as Code,
};
use std::{collections::VecDeque, ptr, slice, time::Duration};

/// What is asked of many groups is asked of so many at once.
const ASKED_MAX: usize = 64;
/// The client ends a request in time by itself; its answer is given so long to come.
const MARGIN: Duration = Duration::from_secs(1);

/// A code and the client's or broker's own words, where it failed.
pub(in crate::rdkafka) type Answer<T> = Result<T, (Code, String)>;

/// A group of a list.
pub(in crate::rdkafka) struct Listed {
    pub(in crate::rdkafka) name: String,
    pub(in crate::rdkafka) state: GroupState,
    pub(in crate::rdkafka) group_type: GroupType,
}

/// A group with its members.
pub(in crate::rdkafka) struct Described {
    pub(in crate::rdkafka) state: GroupState,
    pub(in crate::rdkafka) group_type: GroupType,
    pub(in crate::rdkafka) members: Vec<Member>,
}

pub(in crate::rdkafka) struct Member {
    pub(in crate::rdkafka) id: String,
    pub(in crate::rdkafka) client_id: String,
    pub(in crate::rdkafka) host: String,
    pub(in crate::rdkafka) assignment: Vec<(String, i32)>,
}

/// A partition of an answer: its place, and what was said of it.
pub(in crate::rdkafka) struct Element {
    pub(in crate::rdkafka) topic: String,
    pub(in crate::rdkafka) partition: i32,
    pub(in crate::rdkafka) offset: i64,
    pub(in crate::rdkafka) metadata: String,
    pub(in crate::rdkafka) code: Code,
}

fn state(state: k::rd_kafka_consumer_group_state_t) -> GroupState {
    use k::rd_kafka_consumer_group_state_t as S;
    match state {
        S::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => GroupState::Stable,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => GroupState::PreparingRebalance,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => GroupState::CompletingRebalance,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => GroupState::Empty,
        S::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => GroupState::Dead,
        _ => GroupState::Unknown,
    }
}

fn group_type(group_type: k::rd_kafka_consumer_group_type_t, is_simple: bool) -> GroupType {
    use k::rd_kafka_consumer_group_type_t as T;
    match group_type {
        _ if is_simple => GroupType::Simple,
        T::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => GroupType::Consumer,
        T::RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => GroupType::Classic,
        _ => GroupType::Unknown,
    }
}

/// Waits for the one answer.
fn wait(queue: &Queue, timeout: Duration) -> Answer<Event> {
    let event =
        queue.poll(timeout + MARGIN).ok_or_else(|| (Code::OperationTimedOut, "no answer".to_owned()))?;
    match event.error() {
        Code::NoError => Ok(event),
        code => Err((code, event.error_text())),
    }
}

/// What an error of librdkafka says; nothing where it is null.
///
/// # Safety
/// `error` is null or valid for this call.
unsafe fn failure(error: *const k::rd_kafka_error_t) -> Answer<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: as this function demands.
    let (code, said) =
        unsafe { (k::rd_kafka_error_code(error).into(), text(k::rd_kafka_error_string(error))) };
    if code == Code::NoError { Ok(()) } else { Err((code, said)) }
}

/// The elements of an array that librdkafka gave.
///
/// # Safety
/// `array` is null or has `count` elements that live as long as `'a`.
unsafe fn all<'a, T>(array: *const T, count: usize) -> &'a [T] {
    if array.is_null() {
        return &[];
    }
    // SAFETY: as this function demands.
    unsafe { slice::from_raw_parts(array, count) }
}

/// The partitions of a list.
///
/// # Safety
/// `list` is null or valid for this call.
unsafe fn elements(list: *const k::rd_kafka_topic_partition_list_t) -> Vec<Element> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list is valid, and so are its `cnt` elements with their texts.
    unsafe {
        let element = |element: &k::rd_kafka_topic_partition_t| Element {
            topic: text(element.topic),
            partition: element.partition,
            offset: element.offset,
            metadata: String::from_utf8_lossy(all(element.metadata.cast(), element.metadata_size))
                .into_owned(),
            code: element.err.into(),
        };
        all((*list).elems, (*list).cnt.max(0) as usize).iter().map(element).collect()
    }
}

/// All consumer groups of the cluster. A broker that did not answer fails the call.
pub(in crate::rdkafka) fn list<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Answer<Vec<Listed>> {
    let options = Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, timeout);
    let queue = Queue::new(client);
    // SAFETY: everything lives for this call, which copies the options.
    unsafe { k::rd_kafka_ListConsumerGroups(client.native_ptr(), options.0, queue.0) };
    let event = wait(&queue, timeout)?;
    // SAFETY: the result and what it holds belong to the event, which lives for this block.
    unsafe {
        let result = k::rd_kafka_event_ListConsumerGroups_result(event.0);
        let mut count = 0;
        let errors = k::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut count);
        for error in all(errors, count) {
            failure(*error)?;
        }
        let found = k::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
        let listed = |group: &*const k::rd_kafka_ConsumerGroupListing_t| {
            let is_simple = k::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(*group) != 0;
            Listed {
                name: text(k::rd_kafka_ConsumerGroupListing_group_id(*group)),
                state: state(k::rd_kafka_ConsumerGroupListing_state(*group)),
                group_type: group_type(k::rd_kafka_ConsumerGroupListing_type(*group), is_simple),
            }
        };
        Ok(all(found, count).iter().map(listed).collect())
    }
}

/// One group with its members.
pub(in crate::rdkafka) fn describe<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    timeout: Duration,
) -> Result<Answer<Described>> {
    let name = c_string(group, "group_admin.describe")?;
    let options =
        Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout);
    let queue = Queue::new(client);
    let mut names = [name.as_ptr()];
    // SAFETY: everything lives for this call, which copies names and options.
    unsafe {
        k::rd_kafka_DescribeConsumerGroups(client.native_ptr(), names.as_mut_ptr(), 1, options.0, queue.0);
    }
    let event = match wait(&queue, timeout) {
        Ok(event) => event,
        Err(failed) => return Ok(Err(failed)),
    };
    // SAFETY: the result and what it holds belong to the event, which lives for this block.
    unsafe {
        let result = k::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        let mut count = 0;
        let found = k::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let Some(group) = all(found, count).first().copied() else {
            return Ok(Err((Code::Fail, "an empty answer".to_owned())));
        };
        if let Err(failed) = failure(k::rd_kafka_ConsumerGroupDescription_error(group)) {
            return Ok(Err(failed));
        }
        let is_simple = k::rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(group) != 0;
        let member = |index: usize| {
            let member = k::rd_kafka_ConsumerGroupDescription_member(group, index);
            let assignment = k::rd_kafka_MemberDescription_assignment(member);
            let assigned = if assignment.is_null() {
                Vec::new()
            } else {
                elements(k::rd_kafka_MemberAssignment_partitions(assignment))
            };
            Member {
                id: text(k::rd_kafka_MemberDescription_consumer_id(member)),
                client_id: text(k::rd_kafka_MemberDescription_client_id(member)),
                host: text(k::rd_kafka_MemberDescription_host(member)),
                assignment: assigned.into_iter().map(|it| (it.topic, it.partition)).collect(),
            }
        };
        Ok(Ok(Described {
            state: state(k::rd_kafka_ConsumerGroupDescription_state(group)),
            group_type: group_type(k::rd_kafka_ConsumerGroupDescription_type(group), is_simple),
            members: (0..k::rd_kafka_ConsumerGroupDescription_member_count(group)).map(member).collect(),
        }))
    }
}

/// All positions of each group, in order. The client asks for one group at a time, so many are asked for
/// without waiting for the answers of those before; `timeout` is that of one, and after that of a group that
/// did not answer those that were not asked yet are given up.
pub(in crate::rdkafka) fn offsets<C: ClientContext>(
    client: &Client<C>,
    groups: &[&str],
    timeout: Duration,
) -> Vec<Answer<Vec<Element>>> {
    let queue = Queue::new(client);
    let unanswered = || Err((Code::OperationTimedOut, "the coordinator did not answer in time".to_owned()));
    let mut answers: Vec<Answer<Vec<Element>>> = groups.iter().map(|_| unanswered()).collect();
    let mut waiting: VecDeque<usize> = (0..groups.len()).collect();
    let (mut asked, mut late) = (0, false);
    loop {
        while asked < ASKED_MAX && !late {
            let Some(index) = waiting.pop_front() else { break };
            match ask_offsets(client, &queue, groups[index], index, timeout) {
                Ok(()) => asked += 1,
                Err(error) => answers[index] = Err((Code::InvalidArgument, error.detail().to_owned())),
            }
        }
        if asked == 0 {
            return answers;
        }
        // The client ends each request in time, so that something comes within that of one.
        let Some(event) = queue.poll(timeout + MARGIN) else { return answers };
        asked -= 1;
        // SAFETY: the event lives for this call.
        let index = unsafe { k::rd_kafka_event_opaque(event.0) }.addr();
        let Some(answer) = answers.get_mut(index) else { continue };
        let code = event.error();
        late |= code == Code::OperationTimedOut;
        *answer = match code {
            // SAFETY: the result and what it holds belong to the event, which lives for this block.
            Code::NoError => unsafe {
                let result = k::rd_kafka_event_ListConsumerGroupOffsets_result(event.0);
                let mut count = 0;
                let found = k::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
                of_group(all(found, count))
            },
            code => Err((code, event.error_text())),
        };
    }
}

/// Asks for all positions of one group; the answer comes to the queue, with `index`.
fn ask_offsets<C: ClientContext>(
    client: &Client<C>,
    queue: &Queue,
    group: &str,
    index: usize,
    timeout: Duration,
) -> Result<()> {
    let name = c_string(group, "group_admin.offsets")?;
    let options =
        Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, timeout);
    // SAFETY: everything lives for these calls, which copy what they are given; no partitions are all
    // partitions; the opaque is a number and is never followed; what was made is destroyed once.
    unsafe {
        k::rd_kafka_AdminOptions_set_opaque(options.0, ptr::without_provenance_mut(index));
        let mut request = [k::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), ptr::null())];
        k::rd_kafka_ListConsumerGroupOffsets(
            client.native_ptr(),
            request.as_mut_ptr(),
            1,
            options.0,
            queue.0,
        );
        k::rd_kafka_ListConsumerGroupOffsets_destroy(request[0]);
    }
    Ok(())
}

/// What was said of the one group that was asked about.
///
/// # Safety
/// The results are valid for this call.
unsafe fn of_group(results: &[*const k::rd_kafka_group_result_t]) -> Answer<Vec<Element>> {
    let Some(result) = results.first().copied() else {
        return Err((Code::Fail, "an empty answer".to_owned()));
    };
    // SAFETY: as this function demands; the list belongs to the result.
    unsafe {
        failure(k::rd_kafka_group_result_error(result))?;
        Ok(elements(k::rd_kafka_group_result_partitions(result)))
    }
}

/// Sets positions of a group, and answers by partition. `list` is not empty.
pub(in crate::rdkafka) fn alter_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    list: &TopicPartitionList,
    timeout: Duration,
) -> Result<Answer<Vec<Element>>> {
    let name = c_string(group, "group_admin.set_offsets")?;
    let options =
        Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, timeout);
    let queue = Queue::new(client);
    // SAFETY: everything lives for these calls, which copy what they are given; what was made is destroyed
    // once.
    unsafe {
        let mut request = [k::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr())];
        k::rd_kafka_AlterConsumerGroupOffsets(
            client.native_ptr(),
            request.as_mut_ptr(),
            1,
            options.0,
            queue.0,
        );
        k::rd_kafka_AlterConsumerGroupOffsets_destroy(request[0]);
    }
    // SAFETY: the result and what it holds belong to the event, which lives for this closure.
    Ok(wait(&queue, timeout).and_then(|event| unsafe {
        let result = k::rd_kafka_event_AlterConsumerGroupOffsets_result(event.0);
        let mut count = 0;
        let found = k::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
        of_group(all(found, count))
    }))
}

/// Forgets positions of a group, and answers by partition. `list` is not empty.
pub(in crate::rdkafka) fn delete_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    list: &TopicPartitionList,
    timeout: Duration,
) -> Result<Answer<Vec<Element>>> {
    let name = c_string(group, "group_admin.delete_offsets")?;
    let options =
        Options::new(client, k::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS, timeout);
    let queue = Queue::new(client);
    // SAFETY: everything lives for these calls, which copy what they are given; what was made is destroyed
    // once.
    unsafe {
        let mut request = [k::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), list.ptr())];
        k::rd_kafka_DeleteConsumerGroupOffsets(
            client.native_ptr(),
            request.as_mut_ptr(),
            1,
            options.0,
            queue.0,
        );
        k::rd_kafka_DeleteConsumerGroupOffsets_destroy(request[0]);
    }
    // SAFETY: the result and what it holds belong to the event, which lives for this closure.
    Ok(wait(&queue, timeout).and_then(|event| unsafe {
        let result = k::rd_kafka_event_DeleteConsumerGroupOffsets_result(event.0);
        let mut count = 0;
        let found = k::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count);
        of_group(all(found, count))
    }))
}
