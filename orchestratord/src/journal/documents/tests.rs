//! What is read back is what was written, whatever numbers another process gives to names.

use proptest::prelude::*;

use super::*;

/// Names that say the number, and numbers that are another process's.
struct Plain;

impl Names for Plain {
    fn model(&self, id: ModelId) -> String {
        format!("m{}", id.0)
    }

    fn tenant(&self, id: TenantId) -> String {
        format!("t{}", id.0)
    }
}

const SHIFT: u32 = 100;

fn model(name: &str) -> ModelId {
    ModelId(SHIFT + name[1..].parse::<u32>().expect("a number"))
}

/// Tenant 0 is configured no more.
fn tenant(name: &str) -> Option<TenantId> {
    let id: u32 = name[1..].parse().expect("a number");
    (id != 0).then_some(TenantId(SHIFT + id))
}

fn class_of(batch: bool) -> Class {
    if batch { Class::Batch } else { Class::Interactive }
}

prop_compose! {
    fn meter()(counter in any::<u64>(), carry in any::<i128>()) -> SavedMeter {
        SavedMeter { counter, carry }
    }
}

prop_compose! {
    fn entry()(
        ids in (0..4_u32, 0..4_u32, any::<bool>()),
        meter in meter(),
        rest in (any::<u64>(), any::<i128>(), any::<u64>()),
    ) -> SavedEntry {
        SavedEntry {
            group: ModelId(ids.0),
            tenant: TenantId(ids.1),
            class: class_of(ids.2),
            meter,
            turn: rest.0,
            charged: rest.1,
            lifted: rest.2,
        }
    }
}

proptest! {
    // OC-CORE-1045
    #[test]
    fn counters_are_the_same_by_name(
        entries in prop::collection::vec(entry(), 0..6),
        left in prop::collection::vec((0..4_u32, any::<bool>(), any::<u64>()), 0..4),
        turns in any::<u64>(),
        shares in prop::collection::vec((0..4_u32, [meter(), meter()], any::<u64>(), any::<[u64; 2]>()), 0..4),
    ) {
        let saved = SavedCounters {
            entries,
            left: left.iter().map(|it| (ModelId(it.0), class_of(it.1), it.2)).collect(),
            turns,
            shares: shares
                .iter()
                .map(|(model, meters, left, served)| {
                    let served = served.map(Timestamp);
                    (ModelId(*model), SavedShares { meters: *meters, left: *left, served })
                })
                .collect(),
        };
        let text = serde_json::to_string(&CountersDoc::of(&saved, &Plain)).expect("it serialises");
        let read: CountersDoc = serde_json::from_str(&text).expect("what was written is read");
        let mut expected = saved;
        expected.entries.retain(|it| it.tenant != TenantId(0));
        for it in &mut expected.entries {
            it.group.0 += SHIFT;
            it.tenant.0 += SHIFT;
        }
        expected.left.iter_mut().for_each(|it| it.0.0 += SHIFT);
        expected.shares.iter_mut().for_each(|it| it.0.0 += SHIFT);
        prop_assert_eq!(read.counters(model, tenant), expected);
    }

    // OC-CORE-1045
    #[test]
    fn limits_and_standings_are_the_same(
        until in any::<u64>(),
        tokens in prop::collection::vec(any::<(u64, u64)>(), 0..5),
        counts in any::<(u32, u32, u32, u8, u8, u8)>(),
        reserved in any::<Option<(u64, u64)>>(),
        kept in any::<u32>(),
    ) {
        let quota = SavedQuota { requests_until: Timestamp(until), tokens };
        let text = serde_json::to_string(&QuotaDoc::of(quota.clone())).expect("it serialises");
        let read: QuotaDoc = serde_json::from_str(&text).expect("what was written is read");
        prop_assert_eq!(read.quota(), quota);
        let standing = SavedStanding {
            attempts: counts.0,
            failures: counts.1,
            tokens: kept,
            prompt_charged: counts.2,
            preemptions: counts.3,
            crashes: counts.4,
            strikes: counts.5,
            reserved: reserved.map(|it| (Timestamp(it.0), it.1)),
        };
        let text = serde_json::to_string(&StandingDoc::of(&standing)).expect("it serialises");
        let read: StandingDoc = serde_json::from_str(&text).expect("what was written is read");
        prop_assert_eq!(read.standing(kept), standing);
    }
}
