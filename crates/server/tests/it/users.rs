//! Users and their lives.

use crate::world::on_both;

#[test]
fn the_harness_stands() {
    on_both(|world| async move {
        let ana = world.person("ana").await;
        let one = ana.submit("one").await;
        let agent = world.agent("machine-1", 2).await;
        let taken = agent.take(2).await;
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].experiment, one.id);
    });
}
