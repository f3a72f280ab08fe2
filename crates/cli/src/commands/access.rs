//! `ml access …`: questions about rights, and moving to roles.

use bailiwick_api::access::{
    Ability, Able, CanI, Diff, DiffAnswer, Effect, Explain, Explained, Explanation, Finding, NearMiss, NearWhy,
    Planned, Severity, ShadowDifference, ShadowFilter, Way, WhatCan, WhoCan,
};
use bailiwick_api::on::On;
use bailiwick_api::permission::PermissionScope;
use bailiwick_api::server::AccessMode;
use bailiwick_api::{PermissionSet, Time};
use bailiwick_client::Error;

use super::{document, requests};
use crate::args::Common;
use crate::args::access::{Access, AccessDiff, DiffAssignment, Place, PlaceFlags};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result, exit};
use crate::output::{Column, Output, column, json, now, printable, say, warn, when, wide, write};
use crate::prompt;

pub fn run(common: &Common, command: Access) -> Result<()> {
    match command {
        Access::CanI { permission, place } => can_i(common, permission, &place),
        Access::Explain { words, place } => explain(common, &words, place),
        Access::WhoCan { permission, place } => who_can(common, &permission, &place),
        Access::WhatCan { who } => what_can(common, who),
        Access::Diff(change) => diff(common, change),
        Access::ShadowReport { since, clear, yes } => {
            if clear {
                clear_shadow_report(common, yes)
            } else {
                shadow_report(common, since.as_deref())
            }
        }
        Access::Check => check(common),
        Access::Export => document::export(common),
        Access::Plan { file } => document::plan(common, &file),
        Access::Apply { file, yes } => document::apply(common, &file, yes),
        Access::Request {
            role,
            place,
            lifetime,
            why,
        } => requests::ask(common, &role, &place, &lifetime, why),
        Access::Requests { mine, all } => requests::list(common, mine, all),
        Access::Approve { id, lifetime, answer } => requests::approve(common, id, lifetime.as_deref(), answer),
        Access::Decline { id, why } => requests::decline(common, id, why),
        Access::Withdraw { id } => requests::withdraw(common, id),
        Access::BreakGlass(wanted) => requests::break_glass(common, &wanted),
    }
}

/// The place that the flags name, if they name one.
pub(super) fn by_flags(flags: &PlaceFlags, current: Option<&str>) -> Option<On> {
    if let Some(experiment) = &flags.experiment {
        return Some(On::Experiment(experiment.clone()));
    }
    if let Some(queue) = &flags.queue {
        return Some(On::Queue(queue.clone()));
    }
    match (&flags.workspace, &flags.project) {
        (Some(workspace), None) => Some(On::Workspace(workspace.clone())),
        (workspace, Some(project)) => {
            let workspace = workspace.as_deref().or(current).unwrap_or("default");
            Some(On::Project(workspace.to_owned(), project.clone()))
        }
        (None, None) => None,
    }
}

/// Where a question is about: what is named, else the current workspace; what is only held globally is asked about globally.
fn place(connection: &Connection, permission: &str, place: &Place) -> Result<On> {
    let current = connection
        .settings
        .workspace
        .as_ref()
        .map(|setting| setting.value.as_str());
    let flags = by_flags(&place.flags, current);
    match (&place.on, flags) {
        (Some(_), Some(_)) => Err(Failure::wrong_usage("the place is named twice: by ON and by a flag")),
        (Some(on), None) => On::parse(on).map_err(Failure::wrong_usage),
        (None, Some(on)) => Ok(on),
        (None, None) => {
            let (set, _) = PermissionSet::parse(permission)
                .map_err(|why| Failure::wrong_usage(why).hint("`ml permission list` shows them all"))?;
            let globally = set.iter().all(|one| one.scope() == PermissionScope::Global);
            Ok(match globally {
                true => On::Installation,
                false => On::Workspace(current.unwrap_or("default").to_owned()),
            })
        }
    }
}

/// Exit status 1 is the answer no, and nothing else: a script must not take a server that is away for a refusal.
fn can_i(common: &Common, permission: String, at: &Place) -> Result<()> {
    match ask_can_i(common, permission, at) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::silent(exit::FAILED)),
        Err(failure) if failure.exit == exit::FAILED => Err(Failure {
            exit: exit::NO_ANSWER,
            ..failure
        }),
        Err(failure) => Err(failure),
    }
}

