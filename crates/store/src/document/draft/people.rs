//! Users, service accounts, groups and who belongs to them.

use std::collections::{BTreeSet, HashSet};

use bailiwick_access::{Holder, Scope, Target};
use bailiwick_api::document::{DocumentGroup, DocumentUser, PlannedAct};
use bailiwick_api::names::{LABEL_MAX, check_name, check_text, check_username, name_key};
use bailiwick_api::users::{PrincipalKind, UserState};
use bailiwick_api::{GroupId, Permission, PrincipalId, Time};
use serde_json::{Value, json};

use super::{Drafting, Step, by_name, some_names};
use crate::credentials::{Uncovered, must_cover};

impl Drafting<'_> {
    pub(super) fn users(&mut self, users: &[DocumentUser]) {
        let mut seen = HashSet::new();
        for (at, user) in users.iter().enumerate() {
            let place = format!("users, entry {} ({})", at + 1, user.name);
            if let Err(why) = check_username(&user.name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&user.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let have = self.principal(&user.name).and_then(|id| self.have.users.get(&id));
            let old = have.and_then(|user| user.display_name.as_deref()).unwrap_or_default();
            if let Some(name) = user.display_name.as_deref().filter(|name| *name != old)
                && let Err(why) = check_text("the display name", name, LABEL_MAX)
            {
                self.fault(&place, why);
            }
            if user.state == Some(UserState::Removed) {
                self.fault(
                    &place,
                    "`removed` is not for a document: `ml user remove` removes a user",
                );
                continue;
            }
            match self.principal(&user.name) {
                None => self.make_user(user),
                Some(id) => match self.have.users.get(&id) {
                    None => self.fault(&place, "there is a service account of that name"),
                    Some(_) => self.change_user(id, user),
                },
            }
        }
    }

    fn make_user(&mut self, user: &DocumentUser) {
        let id = PrincipalId(self.fresh());
        let remote = user.remote == Some(true);
        let state = match user.state {
            Some(UserState::Deactivated) => UserState::Deactivated,
            _ if remote => UserState::Active,
            _ => UserState::Pending,
        };
        let how = match state {
            UserState::Deactivated => "deactivated",
            UserState::Active => "remote: signs in through the identity provider",
            _ => "pending: needs a link to sign in",
        };
        let display_name = user.display_name.clone().filter(|name| !name.is_empty());
        let missing = self.lacks_globally(Permission::UsersCreate);
        self.principals.insert(name_key(&user.name), id);
        self.labels.principals.insert(id, user.name.clone());
        let detail = json!({"after": {"state": state, "remote": remote, "display_name": display_name}});
        let step = Step::MakePrincipal {
            id,
            kind: PrincipalKind::User,
            name: user.name.clone(),
            display_name,
            state,
            remote,
            own_roles_only: user.own_roles_only == Some(true),
        };
        self.step(
            PlannedAct::Make,
            format!("make user {} ({how})", user.name),
            missing,
            detail,
            step,
        );
    }

    fn change_user(&mut self, id: PrincipalId, user: &DocumentUser) {
        let have = &self.have.users[&id];
        let old_name = self.picture.principal_name(id).to_string();
        let mut words = Vec::new();
        if *user.name != old_name {
            words.push(format!("written {}", user.name));
        }
        let display_name = match &user.display_name {
            None => have.display_name.clone(),
            Some(name) => Some(name.clone()).filter(|name| !name.is_empty()),
        };
        if display_name != have.display_name.clone().filter(|name| !name.is_empty()) && user.display_name.is_some() {
            words.push(match &display_name {
                Some(name) => format!("display name \"{name}\""),
                None => "no display name".into(),
            });
        }
        let remote = user.remote.unwrap_or(have.remote);
        if remote != have.remote {
            words.push(
                if remote {
                    "remote: the password goes, sessions end"
                } else {
                    "no longer remote"
                }
                .into(),
            );
        }
        // A remote user waits for no link.
        let in_force = match have.state {
            UserState::Pending if remote => UserState::Active,
            state => state,
        };
        let state = match (user.state, in_force) {
            (Some(UserState::Deactivated), _) => UserState::Deactivated,
            (Some(_), UserState::Deactivated) if remote || (have.has_password && !have.remote) => UserState::Active,
            (Some(_), UserState::Deactivated) => UserState::Pending,
            (_, state) => state,
        };
        let shuts_out = state == UserState::Deactivated && have.state != UserState::Deactivated;
        if shuts_out {
            words.push("deactivated: every session and key ends".into());
        } else if have.state == UserState::Deactivated && state != UserState::Deactivated {
            words.push(format!("{} again", state.name()));
        }
        let own_roles_only = user.own_roles_only.unwrap_or(have.own_roles_only);
        if own_roles_only != have.own_roles_only {
            let what = if own_roles_only { "no longer reached" } else { "reached" };
            words.push(format!("{what} by what the group Users holds in workspaces"));
        }
        if words.is_empty() {
            return;
        }
        let updates = Permission::UsersUpdate;
        let mut missing = self.lacks_globally(updates);
        let mut partial_key = false;
        // As where it is changed alone: the name that another leaves could be taken, and be looked upon as his.
        let another_name = user.name != old_name && id != self.actor.id;
        if missing.is_none() && (remote != have.remote || another_name) {
            match must_cover(self.actor, id) {
                Ok(()) => {}
                Err(Uncovered::Missing(permission, target)) => missing = Some((permission, target)),
                Err(Uncovered::PartialKey) => {
                    missing = Some((updates, Target::default()));
                    partial_key = true;
                }
            }
        }
        if missing.is_none() && own_roles_only != have.own_roles_only {
            missing = self.lacks_to_move_in_users(!own_roles_only);
        }
        let detail = json!({
            "before": {"name": old_name, "display_name": have.display_name, "state": have.state, "remote": have.remote, "own_roles_only": have.own_roles_only},
            "after": {"name": user.name, "display_name": display_name, "state": state, "remote": remote, "own_roles_only": own_roles_only},
        });
        let step = Step::ChangeUser {
            id,
            name: user.name.clone(),
            display_name,
            state,
            remote,
            own_roles_only,
            shuts_out,
            becomes_remote: remote && !have.remote,
        };
        let words = format!("change user {old_name}: {}", words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
        if let Some(step) = self.steps.last_mut() {
            step.partial_key = partial_key;
        }
    }

    /// What is missing to let what the group Users holds in workspaces reach somebody, or no longer: the same as for giving it to him, or taking it away.
    fn lacks_to_move_in_users(&self, gives: bool) -> Option<(Permission, Target)> {
        let users = Holder::Group(self.picture.users_group());
        let held = self
            .live
            .iter()
            .filter(|one| one.holder == users && one.scope != Scope::Global);
        held.into_iter().find_map(|one| match gives {
            true => self.lacks_to_give(one.role, one.scope, one.expires.map(Time)),
            false => self.lacks_to_assign(one.scope),
        })
    }

    pub(super) fn service_accounts(&mut self, names: &[String]) {
        let mut seen = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            let place = format!("service_accounts, entry {} ({name})", at + 1);
            if let Err(why) = check_username(name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            if let Some(id) = self.principal(name) {
                let kind = self.picture.principal(id).map(|one| one.kind);
                if kind != Some(PrincipalKind::Service) {
                    self.fault(&place, "there is a user of that name");
                }
                continue;
            }
            let id = PrincipalId(self.fresh());
            self.principals.insert(name_key(name), id);
            self.labels.principals.insert(id, name.clone());
            self.labels.services.insert(id);
            let missing = self.lacks_globally(Permission::ServiceAccountsCreate);
            let step = Step::MakePrincipal {
                id,
                kind: PrincipalKind::Service,
                name: name.clone(),
                display_name: None,
                state: UserState::Active,
                remote: false,
                own_roles_only: true,
            };
            let words = format!("make service account {name} (without a key)");
            self.step(PlannedAct::Make, words, missing, Value::Null, step);
        }
    }

    /// Makes and changes groups; who belongs to which is given back, for when everybody is known.
    pub(super) fn groups<'d>(&mut self, groups: &'d [DocumentGroup]) -> Vec<(String, GroupId, &'d [String])> {
        let mut members = Vec::new();
        let mut kept = HashSet::new();
        let mut seen = HashSet::new();
        for (at, group) in groups.iter().enumerate() {
            let place = format!("groups, entry {} ({})", at + 1, group.name);
            let found = by_name(&group.name, |name| self.picture.find_group(name));
            if found.is_none()
                && let Err(why) = check_name("a group", &group.name)
            {
                self.fault(&place, why);
                continue;
            }
            let is_twice = !seen.insert(name_key(&group.name)) || found.is_some_and(|id| !kept.insert(id));
            if is_twice {
                self.fault(&place, "the group stands here twice (letter case does not matter)");
                continue;
            }
            let old = found
                .and_then(|id| self.have.groups.get(&id))
                .map_or("", String::as_str);
            self.check_new(&place, group.description.as_deref(), old);
            if found == Some(self.picture.users_group()) {
                self.fault(&place, "everybody belongs to this group: leave it out");
                continue;
            }
            let is_built_in = found
                .and_then(|id| self.picture.group(id))
                .is_some_and(|entry| entry.built_in);
            if group.built_in && !is_built_in {
                self.fault(&place, "there is no built-in group of that name");
                continue;
            }
            let id = match found {
                None => self.make_group(group),
                Some(id) if is_built_in => {
                    if group.description.is_some() {
                        self.fault(&place, "this group is built in: only its members can be given");
                    }
                    id
                }
                Some(id) => {
                    self.change_group(id, group);
                    id
                }
            };
            if let Some(list) = &group.members {
                members.push((place, id, list.as_slice()));
            }
        }
        let known = self.picture.groups().into_iter();
        let own = known.filter(|(id, entry)| !entry.built_in && !kept.contains(id));
        self.deleted_groups = own.map(|(id, _)| id).collect();
        members
    }

    fn make_group(&mut self, group: &DocumentGroup) -> GroupId {
        let id = GroupId(self.fresh());
        self.groups.insert(name_key(&group.name), id);
        self.labels.groups.insert(id, group.name.clone());
        let missing = self.lacks_globally(Permission::GroupsCreate);
        let description = group.description.clone().unwrap_or_default();
        let detail = json!({"after": {"description": description}});
        let step = Step::PutGroup {
            id,
            is_new: true,
            name: group.name.clone(),
            description,
        };
        self.step(
            PlannedAct::Make,
            format!("make group \"{}\"", group.name),
            missing,
            detail,
            step,
        );
        id
    }

    fn change_group(&mut self, id: GroupId, group: &DocumentGroup) {
        let old_name = self.picture.group_name(id).to_string();
        let old = self.have.groups.get(&id).cloned().unwrap_or_default();
        let description = group.description.clone().unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if old_name != group.name {
            words.push(format!("written {}", group.name));
        }
        if old != description {
            words.push("another description".into());
        }
        if words.is_empty() {
            return;
        }
        let missing = self.lacks_globally(Permission::GroupsUpdate);
        let detail = json!({
            "before": {"name": old_name, "description": old},
            "after": {"name": group.name, "description": description},
        });
        let step = Step::PutGroup {
            id,
            is_new: false,
            name: group.name.clone(),
            description,
        };
        let words = format!("change group \"{old_name}\": {}", words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    /// Who joins and who leaves the groups of the document.
    pub(super) fn members(&mut self, groups: Vec<(String, GroupId, &[String])>) {
        for (place, id, names) in groups {
            let mut wanted = BTreeSet::new();
            for name in names {
                match self.principal(name) {
                    Some(who) => drop(wanted.insert(who)),
                    None => {
                        let why = self.no_user(name);
                        self.fault(&format!("{place}, members"), why);
                    }
                }
            }
            let present: BTreeSet<PrincipalId> = self.picture.world().members_of(id).iter().copied().collect();
            let joining: Vec<PrincipalId> = wanted.difference(&present).copied().collect();
            let leaving: Vec<PrincipalId> = present.difference(&wanted).copied().collect();
            let group = self.labels.group(self.picture, id);
            let named = |who: &[PrincipalId]| -> Vec<String> {
                who.iter().map(|id| self.labels.principal(self.picture, *id)).collect()
            };
            let (joined, left) = (named(&joining), named(&leaving));
            let missing = self.lacks_globally(Permission::GroupsUpdate);
            if !leaving.is_empty() {
                let words = format!("take {} out of group \"{group}\"", some_names(&left));
                let detail = json!({"removed": left});
                self.step(PlannedAct::Remove, words, missing, detail, Step::Leave(id, leaving));
            }
            if !joining.is_empty() {
                // Into a group that is made here whoever may make it may put people; what it will hold is looked at where it is given.
                let missing = match self.labels.groups.contains_key(&id) {
                    true => None,
                    false => missing.or_else(|| self.lacks_to_hold_of(id)),
                };
                let words = format!("put {} into group \"{group}\"", some_names(&joined));
                let detail = json!({"added": joined});
                self.joins.push((id, joining.clone()));
                self.step(PlannedAct::Make, words, missing, detail, Step::Join(id, joining));
            }
        }
    }

    /// What the actor lacks of what a group goes on to hold.
    fn lacks_to_hold_of(&self, group: GroupId) -> Option<(Permission, Target)> {
        let held = self.live.iter().filter(|one| one.holder == Holder::Group(group));
        let kept = held.filter(|one| !self.taken.contains(&one.id));
        kept.into_iter().find_map(|one| {
            let role = one.scope.counts(self.holds(one.role));
            let target = self.target(one.scope)?;
            let missing = self.actor.missing_to_hold(role, &target, one.expires.map(Time))?;
            Some((missing, target))
        })
    }
}
