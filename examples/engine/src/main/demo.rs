//! The program that is always there: prints primes, grows its memory, and then
//! reads beyond it.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use engine::{Engine, Error, Guarded, Store, Trap, ValType, Value};

/// Functions by which guests print: `host.print` takes bytes of memory 0,
/// `host.print_i32` a number.
pub(crate) fn define_printing<A: Guarded>(store: &mut Store<'_, '_, A>, print: fn(&str)) {
    store.host_function("host", "print", &[ValType::I32, ValType::I32], &[], move |caller, arguments| {
        let &[Value::I32(at), Value::I32(len)] = arguments else { return Err(Trap::Host("wrong arguments")) };
        let (at, len) = (u64::from(at.cast_unsigned()), u64::from(len.cast_unsigned()));
        // In pieces, so that no length makes the host allocate much.
        let mut piece = [0; 256];
        for from in (0..len).step_by(piece.len()) {
            let rest = usize::try_from(len - from).map_or(piece.len(), |rest| rest.min(piece.len()));
            caller.read(0, at + from, &mut piece[..rest])?;
            print(&String::from_utf8_lossy(&piece[..rest]));
        }
        Ok(Vec::new())
    });
    store.host_function("host", "print_i32", &[ValType::I32], &[], move |_, arguments| {
        if let [Value::I32(value)] = arguments {
            print(&value.to_string());
            print(" ");
        }
        Ok(Vec::new())
    });
}

/// Runs it. What it says ends with the trap.
///
/// # Errors
///
/// Whatever else than that goes wrong.
pub(crate) fn run<A: Guarded>(engine: &Engine<'_, A>, print: fn(&str)) -> Result<(), Error> {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/demo.wasm"));
    let code = engine.compile(bytes).map_err(|error| Error::DoesNotFit(error.to_string()))?;
    let mut store = Store::new(engine);
    define_printing(&mut store, print);
    let id = store.instantiate("demo", &code)?;
    store.call(id, "main", &[])?;
    print("\n");
    match store.call(id, "too_far", &[]) {
        Err(error @ Error::Trap(Trap::MemoryOutOfBounds, _)) => {
            print(&error.to_string());
            print("\n");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Err(Error::DoesNotFit("the byte after the memory was readable".into())),
    }
}
