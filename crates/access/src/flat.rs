//! What decisions look at: rows of scopes with the set of roles that is held at each, and those sets' permissions.
//!
//! A row is one open-addressed table of 64-bit slots (44 bits of scope, 20 bits of set), so that a decision touches one cache line of it for each scope of
//! its target. Equal sets of roles are kept once: a change of a role changes the few sets that hold it, and no row.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use bailiwick_api::{Permission, PermissionSet, ProjectId, RoleId, WorkspaceId};

use crate::{ObjectKind, Role, Scope};

/// Ids above this are never reached by counting (10¹²); a scope with such an id, or one below zero, contains nothing.
const ID_BITS: u32 = 41;
const SET_BITS: u32 = 20;
const SET_MASK: u64 = (1 << SET_BITS) - 1;

/// A scope as a number that orders as [`Scope`] does; 0 is the global one.
pub(crate) type Key = u64;
pub(crate) const GLOBAL: Key = 0;

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

/// Scope → set of roles. At most half full; its length is a power of two, or 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    slots: Box<[u64]>,
    used: u32,
}

impl Row {
    pub(crate) fn with_room_for(count: usize) -> Row {
        let length = if count == 0 { 0 } else { (count * 2).next_power_of_two() };
        Row {
            slots: vec![0; length].into(),
            used: 0,
        }
    }

    /// Where the search for a key begins. Multiplying spreads ids that follow each other.
    #[inline]
    fn home(&self, key: Key) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> SetId {
        let mut at = self.home(key);
        while let Some(&slot) = self.slots.get(at) {
            if slot >> SET_BITS == key || slot == 0 {
                return (slot & SET_MASK) as SetId;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, SetId)> {
        let used = self.slots.iter().filter(|slot| **slot != 0);
        used.map(|slot| (slot >> SET_BITS, (slot & SET_MASK) as SetId))
    }

    /// Puts, changes or (with the empty set) takes away.
    pub(crate) fn set(&mut self, key: Key, set: SetId) {
        debug_assert!(key != GLOBAL, "the global scope has its own place");
        let mut at = self.home(key);
        while self
            .slots
            .get(at)
            .is_some_and(|slot| *slot != 0 && slot >> SET_BITS != key)
        {
            at = (at + 1) & (self.slots.len() - 1);
        }
        match self.slots.get(at) {
            Some(0) | None if set == 0 => {}
            Some(0) | None => {
                let wanted = self.used as usize + 1;
                if wanted * 2 > self.slots.len() {
                    let old = std::mem::replace(self, Row::with_room_for(wanted));
                    old.iter().for_each(|(key, set)| self.put_new(key, set));
                }
                self.put_new(key, set);
            }
            Some(_) if set == 0 => self.close_gap(at),
            Some(_) => self.slots[at] = key << SET_BITS | u64::from(set),
        }
    }

    /// For a key that is not there, where there is room.
    pub(crate) fn put_new(&mut self, key: Key, set: SetId) {
        let mut at = self.home(key);
        while self.slots[at] != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = key << SET_BITS | u64::from(set);
        self.used += 1;
    }

    /// Empties a slot and moves what follows back, so that every search still ends where it should.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let from_home = at.wrapping_sub(self.home(slot >> SET_BITS)) & mask;
            if from_home >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = 0;
        self.used -= 1;
    }
}

/// What a set of roles gives; one cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Masks {
    /// By roles that are not administrative, and by those that are.
    pub(crate) all: PermissionSet,
    pub(crate) own: PermissionSet,
    pub(crate) administrative_all: PermissionSet,
    pub(crate) administrative_own: PermissionSet,
}

impl Masks {
    pub(crate) fn of(role: &Role) -> Masks {
        let mut masks = Masks::default();
        masks.add(role);
        masks
    }

    fn add(&mut self, role: &Role) {
        let (all, own) = if role.administrative {
            (&mut self.administrative_all, &mut self.administrative_own)
        } else {
            (&mut self.all, &mut self.own)
        };
        *all = all.union(role.permissions.all);
        *own = own.union(role.permissions.own);
    }

