//! Vaults: one's own, those of administrators, what applies to somebody, and the forms that make and change them.

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::vault::VaultFormat;
use bailiwick_api::vaults::{AppliedVaults, NewVault, Vault, VaultChange, VaultDetail, VaultEdit, VaultKind};
use bailiwick_api::{Permission, VaultId};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Frame;
use super::held::{Acted, Again, must_be_sure};
use super::told::{Problem, given, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;
use crate::routes::vaults::{AppliedTo, Reveal};

/// What the forms send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct VaultForm {
    #[serde(default)]
    act: String,
    /// `user`, `group` or `organisation`, and which.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    enforced: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    sure: String,
}

impl VaultForm {
    fn place(&self) -> Result<Option<i64>, Failure> {
        let number = given(&self.place).map(|place| place.parse::<i64>());
        let number = number.transpose();
        number.map_err(|_| Failure::invalid("the order of a vault is a whole number"))
    }

    fn format(&self) -> Option<VaultFormat> {
        VaultFormat::parse(&self.format)
    }

    fn new_vault(&self) -> Result<NewVault, Failure> {
        let who = given(&self.who);
        let (user, group) = match self.kind.as_str() {
            "group" => (None, who),
            "organisation" => (None, None),
            _ => (who, None),
        };
        let is_personal = !["group", "organisation"].contains(&self.kind.as_str());
        Ok(NewVault {
            user,
            group,
            organisation: self.kind == "organisation",
            name: if is_personal { None } else { given(&self.name) },
            place: if is_personal { None } else { self.place()? },
            enforced: (!is_personal && self.enforced == "yes").then_some(true),
            enabled: None,
            format: self.format(),
            text: self.text.clone(),
        })
    }
}

/// Whose vaults.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    pub user: Option<String>,
}

#[derive(Template)]
#[template(path = "vaults.html")]
struct VaultsPage {
    frame: Frame,
    /// Of administrators, for whom may read all, where nobody in particular is asked about.
    all: Vec<Vault>,
    may_make: bool,
    /// Whose, and whether that is who looks.
    whose: String,
    whose_id: i64,
    is_own: bool,
    personal: Option<VaultId>,
    applied: AppliedVaults,
}

impl VaultsPage {
    fn content(&self) -> String {
        pretty(&self.applied.content)
    }

    fn enforced(&self) -> String {
        pretty(&self.applied.enforced)
    }
}

