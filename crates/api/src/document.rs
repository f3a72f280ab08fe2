//! Access as code: one document with users, groups, roles, workspaces and assignments, that can be exported, kept beside other code, compared and applied.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;
use crate::users::UserState;

/// Largest document that a server takes, in bytes as JSON: the same as of any request.
pub const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// `GET /api/v1/access/export`. A section that is left out is not touched when the document is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessDocument {
    /// Made where missing, changed where different, never removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<DocumentUser>>,
    /// Names. Made where missing, without a key; never removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<Vec<String>>,
    /// All groups besides the built-in ones: those that are not here are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<DocumentGroup>>,
    /// All roles besides the built-in ones: those that are not here are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<DocumentRole>>,
    /// Made where missing, changed where different, never removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<DocumentWorkspace>>,
    /// All assignments besides built-in ones and those that end by themselves because somebody asked for them: those that are not here are taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<Vec<DocumentAssignment>>,
}

/// What is left out is not touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentUser {
    pub name: String,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// `deactivated` shuts the user out, `active` and `pending` don't: somebody who is pending becomes active by a link, not by a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<UserState>,
    /// Signs in through the identity provider only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<bool>,
    /// What the group `Users` holds in workspaces does not reach this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_roles_only: Option<bool>,
}

/// What is left out is not touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentGroup {
    pub name: String,
    /// Always there: only its members are read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub built_in: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All of them: users and service accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentRole {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As typed: `experiments:read`, `models:delete:own`, `queues:*`, `read`.
    pub permissions: Vec<String>,
}

/// What is left out is not touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentWorkspace {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Besides `default`, which each workspace has. Made where missing, changed where different, never removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<DocumentProject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentProject {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

/// A role for a user (or service account) or a group: in a workspace, in a project of it, `on` a single thing, or with none of these everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentAssignment {
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// `experiment:12`, `queue:NAME`, `model:12`, `stack:12`; also `workspace:NAME`, `project:WORKSPACE/PROJECT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// `POST /api/v1/access/plan`: what applying the document would do. Nothing is changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanDocument {
    pub document: AccessDocument,
}

/// `POST /api/v1/access/apply`: all of it or nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyDocument {
    pub document: AccessDocument,
    /// The `version` of the plan that was looked at: refused if rights have changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_version: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlannedAct {
    Make,
    Change,
    Remove,
}

impl PlannedAct {
    /// As it stands before a line of a plan.
    pub const fn sign(self) -> char {
        match self {
            PlannedAct::Make => '+',
            PlannedAct::Change => '~',
            PlannedAct::Remove => '-',
        }
    }
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    pub act: PlannedAct,
    /// For people: `assign Editor to group "Stop Signs Team" on workspace "Stop Signs"`.
    pub words: String,
    /// What the caller lacks to make this change, if anything: then nothing would be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What somebody may do somewhere after the change and not before, and the other way round, where roles count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEffect {
    pub who: String,
    /// `installation`, `workspace:Stop Signs`.
    pub on: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gained: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// What a document would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessPlan {
    /// The state of rights that it was made for.
    pub version: i64,
    /// In the order in which they are made; none when everything is as the document says.
    pub changes: Vec<PlannedChange>,
    /// At most 1000, by name.
    pub effects: Vec<PlannedEffect>,
    /// How many effects are not shown.
    pub more_effects: i64,
    /// What one should know before applying it.
    pub warnings: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    pub changes: Vec<PlannedChange>,
    /// Users who were made and need a link (`ml user link NAME`) to sign in.
    pub pending: Vec<String>,
    /// What did not go as one might expect.
    pub warnings: Vec<String>,
}

impl AccessDocument {
    /// Reads YAML, or JSON, which is YAML.
    ///
    /// # Errors
    /// What is wrong and where, in one line.
    pub fn parse(text: &str) -> Result<AccessDocument, String> {
        // As JSON it is about as large; who is far above the limit need not wait for the reader.
        if text.len() > 4 * DOCUMENT_BYTES_MAX {
            return Err(too_large(text.len()));
        }
        let document: Option<AccessDocument> = serde_saphyr::from_str(text).map_err(|error| yaml_words(&error))?;
        let document = document.unwrap_or_default();
        let bytes = serde_json::to_vec(&document).map_or(0, |json| json.len());
        if bytes > DOCUMENT_BYTES_MAX - 1024 {
            return Err(too_large(bytes));
        }
        Ok(document)
    }

