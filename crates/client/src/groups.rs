//! The calls about groups. `group` is a name or an id.

use bailiwick_api::Page;
use bailiwick_api::groups::{ChangeGroup, Group, GroupChange, GroupDetail, GroupUsers, NewGroup};
use serde::Serialize;

use crate::{Client, Result, segment};

#[derive(Serialize)]
struct After<'a> {
    after: Option<&'a str>,
}

fn path(group: &str) -> String {
    format!("/api/v1/groups/{}", segment(group))
}

impl Client {
    /// All of them with `groups:read`, else one's own.
    pub async fn groups(&self, after: Option<&str>) -> Result<Page<Group>> {
        self.get_with("/api/v1/groups", &After { after }).await
    }

    /// With the members that come after the one with the id `after`.
    pub async fn group(&self, group: &str, after: Option<&str>) -> Result<GroupDetail> {
        self.get_with(&path(group), &After { after }).await
    }

    pub async fn create_group(&self, group: &NewGroup) -> Result<GroupChange> {
        self.post("/api/v1/groups", group).await
    }

    pub async fn change_group(&self, group: &str, change: &ChangeGroup) -> Result<Group> {
        self.patch(&path(group), change).await
    }

    pub async fn delete_group(&self, group: &str) -> Result<Group> {
        self.delete(&path(group)).await
    }

    pub async fn add_to_group(&self, group: &str, users: &[String]) -> Result<GroupChange> {
        let users = users.to_vec();
        self.post(&format!("{}/members", path(group)), &GroupUsers { users })
            .await
    }

    pub async fn remove_from_group(&self, group: &str, users: &[String]) -> Result<GroupChange> {
        let users = users.to_vec();
        self.post(&format!("{}/members/remove", path(group)), &GroupUsers { users })
            .await
    }
}
