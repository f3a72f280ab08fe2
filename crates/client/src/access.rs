//! Questions about rights, and moving to roles.

use bailiwick_api::access::{
    AccessCheck, CanI, CanIAnswer, Diff, DiffAnswer, Explain, Explanation, ShadowCleared, ShadowFilter, ShadowReport,
    WhatCan, WhatCanAnswer, WhoCan, WhoCanAnswer,
};

use crate::{Client, Result};

impl Client {
    pub async fn can_i(&self, question: &CanI) -> Result<CanIAnswer> {
        self.post("/api/v1/access/can-i", question).await
    }

    pub async fn explain_access(&self, question: &Explain) -> Result<Explanation> {
        self.post("/api/v1/access/explain", question).await
    }

    pub async fn who_can(&self, question: &WhoCan) -> Result<WhoCanAnswer> {
        self.post("/api/v1/access/who-can", question).await
    }

    pub async fn what_can(&self, question: &WhatCan) -> Result<WhatCanAnswer> {
        self.post("/api/v1/access/what-can", question).await
    }

    /// What changes would give and take; nothing is changed.
    pub async fn access_diff(&self, diff: &Diff) -> Result<DiffAnswer> {
        self.post("/api/v1/access/diff", diff).await
    }

    pub async fn shadow_report(&self, filter: &ShadowFilter) -> Result<ShadowReport> {
        self.get_with("/api/v1/access/shadow-report", filter).await
    }

    pub async fn clear_shadow_report(&self) -> Result<ShadowCleared> {
        self.delete("/api/v1/access/shadow-report").await
    }

    pub async fn check_access(&self) -> Result<AccessCheck> {
        self.get("/api/v1/access/check").await
    }
}
