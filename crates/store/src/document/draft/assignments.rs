//! Who holds which role where: what is taken, what ends otherwise, what is given.

use std::collections::HashMap;

use bailiwick_access::{Assignment, Holder, Scope};
use bailiwick_api::document::{DocumentAssignment, PlannedAct};
use bailiwick_api::ids::as_number;
use bailiwick_api::on::On;
use bailiwick_api::{AssignmentId, ProjectId, RoleId, Time};
use serde_json::{Value, json};

use super::{Drafting, Step, meant};
use crate::access::scope_of;
use crate::assignments::STAYS_BREAK_GLASS;

impl Drafting<'_> {
    pub(super) fn assignments(&mut self, wanted: &[DocumentAssignment]) {
        let existing: HashMap<(Holder, RoleId, Scope), Assignment> = self
            .live
            .iter()
            .map(|one| ((one.holder, one.role, one.scope), *one))
            .collect();
        let mut seen: HashMap<(Holder, RoleId, Scope), usize> = HashMap::new();
        let mut made = Vec::new();
        let mut changed = Vec::new();
        for (at, one) in wanted.iter().enumerate() {
            let place = format!("assignments, entry {} ({})", at + 1, one.role);
            let key = match self.read(one) {
                Ok(key) => key,
                Err(why) => {
                    self.fault(&place, why);
                    continue;
                }
            };
            if let Some(first) = seen.get(&key) {
                let first = first + 1;
                self.fault(&place, format!("entry {first} says the same"));
                continue;
            }
            let (holder, role, scope) = key;
            if scope != Scope::Global && self.holds(role).is_global_only() {
                let words = format!("{} can only be assigned globally: leave out where", one.role);
                self.fault(&place, words);
                continue;
            }
            if one.until.is_some_and(|end| end <= self.now) {
                let words = self.words(role, holder, scope, "of");
                self.warnings
                    .push(format!("{words}: its end has passed, so there is none"));
                continue;
            }
            seen.insert(key, at);
            match existing.get(&key) {
                Some(there) if there.expires.map(Time) == one.until => {}
                Some(there) if self.have.built_in.contains(&there.id) => {
                    self.fault(&place, "this assignment is built in and has no end");
                }
                Some(there) if self.have.break_glass.contains(&there.id) => {
                    self.fault(&place, STAYS_BREAK_GLASS);
                }
                Some(there) => changed.push((*there, one.until)),
                None => made.push((holder, role, scope, one.until)),
            }
        }
        let gone = self.live.iter().filter(|one| {
            let key = (one.holder, one.role, one.scope);
            let is_kept = self.have.built_in.contains(&one.id) || self.have.on_request.contains(&one.id);
            !seen.contains_key(&key) && !is_kept
        });
        let mut gone: Vec<Assignment> = gone.copied().collect();
        gone.sort_by_key(|one| (one.scope, one.role, one.holder));
        self.taken = gone.iter().map(|one| one.id).collect();
        for one in gone {
            let words = format!("take {}", self.words(one.role, one.holder, one.scope, "from"));
            let missing = self.lacks_to_assign(one.scope);
            let detail =
                json!({"assignment": one.id, "before": self.detail(one.role, one.scope, one.expires.map(Time))});
            self.step(PlannedAct::Remove, words, missing, detail, Step::Unassign(one));
        }
        for (one, until) in changed {
            let forever = Time(i64::MAX);
            let lasts_longer = until.unwrap_or(forever) > one.expires.map_or(forever, Time);
            // An earlier end takes away, and the right to assign is enough for that.
            let missing = match lasts_longer {
                true => self.lacks_to_give(one.role, one.scope, until),
                false => self.lacks_to_assign(one.scope),
            };
            let end = |end: Option<Time>| end.map_or_else(|| "no end".to_owned(), |end| end.to_string());
            let words = self.words(one.role, one.holder, one.scope, "of");
            let words = format!(
                "let {words} end otherwise: {} → {}",
                end(one.expires.map(Time)),
                end(until)
            );
            let detail = json!({
                "assignment": one.id,
                "before": self.detail(one.role, one.scope, one.expires.map(Time)),
                "after": self.detail(one.role, one.scope, until),
            });
            self.step(PlannedAct::Change, words, missing, detail, Step::ChangeEnd(one, until));
        }
        for (holder, role, scope, until) in made {
            let missing = self.lacks_to_give(role, scope, until);
            let end = until.map(|end| format!(" until {end}")).unwrap_or_default();
            let words = format!("assign {}{end}", self.words(role, holder, scope, "to"));
            let detail = json!({"after": self.detail(role, scope, until)});
            let assignment = Assignment {
                id: AssignmentId(self.fresh()),
                holder,
                role,
                scope,
                expires: until.map(|end| end.0),
            };
            self.step(PlannedAct::Make, words, missing, detail, Step::Assign(assignment));
        }
    }

    /// `Editor to group "Stop Signs Team" on workspace "Stop Signs"`
    fn words(&self, role: RoleId, holder: Holder, scope: Scope, preposition: &str) -> String {
        let role = self.labels.role(self.picture, role);
        let (kind, name) = self.labels.holder(self.picture, holder);
        let name = if kind == "group" { format!("\"{name}\"") } else { name };
        format!(
            "{role} {preposition} {kind} {name} {}",
            self.labels.place(self.picture, scope)
        )
    }

    fn detail(&self, role: RoleId, scope: Scope, until: Option<Time>) -> Value {
        let (role, on) = (
            self.labels.role(self.picture, role),
            self.labels.on(self.picture, scope),
        );
        json!({"role": role, "on": on, "until": until})
    }

    /// What an entry says, with every name looked up.
    fn read(&self, one: &DocumentAssignment) -> std::result::Result<(Holder, RoleId, Scope), String> {
        let role = self.role(&one.role).ok_or_else(|| {
            let deleted = self.picture.find_role(&one.role).is_some();
            match deleted {
                true => format!(
                    "the role `{}` is not in the section `roles`, which is complete",
                    one.role
                ),
                false => self.picture.no_role(&one.role),
            }
        })?;
        let holder = match (&one.user, &one.group) {
            (Some(name), None) => {
                let found = self.principal(name);
                Holder::Principal(found.ok_or_else(|| self.no_user(name))?)
            }
            (None, Some(name)) => Holder::Group(self.group(name).ok_or_else(|| self.no_group(name))?),
            _ => return Err("give exactly one of `user` and `group`".into()),
        };
        let scope = match (&one.workspace, &one.project, &one.on) {
            (None, None, None) => Scope::Global,
            (workspace, project, None) => {
                let name = workspace.as_ref().ok_or("a project needs its workspace beside it")?;
                self.place(name, project.as_deref())?
            }
            (None, None, Some(text)) => match On::parse_named(text)? {
                On::Installation => Scope::Global,
                On::Workspace(name) => self.place(&name, None)?,
                On::Project(workspace, name) if workspace.is_empty() => {
                    let id = as_number(&name).map(ProjectId);
                    let found = id.filter(|id| self.picture.project(*id).is_some());
                    Scope::Project(found.ok_or_else(|| format!("there is no project `{name}`"))?)
                }
                On::Project(workspace, name) => self.place(&workspace, Some(&name))?,
                _ => match self.places.get(text) {
                    Some(Ok(target)) => scope_of(target),
                    Some(Err(why)) => return Err(why.clone()),
                    None => return Err(format!("there is no `{text}`")),
                },
            },
            _ => return Err("give `on`, or `workspace` (and `project`), not both".into()),
        };
        Ok((holder, role, scope))
    }

    fn place(&self, workspace: &str, project: Option<&str>) -> std::result::Result<Scope, String> {
        let id = self.workspace(workspace).ok_or_else(|| {
            let known = self.picture.workspaces();
            let known = known.iter().map(|(_, entry)| &*entry.name);
            format!("there is no workspace `{workspace}`{}", meant(workspace, known))
        })?;
        let Some(project) = project else {
            return Ok(Scope::Workspace(id));
        };
        let found = self.project(id, project);
        let found = found.ok_or_else(|| format!("there is no project `{project}` in the workspace `{workspace}`"))?;
        Ok(Scope::Project(found))
    }

    fn no_group(&self, name: &str) -> String {
        if self.picture.find_group(name).is_some() {
            return format!("the group `{name}` is not in the section `groups`, which is complete");
        }
        let known = self.picture.groups();
        let meant = meant(name, known.iter().map(|(_, entry)| &*entry.name));
        format!("there is no group `{name}`{meant}")
    }
}
