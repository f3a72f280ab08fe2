//! `ml role list`, `ml permission list`

use bailiwick_api::Permission;
use bailiwick_api::permission::PermissionScope;
use bailiwick_api::roles::Role;
use serde::Serialize;

use crate::args::Common;
use crate::connect::{Connection, block_on};
use crate::failure::Result;
use crate::output::{Column, Output, column, wide};

const ROLES: &[Column<Role>] = &[
    column("ID", |role| role.id.0.into()),
    column("NAME", |role| role.name.as_str().into()),
    column("ASSIGNED", |role| {
        if role.global_only { "globally" } else { "anywhere" }.into()
    }),
    column("DESCRIPTION", |role| role.description.as_str().into()),
    wide("BUILT IN", |role| if role.built_in { "yes" } else { "no" }.into()),
    wide("PERMISSIONS", |role| role.permissions.join(", ").into()),
];

pub fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let roles = connection.client.roles().await.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(ROLES, |role| role.id.to_string(), &roles.items)
    })
}

#[derive(Serialize)]
struct Meaning {
    name: &'static str,
    assigned: &'static str,
    meaning: &'static str,
}

const PERMISSIONS: &[Column<Meaning>] = &[
    column("NAME", |permission| permission.name.into()),
    column("ASSIGNED", |permission| permission.assigned.into()),
    column("MEANING", |permission| permission.meaning.into()),
];

/// The list is part of the program: no server is asked.
pub fn permissions(common: &Common) -> Result<()> {
    let permissions: Vec<_> = Permission::ALL
        .iter()
        .map(|permission| Meaning {
            name: permission.name(),
            assigned: match permission.scope() {
                PermissionScope::Global => "globally",
                _ => "anywhere",
            },
            meaning: permission.meaning(),
        })
        .collect();
    Output::new(common.output).list(PERMISSIONS, |permission| permission.name.to_owned(), &permissions)
}
