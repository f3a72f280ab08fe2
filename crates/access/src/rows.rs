//! Workspaces and projects → sets of roles, a row for each principal, in lines as the processor's cache has them.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

use crate::flat::{GLOBAL, ID_BITS, Key, SET_BITS, SetId};

/// So many lines of [`Rows`]. A key stands in the one line that it falls on, so that looking is one read of memory without a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(Rust, packed(2))]
pub(crate) struct Row {
    /// The principal's id, or the first line where it is elsewhere.
    at: u32,
    /// With [`WIDE`] and [`HOME`].
    lines: u16,
}

/// Its slots have 64 bits.
const WIDE: u16 = 1 << 15;
/// It lies where the principal's id says, so that it can be read before anything else was.
const HOME: u16 = 1 << 14;

/// Each principal's home has so many: nearly all rows fit.
const LINES_AT_HOME: usize = 2;

impl Row {
    pub(crate) fn is_empty(self) -> bool {
        self.lines == 0
    }

    /// Something in it does not fit into 32 bits.
    pub(crate) fn is_wide(self) -> bool {
        self.lines & WIDE != 0
    }

    fn is_home(self) -> bool {
        self.lines & HOME != 0
    }

    /// An empty row is at home: nothing stands there.
    pub(crate) fn is_elsewhere(self) -> bool {
        !self.is_empty() && !self.is_home()
    }

    fn lines(self) -> usize {
        usize::from(self.lines & !(WIDE | HOME))
    }

    #[inline(always)]
    fn place_at_home(key: Key) -> usize {
        key as usize % LINES_AT_HOME
    }

    /// Which line a key falls on.
    fn place(self, key: Key) -> usize {
        if self.is_home() {
            Row::place_at_home(key)
        } else {
            Row::place_among(self.lines(), key)
        }
    }

    /// Multiplying spreads ids that follow each other; a second one brings the product into the length.
    fn place_among(lines: usize, key: Key) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((spread * lines as u64) >> 32) as usize
    }

    fn slots_in_a_line(self) -> usize {
        if self.is_wide() { HALVES / 2 } else { HALVES }
    }
}

/// A cache line: sixteen slots of 20 bits of a workspace's id and 12 bits of set, or, in a wide row, eight of 44 bits of key and 20 bits of set (low half first).
/// An empty slot is 0.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u32; HALVES]);

const HALVES: usize = 16;
const NARROW_ID_BITS: u32 = 20;
const NARROW_SET_BITS: u32 = 32 - NARROW_ID_BITS;
const NARROW_SET_MASK: u32 = (1 << NARROW_SET_BITS) - 1;
const SET_MASK: u64 = (1 << SET_BITS) - 1;

/// What stands in the upper bits of a narrow slot for this workspace; more than fits there for a project and for what has too high an id.
#[inline(always)]
fn narrow_id(key: Key) -> u32 {
    key as u32 ^ 1 << ID_BITS
}

fn fits_narrow(key: Key, set: SetId) -> bool {
    narrow_id(key) < 1 << NARROW_ID_BITS && set <= NARROW_SET_MASK
}

impl Line {
    /// The set at a workspace, in a row that is not wide.
    #[inline(always)]
    fn narrow(&self, workspace: Key) -> SetId {
        let id = narrow_id(workspace);
        // At most one of them has the id.
        let slots = self.0.iter();
        let found = slots.map(|slot| if slot >> NARROW_SET_BITS == id { *slot } else { 0 });
        found.fold(0, |all, one| all | one) & NARROW_SET_MASK
    }

    fn slot(&self, wide: bool, at: usize) -> (Key, SetId) {
        if wide {
            let slot = u64::from(self.0[at * 2]) | u64::from(self.0[at * 2 + 1]) << 32;
            return (slot >> SET_BITS, (slot & SET_MASK) as SetId);
        }
        let slot = self.0[at];
        if slot == 0 {
            return (GLOBAL, 0);
        }
        (
            1 << ID_BITS | u64::from(slot >> NARROW_SET_BITS),
            slot & NARROW_SET_MASK,
        )
    }

    fn put(&mut self, wide: bool, at: usize, key: Key, set: SetId) {
        if wide {
            let slot = key << SET_BITS | u64::from(set);
            (self.0[at * 2], self.0[at * 2 + 1]) = (slot as u32, (slot >> 32) as u32);
        } else {
            self.0[at] = narrow_id(key) << NARROW_SET_BITS | set;
        }
    }