fn ask_can_i(common: &Common, permission: String, at: &Place) -> Result<bool> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let on = place(&connection, &permission, at)?.to_string();
    let question = CanI { permission, on };
    block_on(async {
        let answer = connection.client.can_i(&question).await;
        let answer = answer.map_err(|why| {
            let wrong_words = matches!(
                why,
                Error::Refused {
                    status: 400 | 404 | 422,
                    ..
                }
            );
            let failure = connection.explain(why);
            match wrong_words {
                true => Failure {
                    exit: exit::WRONG_USAGE,
                    ..failure
                },
                false => failure,
            }
        })?;
        if output.wants_json() {
            write(&json(&answer))?;
        } else {
            write(&format!("{}\n", printable(&answer.words)))?;
        }
        if answer.allowed {
            return Ok(true);
        }
        if answer.not_there {
            return Err(Failure::silent(exit::WRONG_USAGE));
        }
        if output.is_for_people() {
            let place = quoted(&question.on);
            say(&format!(
                "\nhint: `ml access explain {} {place}` says why",
                question.permission
            ));
        }
        Ok(false)
    })
}

/// A word of a command line, for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// `[WHO] PERMISSION [ON]`: a permission never reads like the name of an account, but for the words `read`, `write` and `me`, which then are permissions.
fn read_words(words: &[String]) -> Result<(Option<String>, String, Option<String>)> {
    let is_permission = |word: &str| PermissionSet::parse(word).is_ok() || word.contains(':');
    Ok(match words {
        [permission] => (None, permission.clone(), None),
        [permission, on] if is_permission(permission) => (None, permission.clone(), Some(on.clone())),
        [who, permission] => (Some(who.clone()), permission.clone(), None),
        [who, permission, on] => (Some(who.clone()), permission.clone(), Some(on.clone())),
        _ => return Err(Failure::wrong_usage("write `ml access explain [WHO] PERMISSION [ON]`")),
    })
}

fn explain(common: &Common, words: &[String], flags: PlaceFlags) -> Result<()> {
    let (who, permission, on) = read_words(words)?;
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let on = place(&connection, &permission, &Place { on, flags })?.to_string();
    let question = Explain { who, permission, on };
    block_on(async {
        let answer = connection.client.explain_access(&question).await;
        let answer = answer.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            return write(&json(&answer));
        }
        write(&explanation_text(&answer, question.who.is_none(), now()))
    })
}

/// As a person reads it.
fn explanation_text(answer: &Explanation, oneself: bool, now: Time) -> String {
    let who = if oneself { "you" } else { &answer.who };
    let mut text = String::new();
    for one in &answer.answers {
        let may = if one.allowed { "may" } else { "may not" };
        text.push_str(&format!(
            "{who} {may}: {} on {}\n",
            one.permission,
            printable(&answer.on)
        ));
        text.push_str(&format!("  {}{}\n", one.words, colon(one)));
        for way in &one.reasons {
            text.push_str(&format!("  - {}\n", way_text(way, now)));
        }
        if !one.near.is_empty() {
            text.push_str("  nearly:\n");
        }
        for miss in &one.near {
            text.push_str(&format!(
                "  - {}: {}\n",
                way_text(&miss.way, now),
                miss_text(miss, oneself)
            ));
        }
        if !one.could_give.is_empty() {
            text.push_str(&format!("  could give it: {}\n", one.could_give.join(", ")));
        }
        if let Some(ask) = &one.ask {
            text.push_str(&format!("  to ask for it: {ask}\n"));
        }
    }
    text
}

fn colon(one: &Explained) -> &'static str {
    if one.reasons.is_empty() { "" } else { ":" }
}

/// `Editor on workspace "Stop Signs", through group "Team", ends in 8 h`.
fn way_text(way: &Way, now: Time) -> String {
    // The server's words tell the date; here it is told as people do.
    let words = way.words.split(", until ").next().unwrap_or(&way.words);
    let end = match way.until {
        Some(end) if end > now => format!(", ends {}", when(end, now)),
        Some(end) => format!(", ended {}", when(end, now)),
        None => String::new(),
    };
    format!("{}{end}", printable(words))
}

fn miss_text(miss: &NearMiss, oneself: bool) -> String {
    let whose = if oneself { "yours" } else { "theirs" };
    match miss.why {
        NearWhy::NotOwned => format!("this is not {whose}"),
        NearWhy::Expired => "it is over".into(),
        NearWhy::Elsewhere => "that is another place".into(),
        NearWhy::GlobalOnly => "this permission counts only where its role is assigned globally".into(),
        NearWhy::ModeIgnoresIt => "the server's mode does not look at it".into(),
        NearWhy::LeftOutByOwnRolesOnly => "the account was made with a role in place of what everybody holds".into(),
    }
}

