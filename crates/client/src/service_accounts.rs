//! The calls about service accounts. `account` is a name or an id.

use bailiwick_api::tokens::{Credential, NewCredential, Token};
use bailiwick_api::users::{ChangeServiceAccount, NewServiceAccount, ServiceAccount, User};
use bailiwick_api::{Page, TokenId};
use serde::Serialize;

use crate::{Client, Result, segment};

#[derive(Serialize)]
struct Filter<'a> {
    after: Option<&'a str>,
}

#[derive(Serialize)]
struct All {
    all: bool,
}

fn path(account: &str) -> String {
    format!("/api/v1/service-accounts/{}", segment(account))
}

impl Client {
    pub async fn service_accounts(&self, after: Option<&str>) -> Result<Page<ServiceAccount>> {
        self.get_with("/api/v1/service-accounts", &Filter { after }).await
    }

    pub async fn service_account(&self, account: &str) -> Result<ServiceAccount> {
        self.get(&path(account)).await
    }

    pub async fn create_service_account(&self, account: &NewServiceAccount) -> Result<Credential> {
        self.post("/api/v1/service-accounts", account).await
    }

    pub async fn change_service_account(&self, account: &str, change: &ChangeServiceAccount) -> Result<ServiceAccount> {
        self.patch(&path(account), change).await
    }

    pub async fn remove_service_account(&self, account: &str) -> Result<User> {
        self.delete(&path(account)).await
    }

    /// With `all`, revoked and expired ones too.
    pub async fn credentials(&self, account: &str, all: bool) -> Result<Page<Token>> {
        let path = format!("{}/credentials", path(account));
        self.get_with(&path, &All { all }).await
    }

    pub async fn add_credential(&self, account: &str, new: &NewCredential) -> Result<Credential> {
        self.post(&format!("{}/credentials", path(account)), new).await
    }

    pub async fn revoke_credential(&self, account: &str, id: TokenId) -> Result<Token> {
        self.delete(&format!("{}/credentials/{id}", path(account))).await
    }
}
