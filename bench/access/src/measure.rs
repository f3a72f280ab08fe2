//! Clocks, percentiles, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::Instant;

use nix::time::{ClockId, clock_gettime};

/// Counts what lives, but only while asked to: nothing is counted while times are taken.
pub struct Counting;

static COUNTED: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    if COUNTED.load(Ordering::Relaxed) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What `make` leaves on the heap, in bytes, and how long it took.
pub struct Built<T> {
    pub it: T,
    pub bytes: usize,
    pub seconds: f64,
}

pub fn build<T>(make: impl FnOnce() -> T) -> Built<T> {
    let before = LIVE.load(Ordering::Relaxed);
    COUNTED.store(true, Ordering::Relaxed);
    let began = cpu_ns();
    let it = make();
    let seconds = (cpu_ns() - began) as f64 / 1e9;
    COUNTED.store(false, Ordering::Relaxed);
    Built {
        it,
        bytes: (LIVE.load(Ordering::Relaxed) - before).max(0) as usize,
        seconds,
    }
}

/// Processor time of this thread: what others do on the machine is not in it.
pub fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nanoseconds of one of `count` questions asked one after the other, over and over until `least_s` seconds of processor time have passed.
pub fn in_a_loop(count: usize, least_s: f64, mut ask: impl FnMut(usize)) -> f64 {
    let began = cpu_ns();
    let mut asked = 0_u64;
    loop {
        // The clock is a system call: once in a few thousand questions is rare enough.
        for at in 0..count {
            ask(at);
            asked += 1;
            if asked.is_multiple_of(4096) && (cpu_ns() - began) as f64 > least_s * 1e9 {
                return (cpu_ns() - began) as f64 / asked as f64;
            }
        }
        if (cpu_ns() - began) as f64 > least_s * 1e9 {
            return (cpu_ns() - began) as f64 / asked as f64;
        }
    }
}

/// Processor ticks, with everything before them done and nothing after them begun.
#[cfg(target_arch = "x86_64")]
pub fn ticks() -> u64 {
    use std::arch::x86_64::{__rdtscp, _mm_lfence};
    let mut core = 0;
    // SAFETY: both instructions are in every processor of this kind since 2008.
    unsafe {
        _mm_lfence();
        let now = __rdtscp(&mut core);
        _mm_lfence();
        now
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How long a tick is.
#[derive(Clone, Copy)]
pub struct Clock {
    ns_per_tick: f64,
}

impl Clock {
    pub fn new() -> Clock {
        let (began, from) = (Instant::now(), ticks());
        while began.elapsed().as_millis() < 200 {
            std::hint::spin_loop();
        }
        Clock {
            ns_per_tick: began.elapsed().as_nanos() as f64 / (ticks() - from) as f64,
        }
    }

    pub fn ns(&self, from: u64, to: u64) -> f64 {
        (to - from) as f64 * self.ns_per_tick
    }

    /// The time of each question, asked alone, less what looking at the clock takes: the median of as many looks in between. What is asked is read before
    /// the clock is: whoever asks has it at hand.
    pub fn alone<Q>(&self, count: usize, mut read: impl FnMut(usize) -> Q, mut ask: impl FnMut(Q)) -> Times {
        let mut times = Vec::with_capacity(count);
        let mut looks = Vec::with_capacity(count);
        for at in 0..count {
            let question = black_box(read(at));
            let before = ticks();
            let from = ticks();
            ask(question);
            let to = ticks();
            // As short as can be, for the same reason as the questions: who measures takes cache from what is measured.
            looks.push((from - before).min(u64::from(u32::MAX)) as u32);
            times.push((to - from).min(u64::from(u32::MAX)) as u32);
        }
        let ns = |ticks: Vec<u32>| ticks.into_iter().map(|ticks| self.ns(0, u64::from(ticks))).collect();
        let look = Times::new(ns(looks)).median();
        let mut times: Vec<f64> = ns(times);
        times.iter_mut().for_each(|time| *time -= look);
        Times::new(times)
    }
}

/// Measured nanoseconds, sorted.
#[derive(Clone, Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn new(mut times: Vec<f64>) -> Times {
        times.sort_unstable_by(f64::total_cmp);
        Times(times)
    }

    pub fn percentile(&self, percent: usize) -> f64 {
        match self.0.len() {
            0 => 0.0,
            len => self.0[(len * percent).div_ceil(100).clamp(1, len) - 1],
        }
    }

    /// Where many readings are the same, since the clock counts in steps, the place of the middle one among them (the median of grouped data).
    pub fn median(&self) -> f64 {
        let middle = self.percentile(50);
        let from = self.0.partition_point(|time| *time < middle);
        let to = self.0.partition_point(|time| *time <= middle);
        let less = self.0[..from].last().map(|less| middle - less);
        let more = self.0.get(to).map(|more| more - middle);
        let step = less.into_iter().chain(more).fold(f64::MAX, f64::min);
        if step == f64::MAX {
            return middle;
        }
        let within = (self.0.len() as f64 / 2.0 - from as f64) / (to - from) as f64;
        (middle + step * (within - 0.5)).max(0.0)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The call of a function that does nothing: what asking costs at the very least.
#[inline(never)]
pub fn no_op(at: usize) -> bool {
    black_box(at) != usize::MAX
}

/// A table of random numbers in which each load says where the next one is.
pub struct Loads {
    table: Vec<u64>,
    mask: usize,
    at: u64,
    step: u64,
}

impl Loads {
    /// `bytes` is rounded down to a power of two.
    pub fn new(bytes: usize) -> Loads {
        let len = (bytes / 8).max(64);
        let len = if len.is_power_of_two() {
            len
        } else {
            len.next_power_of_two() / 2
        };
        let mut dice = crate::world::Dice(0xD1CE);
        Loads {
            table: (0..len).map(|_| dice.next()).collect(),
            mask: len - 1,
            at: 1,
            step: 0,
        }
    }

    pub fn bytes(&self) -> usize {
        self.table.len() * 8
    }

    /// The step is known beforehand and only keeps the walk from closing a short circle; the address still needs the load before.
    #[inline(always)]
    pub fn next(&mut self) {
        self.step = self.step.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.at = self.table[(self.at.wrapping_add(self.step) >> 17) as usize & self.mask];
        black_box(self.at);
    }
}
