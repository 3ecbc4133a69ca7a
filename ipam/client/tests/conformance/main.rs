//! One and the same suite for every driver: SQLite in a temporary directory, and a real etcd on loopback.

#![allow(clippy::unwrap_used)]

mod backend;
mod cluster;
mod crash;
mod faulty;
mod golden;
mod memory;
mod model;
mod pools;
mod processes;
mod sharing;
mod trouble;

macro_rules! on {
    ($backend:ty: $($module:ident :: $test:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let backend = <$backend as crate::backend::Backend>::start().await;
            crate::$module::$test(&backend).await;
        }
    )+};
}

macro_rules! conformance_of {
    ($name:ident, $backend:ty) => {
        mod $name {
            on! { $backend:
                golden::keys_and_json_are_calicos,
                golden::a_block_of_another_writer_keeps_the_fields_that_we_do_not_know,
                sharing::an_assignment_from_an_owned_block_is_one_handle_and_one_block_write,
                sharing::fifty_assignments_at_once_share_the_writes_of_blocks,
                sharing::a_caller_that_goes_away_leaves_nothing_behind_and_nobody_unserved,
                sharing::an_answer_that_nobody_takes_is_freed,
                sharing::a_copy_of_a_block_that_is_old_costs_a_conflict_and_no_more,
                sharing::a_handle_that_is_asked_for_again_gives_back_what_it_had,
                processes::of_two_processes_that_race_for_the_only_block_one_owns_it_and_one_borrows,
                processes::two_processes_with_a_hundred_assignments_each_share_no_address,
                pools::dual_stack_is_all_or_nothing,
                pools::a_full_pool_says_so_and_serves_again_after_a_release,
                pools::pools_are_chosen_by_request_selector_and_state,
                pools::blocks_of_an_earlier_size_stay_in_use_and_are_not_overlapped,
                pools::a_borrowed_address_is_released_by_its_holder,
                pools::a_freed_address_is_the_last_to_be_assigned_again,
                pools::releasing_twice_is_no_error,
                pools::one_address_is_released_whoever_holds_it,
                trouble::a_block_that_is_not_valid_is_named_and_the_others_stay_usable,
                trouble::a_handle_that_is_not_valid_fails_its_own_request_only,
                trouble::a_block_that_was_taken_away_is_not_written_again,
                trouble::a_block_without_affinity_is_taken_up_again,
                trouble::a_pending_release_of_an_own_block_is_undone,
                trouble::check_finds_what_does_not_agree,
                crash::a_fault_at_any_write_of_an_assignment_and_its_claims_leaves_no_address_with_two_owners,
                crash::a_fault_at_any_write_of_an_assignment_from_owned_blocks_leaves_nothing_leaked,
                crash::a_fault_at_any_write_of_a_release_leaves_nothing_leaked,
            }
        }
    };
}

conformance_of!(on_sqlite, crate::backend::Sqlite);
conformance_of!(on_etcd, crate::backend::Etcd);
