//! What a test file can declare: everything here goes through the macro as other tests do.

#![cfg_attr(target_os = "none", no_std, no_main)]

harness::tests! {
    /// A test may be documented.
    fn a_function_without_result() {
        assert!("a test".contains("test"));
    }

    fn a_function_with_result() -> Result<(), core::num::ParseIntError> {
        assert_eq!("7".parse::<u8>()?, 7);
        Ok(())
    }

    #[ignore = "would fail; shows that it is left out"]
    fn an_ignored_test() {
        panic!("ran although it is ignored");
    }

    #[cfg(not(target_os = "none"))]
    #[expect(unused_variables, reason = "attributes reach the function")]
    fn a_test_for_the_host_only() {
        let unused = ();
    }

    #[cfg(target_os = "none")]
    fn a_test_for_bare_metal_only() {
        assert_eq!(harness::guest("none").len(), 0);
    }
}
