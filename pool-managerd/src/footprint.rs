//! What a pool's model takes of each of its devices, and whether all that must be loaded fits.

use std::collections::BTreeMap;

use config_schema::{EngineSource, ManagerConfig, PoolConfig, Problem, Residency};
use pool_api::{Device, DeviceHealth, MemoryNeed};

use crate::dialect;
use crate::measured::{self, Measured, Measurement};
use crate::model::{self, Model};

/// Devices whose memory differs by less than this, in thousandths, count as alike.
const ALIKE_PERMILLE: u64 = 20;

/// Pinned models that do not fit together on devices of declared memory, as their files tell: they
/// would take turns in failing for ever. A file that cannot be read is no problem of the
/// configuration.
#[must_use]
pub fn misfits(config: &ManagerConfig) -> Vec<Problem> {
    let known = Measured::new(config.data_dir.join("measured.json"));
    let declared = config.devices.iter().filter_map(|it| Some((it, it.memory_mib?)));
    let devices: BTreeMap<&str, u64> = declared
        .map(|(it, mib)| {
            (it.id.as_str(), mib.saturating_sub(it.margin_mib).saturating_mul(1 << 20))
        })
        .collect();
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, pool) in config.pools.iter().enumerate() {
        let Some(needs) = pinned_needs(pool, &known) else { continue };
        for need in needs {
            let Some((id, usable)) = devices.get_key_value(need.device_id.as_str()) else {
                continue;
            };
            let bytes = need.bytes.saturating_mul(pool.replicas.get().into());
            let before = held.insert(id, held.get(id).copied().unwrap_or(0) + bytes).unwrap_or(0);
            // One that is alone too large is told of where it runs, and tried again.
            if 0 < before && *usable < before + bytes {
                let needed = bytes.div_ceil(1 << 20);
                let left = usable.saturating_sub(before) >> 20;
                problems.push(Problem {
                    pointer: format!("/pool_manager/pools/{index}/model/path"),
                    line: None,
                    found: format!(
                        "a model of about {needed} MiB, with {left} MiB of `{id}` left by the pinned \
                         models before it"
                    ),
                    expected: "pinned models that fit together".into(),
                    suggestion: Some("residency: on_demand".into()),
                });
            }
        }
    }
    problems
}

fn pinned_needs(pool: &PoolConfig, known: &Measured) -> Option<Vec<MemoryNeed>> {
    let path = pool.model_path().filter(|_| pool.residency == Residency::Pinned)?;
    let model = model::inspect(&dialect::engine(pool), path, pool.flags()).ok()?;
    // Of the devices, only the names count here.
    let named = |id: &String| Device {
        device_id: id.clone(),
        kind: String::new(),
        name: None,
        uuid: None,
        memory_total_bytes: 0,
        memory_usable_bytes: 0,
        health: DeviceHealth::Healthy,
        last_error: None,
    };
    let devices: Vec<Device> = pool.devices.iter().map(named).collect();
    Some(needs(pool, &model, &devices, &known.of(&measured::key(pool, path))))
}

/// A model is spread over unlike devices only by ratios that somebody has chosen: an even split
/// would overfill the smallest.
pub(crate) fn alike(pool: &PoolConfig, devices: &[Device]) -> Result<(), String> {
    let sizes = devices.iter().map(|it| it.memory_total_bytes);
    let (Some(least), Some(most)) = (sizes.clone().min(), sizes.max()) else { return Ok(()) };
    if pool.split.is_none() && most / 1_000 * ALIKE_PERMILLE < most - least {
        let list: Vec<String> = devices
            .iter()
            .map(|it| format!("{} {} MiB", it.device_id, it.memory_total_bytes >> 20))
            .collect();
        return Err(format!(
            "its devices differ in memory ({}): state how the model is divided with `split`",
            list.join(", ")
        ));
    }
    Ok(())
}

/// What the pool's model takes of each device: the most of what is stated, was measured, or is
/// estimated where nothing else is known.
pub(crate) fn needs(
    pool: &PoolConfig,
    model: &Model,
    devices: &[Device],
    known: &Measurement,
) -> Vec<MemoryNeed> {
    let EngineSource::Managed { memory_mib, context_tokens, slots, .. } = &pool.source else {
        return Vec::new();
    };
    let context = u64::from(context_tokens.get()) * u64::from(slots.get());
    let stated = memory_mib.map(|it| it.saturating_mul(1 << 20));
    let total = stated.unwrap_or_else(|| model.memory_bytes(context));
    let even = vec![1; devices.len()];
    let split = pool.split.as_ref().unwrap_or(&even);
    let parts: u64 = split.iter().copied().map(u64::from).sum();
    let share = |(device, part): (&Device, &u32)| MemoryNeed {
        device_id: device.device_id.clone(),
        bytes: total / parts.max(1) * u64::from(*part),
    };
    let shares: Vec<MemoryNeed> = devices.iter().zip(split).map(share).collect();
    corrected(&shares, &known.memory, devices, stated.is_some())
}

/// Expectations after a measurement. Where the expectation is `stated`, and in main memory, where
/// pages that no token has touched yet are missing in what is measured, it only raises them.
pub(crate) fn corrected(
    expected: &[MemoryNeed],
    measured: &[MemoryNeed],
    devices: &[Device],
    stated: bool,
) -> Vec<MemoryNeed> {
    let correct = |need: &MemoryNeed| {
        let lazy =
            stated || devices.iter().any(|it| it.device_id == need.device_id && it.kind == "cpu");
        let found = measured.iter().find(|it| it.device_id == need.device_id);
        let bytes = match found.map(|it| it.bytes) {
            Some(measured) if lazy => measured.max(need.bytes),
            Some(measured) => measured,
            None => need.bytes,
        };
        MemoryNeed { device_id: need.device_id.clone(), bytes }
    };
    expected.iter().map(correct).collect()
}
