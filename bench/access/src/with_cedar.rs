//! `cedar-policy`, whose answers are the arbiter's. Roles are templates, assignments are links of them.
//!
//! Its authorizer visits every policy of the set that it is given, so the best arrangement gives it only those that can matter: those linked at a scope of
//! the target to the asker or one of its groups (`slice-fly` links them for each request, `slice-prebuilt` finds them linked). All entities are resident.
//! The arbiter besides, on fewer requests, is the whole set of links at once, in which nothing of ours chooses.

use std::collections::{HashMap, HashSet};

use bailiwick_access::{Assignment, Holder, Scope, Target};
use bailiwick_api::{GroupId, Permission, PrincipalId, RoleId};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet,
    Request as CedarRequest, RestrictedExpression, SlotId, Template,
};

use crate::world::{ASKED, Request, World};

pub struct Cedar {
    authorizer: Authorizer,
    names: Names,
    /// `None` only while one is changed.
    entities: Option<Entities>,
    templates: HashMap<RoleId, Vec<Template>>,
    at: HashMap<Scope, Vec<Assignment>>,
    groups: Vec<Vec<GroupId>>,
}

struct Names {
    types: HashMap<&'static str, EntityTypeName>,
}

impl Names {
    fn uid(&self, kind: &'static str, id: impl ToString) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types[kind].clone(), EntityId::new(id.to_string()))
    }

    fn scope(&self, scope: Scope) -> EntityUid {
        match scope {
            Scope::Global => self.uid("Installation", 1),
            Scope::Workspace(id) => self.uid("Workspace", id),
            Scope::Project(id) => self.uid("Project", id),
            Scope::Object(_, id) => self.uid("Experiment", id),
        }
    }

    fn holder(&self, holder: Holder) -> EntityUid {
        match holder {
            Holder::Principal(id) => self.uid("User", id),
            Holder::Group(id) => self.uid("Group", id),
        }
    }
}

pub fn scopes(target: &Target) -> impl Iterator<Item = Scope> {
    let list = [
        Some(Scope::Global),
        target.workspace.map(Scope::Workspace),
        target.project.map(Scope::Project),
        target.object.map(|(kind, id)| Scope::Object(kind, id)),
    ];
    list.into_iter().flatten()
}

/// The smallest scope that the target has.
fn innermost(target: &Target) -> Scope {
    scopes(target).last().expect("everything is in the installation")
}

impl Cedar {
    pub fn new(world: &World) -> Cedar {
        let kinds = [
            "User",
            "Group",
            "Installation",
            "Workspace",
            "Project",
            "Experiment",
            "Action",
        ];
        let types = kinds.map(|kind| (kind, kind.parse().expect("a plain word is a type's name")));
        let names = Names {
            types: HashMap::from(types),
        };
        let templates = world.roles.iter().map(|role| (role.id, templates(world, role.id)));
        let mut cedar = Cedar {
            authorizer: Authorizer::new(),
            templates: templates.collect(),
            entities: None,
            at: HashMap::new(),
            groups: world
                .principals
                .iter()
                .map(|principal| principal.groups.clone())
                .collect(),
            names,
        };
        for assignment in &world.assignments {
            cedar.assign(*assignment);
        }
        cedar.entities = Some(cedar.entities_of(world));
        cedar
    }

    fn entities_of(&self, world: &World) -> Entities {
        let names = &self.names;
        let installation = names.uid("Installation", 1);
        let plain = |uid, parent| Entity::new_no_attrs(uid, HashSet::from_iter(parent));
        let users = world.principals.iter().map(|principal| self.user(principal.id));
        let groups = (1..=world.users.0).map(|id| plain(names.uid("Group", id), None));
        let workspaces = (1..=world.workspaces).map(|id| plain(names.uid("Workspace", id), Some(installation.clone())));
        let projects = world.projects.iter().enumerate().map(|(at, workspace)| {
            plain(
                names.uid("Project", at + 1),
                Some(names.scope(Scope::Workspace(*workspace))),
            )
        });
        let experiments = world.experiments.iter().enumerate().map(|(at, experiment)| {
            let owner = RestrictedExpression::new_entity_uid(names.uid("User", experiment.owner));
            Entity::new(
                names.uid("Experiment", at + 1),
                HashMap::from([("owner".to_owned(), owner)]),
                HashSet::from([names.scope(Scope::Project(experiment.project))]),
            )
            .expect("an owner is a plain attribute")
        });
        let all = users.chain(groups).chain(workspaces).chain(projects).chain(experiments);
        Entities::from_entities(all.chain([plain(installation.clone(), None)]), None).expect("no entity is there twice")
    }

