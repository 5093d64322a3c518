//! Which resident models make room for another: a pure choice over a few integers.

use crate::types::DeviceId;

/// A replica that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resident<'a> {
    /// What it takes to bring it back, in microseconds.
    pub(crate) cost: u64,
    pub(crate) memory_bytes: &'a [(DeviceId, u64)],
}

/// Up to here every subset is looked at; beyond, the cheapest go until it is enough.
const EXACT_MAX: usize = 10;

/// The cheapest set of `residents`, by index, that frees what is `lacking` on each device; of equal
/// cost the smaller, then the earlier one. `None`: all of them do not suffice.
pub(crate) fn least_cost(
    lacking: &[(DeviceId, u64)],
    residents: &[Resident<'_>],
) -> Option<Vec<usize>> {
    let everybody: Vec<usize> = (0..residents.len()).collect();
    if !suffices(lacking, residents, &everybody) {
        return None;
    }
    if residents.len() <= EXACT_MAX {
        let subsets = 0..1_u32 << residents.len();
        return subsets
            .map(|mask| everybody.iter().copied().filter(|it| mask >> it & 1 == 1).collect())
            .filter(|set: &Vec<usize>| suffices(lacking, residents, set))
            .min_by_key(|set| (set.iter().map(|it| residents[*it].cost).sum::<u64>(), set.len()));
    }
    let mut by_cost = everybody;
    by_cost.sort_by_key(|it| residents[*it].cost);
    let mut chosen = Vec::new();
    for index in by_cost {
        if suffices(lacking, residents, &chosen) {
            break;
        }
        chosen.push(index);
    }
    // The expensive ones that came last may have made earlier ones needless.
    for index in chosen.clone() {
        let without: Vec<usize> = chosen.iter().copied().filter(|it| *it != index).collect();
        if suffices(lacking, residents, &without) {
            chosen = without;
        }
    }
    Some(chosen)
}

fn suffices(lacking: &[(DeviceId, u64)], residents: &[Resident<'_>], set: &[usize]) -> bool {
    lacking.iter().all(|(device, bytes)| {
        let freed = set
            .iter()
            .flat_map(|it| residents[*it].memory_bytes)
            .filter(|it| it.0 == *device)
            .map(|it| it.1)
            .fold(0, u64::saturating_add);
        *bytes <= freed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: DeviceId = DeviceId(0);

    fn choose(lacking: u64, residents: &[(u64, u64)]) -> Option<Vec<usize>> {
        let memory: Vec<_> = residents.iter().map(|it| [(GPU, it.1)]).collect();
        let residents: Vec<_> = residents
            .iter()
            .zip(&memory)
            .map(|(it, memory)| Resident { cost: it.0, memory_bytes: memory })
            .collect();
        least_cost(&[(GPU, lacking)], &residents)
    }

    // ORCH-4010
    #[test]
    fn the_cheapest_set_goes_not_the_fewest() {
        assert_eq!(choose(10, &[(100, 10), (30, 6), (40, 5)]), Some(vec![1, 2]));
        assert_eq!(choose(10, &[(60, 10), (30, 6), (40, 5)]), Some(vec![0]));
        assert_eq!(choose(22, &[(60, 10), (30, 6), (40, 5)]), None);
        assert_eq!(choose(0, &[(60, 10)]), Some(vec![]));
    }

    // ORCH-4010
    #[test]
    fn many_residents_are_chosen_without_needless_ones() {
        let many: Vec<(u64, u64)> = (0..30).map(|it| (it + 1, 1)).chain([(100, 50)]).collect();
        assert_eq!(choose(40, &many), Some(vec![30]));
        assert_eq!(choose(3, &many), Some(vec![0, 1, 2]));
    }
}
