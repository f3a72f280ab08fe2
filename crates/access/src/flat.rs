//! What decisions look at: flat rows of scopes with the set of roles that is held at each, the permissions of those sets, and which single objects anything is
//! assigned on at all.
//!
//! Equal sets of roles are kept once: a change of a role changes the few sets that hold it, and no row.

use std::collections::BTreeMap;

use bailiwick_api::permission::PermissionScope;
use bailiwick_api::{AssignmentId, Permission, PermissionSet, ProjectId, RoleId, WorkspaceId};

use crate::{Assignment, Holder, ObjectKind, Role, Scope};

/// Ids come from a database's counters and start at 1. A scope, principal, group or assignment with an id beyond this, or below zero, holds nothing.
const ID_BITS: u32 = 31;
const SET_BITS: u32 = 20;
const SET_MASK: u64 = (1 << SET_BITS) - 1;

/// A scope as a number that orders as [`Scope`] does; 0 is the global one.
pub(crate) type Key = u64;
pub(crate) const GLOBAL: Key = 0;
/// Where the keys of projects begin.
pub(crate) const PROJECTS: Key = 2 << ID_BITS;
/// Where the keys of single objects begin.
pub(crate) const OBJECTS: Key = 3 << ID_BITS;

const KINDS: [ObjectKind; 4] = [
    ObjectKind::Experiment,
    ObjectKind::Model,
    ObjectKind::Queue,
    ObjectKind::Stack,
];

#[inline]
pub(crate) fn key(scope: Scope) -> Option<Key> {
    let (kind, id) = match scope {
        Scope::Global => return Some(GLOBAL),
        Scope::Workspace(id) => (1, id.0),
        Scope::Project(id) => (2, id.0),
        Scope::Object(kind, id) => (3 + kind as u64, id),
    };
    ((id as u64) < 1 << ID_BITS).then_some(kind << ID_BITS | id as u64)
}

pub(crate) fn scope(key: Key) -> Scope {
    let id = (key & ((1 << ID_BITS) - 1)) as i64;
    match key >> ID_BITS {
        0 => Scope::Global,
        1 => Scope::Workspace(WorkspaceId(id)),
        2 => Scope::Project(ProjectId(id)),
        kind => Scope::Object(KINDS[kind as usize - 3], id),
    }
}

/// The number of a set of roles; 0 is the empty one.
pub(crate) type SetId = u32;

/// Whether a key may be among those of a row: a bit for each of 64 parts of all keys.
#[inline(always)]
pub(crate) fn filter(key: Key) -> u64 {
    1 << (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// What each decision begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) row: Short,
    /// What is held at global scope; [`Head::UNUSUAL`] where more than row and set is to be looked at.
    pub(crate) global: u16,
}

impl Head {
    /// No set with this number has [`Nibbles`].
    pub(crate) const UNUSUAL: u16 = u16::MAX;
}

/// Of somebody who is not known.
impl Default for Head {
    fn default() -> Head {
        Head {
            row: Short::default(),
            global: Head::UNUSUAL,
        }
    }
}

/// The head of each principal. Its parts lie apart: only the row's place has to be there before the row can be read, and four bytes of each of many principals stay
/// in the processor's nearer cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heads {
    rows: Paged<Short>,
    /// With every bit turned, so that what was never written is unusual.
    globals: Paged<u16>,
}

impl Heads {
    #[inline(always)]
    pub(crate) fn get(&self, id: i64) -> Option<Head> {
        Some(Head {
            row: *self.rows.get(id)?,
            global: !*self.globals.get(id)?,
        })
    }

    pub(crate) fn set(&mut self, id: i64, head: Head) {
        if let (Some(row), Some(global)) = (self.rows.make(id), self.globals.make(id)) {
            (*row, *global) = (head.row, !head.global);
        }
    }
}

/// A narrow row of at most 255 lines among the first 16 million, as nearly all are: the place above eight bits of length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Short(u32);

impl Short {
    #[inline(always)]
    pub(crate) fn row(self) -> Row {
        Row {
            at: self.0 >> 8,
            lines: self.0 as u16 & 0xff,
        }
    }
}