    pub(crate) fn only_administrative(&self) -> Masks {
        Masks {
            all: PermissionSet::EMPTY,
            own: PermissionSet::EMPTY,
            ..*self
        }
    }

    pub(crate) fn without(&self, taken: PermissionSet) -> Masks {
        Masks {
            all: self.all.without(taken),
            own: self.own.without(taken),
            administrative_all: self.administrative_all.without(taken),
            administrative_own: self.administrative_own.without(taken),
        }
    }

    /// Whether other roles, and whether administrative ones, give the permission.
    #[inline]
    pub(crate) fn give(&self, permission: Permission, owned: bool) -> (bool, bool) {
        let plain = self.all.contains(permission) | (owned & self.own.contains(permission));
        let administrative =
            self.administrative_all.contains(permission) | (owned & self.administrative_own.contains(permission));
        (plain, administrative)
    }
}

/// Every set of roles that is or was held together at one scope. Never shrinks; [`Sets::find`] gives nothing when all numbers are used, and who holds such a set
/// is then decided by the slow walk.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    /// In pages, so that growing moves nothing.
    masks: Vec<Box<[Masks]>>,
    roles: Vec<Box<[RoleId]>>,
    /// In parts, so that no growth takes long.
    numbers: Vec<HashMap<Box<[RoleId]>, SetId>>,
    hasher: RandomState,
    of_role: BTreeMap<RoleId, Vec<SetId>>,
    /// How many sets there may be.
    pub(crate) most: usize,
}

const SETS_IN_A_PAGE: usize = 256;
const PARTS: usize = 64;

impl Sets {
    pub(crate) fn new() -> Sets {
        Sets {
            masks: vec![vec![Masks::default(); SETS_IN_A_PAGE].into()],
            roles: vec![Box::default()],
            numbers: vec![HashMap::new(); PARTS],
            hasher: RandomState::new(),
            of_role: BTreeMap::new(),
            most: 1 << SET_BITS,
        }
    }

    #[inline]
    pub(crate) fn masks(&self, set: SetId) -> &Masks {
        &self.masks[set as usize / SETS_IN_A_PAGE][set as usize % SETS_IN_A_PAGE]
    }

    /// The number of this set, a new one if it was never held. Sorts.
    pub(crate) fn find(&mut self, held: &mut Vec<RoleId>, known: &BTreeMap<RoleId, Role>) -> Option<SetId> {
        if held.is_empty() {
            return Some(0);
        }
        held.sort_unstable();
        held.dedup();
        let part = self.hasher.hash_one(held.as_slice()) as usize % PARTS;
        if let Some(set) = self.numbers[part].get(held.as_slice()) {
            return Some(*set);
        }
        let set = self.roles.len();
        if set >= self.most {
            return None;
        }
        if set.is_multiple_of(SETS_IN_A_PAGE) {
            self.masks.push(vec![Masks::default(); SETS_IN_A_PAGE].into());
        }
        self.roles.push(held.as_slice().into());
        self.numbers[part].insert(held.as_slice().into(), set as SetId);
        for role in held {
            self.of_role.entry(*role).or_default().push(set as SetId);
        }
        self.compute(set as SetId, known);
        Some(set as SetId)
    }

    fn compute(&mut self, set: SetId, known: &BTreeMap<RoleId, Role>) {
        let mut masks = Masks::default();
        let roles = self.roles[set as usize].iter();
        roles.filter_map(|id| known.get(id)).for_each(|role| masks.add(role));
        self.masks[set as usize / SETS_IN_A_PAGE][set as usize % SETS_IN_A_PAGE] = masks;
    }

    /// After a role came, changed or went.
    pub(crate) fn role_changed(&mut self, role: RoleId, known: &BTreeMap<RoleId, Role>) {
        let Some(sets) = self.of_role.remove(&role) else { return };
        sets.iter().for_each(|set| self.compute(*set, known));
        self.of_role.insert(role, sets);
    }
}

const ROWS_IN_A_PAGE: usize = 512;
/// Ids come from a database's counter and start at 1; pages for larger ids than this are not made.
const MOST_IDS: u64 = 1 << 31;

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
        if id as u64 >= MOST_IDS {
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
}
