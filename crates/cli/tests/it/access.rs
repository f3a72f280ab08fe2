//! `ml access`: questions about rights, and moving to roles.

use crate::place::Place;

#[test]
fn can_i_answers_in_a_sentence_and_by_its_exit_status() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    assert_eq!(
        place.ml("access can-i experiments:create -u ana").done(),
        "Yes: you have experiments:create on workspace \"default\"\n"
    );
    let said = place.ml("access can-i experiments:delete workspace:default -u ana");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(
        said.out,
        "No: you do not have experiments:delete on workspace \"default\"\n"
    );
    let said = place.ml("access can-i workspaces:create -u ana --json");
    assert_eq!(said.status, Some(1));
    assert!(said.out.contains("\"allowed\": false"), "{said:?}");
    place.ml("access can-i cluster:update-config -u admin").done();
    // What is not there reads as what may not be seen.
    let said = place.ml("access can-i experiments:read --experiment 77 -u ana");
    assert_eq!(
        (said.status, said.out.as_str()),
        (Some(2), "No: there is no experiment:77 that you may see\n")
    );
    // No answer is not the answer no: a server that is away, an account that is not signed in there.
    place
        .ml("access can-i experiments:read --server http://127.0.0.1:9")
        .failed(3);
    place
        .ml("access can-i experiments:read --server http://127.0.0.1:9 -u ana")
        .failed(4);
    let said = place.ml("access can-i experiments:craete").failed(2);
    assert!(said.contains("did you mean `experiments:create`?"), "{said}");
    let said = place.ml("access can-i experiments:read twelve").failed(2);
    assert!(said.contains("write experiment:12"), "{said}");
    place.ml("access can-i read workspace:default -w default").failed(2);
}

#[test]
fn an_explanation_reads_from_top_to_bottom() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.user("ben", "");
    place.write("train.sh", "true");
    let id = place.ml("run train.sh --name hers -u ana").done();
    let id = id.trim();
    let text = place
        .ml(&format!("access explain experiments:update experiment:{id} -u ana"))
        .done();
    assert_eq!(
        text,
        format!(
            "you may: experiments:update on experiment {id} (workspace \"default\")\n  one role assignment allows it:\n  \
             - DataScientist on workspace \"default\", through group \"Users\", on what is one's own\n"
        )
    );
    let text = place
        .ml(&format!(
            "access explain ben experiments:update --experiment {id} -u admin"
        ))
        .done();
    assert_eq!(
        text,
        format!(
            "ben may not: experiments:update on experiment {id} (workspace \"default\")\n  \
             no role that counts here gives ben experiments:update\n  nearly:\n  \
             - DataScientist on workspace \"default\", through group \"Users\", on what is one's own: this is not theirs\n  \
             could give it: admin\n"
        )
    );
    let said = place
        .ml(&format!("access explain experiments:update experiment:{id} -u ben"))
        .failed(1);
    assert!(
        said.starts_with(&format!("error: there is no experiment `{id}`")),
        "{said}"
    );
    let said = place.ml("workspace create Mine -u ana").failed(1);
    assert!(
        said.contains("hint: `ml access explain workspaces:create` says why"),
        "{said}"
    );
    let text = place.ml("access explain workspaces:create -u ana").done();
    assert!(
        text.contains("to ask for it: ml access request WorkspaceCreator --for 8h"),
        "{text}"
    );

    let text = place
        .ml(&format!("access who-can experiments:delete experiment:{id} -u admin"))
        .done();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').skip(1).take(1).collect())
        .collect();
    assert_eq!(lines, [["admin"], ["ana"]]);
    let text = place.ml("access what-can -u ana").done();
    assert!(
        text.contains("on workspace \"default\"\texperiments: create, read (own)"),
        "{text}"
    );
    assert!(
        place
            .ml("access what-can ana -u ben")
            .failed(1)
            .contains("needs roles:read")
    );
}

#[test]
fn who_can_says_that_members_of_a_group_that_one_may_not_see_can_too() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("boss", "--role WorkspaceAdmin");
    place.user("ana", "");
    place.ml("-u admin group create Team --add-user ana").done();
    place.ml("-u boss role assign Editor --group Team -w default").done();
    for format in ["", " --json"] {
        let said = place.ml(&format!("-u boss access who-can experiments:update -w default{format}"));
        let note = "and the members of the group \"Team\", which you may not see\n";
        assert!(said.err.ends_with(note) && !said.out.contains("ana"), "{said:?}");
    }
    let said = place.ml("-u admin access who-can experiments:update -w default");
    assert!(said.err.is_empty() && said.out.contains("ana"), "{said:?}");
}

#[test]
fn a_planned_change_is_shown_before_it_is_made() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    // `-u` is whom the role is for; to act as another it stands before the command.
    let text = place.ml("-u admin access diff assign Viewer -u ana -w default").done();
    assert!(text.starts_with("ana\ton workspace \"default\"\t"), "{text}");
    assert!(text.contains("roles: read"), "{text}");
    assert!(
        place
            .ml("-u admin access diff deactivate ana")
            .done()
            .contains("experiments: create")
    );
    place.write("plan.json", r#"[{"change": "deactivate", "user": "ana"}]"#);
    assert!(
        place
            .ml("-u admin access diff changes plan.json")
            .done()
            .contains("experiments: create")
    );
    place.ml("-u admin access diff assign Viewer -w default").failed(2);
}

#[test]
fn mode_shadow_tells_who_would_be_refused_and_check_whom_rbac_would_lock_out() {
    let place = Place::served_with(&["--no-agent", "--access", "shadow"]);
    place.user("ana", "");
    place.write("train.sh", "true");
    place.ml("run train.sh --name hers -u ana").done();
    assert_eq!(place.ml("-u admin access check").done(), "");
    place
        .ml("-u admin rbac unassign-role DataScientist -g Users -w default")
        .done();
    assert!(place.ml("status -u ana").done().contains("\thers\t"));
    let report = place.ml("-u admin access shadow-report --since 1h").done();
    assert!(
        report.contains("ana\tbe refused\texperiments:read\ton workspace \"default\"\t1\t"),
        "{report}"
    );
    let said = place.ml("-u admin access check");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(
        said.out.starts_with("lock-out\t1 experiment could no longer be seen"),
        "{said:?}"
    );
    place
        .ml("-u admin rbac assign-role DataScientist -u ana -w default")
        .done();
    place.ml("-u admin access shadow-report --clear").failed(2);
    place.ml("-u admin access shadow-report --clear --yes").done();
    assert_eq!(place.ml("-u admin access check").done(), "");
    assert_eq!(place.ml("-u admin access shadow-report").done(), "");
}
