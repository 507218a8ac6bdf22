//! The table of all preview 1 functions.

#[cfg(feature = "async")]
use alloc::boxed::Box;

use wasmtime::{Caller, Extern, Linker, Result};

use crate::{Exit, Guest, Host, Wasi, errno::returned};

/// The name that modules import from.
const MODULE: &str = "wasi_snapshot_preview1";

/// Defines every function of preview 1 in `linker`, where `state` finds a program's state in the store's
/// data. The program's memory is its export `memory`.
///
/// # Errors
/// If `linker` has one of the names already.
pub fn add_to_linker<T, H>(
    linker: &mut Linker<T>,
    state: impl Fn(&mut T) -> &mut Wasi<H> + Copy + Send + Sync + 'static,
) -> Result<()>
where
    T: 'static,
    H: Host + 'static,
{
    // Each line is one import with its core wasm signature; the method of the same name does the work.
    macro_rules! define {
        ($($name:ident($($argument:ident: $type:ty),*);)*) => {$(
            linker.func_wrap(
                MODULE,
                stringify!($name),
                move |mut caller: Caller<'_, T>, $($argument: $type),*| -> i32 {
                    let (mut memory, data) = memory_and_data(&mut caller);
                    returned(state(data).$name(&mut memory, $($argument),*))
                },
            )?;
        )*};
    }
    define! {
        args_get(argv: u32, buffer: u32);
        args_sizes_get(count: u32, size: u32);
        environ_get(environ: u32, buffer: u32);
        environ_sizes_get(count: u32, size: u32);
        clock_res_get(clock: u32, resolution: u32);
        clock_time_get(clock: u32, precision: u64, time: u32);
        fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
        fd_allocate(fd: u32, offset: u64, len: u64);
        fd_close(fd: u32);
        fd_datasync(fd: u32);
        fd_fdstat_get(fd: u32, stat: u32);
        fd_fdstat_set_flags(fd: u32, flags: u32);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fd_filestat_get(fd: u32, stat: u32);
        fd_filestat_set_size(fd: u32, size: u64);
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
        fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, read: u32);
        fd_prestat_dir_name(fd: u32, path: u32, len: u32);
        fd_prestat_get(fd: u32, prestat: u32);
        fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, written: u32);
        fd_read(fd: u32, vectors: u32, count: u32, read: u32);
        fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, used: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, position: u32);
        fd_write(fd: u32, vectors: u32, count: u32, written: u32);
        path_create_directory(fd: u32, path: u32, len: u32);
        path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, stat: u32);
        path_filestat_set_times(fd: u32, lookup: u32, path: u32, len: u32, accessed: u64, modified: u64, flags: u32);
        path_link(fd: u32, lookup: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32);
        path_open(fd: u32, lookup: u32, path: u32, len: u32, how: u32, base: u64, inheriting: u64, flags: u32, opened: u32);
        path_readlink(fd: u32, path: u32, len: u32, buffer: u32, buffer_len: u32, used: u32);
        path_remove_directory(fd: u32, path: u32, len: u32);
        path_rename(fd: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32);
        path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
        path_unlink_file(fd: u32, path: u32, len: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, happened: u32);
        proc_raise(signal: u32);
        random_get(buffer: u32, len: u32);
        sched_yield();
        sock_accept(fd: u32, flags: u32, accepted: u32);
        sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, received: u32, out_flags: u32);
        sock_send(fd: u32, vectors: u32, count: u32, flags: u32, sent: u32);
        sock_shutdown(fd: u32, how: u32);
    }
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> Result<()> { Err(Exit(code).into()) })?;
    Ok(())
}

/// Has the two calls that wait, `poll_oneoff` and `sched_yield`, give way to others: they await what `wait` says
/// of a point of the monotonic clock, in nanoseconds, instead of having the machine sleep. For stores that are
/// called asynchronously; after [`add_to_linker`], whose functions these take the place of.
///
/// # Errors
/// If `linker` does not take them.
#[cfg(feature = "async")]
pub fn add_waiting_to_linker<T, H, F>(
    linker: &mut Linker<T>,
    state: impl Fn(&mut T) -> &mut Wasi<H> + Copy + Send + Sync + 'static,
    wait: impl Fn(u64) -> F + Copy + Send + Sync + 'static,
) -> Result<()>
where
    T: Send + 'static,
    H: Host + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    linker.allow_shadowing(true);
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        move |mut caller: Caller<'_, T>, (subscriptions, events, count, happened): (u32, u32, u32, u32)| {
            Box::new(async move {
                let (memory, data) = memory_and_data(&mut caller);
                let begun = state(data).begin_poll(&memory, subscriptions, events, count, happened);
                let polling = match begun {
                    Ok(polling) => polling,
                    Err(errno) => return returned(Err(errno)),
                };
                if let Some(deadline) = polling.until() {
                    wait(deadline).await;
                }
                let (mut memory, data) = memory_and_data(&mut caller);
                let ended =
                    state(data).end_poll(&mut memory, polling, subscriptions, events, count, happened);
                returned(ended)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "sched_yield", move |_: Caller<'_, T>, (): ()| {
        Box::new(async move {
            wait(0).await;
            returned(Ok(()))
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The caller's memory, or none, and the store's data.
fn memory_and_data<'a, T: 'static>(caller: &'a mut Caller<'_, T>) -> (Guest<'a>, &'a mut T) {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let (bytes, data) = match memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (Default::default(), caller.data_mut()),
    };
    (Guest::new(bytes), data)
}