    /// As YAML, always in the same way, so that two exports differ only where what they describe does.
    pub fn to_yaml(&self) -> String {
        let mut out = String::from(HEADER);
        if let Some(users) = &self.users {
            section(&mut out, "users", users.is_empty());
            for user in users {
                let mut entry = Entry::new(&mut out, "  ", "name", &scalar(&user.name));
                entry.text("display_name", user.display_name.as_deref());
                entry.plain("state", user.state.map(UserState::name));
                entry.flag("remote", user.remote);
                entry.flag("own_roles_only", user.own_roles_only);
            }
        }
        if let Some(accounts) = &self.service_accounts {
            section(&mut out, "service_accounts", accounts.is_empty());
            for name in accounts {
                let _ = writeln!(out, "  - {}", scalar(name));
            }
        }
        if let Some(groups) = &self.groups {
            section(&mut out, "groups", groups.is_empty());
            for group in groups {
                let mut entry = Entry::new(&mut out, "  ", "name", &scalar(&group.name));
                entry.flag("built_in", group.built_in.then_some(true));
                entry.text("description", group.description.as_deref());
                entry.list("members", group.members.as_deref());
            }
        }
        if let Some(roles) = &self.roles {
            section(&mut out, "roles", roles.is_empty());
            for role in roles {
                let mut entry = Entry::new(&mut out, "  ", "name", &scalar(&role.name));
                entry.text("description", role.description.as_deref());
                entry.list("permissions", Some(&role.permissions));
            }
        }
        if let Some(workspaces) = &self.workspaces {
            section(&mut out, "workspaces", workspaces.is_empty());
            for workspace in workspaces {
                let mut entry = Entry::new(&mut out, "  ", "name", &scalar(&workspace.name));
                entry.text("description", workspace.description.as_deref());
                entry.flag("archived", workspace.archived);
                if !workspace.projects.is_empty() {
                    out.push_str("    projects:\n");
                }
                for project in &workspace.projects {
                    let mut entry = Entry::new(&mut out, "      ", "name", &scalar(&project.name));
                    entry.text("description", project.description.as_deref());
                    entry.flag("archived", project.archived);
                }
            }
        }
        if let Some(assignments) = &self.assignments {
            section(&mut out, "assignments", assignments.is_empty());
            for one in assignments {
                let mut entry = Entry::new(&mut out, "  ", "role", &scalar(&one.role));
                entry.text("user", one.user.as_deref());
                entry.text("group", one.group.as_deref());
                entry.text("workspace", one.workspace.as_deref());
                entry.text("project", one.project.as_deref());
                entry.text("on", one.on.as_deref());
                entry.plain("until", one.until.map(|at| at.to_string()).as_deref());
            }
        }
        out
    }
}

const HEADER: &str = "\
# Who may do what. `ml access plan FILE` says what applying this file would change, and what it would give to and take from whom;
# `ml access apply FILE` does it, all of it or nothing.
#
# A section that is left out is not touched. One that is here is complete:
#   groups       those that are not here are deleted (but built-in ones); `members` are all its members, unless they are left out
#   roles        those that are not here are deleted (built-in ones are never here)
#   assignments  those that are not here are taken away (but built-in ones, break-glass, and what was given on request for a while)
# These are made where missing and changed where different, and never removed:
#   users        without a password: `ml user link NAME` makes a link to sign in; `state: deactivated` shuts a user out
#   service_accounts   without a key: `ml token create --for NAME` makes one
#   workspaces   and their projects
# Passwords, keys and links are never here. Names that the file does not make must be there already. An assignment whose `until` has passed is none.
";

fn too_large(bytes: usize) -> String {
    format!(
        "it has {bytes} bytes as JSON, and a server takes {DOCUMENT_BYTES_MAX} at most; leave out sections that are not to be touched"
    )
}

fn section(out: &mut String, name: &str, is_empty: bool) {
    let _ = writeln!(out, "\n{name}:{}", if is_empty { " []" } else { "" });
}

/// The lines of one entry of a list of maps.
struct Entry<'a> {
    out: &'a mut String,
    indent: &'static str,
}

