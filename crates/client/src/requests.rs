//! Calls about access on request, and break-glass.

use std::sync::atomic::Ordering;

use bailiwick_api::requests::{
    AccessRequest, AccessRequestFilter, Approve, BREAK_GLASS_HEADER, BreakGlass, Decline, NewAccessRequest,
};
use bailiwick_api::{AccessRequestId, Page, Time};
use reqwest::Response;
use serde_json::json;

use crate::{Client, Result};

fn of_request(id: AccessRequestId, act: &str) -> String {
    format!("/api/v1/access/requests/{id}/{act}")
}

impl Client {
    pub async fn access_requests(&self, filter: &AccessRequestFilter) -> Result<Page<AccessRequest>> {
        self.get_with("/api/v1/access/requests", filter).await
    }

    pub async fn ask_for_access(&self, new: &NewAccessRequest) -> Result<AccessRequest> {
        self.post("/api/v1/access/requests", new).await
    }

    pub async fn approve_access(&self, id: AccessRequestId, approve: &Approve) -> Result<AccessRequest> {
        self.post(&of_request(id, "approve"), approve).await
    }

    pub async fn decline_access(&self, id: AccessRequestId, decline: &Decline) -> Result<AccessRequest> {
        self.post(&of_request(id, "decline"), decline).await
    }

    pub async fn withdraw_access(&self, id: AccessRequestId) -> Result<AccessRequest> {
        self.post(&of_request(id, "withdraw"), &json!({})).await
    }

    pub async fn break_glass(&self, wanted: &BreakGlass) -> Result<AccessRequest> {
        self.post("/api/v1/access/break-glass", wanted).await
    }

    pub async fn end_break_glass(&self) -> Result<AccessRequest> {
        self.post("/api/v1/access/break-glass/end", &json!({})).await
    }

    /// Until when break-glass is on for whoever this client speaks for, as the last answer said.
    pub fn break_glass_until(&self) -> Option<Time> {
        let until = self.break_glass.load(Ordering::Relaxed);
        (until != 0).then_some(Time(until))
    }

    pub(crate) fn note_break_glass(&self, response: &Response) {
        let until = response.headers().get(BREAK_GLASS_HEADER);
        let until = until.and_then(|until| Time::parse(until.to_str().ok()?));
        self.break_glass
            .store(until.map_or(0, |until| until.0), Ordering::Relaxed);
    }
}
