//! Rego, by `regorus` compiled for its virtual machine. What is held stands in the data document by scope, so that a decision walks the few assignments at the
//! target's scopes and not the asker's groups.

use std::sync::Arc;

use bailiwick_access::{Assignment, Holder, Scope};
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::program::Program;
use regorus::rvm::vm::RegoVM;
use regorus::{Engine, Value};

use crate::with_cedar::scopes;
use crate::world::{ASKED, Request, World};

const POLICY: &str = "
package access

import rego.v1

default allow := false

allow if {
    some scope in input.scopes
    some holder, roles in data.held[scope]
    data.members[input.user][holder]
    some role, _ in roles
    input.reaches[data.gives[role][input.act]]
}
";

const ALLOW: &str = "data.access.allow";

pub struct Rego {
    vm: RegoVM,
    data: Value,
}

fn scope_name(scope: Scope) -> Value {
    Value::from(match scope {
        Scope::Global => "*".to_owned(),
        Scope::Workspace(id) => format!("w{id}"),
        Scope::Project(id) => format!("p{id}"),
        Scope::Object(_, id) => format!("e{id}"),
    })
}

fn holder_name(holder: Holder) -> Value {
    Value::from(match holder {
        Holder::Principal(id) => format!("u{id}"),
        Holder::Group(id) => format!("g{id}"),
    })
}

/// A request as the input document, ready before the clock starts.
pub fn input(request: &Request) -> Value {
    let mut input = Value::new_object();
    let fields = input.as_object_mut().expect("it is an object");
    let mut reaches = Value::new_object();
    set(&mut reaches, Value::from("all"));
    if request.target.owner == Some(request.who) {
        set(&mut reaches, Value::from("own"));
    }
    let list: Vec<Value> = scopes(&request.target).map(scope_name).collect();
    fields.insert(Value::from("user"), holder_name(Holder::Principal(request.who)));
    fields.insert(Value::from("act"), Value::from(request.permission.name()));
    fields.insert(Value::from("reaches"), reaches);
    fields.insert(Value::from("scopes"), Value::from(list));
    input
}

/// `document[key]`, made an object where there is none.
fn under(document: &mut Value, key: Value) -> &mut Value {
    let object = document.as_object_mut().expect("it is an object");
    if object.get(&key).is_none() {
        object.insert(key.clone(), Value::new_object());
    }
    object.get_mut(&key).expect("it was just put there")
}

fn set(document: &mut Value, key: Value) {
    document
        .as_object_mut()
        .expect("it is an object")
        .insert(key, Value::from(true));
}

impl Rego {
    pub fn new(world: &World) -> Rego {
        let mut engine = Engine::new();
        engine
            .add_policy("access.rego".into(), POLICY.into())
            .expect("the policy is one");
        let policy = engine
            .compile_with_entrypoint(&ALLOW.into())
            .expect("the policy has this rule");
        let program: Arc<Program> =
            Compiler::compile_from_policy(&policy, &[ALLOW]).expect("the machine has all that the policy needs");
        let mut vm = RegoVM::new_with_policy(policy);
        vm.load_program(program);
        let mut data = Value::new_object();
        for role in &world.roles {
            let of_role = under(under(&mut data, Value::from("gives")), Value::from(role.name.as_str()));
            for permission in ASKED {
                let reach = match () {
                    () if role.permissions.all.contains(permission) => "all",
                    () if role.permissions.own.contains(permission) => "own",
                    () => continue,
                };
                let of_role = of_role.as_object_mut().expect("it is an object");
                of_role.insert(Value::from(permission.name()), Value::from(reach));
            }
        }
        let members = under(&mut data, Value::from("members"));
        for principal in &world.principals {
            let myself = holder_name(Holder::Principal(principal.id));
            let mine = under(members, myself.clone());
            set(mine, myself);
            for group in &principal.groups {
                set(mine, holder_name(Holder::Group(*group)));
            }
        }
        let mut rego = Rego { vm, data };
        for assignment in &world.assignments {
            rego.edit(world, assignment, true);
        }
        rego.publish();
        rego
    }

    fn publish(&mut self) {
        self.vm
            .set_data(self.data.clone())
            .expect("no rule has the name of data");
    }

    fn edit(&mut self, world: &World, assignment: &Assignment, there: bool) {
        let held = under(&mut self.data, Value::from("held"));
        let roles = under(
            under(held, scope_name(assignment.scope)),
            holder_name(assignment.holder),
        );
        let role = Value::from(world.role(assignment.role).name.as_str());
        if there {
            set(roles, role);
        } else {
            roles.as_object_mut().expect("it is an object").remove(&role);
        }
    }

    /// The document is changed in place: the machine lets go of it meanwhile.
    pub fn change(&mut self, world: &World, assignment: &Assignment, there: bool) {
        self.vm
            .set_data(Value::new_object())
            .expect("no rule has the name of data");
        self.edit(world, assignment, there);
        self.publish();
    }

    pub fn allows(&mut self, input: &Value) -> bool {
        self.vm.set_input(input.clone());
        let answer = self
            .vm
            .execute_entry_point_by_index(0)
            .expect("the rule holds for every request");
        answer == Value::from(true)
    }
}
