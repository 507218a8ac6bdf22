//! What is written is read back, and nothing malformed gets through or panics.

use super::{Payload, PayloadError, WriteError, Writer, alignment_of, strings};

fn sample() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.add("module", vec![7; 100]).unwrap();
    writer.add("guest/b", vec![8; 3]).unwrap();
    writer.add("fs/b", b"content".as_slice()).unwrap();
    writer.add("fs/a/", b"".as_slice()).unwrap();
    writer.add_strings("args", ["module.wasm", "", "ü"]).unwrap();
    writer.to_bytes().unwrap()
}

/// Where the table entry of index `index` begins.
fn entry(index: usize) -> usize {
    super::HEADER_SIZE + index * super::ENTRY_SIZE
}

#[test]
fn entries_come_back_in_order_and_aligned() {
    let bytes = sample();
    let payload = Payload::parse(&bytes).unwrap();
    let names: Vec<&str> = payload.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["args", "fs/a/", "fs/b", "guest/b", "module"]);
    assert_eq!(payload.len(), 5);
    for entry in payload.iter() {
        let offset = entry.data.as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(offset % alignment_of(entry.name), 0, "{}", entry.name);
        assert_eq!(payload.get(entry.name), Some(entry.data));
    }
    assert_eq!(payload.get("module"), Some([7; 100].as_slice()));
    assert_eq!(payload.get("fs/b"), Some(b"content".as_slice()));
    for absent in ["", "a", "fs", "fs/a", "moduleX", "zzz"] {
        assert_eq!(payload.get(absent), None);
    }
}

#[test]
fn a_prefix_selects_its_entries() {
    let bytes = sample();
    let payload = Payload::parse(&bytes).unwrap();
    let under = |prefix| payload.with_prefix(prefix).map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(under("fs/"), ["fs/a/", "fs/b"]);
    assert_eq!(under("fs/b"), ["fs/b"]);
    assert_eq!(under("").len(), 5);
    assert!(under("x").is_empty());
}

#[test]
fn strings_come_back() {
    let bytes = sample();
    let args = Payload::parse(&bytes).unwrap().get("args").unwrap();
    let args: Vec<&[u8]> = strings(args).collect();
    assert_eq!(args, [b"module.wasm".as_slice(), b"", "ü".as_bytes()]);
    assert_eq!(strings(b"").count(), 0);
    assert_eq!(strings(b"\0").collect::<Vec<_>>(), [b""]);
    assert_eq!(strings(b"a\0b").count(), 2);
}

#[test]
fn an_empty_archive_is_fine() {
    let bytes = Writer::new().to_bytes().unwrap();
    let payload = Payload::parse(&bytes).unwrap();
    assert!(payload.is_empty());
    assert_eq!(payload.get("module"), None);
}

#[test]
fn bytes_behind_the_archive_do_not_matter() {
    let mut bytes = sample();
    bytes.extend([0xff; 4096]);
    assert_eq!(Payload::parse(&bytes).unwrap().len(), 5);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample();
    // All short ones, then a sample of the long padding.
    for length in (0..1000).chain((1000..bytes.len()).step_by(997)) {
        assert!(matches!(Payload::parse(&bytes[..length]), Err(PayloadError::Truncated { .. })), "{length}");
    }
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let bytes = sample();
    for at in 0..400 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(payload) = Payload::parse(&changed) {
                // Whatever it now says, all of it can be read.
                for entry in payload.iter() {
                    assert_eq!(payload.get(entry.name), Some(entry.data));
                }
                assert_eq!(payload.iter().count(), payload.len());
            }
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let bytes = sample();
    let with = |at: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        Payload::parse(&changed).unwrap_err()
    };
    let length = bytes.len();
    assert_eq!(with(0, b"ELF"), PayloadError::NotAnArchive);
    assert_eq!(with(8, &[2]), PayloadError::Version { found: 2 });
    assert_eq!(with(16, &u64::MAX.to_le_bytes()), PayloadError::Truncated { needed: u64::MAX, length });
    assert_eq!(
        with(12, &u32::MAX.to_le_bytes()),
        PayloadError::TooManyEntries { count: u32::MAX as usize, length }
    );
    // A name, then data, that ends beyond the archive; then offset + length beyond the integers.
    let outside = |index| PayloadError::OutOfBounds { index, length };
    assert_eq!(with(entry(1) + 4, &u32::MAX.to_le_bytes()), outside(1));
    assert_eq!(with(entry(2) + 16, &(length as u64).to_le_bytes()), outside(2));
    assert_eq!(with(entry(3) + 8, &u64::MAX.to_le_bytes()), outside(3));
    // Names begin behind the table: "args", "fs/a/", ...
    assert_eq!(with(entry(5), &[0xff]), PayloadError::NotUtf8 { index: 0 });
    assert_eq!(with(entry(5), b"x"), PayloadError::Unordered { index: 1 });
    assert_eq!(with(8, &[9]).to_string(), "payload archive of version 9, expected 1");
}

#[test]
fn the_writer_refuses_what_the_reader_would_misread() {
    let mut writer = Writer::new();
    writer.add("env", b"".as_slice()).unwrap();
    assert!(matches!(writer.add("env", b"".as_slice()), Err(WriteError::Duplicate { .. })));
    assert!(matches!(writer.add_strings("args", ["a\0b"]), Err(WriteError::ContainsNul { .. })));
}