/// The first paths, and how many more.
pub fn summary(keys: &[String]) -> String {
    const SHOWN: usize = 5;
    let first = keys[..keys.len().min(SHOWN)].join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Nothing where there is nothing.
fn pretty(content: &Value) -> String {
    match content.as_object() {
        Some(sections) if !sections.is_empty() => serde_json::to_string_pretty(content).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Signed in; one's own and what applies to oneself, or to somebody whose vaults one may read.
pub async fn list(door: SignedIn, Query(whose): Query<Whose>) -> Result<Answer, Failure> {
    let to = AppliedTo {
        user: whose.user.clone(),
        reveal: None,
    };
    let Json(applied) = door.context.ask(routes::vaults::applied, &[], Query(to)).await?;
    let Json(listed) = door.context.ask(routes::vaults::list, &[], NoInput).await?;
    let is_own = *applied.user == *door.actor.name();
    let personal = match is_own {
        true => listed
            .items
            .iter()
            .find(|vault| vault.kind == VaultKind::Personal)
            .map(|vault| vault.id),
        false => {
            let name = format!("@{}", applied.user);
            let path = [("vault", name.as_str())];
            let found = door
                .context
                .ask(routes::vaults::show, &path, Query(Reveal::default()))
                .await;
            found.ok().map(|Json(found)| found.vault.id)
        }
    };
    let whose_id = door.actor.picture().find_principal(&applied.user);
    let title = if is_own {
        "Vaults".to_owned()
    } else {
        format!("Vaults of {}", applied.user)
    };
    let all = listed
        .items
        .into_iter()
        .filter(|vault| vault.kind != VaultKind::Personal);
    let page = VaultsPage {
        frame: Frame::new(&door, "vaults", &title),
        all: if is_own { all.collect() } else { Vec::new() },
        may_make: door.actor.may(Permission::VaultsUpdate, &Target::default()).is_some(),
        whose: applied.user.clone(),
        whose_id: whose_id.map_or(0, |id| id.0),
        is_own,
        personal,
        applied,
    };
    page.frame.answer(&page)
}

#[derive(Template)]
#[template(path = "vault_new.html")]
struct NewVaultPage {
    frame: Frame,
    typed: VaultForm,
    may_make: bool,
    problem: Option<Problem>,
}

/// Signed in; the form is refused where one may make none.
pub async fn new(door: SignedIn, Query(whose): Query<Whose>) -> Result<Answer, Failure> {
    let typed = VaultForm {
        kind: "user".into(),
        who: match whose.user {
            // By number, as pages name people.
            Some(user) => door
                .actor
                .picture()
                .find_principal(&user)
                .map_or(user, |id| door.actor.picture().principal_name(id).to_string()),
            None => door.actor.name().to_string(),
        },
        place: "50".into(),
        ..VaultForm::default()
    };
    make(
        &door,
        Again {
            typed,
            ..Again::default()
        },
    )
}

fn make(door: &SignedIn, again: Again<VaultForm>) -> Result<Answer, Failure> {
    let page = NewVaultPage {
        frame: Frame::new(door, "vaults", "New vault"),
        typed: again.typed,
        may_make: door.actor.may(Permission::VaultsUpdate, &Target::default()).is_some(),
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handler asks for what it needs.
pub async fn create(door: SignedIn, Form(form): Form<VaultForm>) -> Result<Answer, Failure> {
    let outcome = match form.new_vault() {
        Ok(new) => door.context.ask(routes::vaults::create, &[], Json(new)).await,
        Err(failure) => Err(failure),
    };
    let outcome = outcome.map(|Json(made)| Acted::Done(see(&made.vault)));
    match Again::or(outcome, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => make(&door, again),
    }
}

fn see(vault: &Vault) -> Answer {
    Answer::see(&format!("/vaults/{}", vault.id))
}

#[derive(Template)]
#[template(path = "vault.html")]
struct VaultPage {
    frame: Frame,
    it: VaultDetail,
    /// As typed before it was refused, or as it is.
    text: String,
    revealed: bool,
    typed: VaultForm,
    changes: Vec<VaultChange>,
    may_update: bool,
    problem: Option<Problem>,
}

impl VaultPage {
    fn masked(&self) -> String {
        pretty(&self.it.content)
    }

    fn is_personal(&self) -> bool {
        self.it.vault.kind == VaultKind::Personal
    }

    fn is_format(&self, format: &VaultFormat) -> bool {
        let typed = (self.typed.act == "save").then(|| self.typed.format()).flatten();
        typed.unwrap_or(self.it.vault.format) == *format
    }
}

/// Signed in; one that one may not see is not there. Its values are shown where they are asked for.
pub async fn show(door: SignedIn, Query(how): Query<Reveal>) -> Result<Answer, Failure> {
    page(&door, how.reveal.unwrap_or(false), Again::default()).await
}

async fn page(door: &SignedIn, reveal: bool, again: Again<VaultForm>) -> Result<Answer, Failure> {
    let path = [("vault", door.context.path("vault"))];
    let how = Reveal { reveal: Some(reveal) };
    let Json(it) = door.context.ask(routes::vaults::show, &path, Query(how)).await?;
    let Json(changes) = door.context.ask(routes::vaults::changes, &path, NoInput).await?;
    let target = match (it.vault.kind, &it.vault.of) {
        (VaultKind::Personal, Some(of)) => {
            let whose = door.actor.picture().find_principal(of);
            whose.map_or_else(Target::default, Target::owned_by)
        }
        _ => Target::default(),
    };
    let typed = again.typed;
    let text = match typed.act.as_str() {
        "save" => typed.text.clone(),
        _ => it.text.clone().unwrap_or_default(),
    };
    let page = VaultPage {
        frame: Frame::new(door, "vaults", &it.vault.name),
        revealed: reveal || typed.act == "save",
        may_update: door.actor.may(Permission::VaultsUpdate, &target).is_some(),
        text,
        typed,
        changes: changes.items,
        problem: again.problem,
        it,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handlers ask for what they need.
pub async fn act(door: SignedIn, Form(form): Form<VaultForm>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    let path = [("vault", door.context.path("vault"))];
    let Json(it) = door
        .context
        .ask(routes::vaults::show, &path, Query(Reveal::default()))
        .await?;
    match Again::or(change(&door, &it.vault, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => page(&door, false, again).await,
    }
}

async fn change(door: &SignedIn, it: &Vault, form: &VaultForm) -> Result<Acted, Failure> {
    let id = it.id.to_string();
    let path = [("vault", id.as_str())];
    let edit = match form.act.as_str() {
        "save" => VaultEdit {
            version: form.version.parse().ok(),
            format: form.format(),
            // A browser ends lines as mail does.
            text: Some(form.text.replace("\r\n", "\n")),
            ..VaultEdit::default()
        },
        "place" => VaultEdit {
            name: given(&form.name),
            place: form.place()?,
            enforced: Some(form.enforced == "yes"),
            ..VaultEdit::default()
        },
        "enable" | "disable" => VaultEdit {
            enabled: Some(form.act == "enable"),
            ..VaultEdit::default()
        },
        "delete" => {
            must_be_sure(&form.sure)?;
            door.context.ask(routes::vaults::delete, &path, NoInput).await?;
            return Ok(Answer::see("/vaults").into());
        }
        act => return Err(unknown(act)),
    };
    door.context.ask(routes::vaults::update, &path, Json(edit)).await?;
    Ok(see(it).into())
}