const ABLE: &[Column<Able>] = &[
    column("ID", |able| able.id.0.into()),
    column("NAME", |able| able.name.as_str().into()),
    column("THROUGH", |able| through(able).into()),
    wide("KIND", |able| format!("{:?}", able.kind).to_lowercase().into()),
    wide("PERMISSIONS", |able| {
        let names: Vec<&str> = able.can.iter().map(|one| one.permission.name()).collect();
        names.join(", ").into()
    }),
];

fn through(able: &Able) -> String {
    let several = able.can.len() > 1;
    let each = able.can.iter().map(|one| {
        let mut ways: Vec<String> = one.ways.iter().map(|way| way.words.clone()).collect();
        if one.by_mode {
            ways.insert(0, "the server's mode".into());
        }
        let ways = ways.join("; ");
        if several {
            format!("{}: {ways}", one.permission)
        } else {
            ways
        }
    });
    each.collect::<Vec<_>>().join(" | ")
}

fn who_can(common: &Common, permission: &str, at: &Place) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let on = place(&connection, permission, at)?.to_string();
    block_on(async {
        let mut items = Vec::new();
        let mut after = None;
        let (at, unseen) = loop {
            let question = WhoCan {
                permission: permission.to_owned(),
                on: on.clone(),
                after: after.take(),
                limit: Some(1000),
            };
            let answer = connection.client.who_can(&question).await;
            let mut answer = answer.map_err(|why| connection.explain(why))?;
            items.append(&mut answer.items);
            after = answer.next;
            if after.is_none() {
                break (answer.on, answer.unseen_groups);
            }
        };
        if output.is_for_people() {
            let number = match items.len() {
                0 => "nobody".into(),
                1 => "one account".into(),
                many => format!("{many} accounts"),
            };
            say(&format!("{permission} on {}: {number}", printable(&at)));
        }
        // For programs, too: without it the list would read as if it were all.
        for group in unseen {
            say(&format!(
                "and the members of the group \"{}\", which you may not see",
                printable(&group)
            ));
        }
        output.list(ABLE, |able| able.id.to_string(), &items)
    })
}

const ABILITIES: &[Column<Ability>] = &[
    column("WHERE", |ability| ability.place.as_str().into()),
    column("MAY", |ability| summary(&ability.permissions).into()),
    wide("ON", |ability| ability.on.as_str().into()),
];

/// `experiments: create, read (own), update (own); queues: read`: by resource, as people read it.
fn summary(permissions: &[String]) -> String {
    let mut resources: Vec<(&str, Vec<String>)> = Vec::new();
    for permission in permissions {
        let Some((resource, action)) = permission.split_once(':') else {
            continue;
        };
        let action = match action.strip_suffix(":own") {
            Some(action) => format!("{action} (own)"),
            None => action.to_owned(),
        };
        match resources.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, actions)) => actions.push(action),
            None => resources.push((resource, vec![action])),
        }
    }
    let each = resources
        .into_iter()
        .map(|(resource, actions)| format!("{resource}: {}", actions.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}

fn what_can(common: &Common, who: Option<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let mut items: Vec<Ability> = Vec::new();
        let mut after = None;
        loop {
            let question = WhatCan {
                who: who.clone(),
                after: after.take(),
                limit: Some(1000),
            };
            let answer = connection.client.what_can(&question).await;
            let mut answer = answer.map_err(|why| connection.explain(why))?;
            items.append(&mut answer.items);
            after = answer.next;
            if after.is_none() {
                if output.is_for_people() && answer.mode != AccessMode::Rbac {
                    say(&format!(
                        "the server's mode is `{}`: this is what that mode allows",
                        mode(answer.mode)
                    ));
                }
                break;
            }
        }
        if !output.is_for_people() {
            return output.list(ABILITIES, |ability| ability.on.clone(), &items);
        }
        let mut text = String::new();
        for one in &items {
            text.push_str(&format!("{}\n", printable(&one.place)));
            for line in summary(&one.permissions).split("; ") {
                text.push_str(&format!("  {line}\n"));
            }
        }
        write(if text.is_empty() { "nothing\n" } else { &text })
    })
}

fn mode(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::Off => "off",
        AccessMode::Basic => "basic",
        AccessMode::Shadow => "shadow",
        AccessMode::Rbac => "rbac",
    }
}

