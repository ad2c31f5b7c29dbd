//! What other systems' suites check of consuming, over the reference model and paused time.
//!
//! A module a suite; each test names the test that it was taken from. What a test elsewhere proves already is
//! not proved again; what needs the real binary or a real Kafka is end to end (`tests/tests`):
//!
//! | suite | its test | proved by |
//! | --- | --- | --- |
//! | Watermill | `TestPublishSubscribeInOrder` | `simulator`; end to end `reliable::each_key_keeps_its_order_over_many_clients_that_fail_one_in_ten` |
//! | Watermill | `TestMessageCtx` | `pushing::a_deletion_ends_what_is_under_way`, `handler::what_a_stop_cuts_off_comes_again_at_once_and_no_attempt_counts` |
//! | Watermill | `TestSubscribeCtx` | `subscriptions::pulling::a_pull_that_is_given_up_gives_back_and_counts_no_attempt` |
//! | Watermill | the end of the stream in `TestPublishSubscribe` | `subscriptions::pulling::a_pull_that_waits_is_answered_when_the_subscription_stops` |
//! | Watermill | `TestConcurrentClose`, `TestSubscribeCtx`, by connections that end | end to end `scenarios::clients_that_hang_up_while_they_wait_take_nothing_with_them` |
//! | Watermill | `TestPublisherClose` | `respond_async::a_stop_takes_nothing_more_and_gives_up_at_its_deadline_by_name`; end to end `crash` |
//! | Parallel Consumer | `offsetsAreNeverCommittedForMessagesStillInFlight…` | `subscriptions::surviving::a_stop_keeps_what_was_done_beyond_a_gap_and_the_gap_comes_again`, the core's `the_committable_offset_never_passes_an_undecided_event`, `simulator` |
//! | Parallel Consumer | `correctOffsetVerySimple` | `subscriptions::handlers::a_linked_handler_gets_everything_once_and_progress_is_kept` |
//! | Parallel Consumer | `largeNumberOfMessagesSmallOffsetBitmap`, as to its size | the commit map's `kafkas_default_has_room_for_twenty_thousand_offsets_of_which_every_other_is_done` |
//! | Parallel Consumer | `brokerPollPausedWithHighNumberInShards` | the core's `what_is_held_has_a_bound_of_its_own` |
//! | Parallel Consumer | `awaitingWorkContainers` stays flat while work is retried | the core's `an_event_costs_the_same_whatever_else_is_there`, `a_key_that_fails_over_and_over_at_once_does_not_keep_others_from_their_turn` |
//! | Parallel Consumer | `overLappingTransactions`, `dontBlockFirstRecords`, over Kafka's transactions | end to end `scenarios::of_transactions_that_overlap_the_committed_come_and_markers_hold_nothing_up` |
//! | Parallel Consumer | `compactedTopic`, over Kafka's compaction | end to end `scenarios::what_compaction_took_is_passed_and_what_was_done_beyond_a_commit_stays_done` |
//! | Parallel Consumer | `committedOffsetLower` and the like, over a purge of either log | end to end `scenarios::what_a_purge_took_from_under_a_commit_is_passed_and_what_was_done_beyond_stays_done` |
//! | Parallel Consumer | `consumeWithMultipleInstances`, over Kafka's groups | end to end `replicas` |
//! | Spring Kafka | `shouldRetryFirstTopic`, `shouldRetryThirdTopic…` as to its attempts | `subscriptions::retry_topics::what_waits_in_a_retry_topic_is_done_at_its_place_and_comes_again_when_it_is_due` |
//! | Spring Kafka | `shouldRetryViaBlockingAndTopics`, `shouldRetryOnlyViaTopic` | `subscriptions::retry_topics::a_delay_that_is_asked_for_is_never_cut_short_by_its_topic` (none waits in no topic) |
//! | Spring Kafka | `shouldRetryOnlyViaBlocking` | the core's `a_retry_holds_its_key_and_others_go_on` |
//! | Spring Kafka | `shouldGoStraightToDltIfFrameworkProvidedFatal` | `handler::a_value_that_cannot_be_decoded_is_a_dead_letter_at_once_and_never_reaches_the_handler` |
//! | Spring Kafka | the header of a delivery's attempt | `push::an_id_is_the_same_at_each_attempt_and_the_signature_is_of_the_attempt` |
//! | uForwarder | a status decides what becomes of an event (`DispatcherImplTest`) | `push::each_answer_means_what_is_documented`, for HTTP |
//! | uForwarder | a queue that is full holds up, and one that is cancelled (`LinkedAckTrackingQueueTest`) | `subscriptions::pulling::no_more_is_out_than_max_in_flight`, `pushing::a_deletion_ends_what_is_under_way` |
//! | uForwarder | what cannot be produced to the retry queue (`ProcessorImplTest`) | `subscriptions::retry_topics::a_retry_topic_that_cannot_be_written_keeps_the_event_where_it_is` |
//! | Hermes | `shouldRetryOnClientErrors…`, `shouldNotRetryOnClientErrors` | `push::each_answer_means_what_is_documented` |
//! | Hermes | `shouldRetryWithDelayOnRetryAfter…` | `push::retry_after_is_honoured_in_seconds_and_as_a_date`; end to end `push::retry_after_beats_the_backoff_and_is_bounded` |
//! | Hermes | a batch, and what its receiver says of each event | `push::a_batch_is_answered_event_by_event` |
//! | Hermes | trace headers | `push::binary_mode_sends_the_value_as_it_is_and_attributes_as_headers` |
//! | Dapr | in order, by partition, after a consumer was killed | `subscriptions::surviving`, `simulator`; end to end `crash`, `reliable`, `replicas` |
//!
//! What does not apply, and why:
//!
//! - Spring Kafka, a timeout over all attempts (`shouldRetryThirdTopicWithTimeout`), and Hermes'
//!   `shouldRetryUntilTtlExceeded`: retries end by their number alone.
//! - Spring Kafka, one retry topic for several listeners (`shouldRetryFirstReuseRetryTopic`), and a dead letter
//!   topic an exception: each subscription has its own; the kind of a failure stands in the dead letter.
//! - Parallel Consumer, `produceTimeout` and what else concerns its own producer: handlers publish by themselves.
//! - uForwarder, statuses of gRPC and quotas; Hermes, addresses with variables of the event, batches by size, time
//!   or volume, and a dry run of a move: there are none.
//! - Hermes and Watermill, what publishing refuses: `publish` and `bad_input` have it.
//! - Brokers that are stopped, networks that are cut, processes that are killed: end to end, over real servers.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod hermes;
mod parallel_consumer;
mod parallel_consumer_commits;
mod spring_retry_topics;
mod uforwarder;
mod watermill;
