//! `llorch pools`, `models`, `gpus` and `queue`.

use api_types::{DeviceList, ModelList, PoolList, Queue, SwapDirection};

use crate::client::Client;

pub(crate) fn pools(client: &Client) -> anyhow::Result<()> {
    let list: PoolList = client.get("/v1/pools")?;
    let mut rows = vec![
        ["REPLICA", "STATE", "MODEL", "ENGINE", "SLOTS", "CONTEXT", "MEMORY", "NOTE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for pool in list.pools {
        for replica in pool.replicas {
            let version = replica.engine_version.unwrap_or_default();
            let note = if pool.reachable {
                replica.last_error.unwrap_or_default()
            } else {
                "its manager does not answer".into()
            };
            let state = match replica.load_progress {
                Some(progress) => format!("{} {:.0} %", replica.state, progress * 100.0),
                None if pool.draining => format!("{} (draining)", replica.state),
                None => replica.state,
            };
            rows.push(vec![
                replica.replica_id,
                state,
                replica.model_id,
                format!("{} {version}", pool.engine),
                format!("{}/{}", replica.slots_busy, replica.slots),
                replica.context_tokens.to_string(),
                size(replica.memory_bytes),
                note,
            ]);
        }
    }
    print(&rows);
    Ok(())
}

pub(crate) fn models(client: &Client) -> anyhow::Result<()> {
    let list: ModelList = client.get("/v1/models")?;
    let head = ["MODEL", "IN MEMORY", "CONTEXT", "ENGINES", "ALIASES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for model in list.models {
        rows.push(vec![
            model.id,
            if model.resident { "yes" } else { "no" }.into(),
            model.context_tokens.to_string(),
            model.engines.join(", "),
            model.aliases.join(", "),
        ]);
    }
    print(&rows);
    Ok(())
}

pub(crate) fn gpus(client: &Client) -> anyhow::Result<()> {
    let list: DeviceList = client.get("/v1/devices")?;
    let head =
        ["DEVICE", "KIND", "NAME", "MEMORY", "MODELS", "USABLE", "HEALTH", "MANAGER", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for it in list.devices {
        let healthy = it.health == "healthy";
        let note = if it.reachable {
            it.last_error.filter(|_| !healthy).unwrap_or_default()
        } else {
            "its manager does not answer".into()
        };
        rows.push(vec![
            it.device_id,
            it.kind,
            it.name.unwrap_or_else(|| "-".into()),
            size(it.memory_total_bytes),
            size(it.memory_models_bytes),
            size(it.memory_usable_bytes),
            it.health,
            it.manager,
            note,
        ]);
    }
    print(&rows);
    Ok(())
}

/// In the unit that leaves one to four digits.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes.div_ceil(MIB) {
        0 => "-".into(),
        mib @ 1..=9_999 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib / 1_024),
    }
}

pub(crate) fn queue(client: &Client) -> anyhow::Result<()> {
    let queue: Queue = client.get("/v1/queue")?;
    let mut rows =
        vec![["MODEL", "CLASS", "QUEUED", "RUNNING", "OLDEST"].map(str::to_owned).to_vec()];
    for lane in queue.lanes {
        let oldest = lane.oldest_wait_ms.map_or("-".into(), |ms| format!("{} s", ms / 1_000));
        rows.push(vec![
            lane.model_id,
            lane.priority.as_str().into(),
            lane.depth.to_string(),
            lane.running.to_string(),
            oldest,
        ]);
    }
    print(&rows);
    for swap in queue.swaps {
        let direction = match swap.direction {
            SwapDirection::In => "is loaded",
            SwapDirection::Out => "makes way",
        };
        println!("{} ({}) {direction}", swap.model_id, swap.replica_id);
    }
    println!("{} queued, {} fit for each model", queue.depth, queue.capacity);
    Ok(())
}

fn print(rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