    fn clear(&mut self, wide: bool, at: usize) {
        if wide {
            self.0[at * 2..at * 2 + 2].fill(0);
        } else {
            self.0[at] = 0;
        }
    }
}

/// 2 MiB in one piece, which the system may hold as one page of memory: the processor then finds each line without looking for its page first.
#[derive(Debug)]
#[repr(align(2_097_152))]
struct Homes([[Line; LINES_AT_HOME]; HOMES_IN_A_PAGE]);

const HOMES_IN_A_PAGE: usize = 2_097_152 / size_of::<[Line; LINES_AT_HOME]>();

impl Homes {
    fn new() -> Box<Homes> {
        let mut homes = Box::<Homes>::new_uninit();
        let at = NonNull::from(&mut *homes).cast();
        // SAFETY: this memory is ours, and the advice changes nothing in it. Where the system does not follow it, reading takes a little longer.
        let _ = unsafe { madvise(at, size_of::<Homes>(), MmapAdvise::MADV_HUGEPAGE) };
        // SAFETY: lines of zeros are lines. They are not made elsewhere and moved here, since no stack has room for them.
        unsafe {
            homes.as_mut_ptr().write_bytes(0, 1);
            homes.assume_init()
        }
    }
}

/// As [`Homes::new`], without a stack in between.
#[derive(Debug)]
struct HomesPage(Box<Homes>);

impl Clone for HomesPage {
    fn clone(&self) -> HomesPage {
        let mut other = Homes::new();
        other.0.copy_from_slice(&self.0.0);
        HomesPage(other)
    }
}

/// The lines of all rows, in pages: growing moves nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// By principal. What is not in a row is zero.
    homes: Vec<Option<HomesPage>>,
    /// Of rows that have no place at home.
    pages: Vec<Box<[Line; LINES_IN_A_PAGE]>>,
    /// The first line of `pages` that never was in a row.
    fresh: usize,
    /// Rows of `pages` that were given back, by how many lines they have.
    free: BTreeMap<usize, Vec<u32>>,
}

/// Also the length of the longest row: who holds something at more scopes is decided by the slow walk.
const LINES_IN_A_PAGE: usize = 4096;

impl Rows {
    /// A row of these, or nothing if no reasonable length holds them all. `home` is whose row it is; the group `Users` has none.
    pub(crate) fn make(&mut self, home: Option<i64>, entries: &[(Key, SetId)]) -> Option<Row> {
        if entries.is_empty() {
            return Some(Row::default());
        }
        let wide = if entries.iter().all(|(key, set)| fits_narrow(*key, *set)) {
            0
        } else {
            WIDE
        };
        let slots = Row { at: 0, lines: wide }.slots_in_a_line();
        let fit = |row: Row| {
            let mut used = vec![0_usize; row.lines()];
            let places = entries.iter().map(|(key, _)| row.place(*key));
            places.for_each(|place| used[place] += 1);
            used.iter().all(|used| *used <= slots)
        };
        let at_home = home.and_then(|id| u32::try_from(id).ok()).map(|at| Row {
            at,
            lines: LINES_AT_HOME as u16 | HOME,
        });
        let row = match at_home {
            Some(row) if wide == 0 && fit(row) => {
                self.open_home(row.at);
                row
            }
            _ => {
                let first = entries.len() / (slots * 3 / 4) + 1;
                let most = (entries.len() * 8).min(LINES_IN_A_PAGE);
                let lengths = std::iter::successors(Some(first), |lines| Some(lines + lines / 8 + 1));
                let mut rows = lengths.take_while(|lines| *lines <= most).map(|lines| Row {
                    at: 0,
                    lines: lines as u16 | wide,
                });
                let row = rows.find(|row| fit(*row))?;
                let at = self.take(row.lines())?;
                Row { at, ..row }
            }
        };
        for (key, set) in entries {
            self.put(row, *key, *set);
        }
        Some(row)
    }

    fn open_home(&mut self, id: u32) {
        let page = id as usize / HOMES_IN_A_PAGE;
        if page >= self.homes.len() {
            self.homes.resize_with(page + 1, || None);
        }
        self.homes[page].get_or_insert_with(|| HomesPage(Homes::new()));
    }