/// Workspaces and projects → sets of roles: so many lines of [`Rows`]. A key stands in the one line that it falls on, so that looking is one read of
/// memory without a loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(Rust, packed(2))]
pub(crate) struct Row {
    at: u32,
    /// With [`WIDE`] where its slots have 64 bits.
    lines: u16,
}

const WIDE: u16 = 1 << 15;

impl Row {
    pub(crate) fn short(self) -> Option<Short> {
        let lines = u8::try_from(self.lines).ok()?;
        (self.at < 1 << 24).then_some(Short(self.at << 8 | u32::from(lines)))
    }

    pub(crate) fn is_empty(self) -> bool {
        self.lines == 0
    }

    /// Something in it does not fit into 32 bits.
    pub(crate) fn is_wide(self) -> bool {
        self.lines & WIDE != 0
    }

    fn lines(self) -> u16 {
        self.lines & !WIDE
    }

    /// Multiplying spreads ids that follow each other; a second one brings the product into the length.
    #[inline(always)]
    fn place(lines: u16, key: Key) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((spread * u64::from(lines)) >> 32) as usize
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

/// What stands in the upper bits of a narrow slot for this workspace; more than fits there for a project and for what has too high an id.
#[inline(always)]
fn narrow_id(key: Key) -> u32 {
    key as u32 ^ 1 << ID_BITS
}

fn fits_narrow(key: Key, set: SetId) -> bool {
    narrow_id(key) < 1 << NARROW_ID_BITS && set <= NARROW_SET_MASK
}

impl Line {
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

/// The lines of all rows, in pages: growing moves nothing. Line 0 stays empty: it is where an empty row looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pages: Vec<Box<[Line; LINES_IN_A_PAGE]>>,
    /// The first line that never was in a row.
    fresh: usize,
    /// Rows that were given back, by how many lines they have.
    free: BTreeMap<u16, Vec<u32>>,
}

/// Also the length of the longest row: who holds something at more scopes is decided by the slow walk.
const LINES_IN_A_PAGE: usize = 4096;

impl Rows {
    /// A row of these, or nothing if no reasonable length holds them all.
    pub(crate) fn make(&mut self, entries: &[(Key, SetId)]) -> Option<Row> {
        if entries.is_empty() {
            return Some(Row::default());
        }
        let wide = if entries.iter().all(|(key, set)| fits_narrow(*key, *set)) {
            0
        } else {
            WIDE
        };
        let slots = Row { at: 0, lines: wide }.slots_in_a_line();
        let mut lines = entries.len() / (slots * 3 / 4) + 1;
        while lines <= (entries.len() * 8).min(LINES_IN_A_PAGE) {
            let mut used = vec![0_usize; lines];
            let places = entries.iter().map(|(key, _)| Row::place(lines as u16, *key));
            places.for_each(|place| used[place] += 1);
            if used.iter().all(|used| *used <= slots) {
                let row = Row {
                    at: self.take(lines as u16)?,
                    lines: lines as u16 | wide,
                };
                entries.iter().for_each(|(key, set)| {
                    self.put(row, *key, *set);
                });
                return Some(row);
            }
            lines += lines / 8 + 1;
        }
        None
    }

    fn take(&mut self, lines: u16) -> Option<u32> {
        if let Some(at) = self.free.get_mut(&lines).and_then(Vec::pop) {
            self.lines(at, lines).fill(Line::default());
            return Some(at);
        }
        let left = (LINES_IN_A_PAGE - self.fresh % LINES_IN_A_PAGE) % LINES_IN_A_PAGE;
        if left < usize::from(lines) {
            if left > 0 {
                self.free.entry(left as u16).or_default().push(self.fresh as u32);
            }
            let page = vec![Line::default(); LINES_IN_A_PAGE].into_boxed_slice();
            self.fresh = self.pages.len() * LINES_IN_A_PAGE;
            self.pages.push(page.try_into().ok()?);
            if self.fresh == 0 {
                self.fresh = 1;
                return self.take(lines);
            }
        }
        let at = u32::try_from(self.fresh).ok()?;
        self.fresh += usize::from(lines);
        Some(at)
    }

    fn lines(&mut self, at: u32, lines: u16) -> &mut [Line] {
        let from = at as usize % LINES_IN_A_PAGE;
        &mut self.pages[at as usize / LINES_IN_A_PAGE][from..from + usize::from(lines)]
    }

