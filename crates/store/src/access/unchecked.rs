//! Only in builds with the feature `bench`: grants that nobody gave, to measure what the checks cost (`bench/src/get.rs`).

use std::marker::PhantomData;
use std::sync::Arc;

use bailiwick_access::{Basis, Target};
use bailiwick_api::PrincipalId;
use bailiwick_api::permission::Permit;

use super::{Access, Actor, CredentialKind, Granted, Origin, STRANGER};

impl Access {
    /// No credential was looked at and no rule was asked.
    pub fn grant_unchecked<P: Permit>(self: &Arc<Access>, target: Target, origin: Origin) -> Granted<P> {
        let actor = Actor {
            id: PrincipalId(STRANGER),
            credential: None,
            credential_kind: CredentialKind::None,
            credential_expires_at: None,
            origin,
            narrowing: None,
            job: None,
            bearer_hash: None,
            at: self.db.now(),
            version: self.picture().version(),
            access: self.clone(),
        };
        let basis = Basis { administrative: false };
        Granted {
            actor,
            target,
            basis,
            permit: PhantomData,
        }
    }
}