    fn take(&mut self, lines: usize) -> Option<u32> {
        if let Some(at) = self.free.get_mut(&lines).and_then(Vec::pop) {
            return Some(at);
        }
        let left = (LINES_IN_A_PAGE - self.fresh % LINES_IN_A_PAGE) % LINES_IN_A_PAGE;
        if left < lines {
            if left > 0 {
                self.free.entry(left).or_default().push(self.fresh as u32);
            }
            let page = vec![Line::default(); LINES_IN_A_PAGE].into_boxed_slice();
            self.fresh = self.pages.len() * LINES_IN_A_PAGE;
            self.pages.push(page.try_into().ok()?);
        }
        let at = u32::try_from(self.fresh).ok()?;
        self.fresh += lines;
        Some(at)
    }

    pub(crate) fn give_back(&mut self, row: Row) {
        if row.is_empty() {
            return;
        }
        self.lines_mut(row).fill(Line::default());
        if row.is_elsewhere() {
            self.free.entry(row.lines()).or_default().push(row.at);
        }
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.fresh
    }

    fn lines(&self, row: Row) -> &[Line] {
        let at = row.at as usize;
        if row.is_home() {
            let page = self.homes.get(at / HOMES_IN_A_PAGE).and_then(Option::as_ref);
            return page.map_or(&[], |page| &page.0.0[at % HOMES_IN_A_PAGE]);
        }
        let from = at % LINES_IN_A_PAGE;
        let page = self.pages.get(at / LINES_IN_A_PAGE);
        page.map_or(&[], |page| &page[from..from + row.lines()])
    }

    fn lines_mut(&mut self, row: Row) -> &mut [Line] {
        let at = row.at as usize;
        if row.is_home() {
            let page = self.homes.get_mut(at / HOMES_IN_A_PAGE).and_then(Option::as_mut);
            return page.map_or(&mut [], |page| &mut page.0.0[at % HOMES_IN_A_PAGE]);
        }
        let from = at % LINES_IN_A_PAGE;
        let page = self.pages.get_mut(at / LINES_IN_A_PAGE);
        page.map_or(&mut [], |page| &mut page[from..from + row.lines()])
    }

    /// The set at a workspace in the row of a principal of whom it is known that it is not elsewhere.
    #[inline(always)]
    pub(crate) fn at_home(&self, id: i64, workspace: Key) -> SetId {
        let Some(Some(page)) = self.homes.get((id as u64 / HOMES_IN_A_PAGE as u64) as usize) else {
            return 0;
        };
        let home = &page.0.0[(id as u64 % HOMES_IN_A_PAGE as u64) as usize];
        home[Row::place_at_home(workspace)].narrow(workspace)
    }

    #[inline]
    pub(crate) fn get(&self, row: Row, key: Key) -> SetId {
        let Some(line) = self.lines(row).get(row.place(key)) else {
            return 0;
        };
        if !row.is_wide() {
            return line.narrow(key);
        }
        let mut slots = (0..row.slots_in_a_line()).map(|at| line.slot(true, at));
        slots.find(|(there, _)| *there == key).map_or(0, |(_, set)| set)
    }

    pub(crate) fn iter(&self, row: Row) -> impl Iterator<Item = (Key, SetId)> {
        let slots = move |line| (0..row.slots_in_a_line()).map(move |at| Line::slot(line, row.is_wide(), at));
        self.lines(row).iter().flat_map(slots).filter(|(key, _)| *key != GLOBAL)
    }

    /// Puts, changes or (with the empty set) takes away; false if there is no place for it.
    fn put(&mut self, row: Row, key: Key, set: SetId) -> bool {
        let wide = row.is_wide();
        if row.is_empty() || !wide && !fits_narrow(key, set) {
            return set == 0;
        }
        let line = &mut self.lines_mut(row)[row.place(key)];
        let find = |wanted: Key| (0..row.slots_in_a_line()).find(|at| line.slot(wide, *at).0 == wanted);
        match (find(key), find(GLOBAL)) {
            (Some(at), _) if set == 0 => line.clear(wide, at),
            (Some(at), _) | (None, Some(at)) if set != 0 => line.put(wide, at, key, set),
            _ => return set == 0,
        }
        true
    }

    /// As [`Rows::put`], with more room if it needs it.
    pub(crate) fn set(&mut self, home: Option<i64>, row: &mut Row, key: Key, set: SetId) -> bool {
        if self.put(*row, key, set) {
            return true;
        }
        let mut entries: Vec<(Key, SetId)> = self.iter(*row).collect();
        entries.push((key, set));
        self.give_back(*row);
        let made = self.make(home, &entries);
        *row = made.unwrap_or_default();
        made.is_some()
    }
}