    pub(crate) fn give_back(&mut self, row: Row) {
        if !row.is_empty() {
            self.free.entry(row.lines()).or_default().push(row.at);
        }
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.fresh
    }

    #[inline(always)]
    fn line(&self, at: usize) -> Option<&Line> {
        Some(&self.pages.get(at / LINES_IN_A_PAGE)?[at % LINES_IN_A_PAGE])
    }

    /// The set at a workspace, in a row that is not wide.
    #[inline(always)]
    pub(crate) fn get_narrow(&self, row: Row, workspace: Key) -> SetId {
        let Some(line) = self.line(row.at as usize + Row::place(row.lines, workspace)) else {
            return 0;
        };
        let id = narrow_id(workspace);
        // At most one of them has the id.
        let found = line
            .0
            .iter()
            .map(|slot| if slot >> NARROW_SET_BITS == id { *slot } else { 0 });
        found.fold(0, |all, one| all | one) & NARROW_SET_MASK
    }

    #[inline]
    pub(crate) fn get(&self, row: Row, key: Key) -> SetId {
        if !row.is_wide() {
            return self.get_narrow(row, key);
        }
        let Some(line) = self.line(row.at as usize + Row::place(row.lines(), key)) else {
            return 0;
        };
        let mut slots = (0..row.slots_in_a_line()).map(|at| line.slot(true, at));
        slots.find(|(there, _)| *there == key).map_or(0, |(_, set)| set)
    }

    pub(crate) fn iter(&self, row: Row) -> impl Iterator<Item = (Key, SetId)> {
        let from = row.at as usize % LINES_IN_A_PAGE;
        let page = self.pages.get(row.at as usize / LINES_IN_A_PAGE);
        let lines = page.map_or(&[][..], |page| &page[from..from + usize::from(row.lines())]);
        let slots = move |line| (0..row.slots_in_a_line()).map(move |at| Line::slot(line, row.is_wide(), at));
        lines.iter().flat_map(slots).filter(|(key, _)| *key != GLOBAL)
    }

    /// Puts, changes or (with the empty set) takes away; false if there is no place for it.
    fn put(&mut self, row: Row, key: Key, set: SetId) -> bool {
        let wide = row.is_wide();
        if row.is_empty() || !wide && !fits_narrow(key, set) {
            return set == 0;
        }
        let place = row.at + Row::place(row.lines(), key) as u32;
        let line = &mut self.lines(place, 1)[0];
        let find = |wanted: Key| (0..row.slots_in_a_line()).find(|at| line.slot(wide, *at).0 == wanted);
        match (find(key), find(GLOBAL)) {
            (Some(at), _) if set == 0 => line.clear(wide, at),
            (Some(at), _) | (None, Some(at)) if set != 0 => line.put(wide, at, key, set),
            _ => return set == 0,
        }
        true
    }

    /// As [`Rows::put`], with more room if it needs it.
    pub(crate) fn set(&mut self, row: &mut Row, key: Key, set: SetId) -> bool {
        if self.put(*row, key, set) {
            return true;
        }
        let mut entries: Vec<(Key, SetId)> = self.iter(*row).collect();
        entries.push((key, set));
        self.give_back(*row);
        let made = self.make(&entries);
        *row = made.unwrap_or_default();
        made.is_some()
    }
}

/// What a set of roles gives; one cache line. A permission's word of each of the four lies side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Masks([Word; 2]);

/// 64 permissions: those that roles which are not administrative give over everything and over what one owns, and the same by administrative ones.
type Word = [u64; 4];

impl Masks {
    fn new(all: PermissionSet, own: PermissionSet, administrative: bool) -> Masks {
        let word = |at: u32| {
            let (all, own) = ((all.0 >> (64 * at)) as u64, (own.0 >> (64 * at)) as u64);
            if administrative {
                [0, 0, all, own]
            } else {
                [all, own, 0, 0]
            }
        };
        Masks([word(0), word(1)])
    }

    pub(crate) fn of(role: &Role) -> Masks {
        Masks::new(role.permissions.all, role.permissions.own, role.administrative)
    }

