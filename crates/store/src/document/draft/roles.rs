//! Roles, and what those that change need.

use std::collections::{BTreeSet, HashSet};

use bailiwick_access::Scope;
use bailiwick_api::document::{DocumentRole, PlannedAct};
use bailiwick_api::names::{check_name, name_key};
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::{Permission, RoleId};
use serde_json::json;

use super::{Drafting, Step, by_name, some_names};
use crate::roles::beyond;

impl Drafting<'_> {
    pub(super) fn roles(&mut self, roles: &[DocumentRole]) {
        let mut kept = HashSet::new();
        let mut seen = HashSet::new();
        for (at, role) in roles.iter().enumerate() {
            let place = format!("roles, entry {} ({})", at + 1, role.name);
            let found = by_name(&role.name, |name| self.picture.find_role(name));
            if found.is_none()
                && let Err(why) = check_name("a role", &role.name)
            {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&role.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let have = found.and_then(|id| self.have.roles.get(&id));
            let old = have.map(|(description, _)| description.as_str()).unwrap_or_default();
            self.check_new(&place, role.description.as_deref(), old);
            let permissions = match RolePermissions::parse(role.permissions.iter().map(String::as_str)) {
                Ok(permissions) => permissions,
                Err(why) => {
                    self.fault(&place, why);
                    continue;
                }
            };
            let Some(id) = found else {
                self.make_role(role, permissions);
                continue;
            };
            kept.insert(id);
            let (description, is_built_in) = self.have.roles.get(&id).cloned().unwrap_or_default();
            if is_built_in {
                self.fault(&place, "this role is built in and stays as it is: leave it out");
                continue;
            }
            self.change_role(id, role, permissions, description);
        }
        let own = self
            .have
            .roles
            .iter()
            .filter(|(id, (_, is_built_in))| !is_built_in && !kept.contains(*id));
        self.deleted_roles = own.map(|(id, _)| *id).collect();
    }

    fn make_role(&mut self, role: &DocumentRole, permissions: RolePermissions) {
        let id = RoleId(self.fresh());
        self.roles.insert(name_key(&role.name), id);
        self.labels.roles.insert(id, role.name.clone());
        self.held.insert(id, permissions);
        let missing = self.lacks_globally(Permission::RolesCreate);
        let words = format!("make role {}: {}", role.name, some_names(&permissions.words()));
        let detail = json!({"after": {"permissions": permissions.words(), "description": role.description}});
        let step = Step::PutRole {
            id,
            is_new: true,
            name: role.name.clone(),
            description: role.description.clone().unwrap_or_default(),
            permissions,
        };
        self.step(PlannedAct::Make, words, missing, detail, step);
    }

    fn change_role(&mut self, id: RoleId, role: &DocumentRole, permissions: RolePermissions, old: String) {
        let Some(before) = self.picture.role(id) else { return };
        let mut words = Vec::new();
        if before.name != role.name {
            words.push(format!("written {}", role.name));
        }
        if before.permissions != permissions {
            let (had, has) = (before.permissions.words(), permissions.words());
            let beyond = |one: &[String], other: &[String]| -> Vec<String> {
                one.iter().filter(|word| !other.contains(word)).cloned().collect()
            };
            let (more, fewer) = (beyond(&has, &had), beyond(&had, &has));
            words.extend((!more.is_empty()).then(|| format!("also {}", some_names(&more))));
            words.extend((!fewer.is_empty()).then(|| format!("no longer {}", some_names(&fewer))));
            self.held.insert(id, permissions);
        }
        let description = role.description.clone().unwrap_or_else(|| old.clone());
        if description != old {
            words.push("another description".into());
        }
        if words.is_empty() {
            return;
        }
        // What it gains must be held wherever it stays assigned: see `rights`.
        let missing = self.lacks_globally(Permission::RolesUpdate);
        let detail = json!({
            "before": {"name": before.name, "permissions": before.permissions.words(), "description": old},
            "after": {"name": role.name, "permissions": permissions.words(), "description": description},
        });
        let step = Step::PutRole {
            id,
            is_new: false,
            name: role.name.clone(),
            description,
            permissions,
        };
        let words = format!("change role {}: {}", before.name, words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    /// What changed roles gain must be held by the actor wherever they stay assigned, and may be held there at all.
    pub(super) fn rights(&mut self) {
        let changed: Vec<(RoleId, RolePermissions)> = self.held.iter().map(|(id, held)| (*id, *held)).collect();
        for (id, permissions) in changed {
            let Some(before) = self.picture.role(id) else { continue };
            let gains = beyond(permissions, before.permissions);
            let loses = beyond(before.permissions, permissions) != RolePermissions::default();
            let kept = self
                .live
                .iter()
                .filter(|one| one.role == id && !self.taken.contains(&one.id));
            let scopes: BTreeSet<Scope> = kept.map(|one| one.scope).collect();
            let mut missing = None;
            for scope in scopes {
                let Some(target) = self.target(scope) else { continue };
                if scope != Scope::Global && permissions.is_global_only() {
                    let at = self.labels.place(self.picture, scope);
                    let words = format!(
                        "{} is assigned {at}, and this would give it a permission that can only be assigned globally",
                        before.name
                    );
                    self.fault("roles", words);
                }
                let lacks = self.actor.missing_to_hold(gains, &target, None);
                missing = missing.or(lacks.map(|permission| (permission, target)));
                if loses {
                    missing = missing.or_else(|| self.lacks_to_assign(scope));
                }
            }
            let step = self
                .steps
                .iter_mut()
                .find(|one| matches!(&one.step, Step::PutRole { id: of, .. } if *of == id));
            if let Some(step) = step {
                step.missing = step.missing.or(missing);
            }
        }
    }
}
