//! Roles and assignments at the command line.

use crate::place::Place;

#[test]
fn a_role_of_permissions_is_made_assigned_and_taken_as_zenml_writes_it() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.ml("permission list").done();
    place.ml("-u admin role create operators -p read -p write -p me").done();
    let listed = place.ml("role list").done();
    assert!(
        listed.lines().any(|line| line.split('\t').nth(1) == Some("operators")),
        "{listed}"
    );
    place.ml("-u admin role assign operators --user ana").done();
    let assigned = place.ml("role assignment list").done();
    assert!(assigned.contains("\toperators\tana\t\tinstallation\t"), "{assigned}");
    let again = place.ml("-u admin role assign operators --user ana").failed(1);
    assert_eq!(again, "error: user \"ana\" holds operators globally already\n");
    place.ml("-u admin role revoke operators --user ana").done();
    let gone = place.ml("-u admin role revoke operators --user ana").failed(1);
    assert!(
        gone.contains("there is no assignment `operators to user \"ana\" globally`"),
        "{gone}"
    );

    let typo = place.ml("-u admin role assign operator --user ana").failed(1);
    assert!(
        typo.contains("there is no role `operator`") && typo.contains("did you mean `operators`?"),
        "{typo}"
    );
    let typo = place.ml("-u admin role create x -p raed").failed(1);
    assert!(typo.contains("there is no permission `raed`"), "{typo}");
    place
        .ml("-u admin role update operators -r write --name lookers --description looks")
        .done();
    let shown = place.ml("role describe lookers --json").done();
    assert!(
        shown.contains("\"description\": \"looks\"") && !shown.contains("experiments:delete"),
        "{shown}"
    );
    place.ml("-u admin role update lookers").failed(2);
    place.ml("-u admin role delete lookers").failed(2);
    place.ml("-u admin role assign lookers --user ana").done();
    let held = place.ml("-u admin role delete lookers --yes").failed(1);
    assert!(
        held.contains("is assigned once") && held.contains("hint: `ml role assignment list --role \"lookers\"`"),
        "{held}"
    );
    place.ml("-u admin role delete lookers --force --yes").done();
}

#[test]
fn determineds_words_assign_take_and_list_roles() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.user("bob", "");
    let admin = |words: &[&str]| place.ml_args(&[&["-u", "admin"], words].concat());
    admin(&["workspace", "create", "Stop Signs"]).done();
    admin(&["user-group", "create", "Stop Signs Team", "--add-user", "bob"]).done();
    // -u is the assignee here; who acts stands before.
    admin(&["rbac", "assign-role", "-u", "ana", "-w", "Stop Signs", "WorkspaceAdmin"]).done();
    let team = [
        "rbac",
        "assign-role",
        "-g",
        "Stop Signs Team",
        "Editor",
        "-w",
        "Stop Signs",
        "--until",
        "7d",
    ];
    let given = place.ml_args(&[&["-u", "ana"], &team[..], &["--json"]].concat()).done();
    for part in [
        "\"role\": \"Editor\"",
        "\"group\": \"Stop Signs Team\"",
        "\"until\"",
        "\"created_by\": \"ana\"",
    ] {
        assert!(given.contains(part), "{given}");
    }
    for (words, said) in [
        (vec!["rbac", "assign-role", "Editor"], "neither -u nor -g is given"),
        (
            vec!["rbac", "assign-role", "-u", "bob", "-g", "Stop Signs Team", "Editor"],
            "both -u and -g are given",
        ),
        (
            vec!["rbac", "assign-role", "-u", "bob", "--project", "Euro", "Editor"],
            "--project needs --workspace",
        ),
        (
            vec!["rbac", "assign-role", "-u", "bob", "--until", "soon", "Editor"],
            "`soon` is neither a duration",
        ),
        (
            vec!["rbac", "assign-role", "-u", "bob", "--on", "", "Editor"],
            "the place is empty",
        ),
        (
            vec!["rbac", "assign-role", "-u", "bob", "--on", "planet:earth", "Editor"],
            "there is no kind `planet`",
        ),
    ] {
        let wrong = admin(&words).failed(2);
        assert!(wrong.contains(said), "{words:?}: {wrong}");
    }
    let refused = place.ml_args(&[
        "-u",
        "bob",
        "rbac",
        "assign-role",
        "-u",
        "bob",
        "-w",
        "Stop Signs",
        "WorkspaceAdmin",
    ]);
    let refused = refused.failed(1);
    assert!(
        refused.contains("Insufficient permissions: bob needs roles:assign on workspace \"Stop Signs\""),
        "{refused}"
    );

    let roles = place.ml("-u ana rbac list-users-roles bob").done();
    assert!(
        roles.contains("\tEditor\t\tStop Signs Team\tworkspace:Stop Signs\t"),
        "{roles}"
    );
    let roles = place
        .ml_args(&["-u", "ana", "rbac", "list-groups-roles", "Stop Signs Team"])
        .done();
    assert_eq!(roles.lines().count(), 1, "{roles}");
    let described = place.ml("-u ana rbac describe-role Editor").done();
    assert!(
        described.contains("held_by\tgroup \"Stop Signs Team\" on workspace \"Stop Signs\"\n"),
        "{described}"
    );
    let all = place.ml("-u ana rbac list-roles -o id").done().lines().count();
    let some = place
        .ml("-u ana rbac list-roles --exclude-global-roles -o id")
        .done()
        .lines()
        .count();
    assert!(some < all && some > 5, "{some} of {all}");
    let own = place.ml("-u bob rbac my-permissions").done();
    let here = own
        .lines()
        .find(|line| line.starts_with("workspace:Stop Signs\t"))
        .unwrap_or_else(|| panic!("{own}"));
    assert!(
        here.contains("experiments:create") && !here.contains("roles:assign"),
        "{own}"
    );

    admin(&[
        "rbac",
        "unassign-role",
        "-g",
        "Stop Signs Team",
        "Editor",
        "-w",
        "Stop Signs",
    ])
    .done();
    assert!(!place.ml("-u bob rbac my-permissions").done().contains("Stop Signs"));
    let last = admin(&["rbac", "unassign-role", "-u", "admin", "ClusterAdmin"]).failed(1);
    assert!(last.contains("without an active administrator"), "{last}");
}

#[test]
fn an_assignment_is_changed_and_taken_by_its_number() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    let id = place
        .ml("-u admin role assign Viewer --user ana -w default -o id")
        .done();
    let id = id.trim();
    let changed = place
        .ml(&format!(
            "-u admin role assignment change {id} --role Editor --until 2999-01-31 --json"
        ))
        .done();
    assert!(
        changed.contains("\"Editor\"") && changed.contains("2999-01-31T00:00:00Z"),
        "{changed}"
    );
    place.ml(&format!("-u admin role assignment change {id}")).failed(2);
    let listed = place
        .ml("role assignment list --user ana --role Editor -w default")
        .done();
    let wanted = format!("{id}\tEditor\tana\t\tworkspace:default\t2999-01-31T00:00:00Z\t");
    assert!(listed.starts_with(&wanted) && listed.lines().count() == 1, "{listed}");
    place.ml(&format!("-u admin role assignment delete {id}")).done();
    place.ml(&format!("-u admin role assignment delete {id}")).failed(1);
}
