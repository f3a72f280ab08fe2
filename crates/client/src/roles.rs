//! Calls about roles and who holds them. A role is named by its name or its id.

use bailiwick_api::roles::{
    Assignment, AssignmentChange, AssignmentFilter, NewAssignments, NewRole, OldAssignments, Role, RoleChange,
    RoleDeleted, RoleDeletion, RoleDetail,
};
use bailiwick_api::{AssignmentId, Page};
use serde::Serialize;

use crate::{Client, Result, query_string, segment};

fn of_role(role: &str) -> String {
    format!("/api/v1/roles/{}", segment(role))
}

impl Client {
    pub async fn roles_after(&self, after: Option<&str>) -> Result<Page<Role>> {
        #[derive(Serialize)]
        struct Filter<'a> {
            after: Option<&'a str>,
        }
        self.get_with("/api/v1/roles", &Filter { after }).await
    }

    /// With who holds it, as far as one may see that.
    pub async fn role(&self, role: &str) -> Result<RoleDetail> {
        self.get(&of_role(role)).await
    }

    pub async fn create_role(&self, role: &NewRole) -> Result<Role> {
        self.post("/api/v1/roles", role).await
    }

    pub async fn change_role(&self, role: &str, change: &RoleChange) -> Result<Role> {
        self.patch(&of_role(role), change).await
    }

    /// With `force` also a role that is assigned, and its assignments.
    pub async fn delete_role(&self, role: &str, force: bool) -> Result<RoleDeleted> {
        let how = RoleDeletion {
            force: force.then_some(true),
        };
        self.delete(&format!("{}{}", of_role(role), query_string(&how))).await
    }

    pub async fn assignments(&self, filter: &AssignmentFilter) -> Result<Page<Assignment>> {
        self.get_with("/api/v1/assignments", filter).await
    }

    /// All of them or none.
    pub async fn assign(&self, new: &NewAssignments) -> Result<Page<Assignment>> {
        self.post("/api/v1/assignments", new).await
    }

    /// All of them or none.
    pub async fn unassign(&self, old: &OldAssignments) -> Result<Page<Assignment>> {
        self.post("/api/v1/assignments/remove", old).await
    }

    pub async fn change_assignment(&self, id: AssignmentId, change: &AssignmentChange) -> Result<Assignment> {
        self.patch(&format!("/api/v1/assignments/{id}"), change).await
    }

    pub async fn delete_assignment(&self, id: AssignmentId) -> Result<Assignment> {
        self.delete(&format!("/api/v1/assignments/{id}")).await
    }
}
