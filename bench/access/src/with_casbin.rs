//! `casbin`, with as few rows as it can decide by: one for each role and permission that is asked, and each user's roles with the groups resolved beforehand,
//! as its groups do not reach across domains.

use bailiwick_access::{Assignment, Holder, Scope, Target};
use bailiwick_api::PrincipalId;
use casbin::{CoreApi, DefaultModel, Enforcer, MgmtApi};

use crate::with_cedar::scopes;
use crate::world::{ASKED, Request, World};

const MODEL: &str = "
[request_definition]
r = user, owner, act, workspace, project, object

[policy_definition]
p = role, act, reach

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.act == p.act && (p.reach == \"all\" || r.owner == r.user) && (g(r.user, p.role, r.workspace) || g(r.user, p.role, r.project) || g(r.user, p.role, r.object) || g(r.user, p.role, \"*\"))
";

pub struct Casbin {
    enforcer: Enforcer,
    runtime: tokio::runtime::Runtime,
    pub rows: usize,
}

/// A request in casbin's words, ready before the clock starts.
pub type Words = [String; 6];

fn domain(scope: Scope) -> String {
    match scope {
        Scope::Global => "*".into(),
        Scope::Workspace(id) => format!("w{id}"),
        Scope::Project(id) => format!("p{id}"),
        Scope::Object(_, id) => format!("e{id}"),
    }
}

pub fn words(request: &Request) -> Words {
    let Target { owner, .. } = request.target;
    let mut domains = scopes(&request.target).skip(1).map(domain);
    let mut next = || domains.next().unwrap_or_default();
    [
        format!("u{}", request.who),
        owner.map(|owner| format!("u{owner}")).unwrap_or_default(),
        request.permission.name().to_owned(),
        next(),
        next(),
        next(),
    ]
}

fn rows<'a>(world: &'a World, assignment: &'a Assignment) -> impl Iterator<Item = Vec<String>> + 'a {
    let row = |who: PrincipalId| {
        let role = world.role(assignment.role).name.clone();
        vec![format!("u{who}"), role, domain(assignment.scope)]
    };
    let everybody = world.principals.iter().map(|principal| principal.id);
    let holders: Box<dyn Iterator<Item = PrincipalId>> = match assignment.holder {
        Holder::Principal(who) => Box::new([who].into_iter()),
        Holder::Group(group) if group == world.users => Box::new(everybody),
        Holder::Group(group) => Box::new(world.members[group.0 as usize - 1].iter().copied()),
    };
    holders.map(row)
}

impl Casbin {
    pub fn new(world: &World) -> Casbin {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime can be made");
        let mut enforcer = runtime.block_on(async {
            let model = DefaultModel::from_str(MODEL).await.expect("the model is one");
            Enforcer::new(model, ()).await.expect("the model has all that it needs")
        });
        enforcer.enable_auto_save(false);
        let mut asked = Vec::new();
        for role in &world.roles {
            for permission in ASKED {
                let reach = match () {
                    () if role.permissions.all.contains(permission) => "all",
                    () if role.permissions.own.contains(permission) => "own",
                    () => continue,
                };
                asked.push(vec![role.name.clone(), permission.name().to_owned(), reach.to_owned()]);
            }
        }
        let known: Vec<String> = asked.iter().map(|row| row[0].clone()).collect();
        let model = enforcer.get_mut_model();
        model.add_policies("p", "p", asked);
        let mut count = 0;
        for assignment in &world.assignments {
            if known.contains(&world.role(assignment.role).name) {
                for row in rows(world, assignment) {
                    count += usize::from(model.add_policy("g", "g", row));
                }
            }
        }
        enforcer.build_role_links().expect("every role is known");
        Casbin {
            enforcer,
            runtime,
            rows: count,
        }
    }

    pub fn allows(&self, words: &Words) -> bool {
        let [user, owner, act, workspace, project, object] = words;
        let asked = (
            user.as_str(),
            owner.as_str(),
            act.as_str(),
            workspace.as_str(),
            project.as_str(),
            object.as_str(),
        );
        self.enforcer
            .enforce(asked)
            .expect("the matcher holds for every request")
    }

    pub fn assign(&mut self, world: &World, assignment: &Assignment) {
        let rows = rows(world, assignment).collect();
        let added = self
            .runtime
            .block_on(self.enforcer.add_named_grouping_policies("g", rows));
        added.expect("the role is known");
    }

    pub fn take_away(&mut self, world: &World, assignment: &Assignment) {
        let rows = rows(world, assignment).collect();
        let removed = self
            .runtime
            .block_on(self.enforcer.remove_named_grouping_policies("g", rows));
        removed.expect("the role is known");
    }
}
