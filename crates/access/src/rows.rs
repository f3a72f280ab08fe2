//! Workspaces and projects → sets of roles, a row for each principal, in lines as the processor's cache has them.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use bailiwick_api::PrincipalId;
use nix::sys::mman::{MmapAdvise, madvise};

use crate::flat::{GLOBAL, ID_BITS, Key, SET_BITS, SetId, near};

/// So many lines of [`Rows`]. A key stands in the one line that it falls on, so that looking is one read of memory without a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(Rust, packed(2))]
pub(crate) struct Row {
    /// The principal's id, or the first line where it is elsewhere.
    at: u32,
    /// With [`WIDE`], [`HOME`] and [`BYTES`].
    lines: u16,
}

/// Its slots have 64 bits.
const WIDE: u16 = 1 << 15;
/// It lies where the principal's id says, so that it can be read before anything else was.
const HOME: u16 = 1 << 14;
/// It has a byte for each of the first workspaces, so that nothing is compared: the usual form where workspaces are not many. Always at home.
const BYTES: u16 = 1 << 13;

/// Each principal's home has so many: nearly all rows fit.
const LINES_AT_HOME: usize = 2;
const HOME_BYTES: usize = LINES_AT_HOME * LINE_BYTES;

impl Row {
    pub(crate) fn is_empty(self) -> bool {
        self.lines == 0
    }

    /// Something in it does not fit into 32 bits.
    pub(crate) fn is_wide(self) -> bool {
        self.lines & WIDE != 0
    }

    /// A workspace's set is at the place of its id.
    pub(crate) fn is_bytes(self) -> bool {
        self.lines & BYTES != 0
    }

    fn is_home(self) -> bool {
        self.lines & HOME != 0
    }

    /// An empty row is at home: nothing stands there.
    pub(crate) fn is_elsewhere(self) -> bool {
        !self.is_empty() && !self.is_home()
    }

    /// In which page, and from which line of it.
    fn lies(self) -> (usize, usize) {
        let at = self.at as usize;
        if self.is_home() {
            (at / HOMES_IN_A_PAGE, at % HOMES_IN_A_PAGE * LINES_AT_HOME)
        } else {
            (at / LINES_IN_A_PAGE, at % LINES_IN_A_PAGE)
        }
    }

    fn lines(self) -> usize {
        usize::from(self.lines & !(WIDE | HOME | BYTES))
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
        match self {
            _ if self.is_bytes() => LINE_BYTES,
            _ if self.is_wide() => LINE_BYTES / size_of::<u64>(),
            _ => LINE_BYTES / size_of::<u32>(),
        }
    }
}

/// A cache line: sixteen slots of 20 bits of a workspace's id and 12 bits of set; or, in a wide row, eight of 44 bits of key and 20 bits of set; or the bytes of
/// 64 workspaces, each a set. Low bytes first. An empty slot is 0.
type Line = [u8; LINE_BYTES];

const LINE_BYTES: usize = 64;
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
    // At 0 decisions look for whoever asks of no workspace.
    (1..1 << NARROW_ID_BITS).contains(&narrow_id(key)) && set <= NARROW_SET_MASK
}

/// The place of a workspace's byte, if it has one and it holds this set.
fn byte_place(key: Key, set: SetId) -> Option<usize> {
    let place = near(key).filter(|place| *place < HOME_BYTES);
    place.filter(|_| u8::try_from(set).is_ok())
}

/// The set at what has this [`narrow_id`], in a line of narrow slots.
#[inline(always)]
fn find_narrow(line: &Line, id: u32) -> SetId {
    let slots = line.as_chunks().0.iter().map(|slot| u32::from_le_bytes(*slot));
    // At most one of them has the id.
    let found = slots.map(|slot| if slot >> NARROW_SET_BITS == id { slot } else { 0 });
    found.fold(0, |all, one| all | one) & NARROW_SET_MASK
}

fn read_slot(line: &Line, wide: bool, at: usize) -> (Key, SetId) {
    if wide {
        let slot = u64::from_le_bytes(line.as_chunks().0[at]);
        return (slot >> SET_BITS, (slot & SET_MASK) as SetId);
    }
    let slot = u32::from_le_bytes(line.as_chunks().0[at]);
    if slot == 0 {
        return (GLOBAL, 0);
    }
    (
        1 << ID_BITS | u64::from(slot >> NARROW_SET_BITS),
        slot & NARROW_SET_MASK,
    )
}

