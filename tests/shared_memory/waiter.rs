//! An embedder's way to have threads wait: they spin.

use alloc::{sync::Arc, vec::Vec};
use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use allotment::{
    arch::VirtAddr,
    instance::{AtomicWaiter, WaitResult},
};
use spin::Mutex;

/// A list of who waits where. Time is counted in looks at it.
#[derive(Default)]
pub(crate) struct Waiter {
    sleepers: Mutex<Vec<(VirtAddr, Arc<AtomicBool>)>>,
    asked: Mutex<Vec<Asked>>,
}

/// What it was asked, with the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Wait(VirtAddr, Option<Duration>),
    Notify(VirtAddr, u32),
}

impl Waiter {
    /// How many wait.
    pub(crate) fn sleeping(&self) -> usize {
        self.sleepers.lock().len()
    }

    /// What it was asked until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        core::mem::take(&mut self.asked.lock())
    }
}

impl AtomicWaiter for Waiter {
    fn wait(
        &self,
        address: VirtAddr,
        expected: &mut dyn FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> WaitResult {
        self.asked.lock().push(Asked::Wait(address, timeout));
        let mut sleepers = self.sleepers.lock();
        if !expected() {
            return WaitResult::Mismatch;
        }
        let woken = Arc::new(AtomicBool::new(false));
        sleepers.push((address, Arc::clone(&woken)));
        drop(sleepers);
        let mut looks = timeout.map(|time| time.as_nanos());
        while !woken.load(Ordering::Acquire) {
            if looks == Some(0) {
                let mut sleepers = self.sleepers.lock();
                let place = sleepers.iter().position(|(_, flag)| Arc::ptr_eq(flag, &woken));
                // Not there if somebody woke it at the last moment.
                let Some(place) = place else { return WaitResult::Ok };
                sleepers.remove(place);
                return WaitResult::TimedOut;
            }
            looks = looks.map(|looks| looks - 1);
            relax();
        }
        WaitResult::Ok
    }

    fn notify(&self, address: VirtAddr, count: u32) -> u32 {
        self.asked.lock().push(Asked::Notify(address, count));
        let mut woken = 0;
        self.sleepers.lock().retain(|(place, flag)| {
            let wake = *place == address && woken < count;
            if wake {
                flag.store(true, Ordering::Release);
                woken += 1;
            }
            !wake
        });
        woken
    }
}

/// Lets others run.
pub(crate) fn relax() {
    #[cfg(target_os = "none")]
    core::hint::spin_loop();
    #[cfg(not(target_os = "none"))]
    std::thread::yield_now();
}
