//! An image is the kernel, unmoved, and a payload where the slot says.

use object::elf::{PF_R, PT_LOAD, PT_NULL, PT_PHDR};
use protocol::image::PayloadSlot;
use protocol::payload::{Payload, Writer};

use super::{plan, takes_payload, write};

const TABLE: usize = 64;
const SLOT: usize = 0x200;
const SECOND: usize = 0x300;
const LENGTH: usize = 0x345;

fn put(file: &mut [u8], at: usize, value: u64, size: usize) {
    file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// The smallest kernel: two segments and the slot. Its length is odd.
fn kernel() -> Vec<u8> {
    let mut file = vec![0; LENGTH];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    put(&mut file, 16, 2, 2); // e_type: executable
    put(&mut file, 18, 62, 2); // e_machine
    put(&mut file, 20, 1, 4); // e_version
    put(&mut file, 32, TABLE as u64, 8); // e_phoff
    put(&mut file, 52, 64, 2); // e_ehsize
    put(&mut file, 54, 56, 2); // e_phentsize
    put(&mut file, 56, 2, 2); // e_phnum
    put(&mut file, TABLE, u64::from(PT_PHDR), 4);
    put(&mut file, TABLE + 56, u64::from(PT_LOAD), 4);
    put(&mut file, TABLE + 56 + 24, 0x20_0000, 8); // p_paddr
    put(&mut file, TABLE + 56 + 32, LENGTH as u64, 8); // p_filesz
    put(&mut file, TABLE + 56 + 40, 0x1_2345, 8); // p_memsz
    file[SLOT..SLOT + PayloadSlot::SIZE].copy_from_slice(&PayloadSlot::EMPTY.to_bytes());
    file
}

/// The `size` bytes at `at` as a number.
fn get(file: &[u8], at: u64, size: usize) -> u64 {
    let at = usize::try_from(at).unwrap();
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&file[at..at + size]);
    u64::from_le_bytes(bytes)
}

#[test]
fn the_payload_is_where_slot_and_segment_say() {
    let mut payload = Writer::new();
    payload.add("module", vec![9; 1000]).unwrap();
    let name = format!("image-{}.elf", std::process::id());
    let path = crate::workspace::cache("test-image").unwrap().join(name);
    let end = write(&kernel(), &payload, &path).unwrap();
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();

    let slot = SLOT as u64;
    let (address, length) = (get(&image, slot + 16, 8), get(&image, slot + 24, 8));
    assert_eq!(address, 0x22_0000, "64 KiB aligned, behind the kernel's last byte in memory");
    assert_eq!(end, address + length);

    let table = get(&image, 32, 8);
    assert_eq!(get(&image, 56, 2), 3);
    assert_eq!(table % 8, 0);
    assert_eq!(get(&image, table, 4), u64::from(PT_NULL), "the old PT_PHDR");
    let segment = table + 2 * 56;
    let field = |offset, size| get(&image, segment + offset, size);
    assert_eq!(field(0, 4), u64::from(PT_LOAD));
    assert_eq!(field(4, 4), u64::from(PF_R));
    assert_eq!([field(16, 8), field(24, 8)], [address; 2]);
    assert_eq!([field(32, 8), field(40, 8)], [length; 2]);
    let offset = usize::try_from(field(8, 8)).unwrap();
    assert_eq!(offset % 4096, 0);
    let archive = &image[offset..offset + usize::try_from(length).unwrap()];
    assert_eq!(Payload::parse(archive).unwrap().get("module"), Some([9; 1000].as_slice()));
}

#[test]
fn nothing_of_the_kernel_moves() {
    let kernel = kernel();
    let name = format!("unmoved-{}.elf", std::process::id());
    let path = crate::workspace::cache("test-image").unwrap().join(name);
    write(&kernel, &Writer::new(), &path).unwrap();
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let changed: Vec<usize> = (0..kernel.len()).filter(|at| kernel[*at] != image[*at]).collect();
    let may_change = |at: &usize| {
        (32..40).contains(at) || (56..58).contains(at) || (SLOT + 16..SLOT + PayloadSlot::SIZE).contains(at)
    };
    assert!(changed.iter().all(may_change), "{changed:x?}");
}

#[test]
fn what_cannot_take_a_payload_is_refused() {
    assert!(takes_payload(&kernel()));
    let error = |file: &[u8]| format!("{:#}", plan(file, 1).unwrap_err());
    assert!(error(b"\0asm").contains("ELF"));

    let mut no_slot = kernel();
    no_slot[SLOT] = b'q';
    assert!(!takes_payload(&no_slot));
    assert!(error(&no_slot).contains(".payload_slot"));

    let mut filled = kernel();
    filled[SLOT + 16] = 1;
    assert!(!takes_payload(&filled));

    let mut two = kernel();
    two[SECOND..SECOND + PayloadSlot::SIZE].copy_from_slice(&PayloadSlot::EMPTY.to_bytes());
    assert!(error(&two).contains("0x200 and 0x300"));
    // Cut off anywhere: an error, not a panic.
    for length in 0..SLOT + PayloadSlot::SIZE {
        assert!(plan(&kernel()[..length], 1).is_err(), "{length}");
    }
}