const EFFECTS: &[Column<Effect>] = &[
    column("WHO", |effect| effect.who.as_str().into()),
    column("WHERE", |effect| effect.place.as_str().into()),
    column("GAINS", |effect| summary(&effect.gained).into()),
    column("LOSES", |effect| summary(&effect.lost).into()),
    wide("ON", |effect| effect.on.as_str().into()),
];

fn diff(common: &Common, change: AccessDiff) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let current = connection
        .settings
        .workspace
        .as_ref()
        .map(|setting| setting.value.clone());
    let changes = planned(change, current.as_deref())?;
    block_on(async {
        let answer = connection.client.access_diff(&Diff { changes }).await;
        let answer = answer.map_err(|why| connection.explain(why))?;
        show_diff(output, &answer)
    })
}

/// What a change would give and take.
pub fn show_diff(output: Output, answer: &DiffAnswer) -> Result<()> {
    if output.wants_json() {
        return write(&json(answer));
    }
    if output.is_for_people() {
        if answer.total == 0 {
            say("Nobody would gain or lose anything.");
            return Ok(());
        }
        if answer.mode != AccessMode::Rbac {
            say(&format!(
                "the server's mode is `{}`: this is what would hold in mode `rbac`",
                mode(answer.mode)
            ));
        }
    }
    output.list(EFFECTS, |effect| effect.who.clone(), &answer.items)?;
    if answer.total > answer.items.len() as i64 {
        warn(&format!("shown are {} of {} effects", answer.items.len(), answer.total));
    }
    Ok(())
}

fn planned(change: AccessDiff, current: Option<&str>) -> Result<Vec<Planned>> {
    let to_each = |assignment: DiffAssignment, make: fn(String, Option<String>, Option<String>, String) -> Planned| {
        let on = match &assignment.on {
            Some(on) => On::parse(on).map_err(Failure::wrong_usage)?,
            None => by_flags(&assignment.place, current).unwrap_or(On::Installation),
        };
        let on = if on == On::Installation {
            String::new()
        } else {
            on.to_string()
        };
        let role = &assignment.role;
        let users = assignment
            .users
            .iter()
            .map(|user| make(role.clone(), Some(user.clone()), None, on.clone()));
        let groups = assignment
            .groups
            .iter()
            .map(|group| make(role.clone(), None, Some(group.clone()), on.clone()));
        let all: Vec<Planned> = users.chain(groups).collect();
        if all.is_empty() {
            return Err(Failure::wrong_usage("say for whom: -u USER or -g GROUP"));
        }
        Ok(all)
    };
    Ok(match change {
        AccessDiff::Assign(assignment) => to_each(assignment, |role, user, group, on| Planned::Assign {
            role,
            user,
            group,
            on,
        })?,
        AccessDiff::Unassign(assignment) => to_each(assignment, |role, user, group, on| Planned::Unassign {
            role,
            user,
            group,
            on,
        })?,
        AccessDiff::AddMember { group, users } => {
            let each = users.into_iter().map(|user| Planned::AddMember {
                group: group.clone(),
                user,
            });
            each.collect()
        }
        AccessDiff::RemoveMember { group, users } => {
            let each = users.into_iter().map(|user| Planned::RemoveMember {
                group: group.clone(),
                user,
            });
            each.collect()
        }
        AccessDiff::EditRole { role, add, remove } => vec![Planned::EditRole { role, add, remove }],
        AccessDiff::DeleteRole { role } => vec![Planned::DeleteRole { role }],
        AccessDiff::DeleteGroup { group } => vec![Planned::DeleteGroup { group }],
        AccessDiff::Deactivate { user } => vec![Planned::Deactivate { user }],
        AccessDiff::Changes { file } => {
            let text = if file == std::path::Path::new("-") {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&file)
            };
            let text = text.map_err(|why| Failure::file("read", &file, &why))?;
            serde_json::from_str(&text)
                .map_err(|why| Failure::wrong_usage(format!("{} is not a list of changes: {why}", file.display())))?
        }
    })
}

const DIFFERENCES: &[Column<ShadowDifference>] = &[
    column("WHO", |one| one.who.as_str().into()),
    column("WOULD", |one| if one.gains { "gain" } else { "be refused" }.into()),
    column("PERMISSION", |one| one.permission.as_str().into()),
    column("WHERE", |one| one.place.as_str().into()),
    column("TIMES", |one| one.count.into()),
    column("LAST", |one| one.last_at.into()),
    column("EXAMPLE", |one| one.example.as_str().into()),
    wide("FIRST", |one| one.first_at.into()),
    wide("ON", |one| one.on.as_str().into()),
];

