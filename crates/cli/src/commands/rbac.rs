//! `ml rbac …`: Determined's words for roles, assignments and what one may do.

use bailiwick_api::access::{Ability, WhatCan};
use bailiwick_api::roles::{AssignmentFilter, NewAssignment, NewAssignments, OldAssignments, WhichAssignment};

use super::roles::{self, End};
use crate::args::{Common, Rbac, RbacAssignment};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, say, write};

pub fn run(common: &Common, command: Rbac) -> Result<()> {
    match command {
        Rbac::AssignRole { which, until } => assign(common, &which, until.as_deref()),
        Rbac::UnassignRole(which) => unassign(common, &which),
        Rbac::MyPermissions => my_permissions(common),
        Rbac::ListRoles { exclude_global_roles } => list_roles(common, exclude_global_roles),
        Rbac::DescribeRole { role } => roles::describe(common, &role),
        Rbac::ListUsersRoles { name } => roles::show_assignments(
            common,
            &AssignmentFilter {
                user: Some(name),
                through_groups: Some(true),
                ..AssignmentFilter::default()
            },
        ),
        Rbac::ListGroupsRoles { name } => roles::show_assignments(
            common,
            &AssignmentFilter {
                group: Some(name),
                ..AssignmentFilter::default()
            },
        ),
    }
}

fn one_of_both(which: &RbacAssignment) -> Result<()> {
    let wrong = match (&which.user, &which.group) {
        (Some(_), Some(_)) => "both -u and -g are given",
        (None, None) => "neither -u nor -g is given",
        _ => return Ok(()),
    };
    Err(
        Failure::wrong_usage(format!("{wrong}: a role goes to one user or to one group"))
            .hint("use -u USER or -g GROUP; to act as somebody else, put -u before `rbac`"),
    )
}

fn assign(common: &Common, which: &RbacAssignment, until: Option<&str>) -> Result<()> {
    one_of_both(which)?;
    let new = NewAssignment {
        role: which.role.clone(),
        user: which.user.clone(),
        group: which.group.clone(),
        on: which.place.text()?,
        ..End::parse(until)?.of_new()
    };
    let new = NewAssignments {
        assignments: vec![new],
        reason: String::new(),
    };
    roles::give(common, &which.role, &new)
}

fn unassign(common: &Common, which: &RbacAssignment) -> Result<()> {
    one_of_both(which)?;
    let old = WhichAssignment {
        role: which.role.clone(),
        user: which.user.clone(),
        group: which.group.clone(),
        on: which.place.text()?,
    };
    let old = OldAssignments { assignments: vec![old] };
    roles::take(common, &which.role, &old)
}

fn list_roles(common: &Common, without_global: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let mut all = roles::read_all(&connection)?;
    all.retain(|role| !(without_global && role.global_only));
    roles::show_with_permissions(&Output::new(common.output), &all)
}

const ABILITIES: &[Column<Ability>] = &[
    column("ON", |ability| ability.on.as_str().into()),
    column("PERMISSIONS", |ability| ability.permissions.join(", ").into()),
];

fn my_permissions(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let mut abilities: Vec<Ability> = Vec::new();
        let mut after = None;
        loop {
            let question = WhatCan {
                after,
                ..WhatCan::default()
            };
            let answer = connection.client.what_can(&question).await;
            let answer = answer.map_err(|why| connection.explain(why))?;
            abilities.extend(answer.items);
            after = answer.next;
            if after.is_none() {
                break;
            }
        }
        if !output.is_for_people() {
            return output.list(ABILITIES, |ability| ability.on.clone(), &abilities);
        }
        if abilities.is_empty() {
            say("You may do nothing yet; an administrator can assign you a role.");
        }
        let text = abilities
            .iter()
            .map(|ability| format!("{}\n{}", ability.place, roles::wrapped(&ability.permissions)));
        write(&text.collect::<Vec<_>>().join("\n"))
    })
}
