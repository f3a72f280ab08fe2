use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;

/// Tests take turns: one of them takes the barrier away from all.
static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that are always equal, except in the middle of a change.
type Numbers = [u64; 64];

/// Readers that come and go as threads, and ones that stay; more of them than slots, now and then. Gives how many changes there were.
fn disturb(lock: &Lock<Numbers>, for_ms: u64) -> u64 {
    let over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let look = || {
        let numbers = lock.read();
        let again = lock.read();
        assert!(
            numbers.iter().all(|number| *number == again[0]),
            "read in the middle of a change"
        );
        reads.fetch_add(1, Ordering::Relaxed);
        numbers[0]
    };
    let until = Instant::now() + Duration::from_millis(for_ms);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let now = look();
                    assert!(now >= last, "an older state came back");
                    last = now;
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut numbers = lock.write();
                    numbers.iter_mut().for_each(|number| *number += 1);
                }
            });
        }
        while Instant::now() < until {
            std::thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(look);
                }
            });
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 100);
    lock.read()[0]
}

#[test]
fn nobody_reads_in_the_middle_of_a_change_with_a_barrier_or_without() {
    let _alone = alone();
    let lock = Lock::new([0; 64]);
    let first = disturb(&lock, 1500);
    assert!(first > 100);
    // As on a system without the call. No other thread uses a lock at this moment.
    let had = HAS_BARRIER.swap(NO, Ordering::SeqCst);
    assert_eq!(had, YES, "this system has membarrier(2)");
    let second = disturb(&lock, 1500);
    HAS_BARRIER.store(had, Ordering::SeqCst);
    assert!(second > first + 100);
}

#[test]
fn threads_beyond_the_slots_read_and_change_too() {
    let _alone = alone();
    let lock = Lock::new(0u64);
    let together = std::sync::Barrier::new(SLOTS + 40);
    std::thread::scope(|scope| {
        for _ in 0..SLOTS + 40 {
            scope.spawn(|| {
                // All hold a slot, or find none left, before the first is given back.
                drop(lock.read());
                together.wait();
                *lock.write() += 1;
                drop(lock.read());
            });
        }
    });
    assert_eq!(*lock.read(), SLOTS as u64 + 40);
}

#[test]
fn one_who_changes_waits_for_who_reads_and_the_other_way_round() {
    let _alone = alone();
    let lock = Lock::new(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = lock.read();
        scope.spawn(|| {
            *lock.write() = 2;
            done.store(true, Ordering::SeqCst);
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(
            (*reading, *lock.read()),
            (1, 1),
            "a second reading beside the first waits for nobody"
        );
        drop(reading);
    });
    assert_eq!(*lock.read(), 2);
    std::thread::scope(|scope| {
        let mut changing = lock.write();
        let reader = scope.spawn(|| *lock.read());
        std::thread::sleep(Duration::from_millis(100));
        *changing = 3;
        drop(changing);
        assert_eq!(reader.join().expect("it reads"), 3);
    });
}

#[test]
fn what_a_broken_change_left_is_not_read() {
    let _alone = alone();
    let lock = Lock::new([0, 0]);
    let broken = catch_unwind(AssertUnwindSafe(|| {
        let mut numbers = lock.write();
        numbers[0] = 1;
        panic!("in the middle");
    }));
    assert!(broken.is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| lock.read()[0])).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| lock.write()[0] = 2)).is_err());
    // Nor does the first failure take the slot away from what is read elsewhere.
    let other = Lock::new(5);
    assert_eq!(*other.read(), 5);
    *other.write() = 6;
    assert_eq!(*other.read(), 6);
}