fn write_slot(line: &mut Line, wide: bool, at: usize, key: Key, set: SetId) {
    if wide {
        line.as_chunks_mut().0[at] = (key << SET_BITS | u64::from(set)).to_le_bytes();
    } else {
        line.as_chunks_mut().0[at] = (narrow_id(key) << NARROW_SET_BITS | set).to_le_bytes();
    }
}

fn clear_slot(line: &mut Line, wide: bool, at: usize) {
    if wide {
        line.as_chunks_mut::<8>().0[at] = Default::default();
    } else {
        line.as_chunks_mut::<4>().0[at] = Default::default();
    }
}

/// 2 MiB of lines, as the processor's cache has them. They begin as zeros, which the system gives out when they are first touched.
#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Where the first line begins.
    from: usize,
}

const PAGE_BYTES: usize = 2 << 20;
const LINES_IN_A_PAGE: usize = PAGE_BYTES / size_of::<Line>();
const HOMES_IN_A_PAGE: usize = LINES_IN_A_PAGE / LINES_AT_HOME;

impl Page {
    /// In one piece the system can hold it as one page of its own, so that the processor finds each line without looking for its page first. To get that
    /// of the system may take milliseconds.
    fn new(in_one_piece: bool) -> Page {
        let align = if in_one_piece { PAGE_BYTES } else { size_of::<Line>() };
        let bytes = vec![0; PAGE_BYTES + align];
        let from = bytes.as_ptr().align_offset(align);
        if in_one_piece {
            let at = NonNull::from(&bytes[from..]).cast();
            // SAFETY: this memory is ours, and the advice changes nothing in it. Where the system does not follow it, reading takes a little longer.
            let _ = unsafe { madvise(at, PAGE_BYTES, MmapAdvise::MADV_HUGEPAGE) };
        }
        Page { bytes, from }
    }

    #[inline(always)]
    fn lines(&self) -> &[Line] {
        self.bytes[self.from..].as_chunks().0
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        self.bytes[self.from..].as_chunks_mut().0
    }
}

/// The copy's lines begin elsewhere in its memory.
impl Clone for Page {
    fn clone(&self) -> Page {
        if self.bytes.is_empty() {
            return Page::default();
        }
        let mut other = Page::new(false);
        other.lines_mut()[..LINES_IN_A_PAGE].copy_from_slice(&self.lines()[..LINES_IN_A_PAGE]);
        other
    }
}

/// The lines of all rows, in pages: growing moves nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// By principal; empty where nobody has a row. What is not in a row is zero.
    homes: Vec<Page>,
    /// Of rows that have no place at home.
    pages: Vec<Page>,
    /// The first line of `pages` that never was in a row.
    fresh: usize,
    /// Rows of `pages` that were given back, by how many lines they have.
    free: BTreeMap<usize, Vec<u32>>,
}