    fn part(&self, at: usize) -> PermissionSet {
        PermissionSet(u128::from(self.0[0][at]) | u128::from(self.0[1][at]) << 64)
    }

    pub(crate) fn all(&self) -> PermissionSet {
        self.part(0).union(self.part(2))
    }

    pub(crate) fn own(&self) -> PermissionSet {
        self.part(1).union(self.part(3))
    }

    pub(crate) fn only_administrative(&self) -> Masks {
        Masks(self.0.map(|word| [0, 0, word[2], word[3]]))
    }

    pub(crate) fn not_administrative(&self) -> Masks {
        Masks(self.0.map(|word| [word[0], word[1], 0, 0]))
    }

    pub(crate) fn without(&self, taken: PermissionSet) -> Masks {
        let mut left = *self;
        for (at, word) in left.0.iter_mut().enumerate() {
            let taken = (taken.0 >> (64 * at)) as u64;
            word.iter_mut().for_each(|part| *part &= !taken);
        }
        left
    }

    fn add(&mut self, other: &Masks) {
        let words = self.0.iter_mut().flatten();
        words
            .zip(other.0.iter().flatten())
            .for_each(|(word, more)| *word |= more);
    }

    /// Whether it gives the permission.
    #[inline(always)]
    pub(crate) fn give(&self, asked: Asked) -> Given {
        let word = &self.0[asked.word];
        Given {
            plain: word[0] | word[1] & asked.own,
            administrative: word[2] | word[3] & asked.own,
        }
    }
}

/// What a set of roles gives once more, as most decisions read it: four bits for each permission, at global scope and below it, where `G` permissions don't
/// count. The bits: over everything, over one's own, and the same by administrative roles.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Nibbles {
    pub(crate) globally: [u8; 64],
    pub(crate) below: [u8; 64],
}

const _: () = assert!(
    Permission::ALL.len() <= 128,
    "each permission has four bits in 64 bytes"
);

impl Nibbles {
    fn of(masks: &Masks) -> Nibbles {
        let mut globally = [0; 64];
        for part in 0..4 {
            let mut left = masks.part(part).0;
            while left != 0 {
                let permission = left.trailing_zeros() as usize;
                globally[permission / 2] |= 1 << part << (permission % 2 * 4);
                left &= left - 1;
            }
        }
        let below = std::array::from_fn(|at| {
            let four = |odd: usize| {
                if GLOBAL_ONLY.0 >> (at * 2 + odd) & 1 == 1 {
                    0
                } else {
                    0b1111 << (odd * 4)
                }
            };
            globally[at] & (four(0) | four(1))
        });
        Nibbles { globally, below }
    }
}

/// So many sets have nibbles: the table is copied when it grows. Whoever holds one beyond is decided with more care;
/// in the tests of this crate, many are.
const MOST_NIBBLES: usize = if cfg!(test) { 6 } else { 4096 };

/// A permission as a place in [`Masks`], and whether the target is one's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    word: usize,
    bit: u32,
    /// All ones or none.
    own: u64,
}

/// What is given by roles that are not administrative, and by administrative ones: for 64 permissions, of which one was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given {
    plain: u64,
    administrative: u64,
}

impl Asked {
    #[inline(always)]
    pub(crate) fn new(permission: Permission, owned: bool) -> Asked {
        Asked {
            word: permission as usize / 64 % 2,
            bit: permission as u32 % 64,
            own: u64::from(owned).wrapping_neg(),
        }
    }

