//! Calls about workspaces, projects, and where experiments belong. Each is named by its name or its id.

use bailiwick_api::Page;
use bailiwick_api::experiments::Experiment;
use bailiwick_api::workspaces::{
    Member, MemberFilter, MoveExperiment, NewProject, NewWorkspace, PlaceFilter, Project, Rename, Workspace,
};
use serde_json::{Value, json};

use crate::{Client, Result, segment};

fn of_workspace(workspace: &str, rest: &str) -> String {
    format!("/api/v1/workspaces/{}{rest}", segment(workspace))
}

fn of_project(workspace: &str, project: &str, rest: &str) -> String {
    of_workspace(workspace, &format!("/projects/{}{rest}", segment(project)))
}

fn archive_word(archive: bool) -> &'static str {
    if archive { "/archive" } else { "/unarchive" }
}

impl Client {
    pub async fn workspaces(&self, filter: &PlaceFilter) -> Result<Page<Workspace>> {
        self.get_with("/api/v1/workspaces", filter).await
    }

    pub async fn create_workspace(&self, workspace: &NewWorkspace) -> Result<Workspace> {
        self.post("/api/v1/workspaces", workspace).await
    }

    pub async fn workspace(&self, workspace: &str) -> Result<Workspace> {
        self.get(&of_workspace(workspace, "")).await
    }

    pub async fn change_workspace(&self, workspace: &str, change: &Rename) -> Result<Workspace> {
        self.patch(&of_workspace(workspace, ""), change).await
    }

    pub async fn archive_workspace(&self, workspace: &str, archive: bool) -> Result<Workspace> {
        self.post(&of_workspace(workspace, archive_word(archive)), &json!({}))
            .await
    }

    pub async fn delete_workspace(&self, workspace: &str) -> Result<()> {
        let _: Value = self.delete(&of_workspace(workspace, "")).await?;
        Ok(())
    }

    pub async fn workspace_members(&self, workspace: &str, filter: &MemberFilter) -> Result<Page<Member>> {
        self.get_with(&of_workspace(workspace, "/members"), filter).await
    }
}

impl Client {
    /// Those of every workspace.
    pub async fn projects(&self, filter: &PlaceFilter) -> Result<Page<Project>> {
        self.get_with("/api/v1/projects", filter).await
    }

    pub async fn projects_of(&self, workspace: &str, filter: &PlaceFilter) -> Result<Page<Project>> {
        self.get_with(&of_workspace(workspace, "/projects"), filter).await
    }

    pub async fn create_project(&self, workspace: &str, project: &NewProject) -> Result<Project> {
        self.post(&of_workspace(workspace, "/projects"), project).await
    }

    pub async fn project(&self, workspace: &str, project: &str) -> Result<Project> {
        self.get(&of_project(workspace, project, "")).await
    }

    pub async fn change_project(&self, workspace: &str, project: &str, change: &Rename) -> Result<Project> {
        self.patch(&of_project(workspace, project, ""), change).await
    }

    pub async fn archive_project(&self, workspace: &str, project: &str, archive: bool) -> Result<Project> {
        self.post(&of_project(workspace, project, archive_word(archive)), &json!({}))
            .await
    }

    pub async fn delete_project(&self, workspace: &str, project: &str) -> Result<()> {
        let _: Value = self.delete(&of_project(workspace, project, "")).await?;
        Ok(())
    }

    pub async fn project_members(&self, workspace: &str, project: &str, filter: &MemberFilter) -> Result<Page<Member>> {
        self.get_with(&of_project(workspace, project, "/members"), filter).await
    }
}

impl Client {
    /// Puts an experiment into another project. Its owner stays.
    pub async fn move_experiment(&self, experiment: &str, to: &MoveExperiment) -> Result<Experiment> {
        self.post(&format!("/api/v1/experiments/{}/move", segment(experiment)), to)
            .await
    }

    /// Deletes an ended experiment with its log. What it was.
    pub async fn delete_experiment(&self, experiment: &str) -> Result<Experiment> {
        self.delete(&format!("/api/v1/experiments/{}", segment(experiment)))
            .await
    }
}
