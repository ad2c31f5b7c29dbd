//! What every `EventLog` must do.

mod append;
mod cancellation;
mod content;
mod place;
mod read;

super::conformance_list! {
    ($)
    /// Stamps the list of `EventLog` on a backend that has a log and its topics:
    /// `testkit::event_log_conformance!(module_name, make_backend);`.
    event_log_conformance in event_log::entries {
        append:
            offsets_follow_the_input_of_each_request_under_concurrent_appends,
            a_later_request_gets_later_offsets,
            a_batch_lies_together_where_the_log_promises_it,
            a_request_is_shared_among_its_partitions,
            what_is_appended_is_readable_once_it_is_answered,
            an_empty_request_has_no_outcomes,
            an_unknown_topic_fails_every_record_without_effect,
            an_unknown_partition_fails_its_records_alone,
            a_record_over_the_topics_limit_fails_alone,
            what_a_passed_deadline_left_open_is_told_later;
        content:
            empty_and_null_keys_and_values_stay_apart,
            headers_keep_their_order_equal_names_and_nulls,
            records_of_one_mebibyte_come_back_as_they_were,
            timestamps_are_the_records_own,
            random_records_come_back_as_they_were;
        read:
            reading_goes_on_while_records_are_appended,
            a_reader_at_the_end_wakes_up_for_a_record,
            a_reader_waits_no_longer_than_it_was_told,
            a_read_brings_no_more_records_than_asked_for,
            a_read_brings_no_more_bytes_than_asked_for_but_one_record_always,
            reading_goes_on_at_next_over_gaps,
            cursors_are_independent,
            a_cursor_goes_where_it_is_sent,
            a_cursor_beyond_the_end_is_out_of_range_and_can_seek,
            an_unknown_partition_cannot_be_opened;
        place:
            a_time_finds_the_first_record_as_late,
            a_time_finds_the_first_record_also_where_times_go_back,
            positions_of_several_partitions_are_answered_in_order,
            an_empty_partition_begins_where_it_ends,
            an_unknown_partition_cannot_be_located,
            trimmed_records_are_out_of_range_and_the_reader_goes_on_at_the_earliest,
            a_trim_reaches_a_reader_that_is_under_way,
            a_deleted_topic_is_gone_for_its_reader,
            a_topic_made_again_has_nothing_of_the_old_one;
        cancellation:
            a_read_that_is_dropped_loses_nothing,
            an_append_that_is_dropped_is_never_applied_twice,
            dropping_calls_leaves_the_log_in_order;
    }
}
