//! The audit.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use bailiwick_api::audit::{AuditEvent, AuditFilter, AuditVerdict};
use bailiwick_api::permission::permit;
use bailiwick_api::{Page, Permission};
use bailiwick_store::audit::{self, Entry};

use crate::access::{Allowed, Content, Done, Installation, Json, NdJson, Query, SignedIn};
use crate::failure::Failure;
use crate::routes::access::no_such_page;

/// Needs `audit:read` globally, or at a workspace for the events of that workspace.
pub async fn list(door: SignedIn, Query(filter): Query<AuditFilter>) -> Result<Json<Page<AuditEvent>>, Failure> {
    Ok(Json(page(&door, &filter, false).await?))
}

async fn page(door: &SignedIn, filter: &AuditFilter, oldest_first: bool) -> Result<Page<AuditEvent>, Failure> {
    let not_a_number = |after: &&String| after.parse::<i64>().is_err();
    if let Some(after) = filter.after.as_ref().filter(not_a_number) {
        return Err(no_such_page(after));
    }
    match audit::list(&door.actor, filter, oldest_first).await {
        Ok(page) => Ok(page),
        Err(refusal) => {
            if matches!(refusal, bailiwick_store::access::Refusal::Forbidden { .. }) {
                audit::record(&door.actor, Entry::denied(Permission::AuditRead, "audit", "")).await?;
            }
            Err(refusal.into())
        }
    }
}

pub async fn export(door: SignedIn, Query(filter): Query<AuditFilter>) -> Result<Content<NdJson>, Failure> {
    let filter = AuditFilter {
        limit: Some(1000),
        ..filter
    };
    // The first page is read before the answer begins, so that a refusal is one.
    let first = page(&door, &filter, true).await?;
    let state = (door, filter, VecDeque::from([first]), false);
    Ok(Content::new(Body::from_stream(futures_util::stream::unfold(
        state,
        |(door, mut filter, mut pages, over)| async move {
            if over {
                return None;
            }
            let current = match pages.pop_front() {
                Some(page) => page,
                None => match page(&door, &filter, true).await {
                    Ok(page) => page,
                    // A broken-off answer, not a short one that looks whole.
                    Err(failure) => {
                        return Some((Err(std::io::Error::other(failure.message)), (door, filter, pages, true)));
                    }
                },
            };
            let mut text = Vec::new();
            for event in &current.items {
                serde_json::to_writer(&mut text, event).expect("events are JSON");
                text.push(b'\n');
            }
            let over = current.next.is_none();
            filter.after = current.next;
            Some((Ok(Bytes::from(text)), (door, filter, pages, over)))
        },
    ))))
}

pub async fn verify(
    door: Allowed<permit::AuditRead, Installation>,
    _: Json<Done>,
) -> Result<Json<AuditVerdict>, Failure> {
    Ok(Json(audit::verify(&door.granted).await?))
}