    #[inline(always)]
    pub(crate) fn plainly(self, given: Given) -> bool {
        given.plain >> self.bit & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn administratively(self, given: Given) -> bool {
        given.administrative >> self.bit & 1 == 1
    }

    pub(crate) fn at_all(self, given: Given) -> bool {
        self.plainly(given) || self.administratively(given)
    }
}

impl Given {
    #[inline(always)]
    pub(crate) fn or(self, other: Given) -> Given {
        Given {
            plain: self.plain | other.plain,
            administrative: self.administrative | other.administrative,
        }
    }
}

/// Every `G` permission: they count only at global scope, whatever the rows say.
pub(crate) const GLOBAL_ONLY: PermissionSet = {
    let mut set = PermissionSet::EMPTY;
    let mut at = 0;
    while at < Permission::ALL.len() {
        if let PermissionScope::Global = Permission::ALL[at].scope() {
            set = set.union(PermissionSet::of(Permission::ALL[at]));
        }
        at += 1;
    }
    set
};

/// Every set of roles that is or was held together at one scope. Never shrinks; [`Sets::find`] gives nothing when all numbers are used, and who holds such a set
/// is then decided by the slow walk.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    /// In pages, so that growing moves nothing.
    masks: Vec<Box<[Masks; SETS_IN_A_PAGE]>>,
    nibbles: Vec<Nibbles>,
    roles: Vec<Box<[RoleId]>>,
    numbers: BTreeMap<Box<[RoleId]>, SetId>,
    of_role: BTreeMap<RoleId, Vec<SetId>>,
    /// How many sets there may be.
    pub(crate) most: usize,
}

const SETS_IN_A_PAGE: usize = 256;

impl Sets {
    pub(crate) fn new() -> Sets {
        Sets {
            masks: vec![Box::new([Masks::default(); SETS_IN_A_PAGE])],
            nibbles: vec![Nibbles::of(&Masks::default())],
            roles: vec![Box::default()],
            numbers: BTreeMap::new(),
            of_role: BTreeMap::new(),
            most: 1 << SET_BITS,
        }
    }

    #[inline(always)]
    pub(crate) fn masks(&self, set: SetId) -> &Masks {
        &self.masks[set as usize / SETS_IN_A_PAGE][set as usize % SETS_IN_A_PAGE]
    }

    #[inline(always)]
    pub(crate) fn nibbles(&self, set: SetId) -> Option<&Nibbles> {
        self.nibbles.get(set as usize)
    }

    /// The number of this set, a new one if it was never held. Sorts.
    pub(crate) fn find(&mut self, held: &mut Vec<RoleId>, known: &BTreeMap<RoleId, Role>) -> Option<SetId> {
        if held.is_empty() {
            return Some(0);
        }
        held.sort_unstable();
        held.dedup();
        if let Some(set) = self.numbers.get(held.as_slice()) {
            return Some(*set);
        }
        let set = self.roles.len();
        if set >= self.most {
            return None;
        }
        if set.is_multiple_of(SETS_IN_A_PAGE) {
            self.masks.push(Box::new([Masks::default(); SETS_IN_A_PAGE]));
        }
        self.roles.push(held.as_slice().into());
        self.numbers.insert(held.as_slice().into(), set as SetId);
        for role in held {
            self.of_role.entry(*role).or_default().push(set as SetId);
        }
        self.compute(set as SetId, known);
        Some(set as SetId)
    }

    fn compute(&mut self, set: SetId, known: &BTreeMap<RoleId, Role>) {
        let mut masks = Masks::default();
        let roles = self.roles[set as usize].iter();
        let roles = roles.filter_map(|id| known.get(id));
        roles.for_each(|role| masks.add(&Masks::of(role)));
        self.masks[set as usize / SETS_IN_A_PAGE][set as usize % SETS_IN_A_PAGE] = masks;
        match self.nibbles.get_mut(set as usize) {
            Some(nibbles) => *nibbles = Nibbles::of(&masks),
            None if set as usize >= MOST_NIBBLES => {}
            None => self.nibbles.push(Nibbles::of(&masks)),
        }
    }

    /// After a role came, changed or went.
    pub(crate) fn role_changed(&mut self, role: RoleId, known: &BTreeMap<RoleId, Role>) {
        let Some(sets) = self.of_role.remove(&role) else { return };
        sets.iter().for_each(|set| self.compute(*set, known));
        self.of_role.insert(role, sets);
    }
}

/// What is assigned on single objects. Shares are many and each object has few, so they stand with the object and not in the rows of everybody they reach:
/// sharing with a group touches none of its members.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects([OfKind; KINDS.len()]);

/// By 64 objects. Apart, since most decisions look at the bits alone, and few are those that stay in the processor's cache.
#[derive(Debug, Clone, Default)]
struct OfKind {
    /// A bit for each object on which anything is assigned.
    some: Paged<u64>,
    /// What that is, by object.
    here: Paged<Vec<Here>>,
}

