//! What decisions look at: flat rows of scopes with the set of roles that is held at each, the permissions of those sets, and which single objects anything is
//! assigned on at all.
//!
//! Equal sets of roles are kept once: a change of a role changes the few sets that hold it, and no row.

use std::collections::BTreeMap;

use bailiwick_api::permission::PermissionScope;
use bailiwick_api::{AssignmentId, Permission, PermissionSet, PrincipalId, ProjectId, RoleId, WorkspaceId};

use crate::rows::Row;
use crate::{Assignment, Holder, ObjectKind, Role, Scope};

/// Ids come from a database's counters and start at 1. A scope, principal, group or assignment with an id beyond this, or below zero, holds nothing.
pub(crate) const ID_BITS: u32 = 31;
pub(crate) const SET_BITS: u32 = 20;

/// A scope as a number that orders as [`Scope`] does; 0 is the global one.
pub(crate) type Key = u64;
pub(crate) const GLOBAL: Key = 0;
/// Where the keys of workspaces begin.
const WORKSPACES: Key = 1 << ID_BITS;
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

/// The place of a workspace in a list by ids, which begin at 1: the one at 0 is that of no workspace, where nothing stands. Ids past the longest such list have
/// none.
pub(crate) fn near(key: Key) -> Option<usize> {
    const LONGEST: usize = 1 << 16;
    let id = (key ^ WORKSPACES) as usize;
    (id > 0 && id < LONGEST).then_some(id)
}

/// What most decisions begin with, in two bytes for each principal, of which many stay in the processor's nearer cache: the set held at global scope,
/// whether the row is at home, and its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head(u16);

impl Head {
    const ELSEWHERE: u16 = 1 << 15;
    const BYTES: u16 = 1 << 14;

    /// More is to be looked at than set and row: no set with this number has [`Nibbles`].
    pub(crate) const UNUSUAL: Head = Head(u16::MAX);

    pub(crate) fn new(global: SetId, row: Row) -> Head {
        let form = match row {
            _ if row.is_elsewhere() => Head::ELSEWHERE,
            _ if row.is_bytes() => Head::BYTES,
            _ => 0,
        };
        match u16::try_from(global) {
            Ok(global) if global < Head::BYTES => Head(global | form),
            _ => Head::UNUSUAL,
        }
    }

    #[inline(always)]
    pub(crate) fn global(self) -> SetId {
        SetId::from(self.0 & !(Head::ELSEWHERE | Head::BYTES))
    }

    #[inline(always)]
    pub(crate) fn is_elsewhere(self) -> bool {
        self.0 & Head::ELSEWHERE != 0
    }

    /// The form of the row that is at home.
    #[inline(always)]
    pub(crate) fn is_bytes(self) -> bool {
        self.0 & Head::BYTES != 0
    }
}

/// Of somebody who is not known.
impl Default for Head {
    fn default() -> Head {
        Head::UNUSUAL
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
    brief: Paged<Brief>,
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

/// What is assigned on 64 objects, in one cache line, where it is little and simple: each slot has the object's place among them, a principal and a set.
/// Otherwise [`Brief::MORE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Brief([u64; 8]);

impl Brief {
    const MORE: Brief = Brief([u64::MAX; 8]);

    /// Each pair at most once, so that a look can join what it finds.
    fn of(here: &[Here]) -> Brief {
        let mut brief = Brief::default();
        if here.len() > brief.0.len() {
            return Brief::MORE;
        }
        for (at, one) in here.iter().enumerate() {
            let simple = match (one.holder, one.set) {
                (Holder::Principal(who), Some(set)) if one.until == i64::MAX => {
                    Brief::pair(one.at, who.0).map(|pair| (pair, set))
                }
                _ => None,
            };
            match simple {
                Some((pair, set)) if brief.find(pair) == 0 => brief.0[at] = pair << SET_BITS | u64::from(set),
                _ => return Brief::MORE,
            }
        }
        brief
    }

    #[inline]
    fn pair(at: u8, who: i64) -> Option<u64> {
        ((who as u64) < 1 << ID_BITS).then_some(u64::from(at) << ID_BITS | who as u64)
    }

    #[inline]
    fn find(&self, pair: u64) -> SetId {
        let slots = self.0.iter();
        let found = slots.map(|slot| if slot >> SET_BITS == pair { *slot } else { 0 });
        found.fold(0, |all, one| all | one) as SetId & ((1 << SET_BITS) - 1)
    }
}

impl Objects {
    /// What a principal holds on an object, unless that takes [`Objects::on`].
    #[inline]
    pub(crate) fn briefly(&self, kind: ObjectKind, id: i64, who: PrincipalId) -> Option<SetId> {
        let brief = self.0[kind as usize].brief.get(id >> 6)?;
        let pair = Brief::pair((id & 63) as u8, who.0)?;
        (*brief != Brief::MORE).then(|| brief.find(pair))
    }

    #[inline(always)]
    /// 1 if anything is assigned on it, else 0.
    pub(crate) fn shared_bit(&self, kind: ObjectKind, id: i64) -> u64 {
        let some = self.0[kind as usize].some.get(id >> 6);
        some.map_or(0, |some| some >> (id & 63) & 1)
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
        let brief = of_kind.brief.make(id >> 6);
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
            if let Some(brief) = brief {
                *brief = Brief::of(here);
            }
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
            if let Some(brief) = of_kind.brief.get_mut(id >> 6) {
                *brief = Brief::of(here);
            }
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
