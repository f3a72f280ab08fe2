//! Users, groups and keys from the command line.

use crate::place::{Place, finish};

#[test]
fn a_team_is_made_filled_renamed_and_deleted() {
    let place = Place::served_with(&["--no-agent"]);
    for name in ["ana", "bob", "eve"] {
        place.user(name, "");
    }
    let team = "Traffic Lights Team";
    let ml = |args: &[&str]| place.ml_args(&[&["-u", "admin"], args].concat());
    let made = ml(&["user-group", "create", team, "--description", "who watches the lights"]).done();
    assert!(made.contains("\tTraffic Lights Team\t0\t"), "{made}");
    let added = ml(&["user-group", "add-user", team, "ana,bob", "eve", "-o", "table"]);
    assert_eq!(added.err, "Added ana, bob, eve to group \"Traffic Lights Team\".\n");
    let twice = ml(&["user-group", "add-user", team, "ana"]).failed(1);
    assert!(twice.starts_with("error: `ana` already belongs to"), "{twice}");
    ml(&["user-group", "remove-user", team, "eve"]).done();
    let shown = ml(&["user-group", "describe", "traffic lights team"]).done();
    assert!(
        shown.contains("\nusers\tana, bob\n") && shown.contains("\nmembers\t2\n"),
        "{shown}"
    );
    let shown = ml(&["group", "describe", team, "-o", "table"]).done();
    assert!(
        shown.contains("who watches the lights") && shown.contains("active"),
        "{shown}"
    );
    let unsure = ml(&["user-group", "change-name", team]).failed(2);
    assert_eq!(
        unsure,
        "error: no new name given: this is not a terminal\n\nhint: use `ml user-group change-name \"Traffic Lights Team\" NEW`\n"
    );
    ml(&["user-group", "change-name", team, "Lights"]).done();
    ml(&["user-group", "edit", "Lights", "--description", "all of them"]).done();
    assert!(
        ml(&["user-group", "edit", "Lights"])
            .failed(2)
            .contains("use --name or --description")
    );
    let listed = ml(&["user-group", "ls", "-o", "csv"]).done();
    assert!(
        listed.starts_with("id,name,members,description,who,built_in\n")
            && listed.contains(",Lights,2,all of them,\"ana, bob\",no\n"),
        "{listed}"
    );
    assert!(
        ml(&["user-group", "describe", "Light"])
            .failed(1)
            .ends_with("\n\nhint: did you mean `Lights`?\n")
    );
    // Each as somebody else, for this one command.
    assert_eq!(place.ml("-u ana user-group list").done().lines().count(), 2);
    assert_eq!(place.ml("user-group list -u eve").done().lines().count(), 1);
    let refused = place.ml("-u ana user-group add-user Lights eve").failed(1);
    assert!(
        refused.starts_with("error: Insufficient permissions: ana needs groups:update"),
        "{refused}"
    );
    assert!(ml(&["user-group", "delete", "Lights"]).failed(2).contains("--yes"));
    ml(&["user-group", "delete", "Lights", "--yes"]).done();
    assert!(!ml(&["user-group", "list"]).done().contains("Lights"));
}

#[test]
fn users_are_edited_made_remote_and_shut_out() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.ml("-u ana user edit ana --display-name Ana").done();
    assert!(
        place
            .ml("-u ana user edit ana --name anna")
            .failed(1)
            .contains("ana needs users:update")
    );
    let nothing = place.ml("-u admin user edit ana").failed(2);
    assert!(nothing.contains("--display-name"), "{nothing}");
    let said = place.ml("-u admin user edit ana --username ana.lima --active false -o table");
    assert_eq!(said.err, "Changed user ana.lima: name, active.\n");
    assert_eq!(place.ml("-u ana whoami").status, Some(4));
    for all in ["--all", "--a", "-a"] {
        let listed = place.ml(&format!("-u admin user list {all}")).done();
        assert!(listed.contains("\tana.lima\tdeactivated\t"), "{listed}");
    }
    assert!(!place.ml("-u admin user list").done().contains("ana.lima"));
    place.ml("-u admin user activate ana.lima").done();
    place
        .ml_args(&[
            "user",
            "login",
            "ana.lima",
            "--server",
            place.url(),
            "--password-file",
            "../password",
        ])
        .done();
    assert!(place.ml("user whoami").done().starts_with("name\tana.lima\n"));
    place.ml("user logout").done();
    assert_eq!(place.ml("user whoami").status, Some(4));

    let far = place
        .ml("-u admin user create far --remote --display-name Far -o json")
        .done();
    assert!(far.contains("\"remote\": true") && !far.contains("\"link\""), "{far}");
    assert!(
        place
            .ml("-u admin user create near --remote --password-file ../password")
            .failed(2)
            .contains("cannot be used with")
    );
    let refused = place.ml("-u admin user link far").failed(1);
    assert!(
        refused.starts_with("error: `far` is a remote user") && refused.contains("ml token create --for far"),
        "{refused}"
    );
    place
        .ml("-u admin user-group create Vision --add-user far,ana.lima")
        .done();
    let shown = place.ml("-u admin user describe far -o json").done();
    assert!(
        shown.contains("\"Vision\"") && shown.contains("\"through_group\": \"Users\""),
        "{shown}"
    );
}

#[test]
fn a_narrowed_key_says_what_it_is_for_and_does_no_more() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.write("code/train.py", "print(1)\n");
    place.ml("-u ana run code").done();
    let key = place
        .ml("-u ana token create --label ci -p jobs:read -p workspaces:read -w default --expires 30d")
        .done();
    let with_key = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("ML_API_KEY", key.trim());
        finish(command)
    };
    let said = with_key(&["whoami"]).done();
    assert!(
        said.contains("\nonly for\texperiments:read, experiments:read-artifacts, workspaces:read\n")
            || said.contains("\nonly_for\texperiments:read, experiments:read-artifacts, workspaces:read\n"),
        "{said}"
    );
    assert!(said.contains("only_in\tdefault\n"), "{said}");
    assert_eq!(with_key(&["status", "-o", "id"]).done().lines().count(), 1);
    assert!(
        with_key(&["run", "code"])
            .failed(1)
            .contains("Insufficient permissions")
    );
    assert!(
        with_key(&["token", "create"])
            .failed(1)
            .contains("Insufficient permissions")
    );
    let id = place.ml("-u ana token list -o id").done();
    let id = id.trim();
    let shown = place.ml(&format!("-u ana token describe {id}")).done();
    assert!(
        shown.contains("\nlabel\tci\n") && shown.contains("\nworkspaces\tdefault\n"),
        "{shown}"
    );
    assert!(
        place
            .ml(&format!("-u ana token create --expires {}", "yesterday"))
            .failed(2)
            .contains("neither a duration such as 8h or 7d nor a date")
    );
    let refused = place.ml("-u ana token create -p users:create").failed(1);
    assert!(refused.contains("`ana` holds `users:create` nowhere"), "{refused}");
    place.ml(&format!("-u admin token revoke {id} --yes")).done();
    assert_eq!(with_key(&["status"]).status, Some(4));
}
