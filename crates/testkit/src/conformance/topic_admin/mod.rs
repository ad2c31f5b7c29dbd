//! What every `TopicAdmin` must do.

mod settings;
mod topics;

super::conformance_list! {
    ($)
    /// Stamps the list of `TopicAdmin` on a backend that has a log and its topics:
    /// `testkit::topic_admin_conformance!(module_name, make_backend);`.
    topic_admin_conformance in topic_admin::entries {
        topics:
            a_topic_is_usable_once_it_is_created,
            a_topic_cannot_be_created_twice,
            a_topic_without_partitions_is_refused_by_name,
            a_replication_that_cannot_be_is_refused_by_name,
            topics_are_listed_with_what_they_hold,
            a_topic_is_described_with_its_offsets,
            an_unknown_topic_is_not_described,
            names_that_look_alike_stay_apart,
            partitions_can_be_added_but_not_taken,
            a_trim_answers_the_earliest_offsets,
            a_trim_beyond_the_end_changes_nothing,
            a_deleted_topic_is_gone_and_can_be_made_again,
            what_is_unknown_is_not_found,
            the_cluster_has_an_id_and_a_node;
        settings:
            settings_are_taken_at_creation,
            a_setting_can_be_changed_and_reset,
            a_bad_setting_is_refused_by_name_at_creation,
            changes_are_made_all_or_none;
    }
}