fn shadow_report(common: &Common, since: Option<&str>) -> Result<()> {
    let since = since.map(|text| Time::parse_since(text, now())).transpose();
    let since = since.map_err(|why| Failure::wrong_usage(format!("--since: {why}")))?;
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let mut items: Vec<ShadowDifference> = Vec::new();
        let mut after = None;
        loop {
            let filter = ShadowFilter {
                since,
                after: after.take(),
                limit: Some(1000),
            };
            let answer = connection.client.shadow_report(&filter).await;
            let mut answer = answer.map_err(|why| connection.explain(why))?;
            items.append(&mut answer.items);
            after = answer.next;
            if after.is_some() {
                continue;
            }
            if output.is_for_people() {
                say(&format!(
                    "{} would be refused something, {} would gain something",
                    accounts(answer.would_lose),
                    accounts(answer.would_gain)
                ));
                if answer.mode != AccessMode::Shadow {
                    say(&format!(
                        "the server's mode is `{}`: only in mode `shadow` is anything recorded",
                        mode(answer.mode)
                    ));
                }
            }
            break;
        }
        output.list(DIFFERENCES, |one| one.who.clone(), &items)
    })
}

fn accounts(count: i64) -> String {
    match count {
        0 => "nobody".into(),
        1 => "1 account".into(),
        many => format!("{many} accounts"),
    }
}

fn clear_shadow_report(common: &Common, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, "forget what mode shadow has recorded")?;
    let output = Output::new(common.output);
    block_on(async {
        let cleared = connection.client.clear_shadow_report().await;
        let cleared = cleared.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            return write(&json(&cleared));
        }
        say(&format!("Forgot {} recorded differences.", cleared.deleted));
        Ok(())
    })
}

const FINDINGS: &[Column<Finding>] = &[
    column("SEVERITY", |finding| finding.severity.words().into()),
    column("WHAT", |finding| finding.words.as_str().into()),
    column("WHOM", |finding| finding.whom.join("; ").into()),
    column("REMEDY", |finding| finding.remedy.as_str().into()),
    wide("CODE", |finding| finding.code.as_str().into()),
    wide("COUNT", |finding| finding.count.into()),
];

fn check(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let found = connection.client.check_access().await;
        let found = found.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            write(&json(&found))?;
        } else if output.is_for_people() {
            write(&findings_text(&found.findings))?;
            say(match (found.lock_outs, found.mode) {
                (0, AccessMode::Rbac) => "Nobody is locked out.",
                (0, _) => "Nobody would be locked out: `security.access = \"rbac\"` can be switched on.",
                _ => "Mend the lock-outs before mode `rbac` is switched on.",
            });
        } else {
            output.list(FINDINGS, |finding| finding.code.clone(), &found.findings)?;
        }
        if found.lock_outs > 0 {
            return Err(Failure::silent(exit::FAILED));
        }
        Ok(())
    })
}

fn findings_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!(
            "{}: {}\n",
            finding.severity.words(),
            printable(&finding.words)
        ));
        for whom in &finding.whom {
            text.push_str(&format!("  - {}\n", printable(whom)));
        }
        let more = finding.count - finding.whom.len() as i64;
        if more > 0 && !finding.whom.is_empty() {
            text.push_str(&format!("  and {more} more\n"));
        }
        if finding.severity != Severity::Note || !finding.remedy.is_empty() {
            text.push_str(&format!("  do: {}\n", finding.remedy));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> (Option<String>, String, Option<String>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        read_words(&words).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    #[test]
    fn who_and_where_may_be_left_out_of_a_question() {
        let some = |word: &str| Some(word.to_owned());
        assert_eq!(read(&["experiments:read"]), (None, "experiments:read".into(), None));
        assert_eq!(
            read(&["jobs:read", "experiment:12"]),
            (None, "jobs:read".into(), some("experiment:12"))
        );
        assert_eq!(read(&["ana", "jobs:read"]), (some("ana"), "jobs:read".into(), None));
        assert_eq!(
            read(&["ana", "read", "queue:default"]),
            (some("ana"), "read".into(), some("queue:default"))
        );
        // Mistyped permissions are told as such, not taken for a name.
        assert_eq!(read(&["job:read", "experiment:12"]).1, "job:read");
    }

    #[test]
    fn permissions_are_told_by_resource() {
        let words = ["experiments:create", "queues:read", "experiments:read:own"];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(summary(&words), "experiments: create, read (own); queues: read");
    }
}
