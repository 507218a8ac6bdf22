//! What the documents say of the code, beside the code: names of files, texts of errors. Host only, as it reads both.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
harness::tests! {}

#[cfg(not(target_os = "none"))]
harness::tests! {
    fn architecture_names_every_file_and_no_other() {
        files::compare();
    }

    fn a_file_that_is_not_there_is_found() {
        files::mistakes();
    }

    fn porting_quotes_errors_as_they_are() {
        errors::compare();
    }

    fn every_feature_is_explained_and_built_alone() {
        features::compare();
    }

    fn links_between_documents_lead_somewhere() {
        links::follow();
    }
}

#[cfg(not(target_os = "none"))]
#[path = "documents/errors.rs"]
mod errors;
#[cfg(not(target_os = "none"))]
#[path = "documents/features.rs"]
mod features;
#[cfg(not(target_os = "none"))]
#[path = "documents/files.rs"]
mod files;
#[cfg(not(target_os = "none"))]
#[path = "documents/links.rs"]
mod links;
