//! Access as code from the command line.

use crate::place::{Place, read};

#[test]
fn a_file_is_exported_changed_planned_and_applied() {
    let place = Place::served_with(&["--no-agent"]);
    let exported = place.ml("access export").done();
    assert!(exported.starts_with("# Who may do what."), "{exported}");
    assert!(
        exported.contains("\nassignments:\n  - role: ClusterAdmin\n    user: admin\n"),
        "{exported}"
    );
    place.write("access.yaml", &exported);
    let same = place.ml("access plan access.yaml");
    assert_eq!(
        (same.out.as_str(), same.err.as_str()),
        ("", "Everything is as the file says.\n")
    );

    let more = exported
        .replace("users:\n", "users:\n  - name: ana\n    display_name: \"Ana: #1\"\n")
        .replace("workspaces:\n", "workspaces:\n  - name: Stop Signs\n")
        + "  - role: Editor\n    user: ana\n    workspace: Stop Signs\n    until: 2999-01-31\n";
    place.write("access.yaml", &more);
    let planned = place.ml("access plan access.yaml").done();
    assert!(
        planned.starts_with(
            "+ make user ana (pending: needs a link to sign in)\n\
             + make workspace \"Stop Signs\"\n\
             + assign Editor to user ana on workspace \"Stop Signs\" until 2999-01-31T00:00:00Z\n\
             \nWhat that gives and takes:\n"
        ),
        "{planned}"
    );
    let unsure = place.ml("access apply access.yaml").failed(2);
    assert!(
        unsure.contains("not sure whether to make 3 changes") && unsure.contains("--yes"),
        "{unsure}"
    );
    let applied = place.ml("access apply access.yaml --yes");
    assert_eq!(applied.out, "");
    assert!(
        applied
            .err
            .ends_with("Made 3 changes.\nana needs a link to sign in: ml user link ana\n"),
        "{applied:?}"
    );
    let again = place.ml("access apply access.yaml");
    assert_eq!(
        (again.status, again.err.as_str()),
        (Some(0), "Everything is as the file says: nothing was changed.\n")
    );
    let json = place.ml("access export --json").done();
    let piped = place.ml_with_input("access plan - --json", &json).done();
    assert!(piped.contains("\"changes\": []"), "{piped}");
    assert!(
        String::from_utf8(read(&place.path("access.yaml")))
            .unwrap()
            .contains("Ana: #1")
    );

    place.write("wrong.yaml", "users:\n  - name: ana\n    pasword: x\n");
    let wrong = place.ml("access plan wrong.yaml").failed(2);
    assert!(wrong.starts_with("error: wrong.yaml: line 3, column "), "{wrong}");
    place.write("unknown.yaml", "assignments:\n  - role: Editr\n    user: ana\n");
    let unknown = place.ml("access apply unknown.yaml --yes").failed(1);
    assert!(
        unknown.starts_with("error: assignments, entry 1 (Editr): there is no role `Editr`; did you mean `Editor`?"),
        "{unknown}"
    );
}