/// An assignment on one of 64 objects, with all that a decision asks of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    at: u8,
    pub(crate) assignment: AssignmentId,
    pub(crate) holder: Holder,
    /// Its role as a set; nothing where all numbers of sets are used.
    pub(crate) set: Option<SetId>,
    /// It holds before this moment (µs since 1970).
    pub(crate) until: i64,
}

impl Here {
    fn order(&self) -> (u8, AssignmentId) {
        (self.at, self.assignment)
    }
}

impl Objects {
    #[inline(always)]
    pub(crate) fn any(&self, kind: ObjectKind, id: i64) -> bool {
        let some = self.0[kind as usize].some.get(id >> 6);
        some.is_some_and(|some| some >> (id & 63) & 1 == 1)
    }

    pub(crate) fn on(&self, kind: ObjectKind, id: i64) -> impl Iterator<Item = &Here> {
        let here = self.0[kind as usize].here.get(id >> 6);
        let here = here.map_or(&[][..], |here| here);
        let at = (id & 63) as u8;
        let from = here.partition_point(|one| one.at < at);
        here[from..].iter().take_while(move |one| one.at == at)
    }

    pub(crate) fn add(&mut self, kind: ObjectKind, id: i64, assignment: &Assignment, set: Option<SetId>) {
        let of_kind = &mut self.0[kind as usize];
        let (Some(some), Some(here)) = (of_kind.some.make(id >> 6), of_kind.here.make(id >> 6)) else {
            return;
        };
        let at = (id & 63) as u8;
        let one = Here {
            at,
            assignment: assignment.id,
            holder: assignment.holder,
            set,
            until: assignment.expires.unwrap_or(i64::MAX),
        };
        if let Err(place) = here.binary_search_by_key(&one.order(), Here::order) {
            here.insert(place, one);
            *some |= 1 << at;
        }
    }

    pub(crate) fn remove(&mut self, kind: ObjectKind, id: i64, assignment: AssignmentId) {
        let of_kind = &mut self.0[kind as usize];
        let (Some(some), Some(here)) = (of_kind.some.get_mut(id >> 6), of_kind.here.get_mut(id >> 6)) else {
            return;
        };
        let at = (id & 63) as u8;
        if let Ok(place) = here.binary_search_by_key(&(at, assignment), Here::order) {
            here.remove(place);
            if here.iter().all(|other| other.at != at) {
                *some &= !(1 << at);
            }
        }
    }
}

const ROWS_IN_A_PAGE: usize = 512;

/// Things by dense ids, in pages: growing moves nothing.
#[derive(Debug, Clone)]
pub(crate) struct Paged<T> {
    pages: Vec<Option<Box<[T; ROWS_IN_A_PAGE]>>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: Vec::new() }
    }
}

impl<T: Default> Paged<T> {
    #[inline]
    pub(crate) fn get(&self, id: i64) -> Option<&T> {
        let page = self.pages.get((id as u64 / ROWS_IN_A_PAGE as u64) as usize)?;
        Some(&page.as_ref()?[(id as u64 % ROWS_IN_A_PAGE as u64) as usize])
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut T> {
        let page = self.pages.get_mut((id as u64 / ROWS_IN_A_PAGE as u64) as usize)?;
        Some(&mut page.as_mut()?[(id as u64 % ROWS_IN_A_PAGE as u64) as usize])
    }

    /// Makes room; nothing for an id that no counter gives.
    pub(crate) fn make(&mut self, id: i64) -> Option<&mut T> {
        if id as u64 >= 1 << ID_BITS {
            return None;
        }
        let page = (id as u64 / ROWS_IN_A_PAGE as u64) as usize;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| {
            let page: Box<[T]> = std::iter::repeat_with(T::default).take(ROWS_IN_A_PAGE).collect();
            let page = page.try_into().ok();
            page.expect("it was made with this length")
        });
        Some(&mut page[(id as u64 % ROWS_IN_A_PAGE as u64) as usize])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        let pages = self.pages.iter().enumerate();
        let pages = pages.filter_map(|(at, page)| Some((at, page.as_ref()?)));
        pages.flat_map(|(at, page)| {
            let ids = (at * ROWS_IN_A_PAGE) as i64..;
            ids.zip(page.iter())
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut())
    }
}
