//! How rows, and what is assigned on objects, lie in memory.

use super::*;

#[test]
fn rows_of_every_length_are_kept_apart_and_their_room_is_used_again() {
    use crate::rows::{Row, Rows};
    let mut rows = Rows::default();
    let entries = |many: usize, salt: u32| -> Vec<(u64, u32)> {
        let keys = (1..=many as i64).map(|id| crate::flat::key(Scope::Workspace(WorkspaceId(id))).unwrap());
        keys.map(|key| (key, key as u32 % 1000 + salt)).collect()
    };
    let lengths = [1, 2, 8, 9, 50, 300, 2_000, 15_000];
    let mut made = Vec::new();
    for round in 0..4 {
        let each = lengths
            .iter()
            .map(|many| (rows.make(None, &entries(*many, round + 1)).unwrap(), *many, round));
        made.extend(each.collect::<Vec<_>>());
    }
    let right = |rows: &Rows, made: &[(Row, usize, u32)]| {
        for (row, many, round) in made {
            let held = entries(*many, round + 1);
            assert!(held.iter().all(|(key, set)| rows.get(*row, *key) == *set));
            let mut listed: Vec<_> = rows.iter(*row).collect();
            listed.sort_unstable();
            assert_eq!(listed, held);
            let stranger = crate::flat::key(Scope::Workspace(WorkspaceId(*many as i64 + 1))).unwrap();
            assert_eq!((rows.get(*row, stranger), rows.get(*row, crate::flat::GLOBAL)), (0, 0));
        }
    };
    right(&rows, &made);
    // A second time over, nothing more is taken.
    let taken = rows.taken();
    for (row, many, round) in &mut made {
        rows.give_back(*row);
        *row = rows.make(None, &entries(*many, *round + 1)).unwrap();
    }
    assert_eq!(rows.taken(), taken);
    right(&rows, &made);
    // One that outgrows its room, and one that is longer than any room.
    let mut grown = rows.make(None, &entries(8, 1)).unwrap();
    for (key, set) in entries(3_000, 1) {
        assert!(rows.set(None, &mut grown, key, set));
    }
    made.push((grown, 3_000, 0));
    right(&rows, &made);
    assert!(rows.make(None, &entries(70_000, 1)).is_none());
    // A project, a workspace with a high id and a set with a high number need wide slots, in a row of their own or when they come into another.
    let key = |scope| crate::flat::key(scope).unwrap();
    let high = key(Scope::Workspace(WorkspaceId(1 << 20)));
    let odd = [
        (key(Scope::Project(ProjectId(1))), 7),
        (high, 7),
        (key(Scope::Workspace(WorkspaceId(70_001))), 1 << 12),
    ];
    assert_eq!((rows.get(grown, high), rows.get(grown, odd[0].0)), (0, 0));
    for (at, set) in odd {
        let mut row = rows.make(None, &entries(20, 1)).unwrap();
        assert!(!row.is_wide() && rows.set(None, &mut row, at, 0) && !row.is_wide());
        assert!(rows.set(None, &mut row, at, set) && row.is_wide());
        assert_eq!(rows.get(row, at), set);
        assert!(entries(20, 1).iter().all(|(key, set)| rows.get(row, *key) == *set));
        assert_eq!(rows.get(row, crate::flat::GLOBAL), 0);
        assert!(rows.set(None, &mut row, at, 0));
        assert_eq!((rows.get(row, at), rows.iter(row).count()), (0, 20));
        rows.give_back(row);
    }
    let last = (key(Scope::Workspace(WorkspaceId((1 << 20) - 1))), (1 << 12) - 1);
    let row = rows.make(None, &[last]).unwrap();
    assert_eq!(
        (row.is_wide(), rows.get(row, last.0), rows.iter(row).next()),
        (false, last.1, Some(last))
    );
    // Taking away what is not there leaves no trace.
    let mut short = rows.make(None, &entries(3, 1)).unwrap();
    assert!(rows.set(None, &mut short, entries(4, 1)[3].0, 0));
    assert_eq!(rows.iter(short).count(), 3);
    assert!(rows.set(None, &mut grown, entries(1, 1)[0].0, 0));
    assert_eq!(rows.get(grown, entries(1, 1)[0].0), 0);
    assert!(rows.get(Default::default(), entries(1, 1)[0].0) == 0 && rows.iter(Default::default()).next().is_none());
}

