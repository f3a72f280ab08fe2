//! Seats: how many users an installation may have. Whoever is active or pending takes one; service accounts, and those who are deactivated or removed,
//! take none.

use bailiwick_api::users::{Seats, UserState};

use crate::access::{Actor, Work};
use crate::db::Result;

const USED: &str = "SELECT COUNT(*) FROM principals WHERE kind = 'user' AND state IN ('active', 'pending')";

/// Whether a user in this state takes a seat.
pub(crate) fn takes_one(state: UserState) -> bool {
    matches!(state, UserState::Active | UserState::Pending)
}

/// For those who read users.
pub async fn count(actor: &Actor) -> Result<Seats> {
    Ok(Seats {
        used: sqlx::query_scalar(USED).fetch_one(&actor.db().read).await?,
        allowed: actor.seats(),
    })
}

pub(crate) async fn used(work: &mut Work) -> Result<i64> {
    Ok(sqlx::query_scalar(USED).fetch_one(&mut ***work).await?)
}

/// To be called in the transaction that fills seats, after it has done so; before that, [`Work::touches`] lets it go alone, so that two at once do not
/// both take the last one. The words where there are not so many seats.
pub(crate) async fn lacking(work: &mut Work) -> Result<Option<String>> {
    let Some(allowed) = work.seats() else { return Ok(None) };
    work.touches(&[]).await?;
    let used = used(work).await?;
    Ok((used > allowed).then(|| match allowed {
        1 => format!("there is 1 seat for a user, and it is taken; {MEND}"),
        _ => format!("there are {allowed} seats for users, and all are taken; {MEND}"),
    }))
}

const MEND: &str = "deactivate or remove somebody, or have the operator raise `seats` in the server's configuration";