/// Whoever's row would be longer is decided by the slow walk.
const LONGEST: usize = 4096;

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
            Some(row) if entries.iter().all(|(key, set)| byte_place(*key, *set).is_some()) => {
                self.open_home(row.at, false);
                Row {
                    lines: row.lines | BYTES,
                    ..row
                }
            }
            Some(row) if wide == 0 && fit(row) => {
                self.open_home(row.at, false);
                row
            }
            _ => {
                let first = entries.len() / (slots * 3 / 4) + 1;
                let most = (entries.len() * 8).min(LONGEST);
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

    fn open_home(&mut self, id: u32, in_one_piece: bool) {
        let page = id as usize / HOMES_IN_A_PAGE;
        if page >= self.homes.len() {
            self.homes.resize_with(page + 1, Page::default);
        }
        if self.homes[page].bytes.is_empty() {
            self.homes[page] = Page::new(in_one_piece);
        }
    }

    /// Opens the homes of many principals in the way that takes longer and makes reading faster. To be called while nobody waits.
    pub(crate) fn open_homes(&mut self, of: &[PrincipalId]) {
        if of.len() <= HOMES_IN_A_PAGE / 8 {
            return;
        }
        for id in of.iter().filter_map(|who| u32::try_from(who.0).ok()) {
            self.open_home(id, true);
        }
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
            self.fresh = self.pages.len() * LINES_IN_A_PAGE;
            self.pages.push(Page::new(false));
        }
        let at = u32::try_from(self.fresh).ok()?;
        self.fresh += lines;
        Some(at)
    }

    pub(crate) fn give_back(&mut self, row: Row) {
        if row.is_empty() {
            return;
        }
        self.lines_mut(row).fill([0; LINE_BYTES]);
        if row.is_elsewhere() {
            self.free.entry(row.lines()).or_default().push(row.at);
        }
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.fresh
    }

    fn lines(&self, row: Row) -> &[Line] {
        let (page, from) = row.lies();
        let page = if row.is_home() {
            self.homes.get(page)
        } else {
            self.pages.get(page)
        };
        page.map_or(&[], |page| &page.lines()[from..from + row.lines()])
    }

    fn lines_mut(&mut self, row: Row) -> &mut [Line] {
        let (page, from) = row.lies();
        let page = if row.is_home() {
            self.homes.get_mut(page)
        } else {
            self.pages.get_mut(page)
        };
        page.map_or(&mut [], |page| &mut page.lines_mut()[from..from + row.lines()])
    }

    /// The set at a workspace (its id, or 0 for none) in the row of a principal of whom it is known that it is not elsewhere.
    #[inline(always)]
    pub(crate) fn at_home(&self, id: i64, is_bytes: bool, workspace: u64) -> SetId {
        let Some(page) = self.homes.get((id as u64 / HOMES_IN_A_PAGE as u64) as usize) else {
            return 0;
        };
        let home = page.from + (id as u64 % HOMES_IN_A_PAGE as u64) as usize * HOME_BYTES;
        if is_bytes {
            let place = if workspace < HOME_BYTES as u64 {
                workspace as usize
            } else {
                0
            };
            return page.bytes.get(home + place).map_or(0, |byte| SetId::from(*byte));
        }
        let line = home + Row::place_at_home(workspace) * LINE_BYTES;
        let line = page.bytes.get(line..).and_then(<[u8]>::first_chunk);
        let id = if workspace < 1 << NARROW_ID_BITS {
            workspace as u32
        } else {
            u32::MAX
        };
        line.map_or(0, |line| find_narrow(line, id))
    }

    #[inline]
    pub(crate) fn get(&self, row: Row, key: Key) -> SetId {
        if row.is_bytes() {
            let place = byte_place(key, 0).unwrap_or(0);
            let byte = self.lines(row).as_flattened().get(place);
            return byte.map_or(0, |byte| SetId::from(*byte));
        }
        let Some(line) = self.lines(row).get(row.place(key)) else {
            return 0;
        };
        if !row.is_wide() {
            return find_narrow(line, narrow_id(key));
        }
        let mut slots = (0..row.slots_in_a_line()).map(|at| read_slot(line, true, at));
        slots.find(|(there, _)| *there == key).map_or(0, |(_, set)| set)
    }

    pub(crate) fn iter(&self, row: Row) -> impl Iterator<Item = (Key, SetId)> {
        let lines = self.lines(row);
        let slots = 0..lines.len() * row.slots_in_a_line();
        let read = move |at: usize| match (at / row.slots_in_a_line(), at % row.slots_in_a_line()) {
            (line, at_line) if row.is_bytes() => match lines[line][at_line] {
                0 => (GLOBAL, 0),
                set => (1 << ID_BITS | at as Key, SetId::from(set)),
            },
            (line, at) => read_slot(&lines[line], row.is_wide(), at),
        };
        slots.map(read).filter(|(key, _)| *key != GLOBAL)
    }

    /// Puts, changes or (with the empty set) takes away; false if there is no place for it.
    fn put(&mut self, row: Row, key: Key, set: SetId) -> bool {
        let wide = row.is_wide();
        if row.is_bytes() {
            let Some(place) = byte_place(key, set) else {
                return set == 0;
            };
            self.lines_mut(row).as_flattened_mut()[place] = set as u8;
            return true;
        }
        if row.is_empty() || !wide && !fits_narrow(key, set) {
            return set == 0;
        }
        let line = &mut self.lines_mut(row)[row.place(key)];
        let find = |wanted: Key| (0..row.slots_in_a_line()).find(|at| read_slot(line, wide, *at).0 == wanted);
        match (find(key), find(GLOBAL)) {
            (Some(at), _) if set == 0 => clear_slot(line, wide, at),
            (Some(at), _) | (None, Some(at)) if set != 0 => write_slot(line, wide, at, key, set),
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
