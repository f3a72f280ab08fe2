//! A lock for what is read millions of times a second and seldom changed.
//!
//! Who reads writes only to a slot of its own thread, without an atomic step that the other processors take part in: a reading costs next to nothing, and
//! many at once do not disturb each other. Who changes has all running threads pass a barrier (membarrier(2)), then waits until no slot is in use. Where the
//! system has no such call, each reading makes the barrier itself.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use nix::libc;

/// Threads beyond these read one after the other, as if they changed something.
const SLOTS: usize = 128;

/// So many readings are under way in one thread. Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Slot(AtomicU64);

/// Nobody changes anything: readers come in as they please.
const FREE: u8 = 0;
const CHANGING: u8 = 1;
/// A change broke off with a panic: what it left must not be read.
const BROKEN: u8 = 2;

/// Many readers, or one who changes.
pub struct Lock<T> {
    state: AtomicU8,
    slots: Box<[Slot; SLOTS]>,
    /// Held while something is changed, and by who waits for that.
    writer: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: as of `RwLock`: readers on several threads share the value, and it may be changed, taken out and dropped on any of them.
unsafe impl<T: Send + Sync> Sync for Lock<T> {}

/// The value, not to be changed while this lives. It stays on its thread, whose slot it holds.
pub struct Reading<'a, T> {
    /// No reference: one that is handed to a function is taken to hold until that is over, and this holds only until it is dropped.
    value: NonNull<T>,
    held: Held<'a>,
}

// SAFETY: to share it is to share the value.
unsafe impl<T: Sync> Sync for Reading<'_, T> {}

enum Held<'a> {
    Slot(&'a AtomicU64),
    /// For its drop alone.
    Alone(#[expect(dead_code)] MutexGuard<'a, ()>),
}

/// The value, and nobody else has it while this lives.
pub struct Changing<'a, T> {
    lock: &'a Lock<T>,
    /// For its drop alone.
    _writer: MutexGuard<'a, ()>,
    /// When it began the thread was unwinding already, from something else.
    unwinding: bool,
}

impl<T> Lock<T> {
    pub fn new(value: T) -> Lock<T> {
        Lock {
            state: AtomicU8::new(FREE),
            slots: Box::new(std::array::from_fn(|_| Slot::default())),
            writer: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits while something is changed. A thread may read again what it reads already.
    ///
    /// # Panics
    /// A change broke off with a panic.
    #[inline]
    pub fn read(&self) -> Reading<'_, T> {
        let Ok(Some(slot)) = OWN.try_with(|own| own.0.map(|index| &self.slots[index].0)) else {
            return self.read_alone();
        };
        // Only this thread writes to its slot.
        let under_way = slot.load(Ordering::Relaxed);
        slot.store(under_way + 1, Ordering::Relaxed);
        if HAS_BARRIER.load(Ordering::Relaxed) == YES {
            // The other half of the writer's barrier: what stands above must not move below.
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        if self.state.load(Ordering::Acquire) != FREE && under_way == 0 {
            self.read_later(slot);
        }
        Reading {
            value: self.pointer(),
            held: Held::Slot(slot),
        }
    }

    /// Gives the slot back, as a writer may be waiting for it, and takes it again when that one is done.
    #[cold]
    fn read_later(&self, slot: &AtomicU64) {
        slot.store(0, Ordering::Release);
        let writer = self.take_turn();
        // No writer can look at the slots before this turn is over, and then it finds this one in use.
        slot.store(1, Ordering::Relaxed);
        drop(writer);
    }

    #[cold]
    fn read_alone(&self) -> Reading<'_, T> {
        let writer = self.take_turn();
        Reading {
            value: self.pointer(),
            held: Held::Alone(writer),
        }
    }

    fn pointer(&self) -> NonNull<T> {
        NonNull::new(self.value.get()).expect("what is inside has an address")
    }

    fn take_turn(&self) -> MutexGuard<'_, ()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = self.state.load(Ordering::Relaxed) != BROKEN;
        assert!(is_whole, "a change of what is read here broke off");
        writer
    }

    /// Waits for whoever reads or changes. Not to be called by a thread that reads the same.
    ///
    /// # Panics
    /// A change before broke off with a panic.
    pub fn write(&self) -> Changing<'_, T> {
        let writer = self.take_turn();
        self.state.store(CHANGING, Ordering::Relaxed);
        barrier();
        // Who takes a slot for the first time after this look finds `state` changed: see `Own::take`.
        let taken = TAKEN.load(Ordering::Relaxed).min(SLOTS);
        for slot in &self.slots[..taken] {
            let mut looks = 0u32;
            while slot.0.load(Ordering::Acquire) != 0 {
                looks += 1;
                match looks < 100 {
                    true => std::hint::spin_loop(),
                    false => std::thread::yield_now(),
                }
            }
        }
        Changing {
            lock: self,
            _writer: writer,
            unwinding: std::thread::panicking(),
        }
    }
}

impl<T> Deref for Reading<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: no writer has the value. The turn of the writers is held, or the slot is in use: a writer that comes sees the slot (its barrier stands
        // between its store of `state` and its look at the slots, as ours between the slot and `state`), and one that was there has been waited for.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Reading<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Held::Slot(slot) = self.held {
            slot.store(slot.load(Ordering::Relaxed) - 1, Ordering::Release);
        }
    }
}

impl<T> Deref for Changing<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: nobody else has the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Changing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: nobody else has the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Changing<'_, T> {
    fn drop(&mut self) {
        let broke_off = std::thread::panicking() && !self.unwinding;
        let left = if broke_off { BROKEN } else { FREE };
        self.lock.state.store(left, Ordering::Release);
    }
}

/// Which slot of every lock is this thread's; given back when the thread ends.
struct Own(Option<usize>);

static GIVEN_BACK: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Slots that have ever been taken are below this.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Own = Own::take();
}

impl Own {
    fn take() -> Own {
        ask_for_barrier();
        let before = GIVEN_BACK.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let index = before.unwrap_or_else(|| TAKEN.fetch_add(1, Ordering::SeqCst));
        // A writer that looked at `TAKEN` before this has stored its `state` before that; it is seen from here on.
        fence(Ordering::SeqCst);
        Own((index < SLOTS).then_some(index))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(index) = self.0 {
            GIVEN_BACK.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        }
    }
}

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;
/// Whether the system makes all threads of the process pass a barrier. Known before the first slot is taken, and the same ever after.
static HAS_BARRIER: AtomicU8 = AtomicU8::new(UNKNOWN);

fn ask_for_barrier() {
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        let has = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        HAS_BARRIER.store(if has { YES } else { NO }, Ordering::SeqCst);
    });
}

/// Every thread of the process has passed a full barrier when this comes back, or passes one at each reading.
fn barrier() {
    fence(Ordering::SeqCst);
    ask_for_barrier();
    // Registered for, it fails only for want of memory at this moment.
    while HAS_BARRIER.load(Ordering::SeqCst) == YES && !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
        std::thread::yield_now();
    }
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes numbers alone.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests;
