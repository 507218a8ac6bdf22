//! Descriptions of modules: what is not whole is refused, whatever it is, and with
//! words that say what to do.

#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "modules/bad.rs"]
mod bad;
mod common;
#[path = "modules/errors.rs"]
mod errors;
#[path = "common/module.rs"]
mod module;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "sequences have their own number of rounds here")]
mod random;
#[path = "modules/whatever.rs"]
mod whatever;

harness::tests! {
    fn what_is_not_there_is_named() {
        bad::missing();
    }

    fn counts_that_do_not_fit_are_named() {
        bad::counts();
    }

    fn a_function_that_is_referred_to_has_a_place() {
        bad::references();
    }

    fn an_expression_leaves_one_value() {
        bad::expressions();
    }

    fn a_global_sees_those_before_it_only() {
        bad::order_of_globals();
    }

    fn tables_without_end_are_not_worked_out() {
        on_every_machine!(bad::large_tables);
    }

    fn errors_say_what_and_what_to_do() {
        errors::texts();
    }

    fn an_error_of_any_kind_is_one_of_the_hosts() {
        errors::conversions();
    }

    fn whatever_is_described_is_refused_or_lives() {
        on_every_machine!(whatever::described);
    }
}
