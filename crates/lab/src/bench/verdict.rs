//! Our speaker against the best of the others, for each measure of each shape.

use std::collections::BTreeSet;

use serde::Serialize;

use super::report::Cell;
use super::{DeviceKind, Measure, Shape};

/// One measure of our speaker beside the best peer's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub shape: Shape,
    pub measure: Measure,
    /// The median; absent where our speaker exceeded a limit.
    pub ours: Option<f64>,
    /// The least median of the peers.
    pub best: f64,
    pub best_of: DeviceKind,
    pub ratio: Option<f64>,
    /// What the ratio must not exceed, where something is demanded.
    pub floor: Option<f64>,
    pub ok: Option<bool>,
}

/// Judges every measure that our speaker was measured by, and a peer as well.
pub(super) fn verdicts(cells: &[Cell]) -> Vec<Verdict> {
    let keys: BTreeSet<(Shape, Measure)> = cells.iter().map(|cell| (cell.shape, cell.measure)).collect();
    keys.into_iter().filter_map(|(shape, measure)| verdict(cells, shape, measure)).collect()
}

fn verdict(cells: &[Cell], shape: Shape, measure: Measure) -> Option<Verdict> {
    let here = || cells.iter().filter(|cell| (cell.shape, cell.measure) == (shape, measure));
    let median = |cell: &Cell| cell.spread.filter(|_| cell.exceeded.is_none()).map(|spread| spread.median);
    let ours = here().find(|cell| cell.device == DeviceKind::Margay)?;
    let ours = median(ours);
    let peers = here().filter(|cell| cell.device.is_peer());
    let (best, best_of) = peers
        .filter_map(|cell| Some((median(cell)?, cell.device)))
        .min_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let ratio = ours.map(|ours| ours / best);
    let floor = measure.floor();
    let ok = floor.map(|floor| ratio.is_some_and(|ratio| ratio <= floor));
    Some(Verdict { shape, measure, ours, best, best_of, ratio, floor, ok })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, run};

    #[test]
    fn the_best_peer_is_the_one_with_the_least_of_each_measure() {
        let told = report(vec![
            run(DeviceKind::Null, 1, 0.001, 1.0),
            run(DeviceKind::Margay, 1, 0.2, 30.0),
            run(DeviceKind::Bird, 1, 0.1, 40.0),
            run(DeviceKind::Frr, 1, 0.3, 25.0),
        ]);
        let [time, memory] = &told.verdicts[..] else { panic!("{:?}", told.verdicts) };
        assert_eq!((time.best_of, time.ok), (DeviceKind::Bird, Some(false)));
        assert_eq!((memory.best_of, memory.ok), (DeviceKind::Frr, Some(true)));
    }

    #[test]
    fn where_ours_exceeds_a_limit_it_is_short() {
        let mut ours = run(DeviceKind::Margay, 1, 0.0, 30.0);
        ours.figures.remove(&Measure::AnnounceSeconds);
        ours.exceeded = Some((Measure::AnnounceSeconds, "> 180 s".to_owned()));
        let told = report(vec![ours, run(DeviceKind::Bird, 1, 170.0, 40.0)]);
        assert_eq!((told.verdicts[0].ratio, told.verdicts[0].ok), (None, Some(false)));
    }

    #[test]
    fn without_a_peer_there_is_no_verdict() {
        assert!(
            report(vec![run(DeviceKind::Null, 1, 0.1, 1.0), run(DeviceKind::Margay, 1, 0.2, 9.0)]).verdicts.is_empty()
        );
    }
}
