//! Only in builds with the feature `bench`, and there only where asked for: the route that shows an experiment, without authentication and authorisation,
//! and one that takes a question about rights and looks at nothing, to measure what it all costs (`bench/src/get.rs`, `bench/src/can_i.rs`).

use bailiwick_api::access::{CanI, CanIAnswer};
use bailiwick_api::experiments::ExperimentDetail;
use bailiwick_api::permission::permit;
use bailiwick_store::access::Granted;
use bailiwick_store::experiments;

use super::{Allowed, Anyone, Context, Door, Json, NoInput, OneExperiment, Routes};
use crate::failure::Failure;

/// Opens to anybody whatever experiment is named.
struct Unchecked {
    context: Context,
    granted: Granted<permit::ExperimentsRead>,
    on: OneExperiment,
}

impl Door for Unchecked {
    fn says() -> String {
        "anyone, unchecked".into()
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        let access = &context.shared.access;
        let row = experiments::find_unchecked(access, context.path("experiment")).await?;
        let granted = access.grant_unchecked(row.target(), context.origin.clone());
        let on = OneExperiment(row);
        Ok(Unchecked { context, granted, on })
    }
}

async fn show(door: Unchecked, input: NoInput) -> Result<Json<ExperimentDetail>, Failure> {
    let Unchecked { context, granted, on } = door;
    crate::routes::show_experiment(Allowed { context, granted, on }, input).await
}

/// Empty, but for an answer as long as the usual one.
async fn answer(_: Anyone, Json(_): Json<CanI>) -> Result<Json<CanIAnswer>, Failure> {
    Ok(Json(CanIAnswer {
        allowed: true,
        not_there: false,
        each: Vec::new(),
        words: "Yes: you have experiments:create on workspace \"place-100\"".into(),
    }))
}

pub(crate) fn add(routes: &mut Routes) {
    let summary = "show an experiment to anybody, for measuring";
    routes.get("/unchecked/experiments/{experiment}", summary, show);
    routes.post(
        "/unchecked/can-i",
        "answer a question about rights without a look at it, for measuring",
        answer,
    );
}
