//! Code that is used where it was loaded.

use core::ptr::NonNull;

use allotment::wasmtime::{Delivery, Exception, GUARD_SIZE, PlatformError};

use crate::{
    Calls, MAPPING, NONE, READ, READ_WRITE, after,
    common::{PAGE, TestArch, WASM_PAGE},
    flags, platform, virt,
};

/// A module's pages: one of data, two of code, one of data.
const PAGES: usize = 4;

impl<A: TestArch> Calls<A> {
    fn publish(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        // SAFETY: nothing is executed in these tests.
        unsafe { self.0.publish_code(start, bytes) }
    }

    fn unpublish(&self, start: NonNull<u8>, bytes: usize) -> Result<(), PlatformError> {
        // SAFETY: as above.
        unsafe { self.0.unpublish_code(start, bytes) }
    }

    /// Whether an undefined instruction there is compiled code's.
    pub(crate) fn is_code(&self, pc: NonNull<u8>) -> bool {
        let exception = Exception { pc: pc.as_ptr().addr(), fault: None };
        matches!(self.0.deliver_to(&exception, 0x1234_5000), Delivery::Divert(_))
    }
}

pub(crate) fn in_place<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let before = calls.0.allocator().metrics();
    let module = calls.0.map(PAGES * PAGE, flags(READ_WRITE)).unwrap();
    let page = |page: usize| after(module, page * PAGE);
    (0..PAGES).for_each(|at| calls.store(page(at), 0x90).unwrap());
    calls.protect(module, PAGES * PAGE, READ).unwrap();
    for _ in 0..2 {
        // The length of the text is not one of whole pages.
        calls.publish(page(1), PAGE + 100).unwrap();
        for at in 0..PAGES {
            assert_eq!(calls.is_code(page(at)), at == 1 || at == 2, "page {at}");
            assert_eq!(calls.load(page(at)), Some(0x90));
            assert_eq!(calls.store(page(at), 1), None, "page {at} of published code can be written");
        }
        calls.unpublish(page(1), PAGE + 100).unwrap();
        for at in 0..PAGES {
            assert!(!calls.is_code(page(at)), "page {at}");
            assert_eq!(calls.store(page(at), 0x90).is_some(), at == 1 || at == 2, "page {at}");
        }
    }
    calls.publish(page(1), 2 * PAGE).unwrap();
    calls.unmap(module, PAGES * PAGE).unwrap();
    assert!(!calls.is_code(page(1)), "code outlived its mapping");
    assert_eq!(calls.0.allocator().metrics(), before);
    // A memory is not code, whatever is in it.
    let memory = after(calls.0.map(MAPPING, flags(NONE)).unwrap(), GUARD_SIZE);
    calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
    calls.publish(memory, PAGE).unwrap_err();
    assert!(!calls.is_code(memory));
    calls.store(memory, 1).expect("a refused call took access away");
}

/// What the kernel does not map as code is none.
pub(crate) fn not_mapped_as_code<A: TestArch>() {
    let calls = Calls(platform::<A>());
    let data = NonNull::from(&mut [0u8; 64]).cast::<u8>();
    let refused = calls.publish(data, 64).unwrap_err();
    assert!(matches!(refused, PlatformError::NotExecutable { address } if address.0 <= virt(data).0));
    assert_eq!(calls.0.take_last_error(), Some(refused));
    assert!(!calls.is_code(data));
    // Wasmtime takes back what could not be published, and cannot go on if that fails.
    calls.unpublish(data, 64).unwrap();
    // To the end of the address space, and beyond.
    calls.publish(data, usize::MAX).unwrap_err();
}

/// The kernel's own code, which is mapped as a module in its image would be.
#[cfg(target_os = "none")]
pub(crate) fn outside<A: TestArch>() {
    const LIMIT: usize = 64;
    let calls = Calls(platform::<A>());
    let text = NonNull::new(outside::<A> as fn() as *mut u8).unwrap();
    assert!(!calls.is_code(text));
    for _ in 0..2 {
        calls.publish(text, 64).unwrap();
        assert!(calls.is_code(text) && calls.is_code(after(text, 63)));
        assert!(!calls.is_code(after(text, 64)), "code goes on behind its end");
        assert!(!calls.is_code(NonNull::new(text.as_ptr().wrapping_sub(1)).unwrap()));
        let beyond =
            Exception { pc: text.as_ptr().addr(), fault: Some((0x10, allotment::FaultAccess::Read)) };
        assert!(matches!(calls.0.deliver_to(&beyond, 0x1234_5000), Delivery::Divert(_)));
        calls.unpublish(text, 64).unwrap();
        assert!(!calls.is_code(text));
    }
    for piece in 0..LIMIT {
        // Twice is once.
        (0..2).for_each(|_| calls.publish(after(text, piece), 1).unwrap());
    }
    let refused = calls.publish(after(text, LIMIT), 1).unwrap_err();
    assert_eq!(refused, PlatformError::TooManyPieces { limit: LIMIT });
    (0..2).for_each(|_| calls.unpublish(after(text, 7), 1).unwrap());
    calls.publish(after(text, LIMIT), 1).unwrap();
    assert!(calls.is_code(after(text, LIMIT)) && !calls.is_code(after(text, 7)));
}

/// An image of bytes that may still change does not change with them.
pub(crate) fn image_of_writable<A: TestArch>() {
    let calls = Calls(platform::<A>());
    A::register(calls.0.allocator(), true);
    let data = calls.0.map(2 * PAGE, flags(READ_WRITE)).unwrap();
    (0..2).for_each(|page| calls.store(after(data, page * PAGE + 5), 0x61).unwrap());
    // SAFETY: the mapping has so many bytes.
    let image = unsafe { calls.0.new_image(data, 2 * PAGE) }.unwrap().expect("it is small");
    (0..2).for_each(|page| calls.store(after(data, page * PAGE + 5), 0x62).unwrap());
    let mapping = calls.0.map(MAPPING, flags(NONE)).unwrap();
    let memory = after(mapping, GUARD_SIZE);
    calls.protect(memory, WASM_PAGE, READ_WRITE).unwrap();
    // SAFETY: the image is there, and nobody uses the memory.
    unsafe { calls.0.map_image(image, memory, 2 * PAGE) }.unwrap();
    for page in 0..2 {
        assert_eq!(calls.load(after(memory, page * PAGE + 5)), Some(0x61), "page {page}");
    }
    // SAFETY: it is used no more.
    unsafe { calls.0.free_image(image) };
    calls.unmap(mapping, MAPPING).unwrap();
    A::register(calls.0.allocator(), false);
}