    fn user(&self, id: PrincipalId) -> Entity {
        let groups = &self.groups[id.0 as usize - 1];
        let parents = groups.iter().map(|group| self.names.uid("Group", group));
        Entity::new_no_attrs(self.names.uid("User", id), parents.collect())
    }

    pub fn assign(&mut self, assignment: Assignment) {
        // A role without anything that is asked here has no template.
        if self.templates[&assignment.role].is_empty() {
            return;
        }
        self.at.entry(assignment.scope).or_default().push(assignment);
    }

    pub fn take_away(&mut self, assignment: &Assignment) {
        if let Some(list) = self.at.get_mut(&assignment.scope) {
            list.retain(|one| one.id != assignment.id);
        }
    }

    /// Puts a principal into a group, or out of it again, in the resident store.
    pub fn change_member(&mut self, who: PrincipalId, group: GroupId, member: bool) {
        let groups = &mut self.groups[who.0 as usize - 1];
        groups.retain(|one| *one != group);
        if member {
            groups.push(group);
        }
        let entities = self.entities.take().expect("it is there between changes");
        let user = self.user(who);
        self.entities = Some(entities.upsert_entities([user], None).expect("a group has no parent"));
    }

    pub fn request(&self, request: &Request) -> CedarRequest {
        let action = self.names.uid("Action", request.permission.name());
        CedarRequest::new(
            self.names.uid("User", request.who),
            action,
            self.names.scope(innermost(&request.target)),
            Context::empty(),
            None,
        )
        .expect("without a schema every request is valid")
    }

    /// The policies that can matter for a request, linked.
    pub fn slice(&self, request: &Request) -> PolicySet {
        let groups = &self.groups[request.who.0 as usize - 1];
        let holds = |holder: Holder| match holder {
            Holder::Principal(id) => id == request.who,
            Holder::Group(id) => groups.contains(&id),
        };
        let here = scopes(&request.target)
            .filter_map(|scope| self.at.get(&scope))
            .flatten();
        self.link(here.filter(|one| holds(one.holder)))
    }

    /// Every assignment there is, as one set.
    pub fn all_links(&self) -> PolicySet {
        self.link(self.at.values().flatten())
    }

    fn link<'a>(&self, assignments: impl Iterator<Item = &'a Assignment>) -> PolicySet {
        let mut policies = PolicySet::new();
        let mut known: HashSet<RoleId> = HashSet::new();
        for assignment in assignments {
            for template in &self.templates[&assignment.role] {
                if !known.contains(&assignment.role) {
                    policies
                        .add_template(template.clone())
                        .expect("each template is added once");
                }
                let id = PolicyId::new(format!("{}-{}", template.id(), assignment.id));
                let slots = HashMap::from([
                    (SlotId::principal(), self.names.holder(assignment.holder)),
                    (SlotId::resource(), self.names.scope(assignment.scope)),
                ]);
                policies
                    .link(template.id().clone(), id, slots)
                    .expect("both slots are filled");
            }
            known.insert(assignment.role);
        }
        policies
    }

    pub fn allows(&self, request: &CedarRequest, policies: &PolicySet) -> bool {
        let entities = self.entities.as_ref().expect("it is there between changes");
        self.authorizer.is_authorized(request, policies, entities).decision() == Decision::Allow
    }
}

/// One template for reach `all`, one for reach `own`, each where the role has any of what is asked.
fn templates(world: &World, role: RoleId) -> Vec<Template> {
    let permissions = world.role(role).permissions;
    let make = |reach: &str, of: Vec<Permission>, condition: &str| {
        let actions: Vec<String> = of.iter().map(|one| format!("Action::\"{one}\"")).collect();
        let text = format!(
            "permit(principal in ?principal, action in [{}], resource in ?resource){condition};",
            actions.join(", ")
        );
        let id = PolicyId::new(format!("{role}-{reach}"));
        (!of.is_empty()).then(|| Template::parse(Some(id), text).expect("the text is a template"))
    };
    let asked = |set: bailiwick_api::PermissionSet| ASKED.into_iter().filter(|one| set.contains(*one)).collect();
    let owned = " when { resource has owner && resource.owner == principal }";
    let both = [
        make("all", asked(permissions.all), ""),
        make("own", asked(permissions.own), owned),
    ];
    both.into_iter().flatten().collect()
}
