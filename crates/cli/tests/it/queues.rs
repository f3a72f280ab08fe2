//! Queues and sharing at the command line, with the server's own agent at work.

use crate::place::Place;

#[test]
fn queues_are_made_changed_paused_and_deleted_and_jobs_moved_between_them() {
    let place = Place::served();
    place.user("ana", "");
    place.write("code/s.py", "print('done')\n");
    let made = place
        .ml("-u admin queue create gpu --share users --max-running-of-user 2")
        .done();
    assert!(made.contains("\tgpu\tactive\tjobs of every workspace\t"), "{made}");
    place.ml("-u ana queue create mine").failed(1);
    place.ml("-u admin queue edit gpu").failed(2);
    place.ml("-u admin queue edit gpu --description A100").done();
    let typo = place.ml("-u admin queue pause gpuu").failed(1);
    assert!(typo.contains("did you mean `gpu`?"), "{typo}");
    let unknown = place.ml("-u ana run code/s.py --queue gpx").failed(1);
    assert!(unknown.contains("there is no queue `gpx`"), "{unknown}");
    let id = place.ml("-u ana run code/s.py --queue gpu -o id").done();
    let id = id.trim();
    let waits = place.ml(&format!("-u ana experiment describe {id}")).done();
    assert!(waits.contains("serves queue `gpu`"), "{waits}");
    let described = place.ml("-u ana queue describe gpu").done();
    assert!(described.contains("2 running of one user"), "{described}");
    place.ml("-u admin queue pause default").done();
    place.ml(&format!("-u ana experiment move-job {id}")).failed(2);
    let moved = place
        .ml(&format!("-u ana experiment move-job {id} --queue default --priority 3"))
        .done();
    assert!(moved.contains("\tdefault\t"), "{moved}");
    let waits = place.ml(&format!("-u ana experiment describe {id}")).done();
    assert!(waits.contains("queue `default` is paused"), "{waits}");
    place.ml("-u admin queue rename default main").done();
    place.ml("-u admin queue resume main").done();
    let log = place.ml(&format!("-u ana experiment logs {id} -f")).done();
    assert!(log.contains("done"), "{log}");
    place.ml("-u admin queue set-default gpu").done();
    let kept = place.ml("-u admin queue delete gpu --yes").failed(1);
    assert!(kept.contains("is the default queue"), "{kept}");
    place.ml("-u admin queue delete main --yes").done();
    let listed = place.ml("-u ana queue list").done();
    assert!(listed.contains("gpu") && !listed.contains("main"), "{listed}");
}

#[test]
fn one_experiment_is_shared_and_taken_back_without_showing_more_of_where_it_is() {
    let place = Place::served();
    place.user("ana", "");
    place.user("bob", "");
    place.write("code/s.py", "print('done')\n");
    place.ml("-u admin workspace create Hidden").done();
    place
        .ml("-u admin role assign WorkspaceAdmin --user ana -w Hidden")
        .done();
    let first = place.ml("-u ana run code/s.py --workspace Hidden --wait -o id").done();
    place.ml("-u ana run code/s.py --workspace Hidden --wait").done();
    let id = first.lines().next().unwrap_or_default().trim().to_owned();
    place.ml(&format!("-u bob experiment describe {id}")).failed(1);
    place.ml(&format!("-u ana share {id} --user bob --until 1d")).done();
    let seen = place.ml(&format!("-u bob experiment describe {id}")).done();
    assert!(seen.contains("Hidden"), "{seen}");
    let listed = place.ml("-u bob experiment list --all -o id").done();
    assert_eq!(listed.trim(), id, "the other one of that workspace stays unseen");
    place.ml("-u bob workspace describe Hidden").failed(1);
    let twice = place.ml(&format!("-u ana share {id} --user bob")).failed(1);
    assert!(twice.contains("holds Reader"), "{twice}");
    place.ml(&format!("-u ana unshare experiment:{id} --user bob")).done();
    place.ml(&format!("-u bob experiment describe {id}")).failed(1);
    place.ml("-u ana share nonsense --user bob").failed(2);
}
