//! What is tried.

mod choice;
mod egress;
mod endpoints;
mod external;
mod internal;
mod limits;
mod notifications;
mod paths;
mod policy;
mod range;
mod refresh;
mod restart;
mod secured;
mod settings;
mod silence;
mod well_known;

use std::time::Duration;

use margay_net::Cidr;

use super::cell::Cell;
use super::claims::Feature;
use super::daemons::{Daemon, Path, path_of};
use crate::support::speaker::OurSpeaker;
use crate::support::{Lab, so, within};

/// What is tried with one start of a daemon, and the features that it shows.
pub struct Scenario {
    pub name: &'static str,
    pub features: &'static [Feature],
    pub run: fn(&Cell),
}

/// The slow ones first.
pub const ALL: [Scenario; 23] = [
    notifications::SCENARIO,
    restart::OF_THE_PEER,
    restart::OF_OURS,
    silence::SCENARIO,
    silence::SEND_HOLD,
    secured::SCENARIO,
    settings::SCENARIO,
    external::SCENARIO,
    external::TWO_OCTETS,
    internal::SCENARIO,
    limits::SCENARIO,
    paths::SCENARIO,
    egress::SCENARIO,
    range::SCENARIO,
    refresh::SCENARIO,
    endpoints::SCENARIO,
    endpoints::SAME_INSIDE,
    well_known::SCENARIO,
    choice::SCENARIO,
    choice::NEXT_HOPS,
    policy::OF_OURS,
    policy::OF_THE_PEER,
    limits::OF_THE_PEER,
];

const SOON: Duration = Duration::from_secs(20);

/// Waits until the daemon has all of our routes, and felix all of the daemon's.
fn wait_for_routes(daemon: &dyn Daemon, ours: &OurSpeaker, lab: &Lab) {
    within(SOON, "the daemon has our routes", || has_ours(daemon, lab));
    let expected = lab.peer_prefixes();
    within(SOON, "felix has the daemon's routes", || {
        ours.fib(|fib| so(expected.iter().all(|prefix| fib.routes.contains_key(prefix)), || format!("{fib:?}")))
    });
}

fn has_ours(daemon: &dyn Daemon, lab: &Lab) -> Result<(), String> {
    lab.our_prefixes().into_iter().try_for_each(|prefix| path_of(daemon, prefix, lab.our_address()).map(drop))
}

/// Waits until the daemon has a path that is as wanted.
#[track_caller]
fn wait_for_path(daemon: &dyn Daemon, lab: &Lab, prefix: Cidr, what: &str, wanted: impl Fn(&Path) -> bool) -> Path {
    within(SOON, what, || {
        let path = path_of(daemon, prefix, lab.our_address())?;
        so(wanted(&path), || format!("{path:?}")).map(|()| path)
    })
}
