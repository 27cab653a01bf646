//! What earlier pairs have told helps later ones.

use super::*;
use crate::puncher::report::Strategy;
use crate::signal::{Hint, StrategyOutcome};

const WORKED: Strategy = Strategy::ShieldedOpener;
const FAILED: Strategy = Strategy::SimultaneousOpen;

fn outcomes() -> Vec<StrategyOutcome> {
    vec![
        StrategyOutcome { strategy: FAILED, took: None },
        StrategyOutcome { strategy: WORKED, took: Some(ms(80)) },
    ]
}

#[test]
fn the_next_pair_is_told_what_came_through() {
    let mut world = pair(1, ms(20), ms(20));
    world.call(0, "bob");
    world.run_for(ms(500));
    let (_, first) = world.punches(0).remove(0);
    assert!(first.hints.is_empty());
    for peer in [0, 1] {
        world.with(peer, |client, _| client.report(first.session, outcomes()));
    }
    world.run_for(ms(100));
    world.call(0, "bob");
    world.run_for(ms(500));
    let expected = [
        Hint { strategy: WORKED, percent: 100, took: ms(80) },
        Hint { strategy: FAILED, percent: 0, took: ms(0) },
    ];
    for peer in [0, 1] {
        assert_eq!(world.punches(peer)[1].1.hints, expected);
    }
}

#[test]
fn a_meeting_that_one_did_not_take_part_in_is_not_ones_to_judge() {
    let mut world = pair(2, ms(20), ms(20));
    let eve = world.registered(Some("eve"), ms(20));
    world.call(0, "bob");
    world.run_for(ms(500));
    let session = world.punches(0)[0].1.session;
    world.with(eve, |client, _| client.report(session, outcomes()));
    world.run_for(ms(100));
    let counters = world.broker.as_ref().unwrap().counters();
    assert_eq!(counters.outcomes, 0);
    assert!(counters.unexpected > 0);
}
