//! Vaults.

use bailiwick_api::Page;
use bailiwick_api::vaults::{AppliedVaults, KeyRotated, NewVault, Vault, VaultChange, VaultDetail, VaultEdit};
use serde_json::json;

use crate::{Client, Result, segment};

impl Client {
    pub async fn vaults(&self) -> Result<Page<Vault>> {
        self.get("/api/v1/vaults").await
    }

    /// By number, by name, or `@ana` for a personal one.
    pub async fn vault(&self, vault: &str, reveal: bool) -> Result<VaultDetail> {
        self.get(&format!("/api/v1/vaults/{}?reveal={reveal}", segment(vault)))
            .await
    }

    pub async fn create_vault(&self, new: &NewVault) -> Result<VaultDetail> {
        self.post("/api/v1/vaults", new).await
    }

    pub async fn update_vault(&self, vault: &str, edit: &VaultEdit) -> Result<VaultDetail> {
        self.patch(&format!("/api/v1/vaults/{}", segment(vault)), edit).await
    }

    pub async fn delete_vault(&self, vault: &str) -> Result<Vault> {
        self.delete(&format!("/api/v1/vaults/{}", segment(vault))).await
    }

    pub async fn vault_changes(&self, vault: &str) -> Result<Page<VaultChange>> {
        self.get(&format!("/api/v1/vaults/{}/changes", segment(vault))).await
    }

    /// Of oneself where nobody is named.
    pub async fn applied_vaults(&self, user: Option<&str>, reveal: bool) -> Result<AppliedVaults> {
        let user = user.map_or(String::new(), |user| format!("&user={}", segment(user)));
        self.get(&format!("/api/v1/vaults/applied?reveal={reveal}{user}")).await
    }

    pub async fn rotate_vault_key(&self) -> Result<KeyRotated> {
        self.post("/api/v1/admin/rotate-key", &json!({})).await
    }
}
