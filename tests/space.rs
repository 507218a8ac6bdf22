//! Edits on ranges of pages: each does what it says on any range, says what it
//! did, and leaves everything as it was when it is refused.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;
#[path = "space/harvest.rs"]
mod harvest;
#[path = "space/leaves.rs"]
mod leaves;
#[path = "space/premapped.rs"]
mod premapped;
#[path = "space/refused.rs"]
mod refused;
#[cfg(target_os = "none")]
#[path = "space/roots.rs"]
mod roots;
#[path = "space/shared.rs"]
mod shared;
#[path = "space/sizes.rs"]
mod sizes;
#[path = "space/world.rs"]
mod world;

use harvest::{exact, hidden, hidden_while_written, summaries, while_written};
use leaves::{hide_and_reveal, map, map_one, protect, replace, state, unmap};
use premapped::{marks as premapped_marks, prefix as premapped_prefix, refused as premapped_refused};
use refused::{
    access as refused_access, map as refused_map, out_of_frames as refused_out_of_frames,
    out_of_frames_to_split, outside as refused_outside,
};
use shared::{
    build_refused, foreign, make_private, make_private_at_once, over_an_empty_table, refilled_at_once,
    replace_table, share, untouched,
};
use sizes::{block, block_translates, marked_run, part_of_a_block, run, uneven, whole_block};

harness::tests! {
    fn a_table_of_another_space_is_refused() {
        on_every_machine!(foreign);
    }

    fn map_fills_any_range_over_several_tables() {
        on_every_machine!(map);
    }

    fn one_frame_is_shown_everywhere_and_never_written() {
        on_every_machine!(map_one);
    }

    fn protect_changes_a_part_and_keeps_contents() {
        on_every_machine!(protect);
    }

    fn hidden_pages_fault_and_come_back_as_they_were() {
        on_every_machine!(hide_and_reveal);
    }

    fn a_premapped_run_is_revealed_from_the_first_page_on() {
        on_every_machine!(premapped_prefix);
    }

    fn a_premapped_run_keeps_its_marks_for_the_harvest() {
        on_every_machine!(premapped_marks);
    }

    fn pages_that_are_not_premapped_are_refused() {
        on_every_machine!(premapped_refused);
    }

    fn empty_entries_keep_what_software_notes() {
        on_every_machine!(state);
    }

    fn unmap_hands_every_frame_out_once() {
        on_every_machine!(unmap);
    }

    fn a_replaced_frame_comes_out_when_it_is_settled() {
        on_every_machine!(replace);
    }

    fn harvest_reports_what_was_written_and_forgets_it() {
        on_every_machine!(exact);
    }

    fn harvest_looks_only_at_tables_that_may_be_written() {
        on_every_machine!(summaries);
    }

    fn hidden_pages_keep_their_marks_for_the_harvest() {
        on_every_machine!(hidden);
    }

    fn no_mark_is_lost_while_others_write() {
        on_every_machine!(while_written);
    }

    fn a_page_that_is_hidden_while_it_is_written_is_marked() {
        on_every_machine!(hidden_while_written);
    }

    fn ranges_outside_the_window_are_refused() {
        on_every_machine!(refused_outside);
    }

    fn a_refused_map_changes_nothing() {
        on_every_machine!(refused_map);
    }

    fn a_refused_change_of_access_changes_nothing() {
        on_every_machine!(refused_access);
    }

    fn an_arena_without_frames_for_tables_refuses_edits() {
        on_every_machine!(refused_out_of_frames);
    }

    fn an_arena_without_frames_for_tables_keeps_blocks() {
        on_every_machine!(out_of_frames_to_split);
    }

    fn a_shared_table_shows_the_same_in_every_granule() {
        on_every_machine!(share);
    }

    fn nothing_below_a_shared_table_is_edited() {
        on_every_machine!(untouched);
    }

    fn a_granule_made_private_is_edited_alone() {
        on_every_machine!(make_private);
    }

    fn two_cpus_make_a_granule_private_once() {
        on_every_machine!(make_private_at_once);
    }

    fn a_reserve_that_is_refilled_meanwhile_loses_nothing() {
        on_every_machine!(refilled_at_once);
    }

    fn a_replaced_table_gives_its_frames_out() {
        on_every_machine!(replace_table);
    }

    fn an_empty_table_makes_room_for_a_shared_one() {
        on_every_machine!(over_an_empty_table);
    }

    fn tables_that_could_be_written_are_not_built() {
        on_every_machine!(build_refused);
    }

    fn a_block_is_512_pages_and_back() {
        on_every_machine!(block);
    }

    fn edits_of_a_part_of_a_block_split_it() {
        on_every_machine!(part_of_a_block);
    }

    fn edits_of_a_whole_block_are_one_entry() {
        on_every_machine!(whole_block);
    }

    fn pages_that_are_not_even_stay_pages() {
        on_every_machine!(uneven);
    }

    fn a_run_has_its_hint_on_all_of_it_or_on_none() {
        on_every_machine!(run);
    }

    fn any_mark_of_a_run_is_one_of_all_its_pages() {
        on_every_machine!(marked_run);
    }

    fn a_block_translates_like_its_pages() {
        on_every_machine!(block_translates);
    }

    #[cfg(target_os = "none")]
    fn two_roots_that_share_the_window_see_the_same() {
        roots::two();
    }
}
