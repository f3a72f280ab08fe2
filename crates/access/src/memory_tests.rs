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
    let many = |count: i64, from: i64| -> Vec<(Key, u32)> {
        let keys = (0..count).filter_map(|at| key(Scope::Workspace(WorkspaceId(from + at))));
        keys.map(|key| (key, from as u32)).collect()
    };
    // The last of one page, and the first of the next but one.
    for id in [0, 16_383, 32_768] {
        let none = rows.make(Some(id), &[]).unwrap();
        assert!(none.is_empty() && !none.is_elsewhere());
        assert_eq!(rows.at_home(id, many(1, 1)[0].0), 0);
        let mut row = rows.make(Some(id), &many(12, 5)).unwrap();
        let beside = rows.make(Some(id + 1), &many(12, 9)).unwrap();
        assert!(!row.is_elsewhere() && !beside.is_elsewhere() && rows.taken() == 0);
        for (key, _) in many(30, 1) {
            assert_eq!(rows.at_home(id, key), rows.get(row, key));
            assert_eq!(rows.at_home(id + 1, key), rows.get(beside, key));
        }
        assert_eq!((rows.iter(row).count(), rows.at_home(id, many(1, 16)[0].0)), (12, 5));
        assert_eq!(
            (rows.iter(beside).count(), rows.at_home(id + 1, many(1, 16)[0].0)),
            (12, 9)
        );
        // It moves out when there are too many, leaves nothing behind, and comes back.
        for (at, (key, set)) in many(40, 100).into_iter().enumerate() {
            assert!(rows.set(Some(id), &mut row, key, set));
            assert_eq!(rows.iter(row).count(), 13 + at);
            assert_eq!(row.is_elsewhere(), rows.at_home(id, many(1, 16)[0].0) == 0);
        }
        assert!(row.is_elsewhere() && many(60, 1).iter().all(|(key, _)| rows.at_home(id, *key) == 0));
        assert_eq!(rows.get(row, many(1, 139)[0].0), 100);
        rows.give_back(row);
        let row = rows.make(Some(id), &many(3, 7)).unwrap();
        assert!(!row.is_elsewhere());
        rows.give_back(row);
        assert!(many(60, 1).iter().all(|(key, _)| rows.at_home(id, *key) == 0));
        // One with a wide slot has no home.
        let wide = rows.make(Some(id), &many(3, 1 << 20)).unwrap();
        assert!(wide.is_wide() && wide.is_elsewhere());
        rows.give_back(wide);
        rows.give_back(beside);
        // A copy is one.
        let row = rows.make(Some(id), &many(3, 7)).unwrap();
        let copy = rows.clone();
        rows.give_back(row);
        assert_eq!(
            (copy.at_home(id, many(1, 9)[0].0), rows.at_home(id, many(1, 9)[0].0)),
            (7, 0)
        );
        // What most decisions begin with says where it is, unless more is to be looked at.
        assert!(!Head::new(3, row).is_elsewhere() && Head::new(3, wide).is_elsewhere());
        assert_eq!(
            (Head::new(3, row).global(), Head::new(0x7ffe, wide).global()),
            (3, 0x7ffe)
        );
        assert_eq!([0x8000, 1 << 16].map(|set| Head::new(set, row)), [Head::UNUSUAL; 2]);
        rows = Rows::default();
    }
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
