//! Access as code: the calls about one document that says who may do what.

use bailiwick_api::document::{AccessDocument, AccessPlan, Applied, ApplyDocument, PlanDocument};

use crate::{Client, Result};

impl Client {
    pub async fn export_access(&self) -> Result<AccessDocument> {
        self.get("/api/v1/access/export").await
    }

    pub async fn plan_access(&self, plan: &PlanDocument) -> Result<AccessPlan> {
        self.post("/api/v1/access/plan", plan).await
    }

    pub async fn apply_access(&self, apply: &ApplyDocument) -> Result<Applied> {
        self.post("/api/v1/access/apply", apply).await
    }
}
