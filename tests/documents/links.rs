//! Links from one document to a file, and to a heading in it.

use std::{fs, path::Path};

pub(crate) fn follow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("arch/README.md"), root.join("CHANGELOG.md")];
    for entry in fs::read_dir(root.join("docs")).expect("the documents") {
        let path = entry.expect("a document").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    let mut dead = Vec::new();
    let mut followed = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("a document");
        for link in links(&text) {
            followed += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().expect("a file").join(file) };
            let leads = target.exists()
                && (heading.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| headings(&text).any(|one| one == heading)));
            if !leads {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(followed > 20, "{followed} links are few");
    assert!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
}

/// Targets of links within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).filter(
        |target| {
            !target.contains("://") && !target.contains(' ') && !target.contains("::") && !target.is_empty()
        },
    )
}

/// Headings as links name them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = words
            .chars()
            .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
            .collect();
        kept.replace(' ', "-")
    })
}
