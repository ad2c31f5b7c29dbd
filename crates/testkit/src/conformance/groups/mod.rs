//! What every `GroupMembership`, every `OffsetStore` and every `GroupAdmin` must do. Commits are fenced by
//! membership, and what may be done from outside hangs on it, so a backend is tested with all of them.

mod commits;
mod fencing;
mod member;
mod outside;
mod sharing;

super::conformance_list! {
    ($)
    /// Stamps the list of `GroupMembership` on a backend that has topics, membership and offsets:
    /// `testkit::group_membership_conformance!(module_name, make_backend);`.
    group_membership_conformance in groups::membership_entries {
        sharing:
            a_single_member_gets_all_partitions,
            two_members_share_all_partitions,
            many_members_share_all_partitions_and_some_have_none,
            what_a_member_leaves_goes_to_the_others,
            dropping_a_membership_leaves_the_group,
            dropping_a_join_leaves_the_group,
            a_partition_goes_only_to_members_that_read_its_topic,
            groups_do_not_share,
            partitions_that_are_added_are_assigned,
            a_topic_that_is_created_after_the_join_is_assigned,
            dropping_a_wait_for_the_next_event_loses_none;
        fencing:
            a_revocation_is_told_before_it_takes_effect,
            the_new_owner_reads_what_was_committed_in_the_window,
            a_partition_that_moved_is_fenced_for_its_old_owner_alone;
    }
}

super::conformance_list! {
    ($)
    /// Stamps the list of `OffsetStore` on a backend that has topics, membership and offsets:
    /// `testkit::offset_store_conformance!(module_name, make_backend);`.
    offset_store_conformance in groups::offset_entries {
        commits:
            nothing_is_committed_at_first,
            what_was_committed_is_read_back_in_the_order_of_the_question,
            a_commit_replaces_position_and_metadata,
            metadata_of_4096_bytes_of_text_is_kept,
            an_empty_commit_has_no_outcomes,
            a_bad_commit_fails_alone,
            groups_have_positions_of_their_own,
            many_commits_at_once_are_all_kept,
            a_commit_survives_a_restart_and_the_next_membership_goes_on,
            a_group_with_members_cannot_be_deleted,
            a_deleted_group_has_no_positions,
            a_group_that_is_not_known_can_be_deleted;
        fencing:
            a_commit_of_an_old_generation_is_fenced_and_changes_nothing,
            a_commit_for_another_members_partition_is_fenced,
            a_commit_without_membership_is_fenced;
    }
}

super::conformance_list! {
    ($)
    /// Stamps the list of `GroupAdmin` on a backend that has topics, membership, offsets and groups:
    /// `testkit::group_admin_conformance!(module_name, make_backend);`.
    group_admin_conformance in groups::admin_entries {
        outside:
            a_group_with_members_is_listed_and_described,
            a_group_that_its_members_left_is_empty_and_keeps_its_positions,
            a_group_that_is_not_there_is_not_described_and_has_no_positions,
            positions_of_many_groups_are_read_in_the_order_of_the_question,
            nothing_asked_is_nothing_answered,
            the_next_member_begins_at_the_positions_that_were_set,
            a_position_that_was_set_survives_a_restart,
            a_group_with_members_is_not_moved,
            a_position_in_a_partition_that_is_not_there_is_refused_alone,
            an_offset_that_no_log_can_hold_is_refused,
            positions_are_forgotten_one_by_one,
            positions_that_a_member_reads_are_not_forgotten,
            a_group_is_deleted_with_its_positions,
            a_group_whose_members_are_there_is_not_deleted;
    }
}