#[test]
fn a_row_is_at_home_when_it_fits_there() {
    use crate::flat::{Head, Key, key};
    use crate::rows::Rows;

    let mut rows = Rows::default();
    // Past the workspaces that have a byte.
    let workspace = |id: i64| 1000 + id;
    let many = |count: i64, from: i64| -> Vec<(Key, u32)> {
        let keys = (0..count).filter_map(|at| key(Scope::Workspace(WorkspaceId(workspace(from + at)))));
        keys.map(|key| (key, from as u32)).collect()
    };
    let at_home = |rows: &Rows, id: i64, at: i64| rows.at_home(id, false, workspace(at) as u64);
    // The last of one page, and the first of the next but one.
    for id in [0, 16_383, 32_768] {
        let none = rows.make(Some(id), &[]).unwrap();
        assert!(none.is_empty() && !none.is_elsewhere());
        assert_eq!(at_home(&rows, id, 1), 0);
        let mut row = rows.make(Some(id), &many(12, 5)).unwrap();
        let beside = rows.make(Some(id + 1), &many(12, 9)).unwrap();
        assert!(!row.is_elsewhere() && !beside.is_elsewhere() && rows.taken() == 0);
        for (at, (key, _)) in (1..).zip(many(30, 1)) {
            assert_eq!(at_home(&rows, id, at), rows.get(row, key));
            assert_eq!(at_home(&rows, id + 1, at), rows.get(beside, key));
        }
        assert_eq!((rows.iter(row).count(), at_home(&rows, id, 16)), (12, 5));
        assert_eq!((rows.iter(beside).count(), at_home(&rows, id + 1, 16)), (12, 9));
        // It moves out when there are too many, leaves nothing behind, and comes back.
        for (at, (key, set)) in many(40, 100).into_iter().enumerate() {
            assert!(rows.set(Some(id), &mut row, key, set));
            assert_eq!(rows.iter(row).count(), 13 + at);
            assert_eq!(row.is_elsewhere(), at_home(&rows, id, 16) == 0);
        }
        assert!(row.is_elsewhere() && (1..=60).all(|at| at_home(&rows, id, at) == 0));
        assert_eq!(rows.get(row, many(1, 139)[0].0), 100);
        rows.give_back(row);
        let row = rows.make(Some(id), &many(3, 7)).unwrap();
        assert!(!row.is_elsewhere());
        rows.give_back(row);
        assert!((1..=60).all(|at| at_home(&rows, id, at) == 0));
        // One with a wide slot has no home.
        let wide = rows.make(Some(id), &many(3, 1 << 20)).unwrap();
        assert!(wide.is_wide() && wide.is_elsewhere());
        rows.give_back(wide);
        rows.give_back(beside);
        // A copy is one.
        let row = rows.make(Some(id), &many(3, 7)).unwrap();
        let copy = rows.clone();
        rows.give_back(row);
        assert_eq!((at_home(&copy, id, 9), at_home(&rows, id, 9)), (7, 0));
        // What most decisions begin with says where it is, unless more is to be looked at.
        assert!(!Head::new(3, row).is_elsewhere() && Head::new(3, wide).is_elsewhere());
        assert_eq!(
            (Head::new(3, row).global(), Head::new(0x3ffe, wide).global()),
            (3, 0x3ffe)
        );
        assert_eq!([0x4000, 1 << 16].map(|set| Head::new(set, row)), [Head::UNUSUAL; 2]);
        rows = Rows::default();
    }
}

#[test]
fn the_first_workspaces_have_a_byte_each() {
    use crate::flat::{GLOBAL, Head, Key, key};
    use crate::rows::{Row, Rows};

    let mut rows = Rows::default();
    let at = |id: i64| key(Scope::Workspace(WorkspaceId(id))).unwrap();
    let held = |id: i64| (at(id), (id * 2) as u32);
    let (who, few): (i64, Vec<(Key, u32)>) = (20_000, vec![held(1), held(64), held(127)]);
    let is_held = |rows: &Rows, row: Row, id: i64, set: u32| {
        let read = rows.at_home(who, Head::new(0, row).is_bytes(), id as u64);
        read == set && rows.get(row, at(id)) == set
    };
    let all: Vec<(Key, u32)> = (1..=127).map(held).collect();
    // Before and behind it lie others', in slots.
    let slots: Vec<(Key, u32)> = (1000..1020).map(|id| (at(id), 0x0f0f)).collect();
    for beside in [who - 1, who + 1] {
        assert!(!rows.make(Some(beside), &slots).unwrap().is_elsewhere());
    }
    let mut row = rows.make(Some(who), &few).unwrap();
    assert!(row.is_bytes() && !row.is_elsewhere() && !row.is_wide());
    assert!((0..300).all(|id| is_held(&rows, row, id, if few.contains(&held(id)) { id as u32 * 2 } else { 0 })));
    assert_eq!(
        [0, 1 << 20, 1 << 40, u64::MAX].map(|id| rows.at_home(who, true, id)),
        [0; 4]
    );
    assert_eq!(rows.get(row, GLOBAL), 0);
    assert_eq!(rows.iter(row).collect::<Vec<_>>(), few);
    for (key, set) in &all {
        assert!(rows.set(Some(who), &mut row, *key, *set) && row.is_bytes());
    }
    assert_eq!(rows.iter(row).collect::<Vec<_>>(), all);
    assert!(rows.set(Some(who), &mut row, all[5].0, 0) && rows.set(Some(who), &mut row, all[5].0, 255));
    assert!(is_held(&rows, row, 6, 255));
    rows.give_back(row);
    assert!((0..128).all(|id| rows.at_home(who, true, id) == 0));
    // What has no byte makes a row of another form of it, at home or elsewhere; to take away what was never there makes nothing.
    let project = key(Scope::Project(ProjectId(1))).unwrap();
    let others = [(at(128), 7), (at(5), 256), (at(1 << 20), 7), (project, 7), (at(0), 7)];
    for (key, set) in others {
        let mut row = rows.make(Some(who), &few).unwrap();
        assert!(row.is_bytes() && rows.set(Some(who), &mut row, key, 0) && row.is_bytes());
        assert!(rows.set(Some(who), &mut row, key, set) && !row.is_bytes());
        assert_eq!((rows.get(row, key), rows.iter(row).count()), (set, 4));
        assert!(few.iter().all(|(key, set)| rows.get(row, *key) == *set));
        let narrow = set == 256 || key == at(128);
        assert_eq!((row.is_elsewhere(), row.is_wide()), (!narrow, !narrow));
        assert!(
            !narrow
                || few.iter().all(|(key, set)| {
                    let Scope::Workspace(id) = crate::flat::scope(*key) else {
                        unreachable!()
                    };
                    is_held(&rows, row, id.0, *set)
                })
        );
        // Of no workspace nobody holds anything.
        assert_eq!(rows.at_home(who, false, 0), 0);
        rows.give_back(row);
    }
    // The group `Users` has no home, and so no bytes.
    assert!(!rows.make(None, &few).unwrap().is_bytes());
}