impl<'a> Entry<'a> {
    fn new(out: &'a mut String, indent: &'static str, key: &str, value: &str) -> Entry<'a> {
        let _ = writeln!(out, "{indent}- {key}: {value}");
        Entry { out, indent }
    }

    fn plain(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            let _ = writeln!(self.out, "{}  {key}: {value}", self.indent);
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.plain(key, value.map(scalar).as_deref());
    }

    fn flag(&mut self, key: &str, value: Option<bool>) {
        self.plain(key, value.map(|value| if value { "true" } else { "false" }));
    }

    fn list(&mut self, key: &str, values: Option<&[String]>) {
        match values {
            None => {}
            Some([]) => self.plain(key, Some("[]")),
            Some(values) => {
                let _ = writeln!(self.out, "{}  {key}:", self.indent);
                for value in values {
                    let _ = writeln!(self.out, "{}    - {}", self.indent, scalar(value));
                }
            }
        }
    }
}

/// A text as YAML: bare where nothing else could be meant by it, else quoted as in JSON, which YAML reads alike.
fn scalar(text: &str) -> String {
    let words = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity",
    ];
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '*' || c == '.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '@' | '+' | '/' | ':' | '*'))
        && !text.contains(": ")
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if bare {
        return text.to_owned();
    }
    // Line and paragraph separators, and what JSON leaves bare but YAML does not print, are escaped too.
    let json = serde_json::to_string(text).expect("a text is JSON");
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// One line: where, and what is wrong.
fn yaml_words(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("line {}, column {}: ", at.line(), at.column()),
        _ => String::new(),
    };
    let said = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let said = said.lines().next().unwrap_or_default();
    // Its own words for a place say the same as ours.
    let said = said.split(" at line ").next().unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("{place}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_as_it_is_meant() {
        let text = "
            users:
              - {name: ana, display_name: Ana}
            groups:
              - name: Stop Signs Team
                members: [ana]
            assignments:
              - role: Editor
                group: Stop Signs Team
                workspace: Stop Signs
                until: 2027-01-31
        ";
        let document = AccessDocument::parse(text).unwrap();
        let assignment = &document.assignments.unwrap()[0];
        assert_eq!(assignment.until, Time::parse("2027-01-31"));
        assert_eq!(document.roles, None);
        assert_eq!(AccessDocument::parse(""), Ok(AccessDocument::default()));
        assert_eq!(
            AccessDocument::parse("roles:\ngroups: []").unwrap().groups,
            Some(Vec::new())
        );
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let wrong = AccessDocument::parse("users:\n  - name: ana\n    pasword: x\n").unwrap_err();
        assert!(
            wrong.starts_with("line 3, column ") && wrong.contains("pasword"),
            "{wrong}"
        );
        let wrong = AccessDocument::parse("users:\n  - [\n").unwrap_err();
        assert!(wrong.starts_with("line "), "{wrong}");
        let long = format!(
            "users: [{}]",
            "{name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa},".repeat(60_000)
        );
        assert!(AccessDocument::parse(&long).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_names_are_the_file_reads_back(
            names in proptest::collection::vec("[ -~\u{a0}-\u{2fff}\t\n\"\\\\:#*&!|>%@`'😀]{1,12}|true|null|12|1.5|2026-01-01|~|-|: |a: b|x #y|on", 1..6),
        ) {
            let text = |at: usize| names[at % names.len()].clone();
            let document = AccessDocument {
                users: Some(vec![DocumentUser {
                    name: text(0),
                    display_name: Some(text(1)),
                    state: Some(UserState::Deactivated),
                    remote: Some(true),
                    own_roles_only: Some(false),
                }]),
                service_accounts: Some(names.clone()),
                groups: Some(vec![
                    DocumentGroup { name: text(2), members: Some(names.clone()), ..Default::default() },
                    DocumentGroup { name: text(3), built_in: true, description: Some(text(4)), members: Some(Vec::new()) },
                ]),
                roles: Some(vec![DocumentRole { name: text(1), description: None, permissions: vec!["queues:*".into(), text(2)] }]),
                workspaces: Some(vec![DocumentWorkspace {
                    name: text(0),
                    description: Some(text(3)),
                    archived: Some(true),
                    projects: vec![DocumentProject { name: text(2), description: Some(text(0)), archived: None }],
                }]),
                assignments: Some(vec![
                    DocumentAssignment { role: text(0), user: Some(text(1)), on: Some(text(2)), until: Some(Time(1_795_219_200_123_456)), ..Default::default() },
                    DocumentAssignment { role: text(4), group: Some(text(1)), workspace: Some(text(2)), project: Some(text(3)), ..Default::default() },
                ]),
            };
            let yaml = document.to_yaml();
            proptest::prop_assert_eq!(AccessDocument::parse(&yaml), Ok(document), "{}", yaml);
        }
    }
}
