//! Vector registers survive every kind of fault. Bare metal only.
//!
//! ```text
//!   trial: pattern -> all registers,  an instruction that faults,  all registers -> memory
//!                                       |- answered.rs: a hook clobbers them and goes on behind it
//!                                       `- resumed.rs:  a resolver makes the access possible
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
harness::tests! {}

#[cfg(target_os = "none")]
#[path = "vectors"]
mod bare {
    mod answered;
    mod resumed;
    mod trial;

    harness::tests! {
        fn vectors_survive_a_page_fault() {
            answered::page_fault();
        }

        fn vectors_survive_an_invalid_instruction() {
            answered::invalid_instruction();
        }

        #[cfg(target_arch = "x86_64")]
        fn vectors_survive_a_division_error() {
            answered::division_error();
        }

        fn vectors_survive_a_trap_that_is_delivered() {
            resumed::trap();
        }

        fn vectors_survive_a_jump_to_data() {
            resumed::jump();
        }

        fn vectors_survive_the_first_touch_of_a_page() {
            resumed::untouched();
        }

        fn vectors_survive_a_page_that_was_given_meanwhile() {
            resumed::given_meanwhile();
        }

        #[cfg(target_arch = "aarch64")]
        fn vectors_survive_the_first_write_to_a_clean_page() {
            resumed::clean();
        }

        fn vectors_survive_first_touches_that_race() {
            resumed::racing();
        }
    }
}