#[test]
fn what_is_assigned_on_an_object_is_told_briefly_while_it_is_little_and_simple() {
    use crate::flat::Objects;

    let mut objects = Objects::default();
    let assignment = |id: i64, holder: Holder, expires: Option<i64>| Assignment {
        id: AssignmentId(id),
        holder,
        role: RoleId(1),
        scope: Scope::Global,
        expires,
    };
    let of = |who: i64| Holder::Principal(PrincipalId(who));
    let on = |objects: &Objects, id: i64, who: i64| objects.briefly(ObjectKind::Model, id, PrincipalId(who));
    assert_eq!(on(&objects, 64, 1), None);
    // Eight on the 64 objects of a line; what is on others is another matter, and each is told by its own place and principal.
    for id in 1..=8 {
        objects.add(
            ObjectKind::Model,
            63 + id,
            &assignment(id, of(10 + id), None),
            Some(id as u32),
        );
        objects.add(
            ObjectKind::Model,
            127 + id,
            &assignment(20 + id, of(10 + id), None),
            Some(9),
        );
    }
    for id in 1..=8 {
        for who in 1..=8 {
            let expected = if id == who { id as u32 } else { 0 };
            assert_eq!(on(&objects, 63 + id, 10 + who), Some(expected));
        }
        assert_eq!(on(&objects, 127 + id, 10 + id), Some(9));
        assert_eq!(objects.briefly(ObjectKind::Stack, 63 + id, PrincipalId(10 + id)), None);
    }
    assert_eq!((on(&objects, 64, -1), on(&objects, 64, 1 << 31)), (None, None));
    // A ninth is too many; what ends, a group, a second role of the same principal and a set without a number are not simple. Each passes.
    let last = (1 << 31) - 1;
    let more = [
        (65, of(12), None, Some(5)),
        (65, of(13), Some(77), Some(5)),
        (65, Holder::Group(GroupId(12)), None, Some(5)),
        (65, of(13), None, None),
        (66, of(last), None, Some((1 << 20) - 1)),
    ];
    objects.add(ObjectKind::Model, 70, &assignment(9, of(9), None), Some(1));
    assert_eq!((on(&objects, 64, 11), on(&objects, 128, 11)), (None, Some(9)));
    objects.remove(ObjectKind::Model, 70, AssignmentId(9));
    objects.remove(ObjectKind::Model, 71, AssignmentId(8));
    for (id, holder, expires, set) in more {
        assert_eq!(on(&objects, 64, 11), Some(1));
        objects.add(ObjectKind::Model, id, &assignment(30, holder, expires), set);
        let simple = holder == of(last);
        assert_eq!(on(&objects, 64, 11), simple.then_some(1));
        assert_eq!(on(&objects, id, last), simple.then_some((1 << 20) - 1));
        objects.remove(ObjectKind::Model, id, AssignmentId(30));
        assert_eq!((on(&objects, id, last), on(&objects, 65, 12)), (Some(0), Some(2)));
    }
}

#[test]
fn rows_fill_page_after_page() {
    use crate::rows::Rows;

    let mut rows = Rows::default();
    // Of lengths that end a page in different places; some 100,000 lines, of which a page has 32,768.
    let made: Vec<_> = (0..90_u32)
        .map(|at| {
            let many = 12_000 + i64::from(at) * 37;
            let keys = (1..=many).map(|id| crate::flat::key(Scope::Workspace(WorkspaceId(id))).unwrap());
            let row = rows.make(None, &keys.map(|key| (key, at + 1)).collect::<Vec<_>>());
            (row.unwrap(), many, at + 1)
        })
        .collect();
    assert!(rows.taken() > 80_000);
    for (row, many, set) in made {
        let listed = rows
            .iter(row)
            .fold((0, true), |(count, all), (_, there)| (count + 1, all && there == set));
        assert_eq!(listed, (many, true));
    }
}
