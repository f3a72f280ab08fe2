//! Workspaces and their projects.

use std::collections::HashSet;

use bailiwick_access::Scope;
use bailiwick_api::document::{DocumentProject, DocumentWorkspace, PlannedAct};
use bailiwick_api::names::{check_place_name, name_key};
use bailiwick_api::workspaces::{DEFAULT_PROJECT, DEFAULT_WORKSPACE};
use bailiwick_api::{Permission, ProjectId, WorkspaceId};
use serde_json::json;

use super::{Drafting, Step, by_name};

impl Drafting<'_> {
    pub(super) fn workspaces(&mut self, workspaces: &[DocumentWorkspace]) {
        let mut seen = HashSet::new();
        for (at, workspace) in workspaces.iter().enumerate() {
            let place = format!("workspaces, entry {} ({})", at + 1, workspace.name);
            let found = by_name(&workspace.name, |name| self.picture.find_workspace(name));
            if found.is_none()
                && let Err(why) = check_place_name("a workspace", &workspace.name)
            {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&workspace.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let old = found
                .and_then(|id| self.have.workspaces.get(&id))
                .map_or("", String::as_str);
            self.check_new(&place, workspace.description.as_deref(), old);
            if workspace.archived == Some(true) && name_key(&workspace.name) == DEFAULT_WORKSPACE {
                self.fault(&place, "the workspace `default` cannot be archived");
            }
            let id = found.unwrap_or_else(|| {
                let id = WorkspaceId(self.fresh());
                self.workspaces.insert(name_key(&workspace.name), id);
                self.labels.workspaces.insert(id, workspace.name.clone());
                id
            });
            self.put_workspace(id, workspace);
            let mut seen = HashSet::new();
            for project in &workspace.projects {
                let place = format!("{place}, project {}", project.name);
                let found = by_name(&project.name, |name| self.picture.find_project(id, name));
                if found.is_none()
                    && let Err(why) = check_place_name("a project", &project.name)
                {
                    self.fault(&place, why);
                    continue;
                }
                if !seen.insert(name_key(&project.name)) {
                    self.fault(&place, "the name stands here twice (letter case does not matter)");
                    continue;
                }
                let old = found
                    .and_then(|id| self.have.projects.get(&id))
                    .map_or("", String::as_str);
                self.check_new(&place, project.description.as_deref(), old);
                if project.archived == Some(true) && name_key(&project.name) == DEFAULT_PROJECT {
                    self.fault(&place, "the project `default` cannot be archived");
                }
                self.put_project(id, project);
            }
        }
    }

    fn put_workspace(&mut self, id: WorkspaceId, workspace: &DocumentWorkspace) {
        let Some(entry) = self.picture.workspace(id) else {
            let default = ProjectId(self.fresh());
            self.projects.insert((id, DEFAULT_PROJECT.into()), default);
            self.labels.projects.insert(default, (id, DEFAULT_PROJECT.into()));
            let description = workspace.description.clone().unwrap_or_default();
            let detail = json!({"after": {"name": workspace.name, "description": description}});
            let missing = self.lacks_globally(Permission::WorkspacesCreate);
            let step = Step::PutWorkspace {
                id,
                is_new: true,
                name: workspace.name.clone(),
                description,
                archived: workspace.archived.filter(|archived| *archived),
            };
            let words = format!("make workspace \"{}\"", workspace.name);
            return self.step(PlannedAct::Make, words, missing, detail, step);
        };
        let old = self.have.workspaces.get(&id).cloned().unwrap_or_default();
        let description = workspace.description.clone().unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if *entry.name != *workspace.name {
            words.push(format!("written {}", workspace.name));
        }
        if old != description {
            words.push("another description".into());
        }
        let archived = workspace.archived.filter(|archived| *archived != entry.archived);
        words.extend(archived.map(|archived| if archived { "archived" } else { "no longer archived" }.to_owned()));
        if words.is_empty() {
            return;
        }
        let missing = self.lacks(Permission::WorkspacesUpdate, self.picture.workspace_target(id));
        let detail = json!({
            "before": {"name": &*entry.name, "description": old, "archived": entry.archived},
            "after": {"name": workspace.name, "description": description, "archived": workspace.archived.unwrap_or(entry.archived)},
        });
        let step = Step::PutWorkspace {
            id,
            is_new: false,
            name: workspace.name.clone(),
            description,
            archived,
        };
        let words = format!("change workspace \"{}\": {}", entry.name, words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    fn put_project(&mut self, workspace: WorkspaceId, project: &DocumentProject) {
        let of = self.labels.workspace(self.picture, workspace);
        let description = project.description.clone();
        let found = self.project(workspace, &project.name);
        let Some(id) = found else {
            let id = ProjectId(self.fresh());
            self.projects.insert((workspace, name_key(&project.name)), id);
            self.labels.projects.insert(id, (workspace, project.name.clone()));
            let target = self.target(Scope::Workspace(workspace)).unwrap_or_default();
            // Whoever may make the workspace may make what is in it.
            let missing = match self.labels.workspaces.contains_key(&workspace) {
                true => None,
                false => self.lacks(Permission::ProjectsCreate, target),
            };
            let detail = json!({"after": {"name": project.name, "description": description}});
            let step = Step::PutProject {
                id,
                is_new: true,
                workspace,
                name: project.name.clone(),
                description: description.unwrap_or_default(),
                archived: project.archived.filter(|archived| *archived),
            };
            let words = format!("make project \"{}\" (workspace \"{of}\")", project.name);
            return self.step(PlannedAct::Make, words, missing, detail, step);
        };
        // The project `default` of a workspace that is made here is still without a description.
        let entry = self.picture.project(id);
        let old_name = entry
            .as_ref()
            .map_or_else(|| DEFAULT_PROJECT.to_owned(), |entry| entry.name.to_string());
        let was_archived = entry.is_some_and(|entry| entry.archived);
        let old = self.have.projects.get(&id).cloned().unwrap_or_default();
        let description = description.unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if *old_name != *project.name {
            words.push(format!("written {}", project.name));
        }
        if old != description {
            words.push("another description".into());
        }
        let archived = project.archived.filter(|archived| *archived != was_archived);
        words.extend(archived.map(|archived| if archived { "archived" } else { "no longer archived" }.to_owned()));
        if words.is_empty() {
            return;
        }
        let target = self.target(Scope::Project(id)).unwrap_or_default();
        let missing = match self.labels.projects.contains_key(&id) {
            true => None,
            false => self.lacks(Permission::ProjectsUpdate, target),
        };
        let detail = json!({
            "before": {"name": old_name, "description": old, "archived": was_archived},
            "after": {"name": project.name, "description": description, "archived": project.archived.unwrap_or(was_archived)},
        });
        let step = Step::PutProject {
            id,
            is_new: false,
            workspace,
            name: project.name.clone(),
            description,
            archived,
        };
        let words = format!(
            "change project \"{old_name}\" (workspace \"{of}\"): {}",
            words.join("; ")
        );
        self.step(PlannedAct::Change, words, missing, detail, step);
    }
}
